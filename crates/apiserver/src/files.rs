//! Files that may change while the server runs: says when to read them again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::net::unix::pipe::Receiver;

/// Files that belong together (a certificate and its key) change shortly after one another: all is read again once it
/// was calm for so long, but not later than after so many such times.
const SETTLED: Duration = Duration::from_millis(200);
const UNSETTLED_MAX: usize = 10;

/// Watches the folders of some files. Folders rather than files, for most tools replace a file by renaming another
/// one over it, and kubelets replace a link to a folder.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    /// What the files held when they were looked at.
    contents: Vec<Option<Vec<u8>>>,
    /// The kernel's notes. A pipe's end in name only: it is read in the same way.
    notes: Receiver,
}

impl Files {
    /// Watches these files from now on.
    pub(crate) fn watch(paths: Vec<PathBuf>) -> io::Result<Self> {
        let notes = Receiver::from_owned_fd_unchecked(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?)?;
        let mut files = Self { paths, contents: Vec::new(), notes };
        files.watch_folders();
        files.contents = files.read();
        Ok(files)
    }

    /// Watching a folder again changes nothing, so this also finds out where links lead to by now.
    fn watch_folders(&self) {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE;
        for path in &self.paths {
            for place in [Some(path.clone()), path.canonicalize().ok()].into_iter().flatten() {
                let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                if let Err(error) = add_watch(&self.notes, folder, flags) {
                    tracing::warn!(folder = %folder.display(), %error, "changes of files there will go unnoticed");
                }
            }
        }
    }

    fn read(&self) -> Vec<Option<Vec<u8>>> {
        self.paths.iter().map(|path| std::fs::read(path).ok()).collect()
    }

    /// Waits until a file holds something else than before.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        loop {
            self.note().await?;
            for _ in 0..UNSETTLED_MAX {
                match tokio::time::timeout(SETTLED, self.note()).await {
                    Ok(noted) => noted?,
                    Err(_) => break,
                }
            }
            self.watch_folders();
            let contents = self.read();
            if contents != self.contents {
                self.contents = contents;
                return Ok(());
            }
        }
    }

    /// Waits until something happened in the folders.
    async fn note(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            self.notes.readable().await?;
            match self.notes.try_read(&mut buffer) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than it takes, so that only what never happens fails.
    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn files_and_links_are_seen_to_change() {
        let dir = std::env::temp_dir().join(format!("kubox-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("one")).unwrap();
        std::fs::create_dir_all(dir.join("two")).unwrap();
        std::fs::write(dir.join("one/crt"), "1").unwrap();
        std::fs::write(dir.join("two/crt"), "2").unwrap();
        // As kubelets mount Secrets: the file is a link through a link that is replaced.
        std::os::unix::fs::symlink("one", dir.join("data")).unwrap();
        std::os::unix::fs::symlink("data/crt", dir.join("crt")).unwrap();
        let mut files = Files::watch(vec![dir.join("crt")]).unwrap();
        std::os::unix::fs::symlink("two", dir.join("data.new")).unwrap();
        std::fs::rename(dir.join("data.new"), dir.join("data")).unwrap();
        tokio::time::timeout(LIMIT, files.changed()).await.expect("the link changed").unwrap();
        // The new target is watched, too.
        std::fs::write(dir.join("two/crt"), "3").unwrap();
        tokio::time::timeout(LIMIT, files.changed()).await.expect("the target changed").unwrap();
        // Another file, or the same content, is no change.
        std::fs::write(dir.join("other"), "x").unwrap();
        std::fs::write(dir.join("two/crt"), "3").unwrap();
        assert!(tokio::time::timeout(SETTLED * 3, files.changed()).await.is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
