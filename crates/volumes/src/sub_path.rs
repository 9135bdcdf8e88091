//! Parts of volumes, found without ever leaving the volume: whoever writes into it may put links anywhere at any time.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};

use crate::mounts;

/// Opens a part of a volume; what is missing is made as folders with the volume's own permissions. Links are followed
/// within the volume only.
fn open(volume: &Path, sub_path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = openat(CWD, volume, flags, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&root)?.st_mode & 0o777);
    let mut walked = PathBuf::new();
    let mut here = rustix::io::dup(root.as_fd())?;
    for part in sub_path.components() {
        let Component::Normal(name) = part else {
            let why = format!("subpath {:?} not within volume path", sub_path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        walked.push(name);
        here = match openat2(&root, &walked, flags, Mode::empty(), within) {
            Ok(next) => next,
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&here, name, mode)?;
                openat2(&root, &walked, flags | OFlags::NOFOLLOW, Mode::empty(), within)?
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(here)
}

/// Mounts a part of a volume at `target`, so that what containers get cannot be exchanged behind it.
pub(crate) fn mount(volume: &Path, sub_path: &str, target: &Path) -> io::Result<()> {
    let part = open(volume, Path::new(sub_path))?;
    let is_folder = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&part)?.st_mode).is_dir();
    mounts::unmount_all(target)?;
    remove(target)?;
    if is_folder {
        fs::create_dir_all(target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    // The link of the kernel leads to what is open, whatever its name leads to by now.
    mounts::bind(Path::new(&format!("/proc/thread-self/fd/{}", part.as_raw_fd())), target)
}

/// Removes the empty file or folder of an earlier mount.
fn remove(target: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(target),
        Ok(_) => fs::remove_file(target),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
