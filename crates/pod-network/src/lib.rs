//! What connects pods: CNI plugins where an administrator has configured any, else a bridge of our own.
//!
//! [`PodNet`] is the runtime's [`runtime::PodNetwork`]. It looks for `*.conflist`, `*.conf` and `*.json` in the CNI folder
//! (`/etc/cni/net.d`) at each new pod, so that a plugin which is installed later takes over for the pods after it. A pod
//! is taken down by what set it up.

pub mod addresses;
pub mod bridge;
pub mod cni;
mod tables;

use std::net::IpAddr;
use std::path::PathBuf;

use runtime::{NetworkPod, NetworkReply, PodNetwork};

pub use bridge::{Bridge, BridgeConfig};
pub use cni::{Cni, CniConfig};

/// CNI first, then the bridge.
#[derive(Debug)]
pub struct PodNet {
    cni: Cni,
    bridge: Option<Bridge>,
}

impl PodNet {
    /// A network that uses CNI plugins where they are configured, and the bridge, if there is one, where not.
    pub fn new(cni: CniConfig, bridge: Option<BridgeConfig>) -> PodNet {
        PodNet { cni: Cni::new(cni), bridge: bridge.map(Bridge::new) }
    }
}

impl PodNetwork for PodNet {
    fn setup<'a>(&'a self, pod: &'a NetworkPod) -> NetworkReply<'a, Vec<IpAddr>> {
        Box::pin(async move {
            match (self.cni.configured().map_err(|error| error.to_string())?, &self.bridge) {
                (Some(list), _) => self.cni.add(&list, pod).await.map_err(|error| error.to_string()),
                (None, Some(bridge)) => bridge.setup(pod).await.map_err(|error| error.to_string()),
                (None, None) => Err("cni plugin not initialized".to_owned()),
            }
        })
    }

    fn teardown<'a>(&'a self, pod: &'a NetworkPod) -> NetworkReply<'a, ()> {
        Box::pin(async move {
            // Whoever has a record of the pod takes it down; nobody may have one.
            self.cni.delete(pod).await.map_err(|error| error.to_string())?;
            if let Some(bridge) = &self.bridge {
                bridge.teardown(pod).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    }

    fn check<'a>(&'a self, pod: &'a NetworkPod) -> NetworkReply<'a, ()> {
        Box::pin(async move {
            if self.cni.has(pod) {
                return self.cni.check(pod).await.map_err(|error| error.to_string());
            }
            match &self.bridge {
                Some(bridge) => bridge.check(pod).await.map_err(|error| error.to_string()),
                None => Err("the pod has no network".to_owned()),
            }
        })
    }

    fn ready(&self) -> Result<(), (String, String)> {
        let not_ready = |message: String| Err(("NetworkPluginNotReady".to_owned(), message));
        match self.cni.configured() {
            Ok(Some(_)) => Ok(()),
            Ok(None) if self.bridge.is_some() => Ok(()),
            Ok(None) => not_ready("Network plugin returns error: cni plugin not initialized".to_owned()),
            Err(error) => not_ready(format!("Network plugin returns error: {error}")),
        }
    }

    fn set_pod_cidr(&self, cidr: &str) {
        if let Some(bridge) = &self.bridge {
            bridge.set_pod_cidr(cidr);
        }
    }
}

/// Where CNI's files are by its own convention.
pub fn standard_cni(state_folder: PathBuf) -> CniConfig {
    CniConfig {
        config_folder: PathBuf::from("/etc/cni/net.d"),
        plugin_folders: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
        state_folder,
    }
}
