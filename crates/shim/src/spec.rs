//! What a sandbox, a container and a process are to be, as the daemon tells the shim. Everything that has a default may be
//! absent, so that a shim understands a daemon that knows less or more than itself.

use std::path::PathBuf;

use cgroups::Limits;
use serde::{Deserialize, Serialize};

/// A pod's sandbox: what the shim itself has to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// The sandbox's id.
    pub id: String,
    /// The shim's folder: socket, exit codes, namespace file.
    pub run_folder: PathBuf,
    /// Whether the pod has a network of its own.
    pub network: bool,
    /// Whether the pod has System V IPC and message queues of its own.
    pub ipc: bool,
    /// The host name, in a UTS namespace of its own; absent means the node's.
    pub hostname: Option<String>,
    /// Whether the containers share one process namespace, with an init of the shim's.
    pub shared_pids: bool,
    /// Kernel settings of the pod's namespaces, by name with dots.
    pub sysctls: Vec<(String, String)>,
    /// Where the shim itself is accounted.
    pub shim_cgroup: String,
    /// Where the init of shared processes is accounted.
    pub cgroup: String,
    /// Limits of that cgroup.
    pub limits: Limits,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The container's id.
    pub id: String,
    /// Its files.
    pub rootfs: Rootfs,
    /// An empty folder of the host, on which the root is mounted in a mount namespace of the container's own.
    pub mount_point: PathBuf,
    /// The first process.
    pub process: ProcessSpec,
    /// Whose processes it sees.
    pub pids: PidNamespace,
    /// What is mounted, in order.
    pub mounts: Vec<MountSpec>,
    /// Device nodes to make.
    pub devices: Vec<DeviceSpec>,
    /// Paths that are hidden.
    pub masked_paths: Vec<String>,
    /// Paths that are made read-only.
    pub readonly_paths: Vec<String>,
    /// Whether the root is read-only.
    pub readonly_root: bool,
    /// Where it is accounted.
    pub cgroup: String,
    /// Its limits.
    pub limits: Limits,
    /// The log file; absent means that output is dropped.
    pub log_path: Option<PathBuf>,
    /// A size of the log at which the daemon is told; 0 means never.
    pub log_bytes_max: u64,
    /// Whether stdin stays open for those who attach.
    pub stdin: bool,
    /// Whether the first who attaches closes stdin by leaving.
    pub stdin_once: bool,
}

/// Where a container's files come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// A folder as it is.
    Folder(PathBuf),
    /// Layers, the topmost first, and a writable one over them.
    Overlay {
        /// Read-only layers, the topmost first.
        lower: Vec<PathBuf>,
        /// What is written goes here.
        upper: PathBuf,
        /// Scratch space on the same file system.
        work: PathBuf,
        /// Further mount options, separated by commas.
        options: String,
    },
}

impl Default for Rootfs {
    fn default() -> Rootfs {
        Rootfs::Folder(PathBuf::new())
    }
}

/// Whose processes a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PidNamespace {
    /// Its own only.
    #[default]
    Own,
    /// Those of the pod.
    Pod,
    /// Those of another container of the pod, by id.
    Container(String),
    /// All of the node.
    Host,
}

/// A process in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSpec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The working folder; it is made if it is missing.
    pub cwd: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// As whom it runs.
    pub user: UserSpec,
    /// What it may do.
    pub capabilities: Capabilities,
    /// Whether it can never gain more.
    pub no_new_privileges: bool,
    /// A seccomp filter: instructions in the kernel's layout, native byte order.
    #[serde(with = "hex")]
    pub seccomp: Option<Vec<u64>>,
    /// Resource limits: name (`RLIMIT_NOFILE`), soft, hard.
    pub rlimits: Vec<(String, u64, u64)>,
    /// How readily the kernel kills it for want of memory.
    pub oom_score_adj: Option<i32>,
}

/// Sets of capabilities, bit by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What can ever be had.
    pub bounding: u64,
    /// What is in force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// What programs with file capabilities pass on.
    pub inheritable: u64,
    /// What ordinary programs pass on.
    pub ambient: u64,
}

/// A user by number or by name, to be looked up in the container's own files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserSpec {
    /// `user`, `user:group`, numbers or names; empty means root.
    pub user: String,
    /// The group, which goes before the one in `user`.
    pub group: Option<u32>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Whether the groups that the image gives the user are left out.
    pub strict: bool,
}

/// Who a process runs as, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// The home folder.
    pub home: String,
}

/// Something to mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Where, in the container.
    pub destination: PathBuf,
    /// What.
    #[serde(flatten)]
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MountKind {
    /// A file or folder of the host.
    Bind {
        /// Which.
        source: PathBuf,
        /// Whether what is mounted below it comes along.
        recursive: bool,
        /// Whether it can be written.
        read_only: ReadOnly,
        /// Whether later mounts are seen across.
        propagation: Propagation,
    },
    /// A new file system.
    New {
        /// Its type.
        fs: String,
        /// Options that are flags (`nosuid`, `ro`, ...).
        flags: Vec<String>,
        /// Options of the type, separated by commas.
        data: String,
    },
    /// The container's own view of its cgroups.
    Cgroup {
        /// Whether it can be written.
        writable: bool,
    },
}

/// Whether a bind mount can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadOnly {
    /// It can.
    #[default]
    No,
    /// It cannot; what is mounted below it is as it was.
    Top,
    /// Neither it nor anything below can.
    Recursive,
}

/// Whether mounts are seen across, as the CRI names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// In neither direction.
    #[default]
    Private,
    /// The container sees later mounts of the host.
    HostToContainer,
    /// Each sees the other's.
    Bidirectional,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Where, in the container.
    pub path: PathBuf,
    /// `c` or `b`.
    pub kind: char,
    /// Its number's first half.
    pub major: u32,
    /// Its number's second half.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// A further process in a running container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    /// The daemon's name for it, by which it can be killed.
    pub id: String,
    /// The container.
    pub container: String,
    /// What runs.
    pub process: ProcessSpec,
}

/// A filter as one text, sixteen hex digits an instruction: a list of a thousand numbers is slow to read.
mod hex {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(program: &Option<Vec<u64>>, serializer: S) -> Result<S::Ok, S::Error> {
        let text = program.as_ref().map(|program| {
            let mut text = String::with_capacity(program.len() * 16);
            for instruction in program {
                for byte in instruction.to_be_bytes() {
                    text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
                    text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
                }
            }
            text
        });
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u64>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let words = text.as_bytes().chunks(16).map(|word| {
            let word = std::str::from_utf8(word).map_err(serde::de::Error::custom)?;
            u64::from_str_radix(word, 16).map_err(serde::de::Error::custom)
        });
        words.collect::<Result<Vec<u64>, _>>().map(Some)
    }

    #[cfg(test)]
    mod tests {
        use crate::spec::ProcessSpec;

        #[test]
        fn a_filter_comes_back_as_it_went() {
            let spec =
                ProcessSpec { seccomp: Some(vec![0, 0x20, u64::MAX, 0x0123_4567_89ab_cdef]), ..ProcessSpec::default() };
            let text = serde_json::to_string(&spec).expect("write");
            assert_eq!(serde_json::from_str::<ProcessSpec>(&text).expect("read"), spec);
            assert_eq!(serde_json::from_str::<ProcessSpec>("{}").expect("read"), ProcessSpec::default());
        }
    }
}
