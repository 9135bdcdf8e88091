//! A container's root: its files, mounts and devices, arranged in a mount namespace of its own.
//!
//! Whatever comes from the host is opened first. Then the root is entered and the host's is let go of; from there on every
//! path is looked up within the container's own files, so that no symbolic link in an image or a volume leads out.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use cgroups::Cgroup;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, makedev, mknodat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};

use crate::process::{Result, doing};
use crate::spec::{ContainerSpec, DeviceSpec, MountKind, MountSpec, Propagation, ReadOnly, Rootfs};
use crate::sys::{MountChange, set_mount};

const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

/// A mount whose source is held open.
enum Held {
    /// One file or folder of the host.
    One(OwnedFd),
    /// The container's folder in each cgroup hierarchy, by controller.
    Cgroups(Vec<(String, OwnedFd)>),
    /// Nothing: it is a new file system.
    None,
}

/// Arranges the root and enters it.
pub(crate) fn enter(spec: &ContainerSpec, cgroup: &Cgroup) -> Result<()> {
    doing("unshare the mounts", unshare(CloneFlags::CLONE_NEWNS))?;
    let held = spec.mounts.iter().map(|row| hold(row, cgroup)).collect::<Result<Vec<Held>>>()?;
    // What is mounted from here on is nobody else's business; what is held keeps the propagation it has.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    doing("make the mounts private", mount_change("/", private))?;
    mount_root(spec)?;
    doing("enter the root", rustix::process::chdir(&spec.mount_point))?;
    doing("pivot to the root", rustix::process::pivot_root(".", "."))?;
    doing("let go of the host's root", unmount(".", UnmountFlags::DETACH))?;
    doing("enter the root", rustix::process::chdir("/"))?;
    for (row, held) in spec.mounts.iter().zip(held) {
        let at = row.destination.display();
        attach(row, held, cgroup).map_err(|e| format!("mount at {at}: {e}"))?;
    }
    let own_dev =
        spec.mounts.iter().any(|row| row.destination == Path::new("/dev") && matches!(row.kind, MountKind::New { .. }));
    if own_dev {
        for device in &spec.devices {
            make_device(device).map_err(|e| format!("make device {}: {e}", device.path.display()))?;
        }
        make_dev_links()?;
    }
    for path in &spec.readonly_paths {
        make_readonly(path).map_err(|e| format!("make {path} read-only: {e}"))?;
    }
    for path in &spec.masked_paths {
        mask(path).map_err(|e| format!("mask {path}: {e}"))?;
    }
    Ok(())
}

/// The last step, after which nothing can be made in the root any more.
pub(crate) fn seal(spec: &ContainerSpec) -> Result<()> {
    if spec.readonly_root {
        let root = doing("open the root", rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
        doing("make the root read-only", set_mount(&root, MountChange { read_only: true, ..MountChange::default() }))?;
    }
    Ok(())
}

fn hold(row: &MountSpec, cgroup: &Cgroup) -> Result<Held> {
    Ok(match &row.kind {
        MountKind::Bind { source, recursive, .. } => Held::One(clone_tree(source, *recursive)?),
        MountKind::New { .. } => Held::None,
        MountKind::Cgroup { .. } => {
            let named = cgroup.folders().filter(|(name, folder)| !name.is_empty() && folder.is_dir());
            let trees = named.map(|(name, folder)| Ok((name.to_owned(), clone_tree(folder, false)?)));
            Held::Cgroups(trees.collect::<Result<Vec<_>>>()?)
        }
    })
}

/// A copy of a mount (and of those below it) that is not attached anywhere yet.
fn clone_tree(source: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    doing(&format!("open {}", source.display()), open_tree(CWD, source, flags))
}

fn mount_root(spec: &ContainerSpec) -> Result<()> {
    match &spec.rootfs {
        Rootfs::Folder(folder) => {
            let tree = clone_tree(folder, true)?;
            let change = MountChange { propagation: MS_PRIVATE, recursive: true, ..MountChange::default() };
            doing("make the root private", set_mount(&tree, change))?;
            attach_tree(&tree, &spec.mount_point)
        }
        Rootfs::Overlay { lower, upper, work, options } => {
            let open = |path: &Path| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                doing(&format!("open {}", path.display()), rustix::fs::open(path, flags, Mode::empty()))
            };
            let lower = lower.iter().map(|layer| open(layer)).collect::<Result<Vec<_>>>()?;
            let (upper, work) = (open(upper)?, open(work)?);
            // The kernel takes a page of options. By number, a hundred layers fit, however long their names are, and no
            // name needs escaping.
            let by_number = |file: &OwnedFd| format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            let layers: Vec<String> = lower.iter().map(by_number).collect();
            let mut data =
                format!("lowerdir={},upperdir={},workdir={}", layers.join(":"), by_number(&upper), by_number(&work));
            if !options.is_empty() {
                data = format!("{options},{data}");
            }
            let data = doing("mount the layers", std::ffi::CString::new(data))?;
            doing(
                "mount the layers",
                mount("overlay", &spec.mount_point, "overlay", MountFlags::empty(), data.as_c_str()),
            )
        }
    }
}

