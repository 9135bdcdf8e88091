//! Removing trees of any size and depth without making anybody wait: they are moved aside, and a thread deletes them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::files::{make_folder, open_folder};

/// Deeper folders are moved up first, so that neither the stack nor the open files run out: containers can nest
/// folders deeper than any path is long.
const DEPTH_MAX: usize = 64;

/// The folder of what is to be deleted, on the store's own file system.
#[derive(Debug)]
pub(crate) struct Trash {
    folder: OwnedFd,
    #[cfg(test)]
    path: std::path::PathBuf,
    next: AtomicU64,
    reaper: Sender<String>,
}

impl Trash {
    /// Opens the trash; what is left in it from before is deleted now.
    pub(crate) fn open(root: &Path) -> Result<Trash> {
        let path = root.join("trash");
        make_folder(&path)?;
        let folder = open_folder(&path)?;
        let (reaper, names) = channel();
        let mut next = 0;
        for entry in std::fs::read_dir(&path).map_err(|source| Error::io("read folder", &path, source))? {
            let entry = entry.map_err(|source| Error::io("read folder", &path, source))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // `7`, or `7.1` for a folder that was deep within it.
            if let Some(number) = name.split('.').next().and_then(|number| number.parse::<u64>().ok()) {
                next = next.max(number + 1);
            }
            let _ = reaper.send(name);
        }
        let for_thread =
            rustix::io::fcntl_dupfd_cloexec(&folder, 0).map_err(|source| Error::io("open folder", &path, source))?;
        std::thread::Builder::new()
            .name("images-trash".to_owned())
            .spawn(move || reap(&for_thread, &names))
            .map_err(|source| Error::io("start a thread for", &path, source))?;
        Ok(Trash {
            folder,
            #[cfg(test)]
            path,
            next: AtomicU64::new(next),
            reaper,
        })
    }

    /// Moves something of the store's file system to the trash; nothing there is fine.
    pub(crate) fn take_at(&self, folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<()> {
        let taken = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        match rustix::fs::renameat(folder, name, &self.folder, &*taken) {
            Ok(()) => {
                // A thread that has ended leaves the deletion to the next start.
                let _ = self.reaper.send(taken);
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, by path.
    pub(crate) fn take(&self, path: &Path) -> Result<()> {
        self.take_at(CWD, path).map_err(|source| Error::io("move to the trash", path, source))
    }

    /// Where the trash lies.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn reap(trash: &OwnedFd, names: &Receiver<String>) {
    for name in names {
        // One that cannot be deleted (an immutable file in it, say) is tried again at the next start.
        if let Err(error) = remove_tree(trash, &name) {
            tracing::warn!(name, %error, "could not delete all of a removed layer or container");
        }
    }
}

/// Deletes one entry of the trash and all below it.
fn remove_tree(trash: &OwnedFd, root: &str) -> io::Result<()> {
    let mut moved_up = 0u64;
    let mut pending = vec![root.to_owned()];
    while let Some(name) = pending.pop() {
        remove(trash, name.as_bytes(), 0, &mut |folder, deep| {
            moved_up += 1;
            let name = format!("{root}.{moved_up}");
            rustix::fs::renameat(folder, deep, trash, &*name)?;
            pending.push(name);
            Ok(())
        })?;
    }
    Ok(())
}

type MoveUp<'a> = dyn FnMut(&OwnedFd, &[u8]) -> io::Result<()> + 'a;

fn remove(folder: &OwnedFd, name: &[u8], depth: usize, move_up: &mut MoveUp<'_>) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    if depth == DEPTH_MAX {
        return move_up(folder, name);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        // A former store of this process is still deleting it.
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove(&inner, name, depth + 1, move_up)?;
        }
    }
    drop(inner);
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_deeper_than_any_path_are_deleted() {
        let root = tempfile::tempdir().unwrap();
        let trash = Trash::open(root.path()).unwrap();
        std::fs::create_dir(root.path().join("tree")).unwrap();
        let mut folder = open_folder(&root.path().join("tree")).unwrap();
        for _ in 0..700 {
            rustix::fs::mkdirat(&folder, "nested", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("nested", &folder, "link").unwrap();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            folder = rustix::fs::openat(&folder, "nested", flags, Mode::empty()).unwrap();
        }
        drop(folder);
        let path = trash.path().to_owned();
        rustix::fs::renameat(CWD, root.path().join("tree"), CWD, path.join("7")).unwrap();
        remove_tree(&trash.folder, "7").unwrap();
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    }
}
