//! Unpacks a layer's tar into a folder for overlayfs, as root, from archives that may be hostile.
//!
//! Every name is resolved by the kernel beneath the layer's folder (`openat2` with `RESOLVE_IN_ROOT`), so that neither
//! `..` nor links lead out of it. A whiteout becomes what overlayfs understands: a character device 0/0 for a removed
//! name, the `trusted.overlay.opaque` attribute for a folder that hides what is below.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::files::Usage;
use crate::tar::{Archive, Entry, EntryKind, TarError};
use crate::trash::Trash;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE_ATTRIBUTE: &str = "trusted.overlay.opaque";
/// What nearly every file system hands out at least.
const DISK_BLOCK: u64 = 4096;
const COPY_BUFFER: usize = 128 * 1024;

/// Where a layer goes and what is known around it.
pub(crate) struct Target<'a> {
    /// The layer's own folder, empty.
    pub(crate) folder: &'a OwnedFd,
    /// The folders of the layers below, the nearest first: an implied folder takes its looks from there.
    pub(crate) below: &'a [PathBuf],
    /// Takes folders that an entry replaces.
    pub(crate) trash: &'a Trash,
    /// Set when the caller no longer wants it.
    pub(crate) cancelled: &'a AtomicBool,
}

/// Unpacks a whole archive and gives the rest of its stream back to be read to its end.
pub(crate) fn unpack<R: Read>(stream: R, target: &Target<'_>) -> Result<(R, Usage)> {
    let mut archive = Archive::new(stream);
    let mut unpacker = Unpacker {
        target,
        parent: None,
        folder_times: HashMap::new(),
        made: HashMap::new(),
        usage: Usage { bytes: 0, inodes: 1 },
        buffer: vec![0; COPY_BUFFER],
    };
    unpacker.imply_root()?;
    while let Some(entry) = archive.next().map_err(Error::Tar)? {
        if target.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        unpacker.entry(&entry, &mut archive)?;
    }
    let usage = unpacker.finish()?;
    Ok((archive.into_inner(), usage))
}

/// What this layer itself made of a name; the layers below do not matter for whiteouts within one archive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Something,
    Whiteout,
}

