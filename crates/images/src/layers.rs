//! Unpacked layers: one folder each, shared by all images that have the same layers up to it.
//!
//! Folders are numbered rather than named by their chain id, for the kernel bounds the length of mount options. A
//! folder counts only with its `layer.json`, which is written when all its files are known to be on the disk.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use crate::compression::decompress;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::files::{Usage, make_folder, open_folder, replace_file};
use crate::trash::Trash;
use crate::unpack::{Target, unpack};

const RECORD: &str = "layer.json";
/// The folder of a layer's files within its own folder.
const FILES: &str = "fs";

/// `layer.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    chain_id: Digest,
    diff_id: Digest,
    bytes: u64,
    inodes: u64,
}

/// All unpacked layers of a store.
#[derive(Debug)]
pub(crate) struct Layers {
    root: PathBuf,
    trash: Arc<Trash>,
    known: Mutex<HashMap<Digest, Layer>>,
    next: AtomicU64,
    /// Chain ids that somebody is unpacking.
    busy: Mutex<HashSet<Digest>>,
    freed: Condvar,
}

/// One unpacked layer.
#[derive(Clone, Copy, Debug)]
struct Layer {
    number: u64,
    usage: Usage,
}

impl Layers {
    /// Opens the layers; those that were not finished go to the trash.
    pub(crate) fn open(root: &Path, trash: Arc<Trash>) -> Result<Layers> {
        let root = root.join("layers");
        make_folder(&root)?;
        let mut known = HashMap::new();
        let mut next = 1;
        for entry in fs::read_dir(&root).map_err(|source| Error::io("read folder", &root, source))? {
            let path = entry.map_err(|source| Error::io("read folder", &root, source))?.path();
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
            let record = fs::read(path.join(RECORD)).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            match (number, record) {
                (Some(number), Some(record)) => {
                    let usage = Usage { bytes: record.bytes, inodes: record.inodes };
                    known.insert(record.chain_id, Layer { number, usage });
                    next = next.max(number + 1);
                }
                _ => trash.take(&path)?,
            }
        }
        Ok(Layers {
            root,
            trash,
            known: Mutex::new(known),
            next: AtomicU64::new(next),
            busy: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    /// Is the layer unpacked?
    pub(crate) fn contains(&self, chain_id: &Digest) -> bool {
        self.known.lock().contains_key(chain_id)
    }

    /// Where the layer's files lie.
    pub(crate) fn folder(&self, chain_id: &Digest) -> Option<PathBuf> {
        self.known.lock().get(chain_id).map(|layer| self.files(layer.number))
    }

    /// What the layer takes on the disk.
    pub(crate) fn usage(&self, chain_id: &Digest) -> Option<Usage> {
        self.known.lock().get(chain_id).map(|layer| layer.usage)
    }

    /// Every unpacked layer.
    pub(crate) fn all(&self) -> Vec<Digest> {
        self.known.lock().keys().cloned().collect()
    }

    fn files(&self, number: u64) -> PathBuf {
        self.root.join(number.to_string()).join(FILES)
    }

    /// Removes a layer; gone already is fine.
    pub(crate) fn remove(&self, chain_id: &Digest) -> Result<()> {
        let Some(layer) = self.known.lock().remove(chain_id) else { return Ok(()) };
        self.trash.take(&self.root.join(layer.number.to_string()))
    }

    /// Unpacks what is missing of a stack of layers, the lowest first, and makes it durable at once.
    ///
    /// `blob` gives the n-th layer's packed bytes; it may wait for them.
    pub(crate) fn unpack_stack(
        &self,
        diff_ids: &[Digest],
        chain_ids: &[Digest],
        cancelled: &AtomicBool,
        blob: &mut dyn FnMut(usize) -> Result<Box<dyn Read + Send>>,
    ) -> Result<()> {
        // Each layer stays claimed until it is committed. Stacks claim from the bottom up, and a chain id determines
        // all below it, so two stacks never wait for each other.
        let mut claims = Vec::new();
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        for (n, (diff_id, chain_id)) in diff_ids.iter().zip(chain_ids).enumerate() {
            if self.contains(chain_id) {
                continue;
            }
            let claim = self.claim(chain_id, cancelled)?;
            if self.contains(chain_id) {
                continue;
            }
            claims.push(claim);
            let below: Vec<PathBuf> = chain_ids[..n]
                .iter()
                .rev()
                .filter_map(|chain_id| {
                    let draft = drafts.iter().find(|draft| draft.record.chain_id == *chain_id);
                    draft.map(|draft| self.files(draft.number)).or_else(|| self.folder(chain_id))
                })
                .collect();
            let draft = blob(n).and_then(|stream| self.unpack_one(stream, diff_id, chain_id, &below, cancelled));
            drafts.push(draft.map_err(|source| match source {
                source @ (Error::Fetch { .. } | Error::Cancelled) => source,
                source => Error::Extract { diff_id: diff_id.clone(), source: Box::new(source) },
            })?);
        }
        self.commit(drafts)
    }

    fn unpack_one(
        &self,
        stream: Box<dyn Read + Send>,
        diff_id: &Digest,
        chain_id: &Digest,
        below: &[PathBuf],
        cancelled: &AtomicBool,
    ) -> Result<Draft<'_>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let record = Record { chain_id: chain_id.clone(), diff_id: diff_id.clone(), bytes: 0, inodes: 0 };
        let mut draft = Draft { layers: self, number, record, committed: false };
        let files = self.files(number);
        make_folder(&files)?;
        let plain = decompress(stream).map_err(|source| Error::Tar(source.into()))?;
        let hashed = Hashed { inner: plain, hasher: Hasher::new(diff_id.algorithm()) };
        let target = Target { folder: &open_folder(&files)?, below, trash: &self.trash, cancelled };
        let (mut rest, usage) = unpack(hashed, &target)?;
        // What follows the archive's end belongs to the digest all the same.
        std::io::copy(&mut rest, &mut std::io::sink()).map_err(|source| Error::Tar(source.into()))?;
        let actual = rest.hasher.finish();
        if actual != *diff_id {
            return Err(Error::DiffIdMismatch { expected: diff_id.clone(), actual });
        }
        (draft.record.bytes, draft.record.inodes) = (usage.bytes, usage.inodes);
        Ok(draft)
    }

    /// Makes unpacked folders part of the store: first their files go to the disk, then they are named.
    fn commit(&self, drafts: Vec<Draft<'_>>) -> Result<()> {
        if drafts.is_empty() {
            return Ok(());
        }
        let root = open_folder(&self.root)?;
        rustix::fs::syncfs(&root).map_err(|source| Error::io("sync", &self.root, source))?;
        for mut draft in drafts {
            let text =
                serde_json::to_vec(&draft.record).map_err(|source| Error::Json { what: RECORD.to_owned(), source })?;
            replace_file(&self.root.join(draft.number.to_string()).join(RECORD), &text)?;
            draft.committed = true;
            let usage = Usage { bytes: draft.record.bytes, inodes: draft.record.inodes };
            self.known.lock().insert(draft.record.chain_id.clone(), Layer { number: draft.number, usage });
        }
        Ok(())
    }

    /// Waits until nobody else unpacks that layer.
    fn claim<'a>(&'a self, chain_id: &Digest, cancelled: &AtomicBool) -> Result<Claim<'a>> {
        let mut busy = self.busy.lock();
        while busy.contains(chain_id) {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            self.freed.wait(&mut busy);
        }
        busy.insert(chain_id.clone());
        Ok(Claim { layers: self, chain_id: chain_id.clone() })
    }

    /// Wakes those who wait for a layer, so that they see that they were cancelled.
    pub(crate) fn wake(&self) {
        let _busy = self.busy.lock();
        self.freed.notify_all();
    }
}

/// The right to unpack one layer.
struct Claim<'a> {
    layers: &'a Layers,
    chain_id: Digest,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.layers.busy.lock().remove(&self.chain_id);
        self.layers.freed.notify_all();
    }
}

/// An unpacked folder that is not yet part of the store.
struct Draft<'a> {
    layers: &'a Layers,
    number: u64,
    record: Record,
    committed: bool,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = self.layers.trash.take(&self.layers.root.join(self.number.to_string()))
        {
            tracing::warn!(layer = self.number, error = %error.message(), "could not remove a half layer");
        }
    }
}

/// Hashes what is read through it.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
