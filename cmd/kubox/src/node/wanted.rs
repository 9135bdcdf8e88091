//! What the flags of `kubox node` ask for.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use api_schema::Value;

/// All settings, with kubelet's defaults where it has one.
pub(super) struct Wanted {
    pub(super) state_dir: PathBuf,
    pub(super) run_dir: PathBuf,
    pub(super) image_dir: Option<PathBuf>,
    pub(super) bridge: String,
    pub(super) cni_conf_dir: PathBuf,
    pub(super) cni_bin_dirs: Vec<PathBuf>,
    pub(super) kubeconfig: PathBuf,
    pub(super) name: String,
    pub(super) node_ips: Vec<String>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) register: bool,
    pub(super) taints: Vec<Value>,
    pub(super) pods_max: i64,
    pub(super) port: u16,
    pub(super) address: IpAddr,
    pub(super) certificate_dir: Option<PathBuf>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) runtime_endpoint: String,
    pub(super) image_endpoint: String,
    pub(super) root_dir: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) cgroup_root: String,
    pub(super) cluster_dns: Vec<String>,
    pub(super) cluster_domain: String,
    pub(super) resolv_conf: PathBuf,
    pub(super) pod_cidr: String,
    pub(super) seccomp_default: bool,
    pub(super) verbosity: i64,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted {
            state_dir: PathBuf::from("/var/lib/kubox"),
            run_dir: PathBuf::from("/run/kubox"),
            image_dir: None,
            bridge: "kubox0".to_owned(),
            cni_conf_dir: PathBuf::from("/etc/cni/net.d"),
            cni_bin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            kubeconfig: PathBuf::new(),
            name: String::new(),
            node_ips: Vec::new(),
            labels: Vec::new(),
            register: true,
            taints: Vec::new(),
            pods_max: 110,
            port: 10250,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            certificate_dir: None,
            client_ca_file: None,
            runtime_endpoint: String::new(),
            image_endpoint: String::new(),
            root_dir: PathBuf::from("/var/lib/kubelet"),
            log_dir: PathBuf::from("/var/log/pods"),
            cgroup_root: String::new(),
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            pod_cidr: "10.244.0.0/24".to_owned(),
            seccomp_default: true,
            verbosity: 0,
        }
    }
}

/// Reads `key=value:effect` or `key:effect`.
pub(super) fn taint(text: &str) -> Result<Value, String> {
    let invalid = || format!("invalid taint spec: {text}, expected key=value:effect or key:effect");
    let (rest, effect) = text.rsplit_once(':').ok_or_else(invalid)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if key.is_empty() {
        return Err(invalid());
    }
    let mut taint = Value::from([("key", key), ("effect", effect)]);
    if !value.is_empty() {
        taint.set(&["value"], value);
    }
    Ok(taint)
}
