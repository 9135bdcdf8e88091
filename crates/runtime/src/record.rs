//! What is written down about sandboxes and containers, so that a later daemon finds them.
//!
//! A record is written before anything is made for it and removed after everything is gone, each time as a whole. One that
//! cannot be read (the power failed) still says by its file's name whose leftovers are to be removed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cri::v1;
use prost::Message;

/// How far a sandbox has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Phase {
    /// It is being made; a later daemon removes it.
    Making = 0,
    /// It runs.
    Ready = 1,
    /// It has been stopped, or its shim is gone.
    Stopped = 2,
}

/// A sandbox.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SandboxRecord {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) config: Option<v1::PodSandboxConfig>,
    #[prost(string, tag = "3")]
    pub(crate) runtime_handler: String,
    #[prost(int64, tag = "4")]
    pub(crate) created_at: i64,
    #[prost(enumeration = "Phase", tag = "5")]
    pub(crate) phase: i32,
    #[prost(string, repeated, tag = "6")]
    pub(crate) ips: Vec<String>,
    #[prost(int32, tag = "7")]
    pub(crate) shim_pid: i32,
    /// The network has been asked for, so it has to be given back.
    #[prost(bool, tag = "8")]
    pub(crate) networked: bool,
    #[prost(string, tag = "9")]
    pub(crate) cgroup: String,
    #[prost(int32, tag = "10")]
    pub(crate) init_pid: i32,
}

/// A container.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ContainerRecord {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) sandbox: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) config: Option<v1::ContainerConfig>,
    /// The image's id.
    #[prost(string, tag = "4")]
    pub(crate) image_id: String,
    /// The name by which pods know it, with its digest if it has one.
    #[prost(string, tag = "5")]
    pub(crate) image_ref: String,
    #[prost(enumeration = "v1::ContainerState", tag = "6")]
    pub(crate) state: i32,
    #[prost(int64, tag = "7")]
    pub(crate) created_at: i64,
    #[prost(int64, tag = "8")]
    pub(crate) started_at: i64,
    #[prost(int64, tag = "9")]
    pub(crate) finished_at: i64,
    #[prost(int32, tag = "10")]
    pub(crate) exit_code: i32,
    #[prost(string, tag = "11")]
    pub(crate) reason: String,
    #[prost(string, tag = "12")]
    pub(crate) message: String,
    #[prost(string, tag = "13")]
    pub(crate) log_path: String,
    #[prost(string, tag = "14")]
    pub(crate) cgroup: String,
    #[prost(int32, tag = "15")]
    pub(crate) pid: i32,
    #[prost(message, optional, tag = "16")]
    pub(crate) user: Option<v1::LinuxContainerUser>,
    #[prost(int32, tag = "17")]
    pub(crate) stop_signal: i32,
    /// The limits in force, which may have been changed since.
    #[prost(message, optional, tag = "18")]
    pub(crate) resources: Option<v1::LinuxContainerResources>,
}

/// A folder of records, a file for each.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
}

impl Records {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Records> {
        std::fs::create_dir_all(&folder)?;
        Ok(Records { folder })
    }

    pub(crate) fn save<M: Message>(&self, id: &str, record: &M) -> io::Result<()> {
        let draft = self.folder.join(format!(".{id}"));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&record.encode_to_vec())?;
        std::fs::rename(&draft, self.folder.join(id))
    }

    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        match std::fs::remove_file(self.folder.join(id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Every record by its id; `None` if it cannot be read.
    pub(crate) fn all<M: Message + Default>(&self) -> io::Result<Vec<(String, Option<M>)>> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.starts_with('.') {
                // A draft that was never finished.
                std::fs::remove_file(&path)?;
                continue;
            }
            out.push((name.to_owned(), read(&path)));
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(out)
    }
}

fn read<M: Message + Default>(path: &Path) -> Option<M> {
    let bytes = std::fs::read(path).ok().filter(|bytes| !bytes.is_empty())?;
    M::decode(bytes.as_slice()).ok()
}
