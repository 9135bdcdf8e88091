//! Where pods get their network from. The runtime makes and holds the namespaces; who fills them is plugged in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;

/// The answer of a [`PodNetwork`], once it comes; failures in words, which reach the pod's events.
pub type NetworkReply<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// A pod, as its network has to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPod {
    /// The sandbox's id.
    pub id: String,
    /// The file that holds the network namespace. On teardown it may be gone.
    pub namespace_path: PathBuf,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// Ports of the node that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The pod's cgroup parent, as the CRI gives it.
    pub cgroup_parent: String,
    /// The addresses that it got; empty on setup.
    pub ips: Vec<IpAddr>,
}

/// A port of the node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// In the pod.
    pub container_port: u16,
    /// On the node.
    pub host_port: u16,
    /// On which of the node's addresses; empty means all.
    pub host_ip: String,
}

/// What fills a pod's network namespace: CNI plugins, a built-in bridge.
pub trait PodNetwork: Send + Sync {
    /// Connects a pod; the addresses, the primary one first. The loopback interface is up already.
    fn setup<'a>(&'a self, pod: &'a NetworkPod) -> NetworkReply<'a, Vec<IpAddr>>;

    /// Takes back what `setup` gave. It is called again until it succeeds, and also for a pod that has nothing.
    fn teardown<'a>(&'a self, pod: &'a NetworkPod) -> NetworkReply<'a, ()>;

    /// Whether a pod's network is as `setup` left it.
    fn check<'a>(&'a self, pod: &'a NetworkPod) -> NetworkReply<'a, ()>;

    /// Whether pods can be connected; if not, the reason and the message of the condition NetworkReady.
    fn ready(&self) -> Result<(), (String, String)>;

    /// The node's pod range, if the control plane gives one.
    fn set_pod_cidr(&self, cidr: &str) {
        let _ = cidr;
    }

    /// What the status says of it beside (for `crictl info`), as JSON.
    fn info(&self) -> Option<String> {
        None
    }
}

/// Pods have a loopback interface and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopbackOnly;

impl PodNetwork for LoopbackOnly {
    fn setup<'a>(&'a self, _: &'a NetworkPod) -> NetworkReply<'a, Vec<IpAddr>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn teardown<'a>(&'a self, _: &'a NetworkPod) -> NetworkReply<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn check<'a>(&'a self, _: &'a NetworkPod) -> NetworkReply<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn ready(&self) -> Result<(), (String, String)> {
        Ok(())
    }
}
