//! Mounting overlays of any number of layers.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

use crate::error::{Error, Result};

/// One option of a file system is no longer in the new mount calls.
const OPTION_LENGTH_MAX: usize = 255;
/// All options together are no longer in the old one: a page, with its end.
const OPTIONS_LENGTH_MAX: usize = 4095;

/// An overlay to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The image's layers, the top one first.
    pub lower: Vec<PathBuf>,
    /// Takes what is written; without it the overlay is read-only.
    pub upper: Option<PathBuf>,
    /// The kernel's own folder, beside `upper`.
    pub work: Option<PathBuf>,
}

impl Overlay {
    /// The options as `mount -t overlay -o` takes them, for runtimes that mount by themselves.
    pub fn options(&self) -> Vec<String> {
        let lower: Vec<String> = self.lower.iter().map(|path| path.display().to_string()).collect();
        let mut options = vec![format!("lowerdir={}", lower.join(":"))];
        for (name, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            options.extend(path.iter().map(|path| format!("{name}={}", path.display())));
        }
        options
    }

    /// Mounts the overlay.
    pub fn mount(&self, target: &Path) -> Result<()> {
        match self.mount_by_descriptor(target) {
            // Kernels before 6.7 know no `lowerdir+`, those before 5.2 none of the calls.
            Err(Errno::INVAL | Errno::NOSYS) => {
                self.mount_by_options(target).map_err(|source| Error::io("mount overlay on", target, source))
            }
            other => other.map_err(|source| Error::io("mount overlay on", target, source)),
        }
    }

    /// One layer an option: no bound but the kernel's 500 layers.
    fn mount_by_descriptor(&self, target: &Path) -> Result<(), Errno> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        let set = |name: &str, path: &Path| {
            if path.as_os_str().len() > OPTION_LENGTH_MAX {
                return Err(Errno::INVAL);
            }
            rustix::mount::fsconfig_set_string(context, name, path)
        };
        rustix::mount::fsconfig_set_string(context, "source", "overlay")?;
        for layer in &self.lower {
            set("lowerdir+", layer)?;
        }
        for (name, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            if let Some(path) = path {
                set(name, path)?;
            }
        }
        rustix::mount::fsconfig_create(context)?;
        let attributes = if self.upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        let mount = rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        rustix::mount::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    /// All layers in one option, which must fit a page: they are named from an open folder to be short.
    fn mount_by_options(&self, target: &Path) -> Result<(), Errno> {
        let common = self.lower.first().and_then(|first| first.ancestors().nth(2)).map(Path::to_owned);
        let open = common
            .as_ref()
            .map(|common| rustix::fs::open(common, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()));
        let open = open.transpose()?;
        let lower: Vec<PathBuf> = self
            .lower
            .iter()
            .map(|path| match (&common, &open) {
                (Some(common), Some(open)) => path.strip_prefix(common).map_or_else(
                    |_| path.clone(),
                    |rest| Path::new("/proc/self/fd").join(open.as_raw_fd().to_string()).join(rest),
                ),
                _ => path.clone(),
            })
            .collect();
        let options = Overlay { lower, ..self.clone() }.options().join(",");
        if options.len() > OPTIONS_LENGTH_MAX {
            return Err(Errno::TOOBIG);
        }
        let flags = if self.upper.is_none() { MountFlags::RDONLY } else { MountFlags::empty() };
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())
    }
}

/// Takes away what is mounted there; nothing mounted, or no such folder, is fine.
pub fn unmount(target: &Path) -> Result<()> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            // There may be several over each other.
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                .map_err(|source| Error::io("unmount", target, source))?,
            Err(source) => return Err(Error::io("unmount", target, source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mounts an overlay of so many layers by the old call; gives how many files it shows.
    fn check(layers: usize) -> Result<usize, Errno> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("run this as root");
        let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let root = tempfile::tempdir().unwrap();
        rustix::mount::mount("tmpfs", root.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let folder = |name: String| {
            let path = root.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let lower: Vec<PathBuf> = (0..layers).map(|n| folder(format!("layers/{n}/fs"))).collect();
        lower.iter().enumerate().for_each(|(n, layer)| std::fs::write(layer.join(n.to_string()), "").unwrap());
        let overlay = Overlay { lower, upper: Some(folder("upper".into())), work: Some(folder("work".into())) };
        let target = folder("target".into());
        let mounted = overlay.mount_by_options(&target);
        let shown = mounted.map(|()| std::fs::read_dir(&target).unwrap().count());
        rustix::mount::unmount(root.path(), UnmountFlags::DETACH).unwrap();
        shown
    }

    #[test]
    fn older_kernels_get_short_options() {
        assert_eq!(check(1), Ok(1));
        assert_eq!(check(150), Ok(150));
        assert_eq!(check(400), Err(Errno::TOOBIG));
    }
}
