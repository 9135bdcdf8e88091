//! Small things about files that several modules need: durable writes, names that are safe, counting what a folder holds.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::error::{Error, Result};

/// Folders nested deeper are not counted: a container may nest them without end.
const USAGE_DEPTH_MAX: usize = 1000;

/// Room taken on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the blocks taken.
    pub bytes: u64,
    /// Files, folders and other inodes.
    pub inodes: u64,
}

/// Creates a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::io("create folder", path, source))
}

/// Makes the names within a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|source| Error::io("sync folder", path, source))
}

/// Replaces a small file: after a crash it has the old or the new content, never a part.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    File::create(&temporary)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|source| Error::io("write", path, source))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Opens a folder, following no link at its end.
pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::io("open folder", path, source))
}

/// What a folder holds, itself included: bytes on the disk and inodes. Hard links are counted once.
pub(crate) fn usage(path: &Path) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let root = open_folder(path)?;
    count(&mut usage, &rustix::fs::fstat(&root).map_err(|source| Error::io("stat", path, source))?, &mut seen);
    let mut open = vec![Dir::new(root).map_err(|source| Error::io("read folder", path, source))?];
    while let Some(folder) = open.last_mut() {
        let Some(entry) = folder.next() else {
            open.pop();
            continue;
        };
        // What vanishes meanwhile is not counted: a container may be writing here.
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(folder_fd) = folder.fd() else { continue };
        let Ok(stat) = rustix::fs::statat(folder_fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        count(&mut usage, &stat, &mut seen);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(folder_fd, name, flags, Mode::empty()).and_then(Dir::new);
        if let Ok(inner) = inner
            && open.len() < USAGE_DEPTH_MAX
        {
            open.push(inner);
        }
    }
    Ok(usage)
}

fn count(usage: &mut Usage, stat: &rustix::fs::Stat, seen: &mut HashSet<(u64, u64)>) {
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !is_folder && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
        return;
    }
    usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    usage.inodes += 1;
}

/// May this be one component of a path of ours? Ids of containers are.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}
