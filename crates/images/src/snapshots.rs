//! Snapshots: what a container sees as its root, an overlay of its image's layers and, if it may write, a folder of
//! its own on top.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::{is_plain_name, make_folder};
use crate::layers::Layers;
use crate::overlay::Overlay;
use crate::trash::Trash;
use crate::unpack::is_opaque;

const RECORD: &str = "snapshot.json";
/// An overlay without a writable folder has at least two others, and no folder twice.
const EMPTY: [&str; 2] = ["a", "b"];
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// A container's view of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name: a container's id.
    #[serde(skip)]
    pub key: String,
    /// The image's id.
    pub image: Digest,
    /// The image's layers, the lowest first.
    pub chain_ids: Vec<Digest>,
    /// Is there a folder on top that takes what the container writes?
    pub writable: bool,
}

/// All snapshots of a store.
#[derive(Debug)]
pub(crate) struct Snapshots {
    root: PathBuf,
    /// Holds empty folders: the lowest layers of images that have fewer than the kernel asks for.
    empty: PathBuf,
    trash: Arc<Trash>,
    known: Mutex<BTreeMap<String, Snapshot>>,
}

impl Snapshots {
    /// Opens the snapshots; those that were being made go to the trash.
    pub(crate) fn open(root: &Path, trash: Arc<Trash>) -> Result<Snapshots> {
        let snapshots =
            Snapshots { root: root.join("snapshots"), empty: root.join("empty"), trash, known: Mutex::default() };
        make_folder(&snapshots.root)?;
        for name in EMPTY {
            make_folder(&snapshots.empty.join(name))?;
        }
        refuse_overlayfs(&snapshots.root)?;
        let read_error = |source| Error::io("read folder", &snapshots.root, source);
        for entry in fs::read_dir(&snapshots.root).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            let record =
                fs::read(path.join(RECORD)).ok().and_then(|text| serde_json::from_slice::<Snapshot>(&text).ok());
            match (record, path.file_name().and_then(|name| name.to_str())) {
                (Some(record), Some(key)) => {
                    snapshots.known.lock().insert(key.to_owned(), Snapshot { key: key.to_owned(), ..record });
                }
                _ => snapshots.trash.take(&path)?,
            }
        }
        Ok(snapshots)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Snapshot> {
        self.known.lock().get(key).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Snapshot> {
        self.known.lock().values().cloned().collect()
    }

    /// Makes a snapshot's folders. The caller sees to it that the layers stay.
    pub(crate) fn create(&self, snapshot: Snapshot, layers: &Layers) -> Result<()> {
        if !is_plain_name(&snapshot.key) {
            return Err(Error::corrupt(format!("invalid snapshot key {:?}", snapshot.key)));
        }
        let mut known = self.known.lock();
        if known.contains_key(&snapshot.key) {
            return Err(Error::AlreadyExists { what: format!("snapshot {:?}", snapshot.key) });
        }
        let folder = self.root.join(&snapshot.key);
        make_folder(&folder)?;
        if snapshot.writable {
            let upper = folder.join("upper");
            make_folder(&upper)?;
            make_folder(&folder.join("work"))?;
            // The top folder of an overlay gives the root its owner and mode: they are to be the image's.
            if let Some(top) = snapshot.chain_ids.last().and_then(|top| layers.folder(top)) {
                let looks = fs::metadata(&top).map_err(|source| Error::io("stat", &top, source))?;
                std::os::unix::fs::chown(&upper, Some(looks.uid()), Some(looks.gid()))
                    .and_then(|()| fs::set_permissions(&upper, fs::Permissions::from_mode(looks.mode() & 0o7777)))
                    .map_err(|source| Error::io("set owner and mode of", &upper, source))?;
            }
        }
        let text = serde_json::to_vec(&snapshot).map_err(|source| Error::Json { what: RECORD.to_owned(), source })?;
        // Without fsync: no container lives through a power failure, so its snapshot need not either.
        let (path, temporary) = (folder.join(RECORD), folder.join("snapshot.new"));
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| Error::io("write", &path, source))?;
        known.insert(snapshot.key.clone(), snapshot);
        Ok(())
    }

    /// What to mount.
    pub(crate) fn overlay(&self, key: &str, layers: &Layers) -> Result<Overlay> {
        let snapshot = self.get(key).ok_or_else(|| Error::not_found(format!("snapshot {key:?}")))?;
        let mut lower = Vec::with_capacity(snapshot.chain_ids.len());
        for chain_id in snapshot.chain_ids.iter().rev() {
            let folder = layers.folder(chain_id).ok_or_else(|| Error::not_found(format!("layer {chain_id}")))?;
            // The kernel stacks the roots of all layers; one that hides those below must end the stack.
            let hides = is_opaque(&folder);
            lower.push(folder);
            if hides {
                break;
            }
        }
        let folder = self.root.join(key);
        let lower_min = if snapshot.writable { 1 } else { 2 };
        let missing = lower_min - lower.len().min(lower_min);
        lower.extend(EMPTY[..missing].iter().map(|name| self.empty.join(name)));
        Ok(Overlay {
            lower,
            upper: snapshot.writable.then(|| folder.join("upper")),
            work: snapshot.writable.then(|| folder.join("work")),
        })
    }

    /// The folder that holds what the container wrote.
    pub(crate) fn upper(&self, key: &str) -> Result<Option<PathBuf>> {
        let snapshot = self.get(key).ok_or_else(|| Error::not_found(format!("snapshot {key:?}")))?;
        Ok(snapshot.writable.then(|| self.root.join(key).join("upper")))
    }

    /// Removes a snapshot with all that its container wrote; gone already is fine.
    pub(crate) fn remove(&self, key: &str) -> Result<()> {
        let mut known = self.known.lock();
        if known.remove(key).is_none() {
            return Ok(());
        }
        self.trash.take(&self.root.join(key))
    }
}

/// Overlayfs cannot keep what is written on another overlayfs.
fn refuse_overlayfs(folder: &Path) -> Result<()> {
    let stat = rustix::fs::statfs(folder).map_err(|source| Error::io("stat the file system of", folder, source))?;
    if stat.f_type == OVERLAYFS_MAGIC {
        return Err(Error::Unusable {
            what: format!(
                "{} lies on overlayfs, which cannot hold the writable layers of containers: \
                 mount a volume of another file system (ext4, xfs, tmpfs) there",
                folder.display()
            ),
        });
    }
    Ok(())
}
