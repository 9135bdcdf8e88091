//! The content store: files named by their digest, which are there whole and true or not at all.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::files::{make_folder, sync_folder};

/// All blobs of a store.
#[derive(Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
    ingest: PathBuf,
    sizes: Mutex<HashMap<Digest, u64>>,
    next_ingest: AtomicU64,
}

impl Blobs {
    /// Opens the store's blobs. What was being written when the last process ended is removed.
    pub(crate) fn open(root: &Path) -> Result<Blobs> {
        let blobs = Blobs {
            root: root.join("blobs"),
            ingest: root.join("ingest"),
            sizes: Mutex::default(),
            next_ingest: AtomicU64::new(0),
        };
        make_folder(&blobs.ingest)?;
        for entry in read_folder(&blobs.ingest)? {
            fs::remove_file(&entry).map_err(|source| Error::io("remove", &entry, source))?;
        }
        let mut sizes = blobs.sizes.lock();
        for algorithm in Algorithm::all() {
            let folder = blobs.root.join(algorithm.name());
            make_folder(&folder)?;
            for path in read_folder(&folder)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let Ok(digest) = Digest::parse(&format!("{}:{name}", algorithm.name())) else { continue };
                let metadata = fs::metadata(&path).map_err(|source| Error::io("stat", &path, source))?;
                sizes.insert(digest, metadata.len());
            }
        }
        drop(sizes);
        Ok(blobs)
    }

    /// A blob's length, if it is there.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        self.sizes.lock().get(digest).copied()
    }

    /// Every blob.
    pub(crate) fn all(&self) -> Vec<(Digest, u64)> {
        self.sizes.lock().iter().map(|(digest, size)| (digest.clone(), *size)).collect()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.algorithm().name()).join(digest.hex())
    }

    /// Opens a blob for reading.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::not_found(format!("content {digest}")),
            _ => Error::io("open", path, source),
        })
    }

    /// Reads a small blob and checks that the disk has kept it true.
    pub(crate) fn read(&self, digest: &Digest, length_max: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(length_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::io("read", self.path(digest), source))?;
        if bytes.len() as u64 > length_max {
            return Err(Error::corrupt(format!("content {digest} is longer than {length_max} bytes")));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::DigestMismatch { expected: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// Starts to take in content, of which the caller may know digest and size beforehand.
    pub(crate) fn ingest(self: &Arc<Self>, expected: Option<(Digest, u64)>) -> Result<Ingest> {
        let path = self.ingest.join(self.next_ingest.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::create_new(&path).map_err(|source| Error::io("create", &path, source))?;
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, |(digest, _)| digest.algorithm());
        Ok(Ingest { blobs: Arc::clone(self), path, file, hasher: Hasher::new(algorithm), written: 0, expected })
    }

    /// Takes in content that is at hand.
    pub(crate) fn put(self: &Arc<Self>, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&digest).is_none() {
            let mut ingest = self.ingest(Some((digest.clone(), bytes.len() as u64)))?;
            ingest.write(bytes)?;
            ingest.commit()?;
        }
        Ok(digest)
    }

    /// Removes a blob; gone already is fine.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<()> {
        self.sizes.lock().remove(digest);
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, source)),
            _ => Ok(()),
        }
    }
}

fn read_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|source| Error::io("read folder", folder, source))
}

/// Content on its way in. It is hashed as it is written; unless it is committed, nothing of it stays.
#[derive(Debug)]
pub(crate) struct Ingest {
    blobs: Arc<Blobs>,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    written: u64,
    expected: Option<(Digest, u64)>,
}

impl Ingest {
    /// Takes the next bytes. More than promised are refused at once.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if let Some((_, size)) = &self.expected
            && self.written > *size
        {
            return Err(Error::SizeMismatch { expected: *size, actual: self.written });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))
    }

    /// Forgets what has come, for it must come again from the start.
    pub(crate) fn restart(&mut self) -> Result<()> {
        use std::io::Seek;
        self.written = 0;
        self.hasher = Hasher::new(self.expected.as_ref().map_or(Algorithm::Sha256, |(digest, _)| digest.algorithm()));
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(|source| Error::io("truncate", &self.path, source))
    }

    /// The digest of what has come so far.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Checks size and digest and makes the content part of the store, durably.
    pub(crate) fn commit(self) -> Result<(Digest, u64)> {
        let actual = self.hasher.clone().finish();
        if let Some((digest, size)) = &self.expected {
            if self.written != *size {
                return Err(Error::SizeMismatch { expected: *size, actual: self.written });
            }
            if actual != *digest {
                return Err(Error::DigestMismatch { expected: digest.clone(), actual });
            }
        }
        let target = self.blobs.path(&actual);
        self.file.sync_all().map_err(|source| Error::io("sync", &self.path, source))?;
        fs::rename(&self.path, &target).map_err(|source| Error::io("rename", &self.path, source))?;
        target.parent().map_or(Ok(()), sync_folder)?;
        self.blobs.sizes.lock().insert(actual.clone(), self.written);
        Ok((actual, self.written))
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // After a commit the name is free, or another ingest's never: numbers are not used twice.
        let _ = fs::remove_file(&self.path);
    }
}
