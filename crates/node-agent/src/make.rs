//! What the runtime is asked to make: the configuration of a sandbox and of a container, from the Pod and the node.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use api_schema::Value;
use cri::v1::{
    ContainerConfig, ContainerMetadata, Device, ImageSpec, KeyValue, LinuxContainerConfig, LinuxPodSandboxConfig,
    Mount, MountPropagation, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, Signal,
};

use crate::dns::{self, NodeDns};
use crate::env::{Env, expand};
use crate::observed::{
    ANNOTATION_HASH, ANNOTATION_MESSAGE_PATH, ANNOTATION_MESSAGE_POLICY, ANNOTATION_RESTART_COUNT,
    LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID,
};
use crate::pod::{Container, Pod};
use crate::resources::{self, QosClass};
use crate::security::{self, ImageUser};

/// What of the node goes into what it makes.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the agent keeps its files: kubelet's `--root-dir`.
    pub root_dir: PathBuf,
    /// Where the logs of Pods are: `podLogsDir`.
    pub log_dir: PathBuf,
    /// The cgroup above all Pods', such as `/` (then Pods are below `/kubepods`).
    pub cgroup_root: String,
    /// How names are found.
    pub dns: NodeDns,
    /// The memory of the node in bytes.
    pub memory_capacity_bytes: i64,
    /// Whether containers that say nothing get the runtime's seccomp profile.
    pub seccomp_default: bool,
}

impl Node {
    /// The folder of a Pod: its volumes and containers' files.
    pub fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.root_dir.join("pods").join(pod.uid().0.as_str())
    }

    /// The folder of a Pod's logs.
    pub fn pod_log_dir(&self, pod: &Pod) -> PathBuf {
        let key = pod.key();
        self.log_dir.join(format!("{}_{}_{}", key.namespace, key.name, pod.uid()))
    }

    /// The cgroup of a Pod, as the cgroupfs driver names it.
    pub fn pod_cgroup(&self, pod: &Pod) -> String {
        let root = self.cgroup_root.trim_end_matches('/');
        let class = match resources::qos_class(pod) {
            QosClass::Guaranteed => "",
            QosClass::Burstable => "/burstable",
            QosClass::BestEffort => "/besteffort",
        };
        format!("{root}/kubepods{class}/pod{}", pod.uid())
    }
}

/// The configuration of a Pod's sandbox.
///
/// # Errors
/// If the Pod's name cannot be its hostname.
pub fn sandbox(pod: &Pod, node: &Node, attempt: u32) -> Result<PodSandboxConfig, String> {
    let names = dns::names(pod, &node.dns.cluster_domain)?;
    let text = |map: &str| -> HashMap<String, String> {
        let map = pod.object().map_at(&["metadata", map]);
        let entries = map.into_iter().flat_map(|map| map.iter());
        entries.map(|(key, value)| (key.to_string(), value.as_str().unwrap_or_default().to_owned())).collect()
    };
    let mut labels = text("labels");
    labels.extend(pod_labels(pod));
    let sysctls = pod.spec(&["securityContext", "sysctls"]).and_then(Value::as_list).unwrap_or_default();
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.key().name.to_string(),
            uid: pod.uid().0.to_string(),
            namespace: pod.key().namespace.to_string(),
            attempt,
        }),
        // In the node's network a Pod bears the node's name.
        hostname: if pod.is_host_network() { String::new() } else { names.hostname },
        log_directory: node.pod_log_dir(pod).to_string_lossy().into_owned(),
        dns_config: Some(dns::pod_dns(pod, &node.dns)),
        port_mappings: if pod.is_host_network() { Vec::new() } else { port_mappings(pod) },
        labels,
        annotations: text("annotations"),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: node.pod_cgroup(pod),
            security_context: Some(security::sandbox_context(pod)),
            sysctls: sysctls
                .iter()
                .map(|sysctl| (sysctl.str_at(&["name"]).to_owned(), sysctl.str_at(&["value"]).to_owned()))
                .collect(),
            overhead: None,
            resources: Some(resources::pod_resources(pod)),
        }),
        windows: None,
    })
}

fn pod_labels(pod: &Pod) -> [(String, String); 3] {
    [
        (LABEL_POD_NAME.to_owned(), pod.key().name.to_string()),
        (LABEL_POD_NAMESPACE.to_owned(), pod.key().namespace.to_string()),
        (LABEL_POD_UID.to_owned(), pod.uid().0.to_string()),
    ]
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let mut mappings = Vec::new();
    for container in pod.init_containers().filter(Container::is_sidecar).chain(pod.containers()) {
        for port in container.value().list_at(&["ports"]) {
            let number = |field: &str| i32::try_from(port.int_at(&[field]).unwrap_or(0)).unwrap_or(0);
            let protocol = match port.str_at(&["protocol"]) {
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            mappings.push(PortMapping {
                protocol: protocol as i32,
                container_port: number("containerPort"),
                host_port: number("hostPort"),
                host_ip: port.str_at(&["hostIP"]).to_owned(),
            });
        }
    }
    mappings
}

/// A volume of a Pod, ready to be mounted into containers.
#[derive(Clone, Debug)]
pub struct ReadyVolume {
    /// Where it is on the node.
    pub path: PathBuf,
    /// Whether no container may write into it.
    pub read_only: bool,
}

/// What a container is made from beside its spec.
pub struct Parts<'a> {
    /// The environment.
    pub env: Env,
    /// The image as the runtime calls it.
    pub image_ref: &'a str,
    /// Who the image runs as.
    pub image_user: ImageUser,
    /// How often it was started before.
    pub restart_count: i64,
    /// Its mounts: volumes, hosts file, termination message.
    pub mounts: Vec<Mount>,
    /// The container whose processes an ephemeral one sees, by the runtime's id.
    pub target_id: Option<&'a str>,
    /// Groups that volumes bring along.
    pub extra_groups: &'a [i64],
}

