//! Control groups, version 1 (also beside a unified tree) and version 2, by writing to the cgroup file system.
//!
//! A [`Cgroup`] is a path that stands for the same folder in every hierarchy of the machine. What is to be written for
//! given [`Limits`] is decided by a pure function for either version ([`Limits::writes`]); the rest is thin.

mod hierarchy;
mod limits;
mod usage;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use hierarchy::Hierarchy;
pub use limits::{DeviceRule, Limits, Write, weight_of_shares};
pub use usage::{CpuThrottling, Pressure, PressureLine, Usage};

/// How long the kernel is given to let go of a cgroup whose processes are gone.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take until killed processes are gone from their cgroup.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// Why something could not be done to a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mounted hierarchies could not be found.
    #[error("find the cgroup hierarchies")]
    Detect(#[source] io::Error),
    /// A folder could not be made.
    #[error("make cgroup {}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder could not be removed.
    #[error("remove cgroup {}", path.display())]
    Remove {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write {value:?} to {}", path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Killed processes did not go away.
    #[error("processes of cgroup {path} outlive SIGKILL")]
    Unkillable {
        /// The cgroup.
        path: String,
    },
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// One cgroup, in every hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: String,
    /// Folder by controller; version 2 (and the unified tree beside version 1) has the empty name.
    folders: BTreeMap<String, PathBuf>,
    v2: bool,
    root_depth: BTreeMap<String, usize>,
}

impl Cgroup {
    pub(crate) fn new(hierarchy: &Hierarchy, path: &str) -> Cgroup {
        let clean: Vec<&str> =
            path.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..").collect();
        let clean = clean.join("/");
        let mut folders = BTreeMap::new();
        let mut root_depth = BTreeMap::new();
        for (controller, root) in hierarchy.roots() {
            folders.insert(controller.clone(), if clean.is_empty() { root.clone() } else { root.join(&clean) });
            root_depth.insert(controller.clone(), root.components().count());
        }
        Cgroup { path: format!("/{clean}"), folders, v2: hierarchy.is_v2(), root_depth }
    }

    /// The path below the root of each hierarchy; it starts with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether version 2 does the limiting.
    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// The folder of a controller (`memory`, `cpu`, ...); in version 2 all share one.
    pub fn folder(&self, controller: &str) -> Option<&Path> {
        let name = if self.v2 { "" } else { controller };
        self.folders.get(name).map(PathBuf::as_path)
    }

    /// Each hierarchy's folder with its controller's name (empty for version 2's tree).
    pub fn folders(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.folders.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// Whether the cgroup is there in at least one hierarchy.
    pub fn exists(&self) -> bool {
        self.folders.values().any(|folder| folder.is_dir())
    }

    /// Makes the cgroup and what is missing above it; one that is there already stays.
    pub fn create(&self) -> Result<()> {
        for (controller, folder) in &self.folders {
            let root_depth = self.root_depth.get(controller).copied().unwrap_or_default();
            let mut levels: Vec<&Path> =
                folder.ancestors().take_while(|level| level.components().count() > root_depth).collect();
            levels.reverse();
            for level in levels {
                if self.v2
                    && let Some(parent) = level.parent()
                {
                    delegate(parent);
                }
                match std::fs::create_dir(level) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    // The unified tree beside version 1 limits nothing; it is used if it is writable.
                    Err(_) if !self.v2 && controller.is_empty() => break,
                    Err(source) => return Err(Error::Create { path: level.to_owned(), source }),
                }
                if controller == "cpuset" {
                    inherit_cpuset(level)?;
                }
            }
        }
        Ok(())
    }

    /// Removes the cgroup and those below it. It must be empty of processes, or about to be; one that is gone is fine.
    pub fn remove(&self) -> Result<()> {
        for folder in self.folders.values() {
            let deadline = Instant::now() + REMOVE_PATIENCE;
            loop {
                match remove_tree(folder) {
                    Ok(()) => break,
                    // The kernel lets go of a dead process's cgroup a moment after its parent has waited for it.
                    Err((_, e)) if e.raw_os_error() == Some(EBUSY) && Instant::now() < deadline => {
                        std::thread::sleep(RETRY_PAUSE);
                    }
                    Err((path, source)) => return Err(Error::Remove { path, source }),
                }
            }
        }
        Ok(())
    }

    /// Removes the cgroup if the kernel lets go of it at once.
    pub fn try_remove(&self) -> Result<()> {
        for folder in self.folders.values() {
            remove_tree(folder).map_err(|(path, source)| Error::Remove { path, source })?;
        }
        Ok(())
    }

    /// Puts a process into the cgroup; 0 means the caller.
    pub fn add_process(&self, pid: u32) -> Result<()> {
        for (controller, folder) in &self.folders {
            match write(&folder.join("cgroup.procs"), &pid.to_string()) {
                Ok(()) => {}
                Err(Error::Set { source, .. })
                    if !self.v2 && controller.is_empty() && source.raw_os_error() != Some(ESRCH) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The processes of the cgroup and of all below it.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let Some(folder) = self.main_folder() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        collect_processes(folder, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Kills every process of the cgroup and below, and waits until they are gone or zombies of someone else.
    pub fn kill(&self) -> Result<()> {
        let deadline = Instant::now() + KILL_PATIENCE;
        loop {
            if let Some(folder) = self.folders.get("") {
                // Present since Linux 5.14; kills at once whatever forks meanwhile.
                let kill = folder.join("cgroup.kill");
                if kill.exists() {
                    write(&kill, "1")?;
                }
            }
            let pids: Vec<u32> = self.processes()?.into_iter().filter(|pid| !is_zombie(*pid)).collect();
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                    // Gone already is what we want.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            if Instant::now() > deadline {
                return Err(Error::Unkillable { path: self.path.clone() });
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    /// Stops every process of the cgroup where it is, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        if self.v2 {
            let Some(folder) = self.folders.get("") else { return Ok(()) };
            return write(&folder.join("cgroup.freeze"), if frozen { "1" } else { "0" });
        }
        let Some(folder) = self.folders.get("freezer") else { return Ok(()) };
        write(&folder.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
    }

    /// Writes limits; what the machine does not have is passed over if it may be.
    pub fn set(&self, limits: &Limits) -> Result<()> {
        let memory_now = self.folder("memory").and_then(|f| read_number(&f.join("memory.memsw.limit_in_bytes")));
        for row in limits.writes(self.v2, memory_now) {
            let Some(folder) = self.folder(&row.controller) else { continue };
            let path = folder.join(&row.file);
            if row.optional && !path.exists() {
                continue;
            }
            write(&path, &row.value)?;
        }
        Ok(())
    }

    /// How often the kernel killed a process of this cgroup for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let Some(folder) = self.folder("memory") else { return 0 };
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        std::fs::read_to_string(folder.join(file)).map_or(0, |text| usage::field(&text, "oom_kill").unwrap_or_default())
    }

    /// What the cgroup uses now; what cannot be read is absent.
    pub fn usage(&self) -> Usage {
        if self.v2 { usage::read_v2(self) } else { usage::read_v1(self) }
    }

    /// The folder by which processes are counted.
    fn main_folder(&self) -> Option<&Path> {
        if self.v2 {
            return self.folders.get("").map(PathBuf::as_path);
        }
        ["pids", "memory", "cpu", "freezer"]
            .into_iter()
            .find_map(|name| self.folders.get(name))
            .or_else(|| self.folders.values().next())
            .map(PathBuf::as_path)
    }
}

const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();

/// Lets the children of a version 2 cgroup use every controller that it has itself.
fn delegate(folder: &Path) {
    let Ok(have) = std::fs::read_to_string(folder.join("cgroup.controllers")) else { return };
    for controller in have.split_whitespace() {
        // One by one: a controller that cannot be given on (processes inside, threaded) must not hinder the others.
        let _ = std::fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// A version 1 cpuset takes no process until it says which processors and memory nodes.
fn inherit_cpuset(folder: &Path) -> Result<()> {
    let Some(parent) = folder.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = folder.join(file);
        let own = std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        if own.trim().is_empty() {
            let above = parent.join(file);
            let value = std::fs::read_to_string(&above).map_err(|source| Error::Read { path: above, source })?;
            write(&path, value.trim())?;
        }
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> std::result::Result<(), (PathBuf, io::Error)> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err((folder.to_owned(), e)),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err((folder.to_owned(), e)),
        _ => Ok(()),
    }
}

fn collect_processes(folder: &Path, pids: &mut Vec<u32>) -> Result<()> {
    let path = folder.join("cgroup.procs");
    match std::fs::read_to_string(&path) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(ENODEV) => return Ok(()),
        Err(source) => return Err(Error::Read { path, source }),
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), pids)?;
        }
    }
    Ok(())
}

fn is_zombie(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn write(path: &Path, value: &str) -> Result<()> {
    std::fs::write(path, value).map_err(|source| Error::Set { path: path.to_owned(), value: value.to_owned(), source })
}