struct Unpacker<'a> {
    target: &'a Target<'a>,
    /// The folder of the last entry, kept open: entries of one folder follow each other.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Set when all is unpacked, for every new entry changes its folder's time.
    folder_times: HashMap<Vec<u8>, (i64, u32)>,
    made: HashMap<Vec<u8>, Made>,
    usage: Usage,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        let path = clean(&entry.path).ok_or_else(|| Error::Escape { path: shown(&entry.path) })?;
        let Some((folder, name)) = split(&path) else {
            // The layer's root itself.
            if entry.kind == EntryKind::Directory {
                let root = self.reopen(self.target.folder, &path)?;
                self.dress_folder(&root, entry, &path)?;
            }
            return Ok(());
        };
        if name == OPAQUE {
            let hidden = self.open_parent(folder)?;
            return set_opaque(&hidden).map_err(|source| self.refused("make opaque", folder, source));
        }
        if name.starts_with(AUFS_PREFIX) {
            // Aufs kept its own files in layers; nobody else wants them.
            return Ok(());
        }
        self.ensure_parent(folder)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(Error::Escape { path: shown(&entry.path) });
            }
            return self.whiteout(&join(folder, hidden), folder, hidden);
        }
        let was_whiteout = self.made.get(&path) == Some(&Made::Whiteout);
        self.make(entry, &path, folder, name, archive)?;
        if was_whiteout && entry.kind == EntryKind::Directory {
            // Removed and made anew in one layer: what is below stays hidden.
            let made = self.open_folder_at(&path)?;
            set_opaque(&made).map_err(|source| self.refused("make opaque", &path, source))?;
        }
        self.made.insert(path, Made::Something);
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], folder: &[u8], name: &[u8]) -> Result<()> {
        if self.made.get(path) == Some(&Made::Something) {
            // A whiteout speaks of the layers below. A folder of this layer must no longer show theirs.
            if let Ok(made) = self.open_folder_at(path) {
                set_opaque(&made).map_err(|source| self.refused("make opaque", path, source))?;
            }
            return Ok(());
        }
        let parent = self.parent_fd(folder)?;
        self.replace(&parent, name, path, false)?;
        rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|source| self.refused("make whiteout", path, source))?;
        self.usage.inodes += 1;
        self.made.insert(path.to_vec(), Made::Whiteout);
        Ok(())
    }

    fn make<R: Read>(
        &mut self,
        entry: &Entry,
        path: &[u8],
        folder: &[u8],
        name: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let parent = self.parent_fd(folder)?;
        let kept = self.replace(&parent, name, path, entry.kind == EntryKind::Directory)?;
        if !kept {
            self.usage.bytes += if entry.kind == EntryKind::Directory { DISK_BLOCK } else { 0 };
            self.usage.inodes += u64::from(entry.kind != EntryKind::Hardlink);
        }
        let refused = |action, source| refused(action, path, source);
        match entry.kind {
            EntryKind::Directory => {
                if !kept {
                    rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(|source| refused("make folder", source))?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&parent, name, flags, Mode::empty())
                    .map_err(|source| refused("open", source))?;
                return self.dress_folder(&made, entry, path);
            }
            EntryKind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(|source| refused("create", source))?;
                let mut file = File::from(made);
                self.usage.bytes += self.copy(entry, &mut file, archive, path)?;
                dress(&file, entry, path)?;
                let times = timestamps(entry.mtime);
                rustix::fs::futimens(&file, &times).map_err(|source| refused("set times of", source))?;
                return Ok(());
            }
            EntryKind::Hardlink => {
                let link = clean(&entry.link).ok_or_else(|| Error::Escape { path: shown(&entry.link) })?;
                let (link_folder, link_name) =
                    split(&link).ok_or_else(|| Error::Escape { path: shown(&entry.link) })?;
                let source_folder = self.open_folder_at(link_folder)?;
                rustix::fs::linkat(&source_folder, link_name, &parent, name, AtFlags::empty())
                    .map_err(|source| refused("link", source))?;
                return Ok(());
            }
            EntryKind::Symlink => {
                rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &parent, name)
                    .map_err(|source| refused("make link", source))?;
                // A new link may lead elsewhere than what the open folder was.
                self.parent = None;
            }
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                let kind = match entry.kind {
                    EntryKind::CharDevice => FileType::CharacterDevice,
                    EntryKind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(entry.device.0, entry.device.1);
                rustix::fs::mknodat(&parent, name, kind, Mode::RUSR | Mode::WUSR, device)
                    .map_err(|source| refused("make device", source))?;
            }
        }
        // What is left was made just now and has no open file: links, devices, pipes.
        rustix::fs::chownat(
            &parent,
            name,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|source| refused("change owner of", source))?;
        if entry.kind != EntryKind::Symlink {
            rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|source| refused("change mode of", source))?;
        }
        let by_path = proc_path(&parent, name);
        for (attribute, value) in kept_xattrs(entry) {
            let set = rustix::fs::lsetxattr(&by_path, attribute, value, XattrFlags::empty());
            xattr_result(set, attribute).map_err(|source| refused("set attribute of", source))?;
        }
        rustix::fs::utimensat(&parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| refused("set times of", source))
    }

    /// Makes room for an entry. True if a folder is there already and another one is to be.
    fn replace(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], keep_folder: bool) -> Result<bool> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(source) => return Err(self.refused("stat", path, source)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if keep_folder {
                return Ok(true);
            }
            self.target
                .trash
                .take_at(parent, name)
                .map_err(|source| Error::io("replace", Path::new(OsStr::from_bytes(path)), source))?;
            // Whatever was made within is gone, and so may be the open folder.
            self.parent = None;
            let within = [path, b"/"].concat();
            self.made.retain(|made, _| !made.starts_with(&within));
            self.folder_times.retain(|folder, _| folder != path && !folder.starts_with(&within));
        } else {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .map_err(|source| self.refused("replace", path, source))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                self.parent = None;
            }
        }
        self.usage.inodes = self.usage.inodes.saturating_sub(u64::from(stat.st_nlink == 1));
        Ok(false)
    }

    /// Writes an entry's bytes; gives how many they take on the disk.
    fn copy<R: Read>(&mut self, entry: &Entry, file: &mut File, archive: &mut Archive<R>, path: &[u8]) -> Result<u64> {
        let io_error = |source| Error::io("write", Path::new(OsStr::from_bytes(path)), source);
        let whole = [(0, entry.size)];
        let regions = entry.sparse.as_deref().unwrap_or(&whole);
        let mut written = 0;
        for (offset, length) in regions {
            if entry.sparse.is_some() {
                file.seek(SeekFrom::Start(*offset)).map_err(io_error)?;
            }
            let mut left = *length;
            while left > 0 {
                if self.target.cancelled.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                let wanted = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let count =
                    archive.data().read(&mut self.buffer[..wanted]).map_err(|source| Error::Tar(source.into()))?;
                if count == 0 {
                    return Err(Error::Tar(TarError::Truncated));
                }
                file.write_all(&self.buffer[..count]).map_err(io_error)?;
                left -= count as u64;
            }
            written += length.next_multiple_of(DISK_BLOCK);
        }
        if entry.sparse.is_some() {
            file.set_len(entry.size).map_err(io_error)?;
        }
        Ok(written)
    }

    fn dress_folder(&mut self, folder: &OwnedFd, entry: &Entry, path: &[u8]) -> Result<()> {
        dress(folder, entry, path)?;
        self.folder_times.insert(path.to_vec(), entry.mtime);
        Ok(())
    }

    /// The root looks as it does in the layer below, unless the archive says otherwise.
    fn imply_root(&mut self) -> Result<()> {
        let root = self.reopen(self.target.folder, b"")?;
        let looks = self.target.below.first().and_then(|below| rustix::fs::stat(below).ok());
        self.imply_looks(&root, looks, b"")
    }

    fn imply_looks(&self, folder: &OwnedFd, looks: Option<rustix::fs::Stat>, path: &[u8]) -> Result<()> {
        let (mode, uid, gid) = looks.map_or((0o755, 0, 0), |stat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid));
        rustix::fs::fchown(folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .and_then(|()| rustix::fs::fchmod(folder, Mode::from_raw_mode(mode)))
            .map_err(|source| self.refused("set owner and mode of", path, source))
    }

    /// Makes the folder of an entry, and those above it, if the archive has not. Each takes the looks of the
    /// folder that it will cover in the layers below.
    fn ensure_parent(&mut self, folder: &[u8]) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(open, _)| open == folder) {
            return Ok(());
        }
        match self.open_folder_at(folder) {
            Ok(fd) => {
                self.parent = Some((folder.to_vec(), fd));
                return Ok(());
            }
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            // The parent is a file or a device (a whiteout, say) that an entry within it replaces.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
        // A link that leads to nothing makes its target's folder, as a chroot would: only the first missing
        // component is made here, step by step.
        let Some((above, name)) = split(folder) else { return Ok(()) };
        self.ensure_parent(above)?;
        let parent = self.parent_fd(above)?;
        self.replace(&parent, name, folder, true)?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => {}
            Err(source) => return Err(self.refused("make folder", folder, source)),
        }
        self.usage.inodes += 1;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&parent, name, flags, Mode::empty())
            .map_err(|source| self.refused("open", folder, source))?;
        if self.made.insert(folder.to_vec(), Made::Something) == Some(Made::Whiteout) {
            set_opaque(&made).map_err(|source| self.refused("make opaque", folder, source))?;
        }
        self.imply_looks(&made, self.covered(folder), folder)?;
        self.parent = Some((folder.to_vec(), made));
        Ok(())
    }

    /// The folder of that name in the nearest layer below that has one.
    fn covered(&self, path: &[u8]) -> Option<rustix::fs::Stat> {
        for layer in self.target.below {
            let root = crate::files::open_folder(layer).ok()?;
            match open_in_root(&root, path, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(found) => {
                    let stat = rustix::fs::fstat(&found).ok()?;
                    return (FileType::from_raw_mode(stat.st_mode) == FileType::Directory).then_some(stat);
                }
                Err(Errno::NOENT) => {}
                // Something above it is no folder in that layer: it hides all below.
                Err(_) => return None,
            }
        }
        None
    }

    fn parent_fd(&self, folder: &[u8]) -> Result<OwnedFd> {
        if let Some((open, fd)) = &self.parent
            && open == folder
        {
            return rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|source| self.refused("open", folder, source));
        }
        self.open_folder_at(folder)
    }

    fn open_parent(&mut self, folder: &[u8]) -> Result<OwnedFd> {
        self.ensure_parent(folder)?;
        self.parent_fd(folder)
    }

    /// Opens a folder of the layer, links resolved as if the layer were the whole file system.
    fn open_folder_at(&self, path: &[u8]) -> Result<OwnedFd> {
        let path_or_root = if path.is_empty() { b"." } else { path };
        open_in_root(self.target.folder, path_or_root, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|source| self.refused("open folder", path, source))
    }

    fn reopen(&self, folder: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(folder, 0).map_err(|source| self.refused("open", path, source))
    }

    /// Sets the folders' times, now that nothing more is made in them.
    fn finish(self) -> Result<Usage> {
        for (path, mtime) in &self.folder_times {
            // A folder may have been replaced by a link; what the link leads to is not ours to touch.
            let root = b".".as_slice();
            let name = if path.is_empty() { root } else { path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            if let Ok(folder) = open_in_root(self.target.folder, name, flags) {
                rustix::fs::futimens(&folder, &timestamps(*mtime))
                    .map_err(|source| self.refused("set times of", path, source))?;
            }
        }
        Ok(self.usage)
    }

    fn refused(&self, action: &'static str, path: &[u8], source: Errno) -> Error {
        refused(action, path, source)
    }
}