/// The configuration of a container.
///
/// # Errors
/// In upstream's words, for `CreateContainerConfigError`.
pub fn container(
    pod: &Pod,
    container: Container<'_>,
    node: &Node,
    parts: Parts<'_>,
) -> Result<ContainerConfig, String> {
    let Parts { env, image_ref, image_user, restart_count, mounts, target_id, extra_groups } = parts;
    let value = container.value();
    let context =
        security::container_context(pod, container, &image_user, target_id, extra_groups, node.seccomp_default)?;
    let texts = |field: &str| -> Vec<String> {
        value.list_at(&[field]).iter().filter_map(Value::as_str).map(|text| expand(text, &env)).collect()
    };
    let (command, args) = (texts("command"), texts("args"));
    let switch = |field: &str| value.bool_at(&[field]).unwrap_or(false);
    let mut labels: HashMap<String, String> = pod_labels(pod).into();
    labels.insert(LABEL_CONTAINER_NAME.to_owned(), container.name().to_owned());
    let message_path = value.str_at(&["terminationMessagePath"]);
    let message_policy = value.str_at(&["terminationMessagePolicy"]);
    let annotations = [
        (ANNOTATION_HASH, format!("{:x}", container.hash())),
        (ANNOTATION_RESTART_COUNT, restart_count.to_string()),
        (ANNOTATION_MESSAGE_PATH, message_path.to_owned()),
        (ANNOTATION_MESSAGE_POLICY, message_policy.to_owned()),
        ("io.kubernetes.pod.terminationGracePeriod", pod.grace_seconds().to_string()),
    ];
    let devices: Vec<Device> = Vec::new();
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name().to_owned(),
            attempt: u32::try_from(restart_count).unwrap_or(u32::MAX),
        }),
        image: Some(ImageSpec {
            image: image_ref.to_owned(),
            user_specified_image: container.image().to_owned(),
            ..ImageSpec::default()
        }),
        command,
        args,
        working_dir: value.str_at(&["workingDir"]).to_owned(),
        envs: env.into_iter().map(|(key, value)| KeyValue { key, value: value.into_bytes() }).collect(),
        mounts,
        devices,
        labels,
        annotations: annotations.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        log_path: format!("{}/{restart_count}.log", container.name()),
        stdin: switch("stdin"),
        stdin_once: switch("stdinOnce"),
        tty: switch("tty"),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources::container_resources(pod, container, node.memory_capacity_bytes)),
            security_context: Some(context),
        }),
        stop_signal: stop_signal(value.str_at(&["lifecycle", "stopSignal"])) as i32,
        ..ContainerConfig::default()
    })
}

/// The CRI's number of a signal's name (`SIGTERM`), or the image's own.
fn stop_signal(name: &str) -> Signal {
    let spelled = match name.split_at_checked(3) {
        // The protocol's names differ from Rust's only in their case: `SIGRTMINPLUS1`, `Sigrtminplus1`.
        Some((start, rest)) => format!("{start}{}", rest.replace('+', "PLUS").replace('-', "MINUS")),
        None => String::new(),
    };
    (0..=i32::from(u8::MAX))
        .map_while(|number| Signal::try_from(number).ok())
        .find(|signal| format!("{signal:?}").eq_ignore_ascii_case(&spelled))
        .unwrap_or(Signal::RuntimeDefault)
}

/// The mounts of a container's volumes, without those of sub-paths, whose folders must be made safely first.
///
/// # Errors
/// If a volume is named that the Pod does not have or that is not ready.
pub fn volume_mounts(
    container: Container<'_>,
    volumes: &BTreeMap<String, ReadyVolume>,
    sub_path: &mut dyn FnMut(&Value, &Path) -> Result<PathBuf, String>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.value().list_at(&["volumeMounts"]) {
        let name = mount.str_at(&["name"]);
        let Some(volume) = volumes.get(name) else {
            return Err(format!("cannot find volume {name:?} to mount into container {:?}", container.name()));
        };
        let has_sub_path = !mount.str_at(&["subPath"]).is_empty() || !mount.str_at(&["subPathExpr"]).is_empty();
        let host_path = if has_sub_path { sub_path(mount, &volume.path)? } else { volume.path.clone() };
        let read_only = volume.read_only || mount.bool_at(&["readOnly"]).unwrap_or(false);
        let propagation = match mount.str_at(&["mountPropagation"]) {
            "HostToContainer" => MountPropagation::HostToContainer,
            "Bidirectional" => MountPropagation::Bidirectional,
            _ => MountPropagation::Private,
        };
        let recursive = matches!(mount.str_at(&["recursiveReadOnly"]), "Enabled" | "IfPossible");
        mounts.push(Mount {
            container_path: mount_path(mount.str_at(&["mountPath"])),
            host_path: host_path.to_string_lossy().into_owned(),
            readonly: read_only,
            propagation: propagation as i32,
            recursive_read_only: read_only && recursive,
            ..Mount::default()
        });
    }
    Ok(mounts)
}

/// A mount path is absolute; a relative one is meant from the root.
fn mount_path(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