fn attach(row: &MountSpec, held: Held, cgroup: &Cgroup) -> Result<()> {
    let at = &row.destination;
    match (&row.kind, held) {
        (MountKind::Bind { read_only, propagation, .. }, Held::One(tree)) => {
            let stat = doing("look at the source", rustix::fs::fstat(&tree))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                make_folder(at)?;
            } else {
                make_file(at)?;
            }
            let propagation = match propagation {
                Propagation::Private => MS_PRIVATE,
                Propagation::HostToContainer => MS_SLAVE,
                Propagation::Bidirectional => MS_SHARED,
            };
            doing(
                "set the propagation",
                set_mount(&tree, MountChange { propagation, recursive: true, read_only: false }),
            )?;
            if *read_only != ReadOnly::No {
                let recursive = *read_only == ReadOnly::Recursive;
                doing(
                    "make it read-only",
                    set_mount(&tree, MountChange { read_only: true, recursive, propagation: 0 }),
                )?;
            }
            attach_tree(&tree, at)
        }
        (MountKind::New { fs, flags, data }, _) => {
            // A link here would put the kernel's files elsewhere and leave the masks below without effect.
            if matches!(fs.as_str(), "proc" | "sysfs") && at.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
                return Err(format!("filesystem {fs:?} must be mounted on ordinary directory"));
            }
            make_folder(at)?;
            mount_new(fs, at, flags, data)
        }
        (MountKind::Cgroup { writable }, Held::Cgroups(trees)) => mount_cgroups(at, trees, cgroup, *writable),
        (MountKind::Bind { .. } | MountKind::Cgroup { .. }, _) => Err("its source is not held".to_owned()),
    }
}

fn attach_tree(tree: impl AsFd, at: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    doing("attach", move_mount(tree.as_fd(), "", CWD, at, flags))
}

fn mount_new(fs: &str, at: &Path, flags: &[String], data: &str) -> Result<()> {
    let mut bits = MountFlags::empty();
    for flag in flags {
        bits |= match flag.as_str() {
            "ro" => MountFlags::RDONLY,
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "relatime" => MountFlags::RELATIME,
            "strictatime" => MountFlags::STRICTATIME,
            "noatime" => MountFlags::NOATIME,
            other => return Err(format!("unknown mount flag {other:?}")),
        };
    }
    let data = doing("read the options", std::ffi::CString::new(data))?;
    doing("mount", mount(fs, at, fs, bits, data.as_c_str()))
}

/// Version 2: the tree as the container's cgroup namespace shows it. Version 1: its folder of each hierarchy.
fn mount_cgroups(at: &Path, trees: Vec<(String, OwnedFd)>, cgroup: &Cgroup, writable: bool) -> Result<()> {
    make_folder(at)?;
    let base = ["nosuid", "nodev", "noexec", "relatime"].map(str::to_owned);
    if cgroup.folder("").is_some() && trees.is_empty() {
        let mut flags = base.to_vec();
        if !writable {
            flags.push("ro".to_owned());
        }
        return mount_new("cgroup2", at, &flags, "");
    }
    mount_new("tmpfs", at, &base, "mode=755")?;
    for (name, tree) in trees {
        let folder = at.join(name.strip_prefix("name=").unwrap_or(&name));
        make_folder(&folder)?;
        let change = MountChange { read_only: !writable, propagation: MS_PRIVATE, recursive: true };
        doing("make a cgroup read-only", set_mount(&tree, change))?;
        attach_tree(&tree, &folder)?;
    }
    let open = rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let tree = doing("open the cgroups", open)?;
    doing(
        "make the cgroups read-only",
        set_mount(&tree, MountChange { read_only: !writable, ..MountChange::default() }),
    )
}

fn make_folder(at: &Path) -> Result<()> {
    if at.is_dir() {
        return Ok(());
    }
    doing("make the folder", std::fs::DirBuilder::new().recursive(true).mode(0o755).create(at))
}

fn make_file(at: &Path) -> Result<()> {
    if at.exists() {
        return Ok(());
    }
    if let Some(parent) = at.parent() {
        make_folder(parent)?;
    }
    doing("make the file", std::fs::OpenOptions::new().create(true).append(true).open(at).map(drop))
}

fn make_device(device: &DeviceSpec) -> Result<()> {
    if let Some(parent) = device.path.parent() {
        make_folder(parent)?;
    }
    let kind = if device.kind == 'b' { FileType::BlockDevice } else { FileType::CharacterDevice };
    let mode = Mode::from_raw_mode(device.mode);
    match mknodat(CWD, &device.path, kind, mode, makedev(device.major, device.minor)) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.to_string()),
    }
    // The umask took bits away.
    doing("set its mode", std::fs::set_permissions(&device.path, std::fs::Permissions::from_mode(device.mode)))?;
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    doing("set its owner", rustix::fs::chown(&device.path, Some(uid), Some(gid)))
}

fn make_dev_links() -> Result<()> {
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("/proc/kcore", "/dev/core"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    for (target, at) in links {
        match symlink(target, at) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(format!("link {at}: {e}")),
            _ => {}
        }
    }
    Ok(())
}

fn make_readonly(path: &str) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = match open_tree(CWD, path, flags) {
        Ok(tree) => tree,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(e.to_string()),
    };
    doing(
        "make it read-only",
        set_mount(&tree, MountChange { read_only: true, propagation: MS_PRIVATE, recursive: true }),
    )?;
    attach_tree(&tree, Path::new(path))
}

fn mask(path: &str) -> Result<()> {
    let kind = match std::fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(e.to_string()),
    };
    if kind.is_dir() {
        return mount_new("tmpfs", Path::new(path), &["ro".to_owned()], "nr_blocks=1,nr_inodes=1");
    }
    doing("hide it", rustix::mount::mount_bind("/dev/null", path))
}
