//! A folder into which people put image archives: each is imported once, when it comes or when kubox starts.
//!
//! What was imported is remembered by name, size and time, across starts: an image that somebody removes stays removed
//! until its archive changes. Imported images are pinned, for no registry may have them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, WatchFlags};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::cancel::blocking;
use crate::error::{Error, Result};
use crate::files::replace_file;
use crate::import::ImportOptions;
use crate::store::{Image, Images};

/// Beside the store's other records.
pub(crate) const RECORD: &str = "dropped.json";
/// What archives are called; anything else in the folder is left alone.
const ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst"];

/// What tells one state of an archive from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    size: u64,
    mtime_seconds: i64,
    mtime_nanoseconds: i64,
}

/// What became of one archive.
#[derive(Debug)]
pub struct Dropped {
    /// The archive, or the folder of an OCI layout.
    pub path: PathBuf,
    /// Its images, or why there are none.
    pub result: Result<Vec<Image>>,
}

/// A folder that is watched for archives.
#[derive(Debug)]
pub struct DropFolder {
    images: Images,
    folder: PathBuf,
    watch: AsyncFd<OwnedFd>,
    /// What failed, so that it is tried again only when it has changed.
    failed: HashSet<(PathBuf, State)>,
}

impl DropFolder {
    /// Watches a folder, which must be there. Needs tokio's I/O driver.
    pub fn open(images: &Images, folder: &Path) -> Result<DropFolder> {
        let refused = |source: rustix::io::Errno| Error::io("watch", folder, source);
        let watch = rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(refused)?;
        let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR;
        rustix::fs::inotify::add_watch(&watch, folder, changes).map_err(refused)?;
        #[expect(
            deprecated,
            reason = "what took its place is unsafe code; an OwnedFd keeps its descriptor, so `new` is sound"
        )]
        let watch = AsyncFd::new(watch).map_err(|source| Error::io("watch", folder, source))?;
        Ok(DropFolder { images: images.clone(), folder: folder.to_owned(), watch, failed: HashSet::new() })
    }

    /// Imports what is new in the folder, one archive after the other; one that fails does not stop the others.
    pub async fn import_new(&mut self) -> Result<Vec<Dropped>> {
        let (images, folder, failed) = (self.images.clone(), self.folder.clone(), self.failed.clone());
        let dropped = blocking(move |cancel| {
            let record = images.root().join(RECORD);
            let mut known = read_record(&record);
            let archives = archives(&folder)?;
            // What is no longer there is forgotten: if it comes again, it is new.
            known.retain(|path, _| !path.starts_with(&folder) || archives.iter().any(|(other, _)| other == path));
            let mut dropped = Vec::new();
            for (path, state) in archives {
                if known.get(&path) == Some(&state) || failed.contains(&(path.clone(), state.clone())) {
                    continue;
                }
                let options = ImportOptions { base_name: None, pinned: true };
                let result = images.import_now(&path, &options, cancel);
                if result.is_ok() {
                    known.insert(path.clone(), state.clone());
                    write_record(&record, &known)?;
                }
                dropped.push((state, Dropped { path, result }));
            }
            Ok(dropped)
        })
        .await?;
        for (state, one) in &dropped {
            if one.result.is_err() {
                self.failed.insert((one.path.clone(), state.clone()));
            }
        }
        Ok(dropped.into_iter().map(|(_, one)| one).collect())
    }

    /// Waits until something comes into the folder.
    pub async fn changed(&mut self) -> Result<()> {
        loop {
            let refused = |source| Error::io("watch", &self.folder, source);
            let mut ready = self.watch.readable().await.map_err(refused)?;
            // Which file it was does not matter: the folder is looked through.
            let mut seen = false;
            let mut events = [0; 4096];
            loop {
                match rustix::io::read(self.watch.get_ref(), &mut events) {
                    Ok(_) => seen = true,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(source) => return Err(Error::io("watch", &self.folder, source)),
                }
            }
            ready.clear_ready();
            if seen {
                return Ok(());
            }
        }
    }

    /// Imports what is there and what comes, and tells the log, until it is dropped or the folder cannot be watched.
    pub async fn run(mut self) -> Result<()> {
        loop {
            for Dropped { path, result } in self.import_new().await? {
                match result {
                    Ok(images) => {
                        for image in images {
                            tracing::info!(archive = %path.display(), image = %image.id, names = ?image.repo_tags, "imported");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(archive = %path.display(), error = %error.message(), "could not be imported")
                    }
                }
            }
            self.changed().await?;
        }
    }
}

/// All archives and layouts of a folder, by name.
fn archives(folder: &Path) -> Result<Vec<(PathBuf, State)>> {
    let read_error = |source| Error::io("read folder", folder, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Gone again, or a link to nothing.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let is_archive = metadata.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending));
        let looked_at = if is_archive {
            metadata
        } else {
            // A layout changes with its index.
            match fs::metadata(path.join("index.json")) {
                Ok(index) if path.join("oci-layout").is_file() => index,
                _ => continue,
            }
        };
        if name.starts_with('.') {
            continue;
        }
        let state = State {
            size: looked_at.size(),
            mtime_seconds: looked_at.mtime(),
            mtime_nanoseconds: looked_at.mtime_nsec(),
        };
        found.push((path, state));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// A record that is not there or damaged says that nothing was imported: importing twice does no harm.
fn read_record(path: &Path) -> BTreeMap<PathBuf, State> {
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write_record(path: &Path, known: &BTreeMap<PathBuf, State>) -> Result<()> {
    let text = serde_json::to_vec(known).map_err(|source| Error::Json { what: RECORD.to_owned(), source })?;
    replace_file(path, &text)
}
