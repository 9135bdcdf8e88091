//! Which cgroup hierarchies the machine has, and where they are mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Cgroup, Error, Result};

/// The mounted hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Mount point by controller; version 2's tree has the empty name, systemd's own is `name=systemd`.
    roots: BTreeMap<String, PathBuf>,
    v2: bool,
}

impl Hierarchy {
    /// Finds the hierarchies of the machine (of the caller's mount namespace).
    pub fn detect() -> Result<Hierarchy> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(Error::Detect)?;
        let found = Hierarchy::parse(&text);
        if found.roots.is_empty() {
            return Err(Error::Detect(std::io::Error::new(std::io::ErrorKind::NotFound, "no cgroup is mounted")));
        }
        Ok(found)
    }

    /// Reads `/proc/<pid>/mountinfo`.
    pub fn parse(mountinfo: &str) -> Hierarchy {
        let mut roots = BTreeMap::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((head, tail)) = line.split_once(" - ") else { continue };
            let Some(point) = head.split(' ').nth(4).map(unescape) else { continue };
            let mut tail = tail.split(' ');
            let kind = tail.next().unwrap_or_default();
            let options = tail.nth(1).unwrap_or_default();
            match kind {
                // The first mount wins: later ones are somebody's copies.
                "cgroup2" => {
                    unified.get_or_insert(point);
                }
                "cgroup" => {
                    for option in options.split(',').filter(|option| is_controller(option)) {
                        roots.entry(option.to_owned()).or_insert_with(|| point.clone());
                    }
                }
                _ => {}
            }
        }
        let v2 = roots.keys().all(|name| name.starts_with("name="));
        if v2 {
            roots.clear();
        }
        if let Some(point) = unified {
            roots.insert(String::new(), point);
        }
        Hierarchy { roots, v2 }
    }

    /// Whether version 2 does the limiting.
    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// Mount point by controller (see [`Cgroup::folders`]).
    pub fn roots(&self) -> &BTreeMap<String, PathBuf> {
        &self.roots
    }

    /// The mount point of one controller.
    pub fn root(&self, controller: &str) -> Option<&Path> {
        self.roots.get(if self.v2 { "" } else { controller }).map(PathBuf::as_path)
    }

    /// Names a cgroup; it need not be there.
    pub fn cgroup(&self, path: &str) -> Cgroup {
        Cgroup::new(self, path)
    }
}

/// Mount options that are controllers' names rather than options.
fn is_controller(option: &str) -> bool {
    matches!(
        option,
        "cpu"
            | "cpuacct"
            | "cpuset"
            | "memory"
            | "devices"
            | "freezer"
            | "blkio"
            | "pids"
            | "hugetlb"
            | "net_cls"
            | "net_prio"
            | "perf_event"
            | "rdma"
            | "misc"
    ) || option.starts_with("name=")
}

/// The kernel writes spaces and the like as octal.
fn unescape(text: &str) -> PathBuf {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}