/// Resolves a name as if `root` were the whole file system.
fn open_in_root(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Somebody renamed something somewhere while a link with `..` was followed: the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Owner, mode and extended attributes. The owner comes first: changing it clears setuid bits and capabilities.
fn dress(file: impl AsFd, entry: &Entry, path: &[u8]) -> Result<()> {
    rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
        .map_err(|source| refused("change owner of", path, source))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
        .map_err(|source| refused("change mode of", path, source))?;
    for (name, value) in kept_xattrs(entry) {
        let set = rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty());
        xattr_result(set, name).map_err(|source| refused("set attribute of", path, source))?;
    }
    Ok(())
}

/// An archive's attributes, without those by which overlayfs would be led to other files or hide some.
fn kept_xattrs(entry: &Entry) -> impl Iterator<Item = (&OsStr, &[u8])> {
    entry
        .xattrs
        .iter()
        .filter(|(name, _)| !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."))
        .map(|(name, value)| (OsStr::from_bytes(name), value.as_slice()))
}

/// File systems without attributes are used all the same; so are files that cannot have the user's.
fn xattr_result(set: Result<(), Errno>, name: &OsStr) -> Result<(), Errno> {
    match set {
        Err(Errno::OPNOTSUPP) => Ok(()),
        Err(Errno::PERM) if name.as_bytes().starts_with(b"user.") => Ok(()),
        other => other,
    }
}

fn set_opaque(folder: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(folder, OPAQUE_ATTRIBUTE, b"y", XattrFlags::empty())
}

/// Does a layer's root hide the layers below?
pub(crate) fn is_opaque(root: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::getxattr(root, OPAQUE_ATTRIBUTE, &mut value).is_ok_and(|length| value[..length] == *b"y")
}

fn timestamps(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// A name within an open folder, for the calls that take only paths.
fn proc_path(folder: &OwnedFd, name: &[u8]) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(OsStr::from_bytes(name))
}

/// A name in plain form: no `.`, no empty components, `..` resolved. None if it leads out at the top.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// A clean name's folder and last component; none for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn refused(action: &'static str, path: &[u8], source: Errno) -> Error {
    Error::io(action, Path::new(OsStr::from_bytes(path)), source)
}
