//! Pulling: what a name means is asked, what is missing is downloaded, several layers at once, and unpacked in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::cancel::{Cancel, CancelOnDrop};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{DOCUMENT_LENGTH_MAX, Descriptor, ImageConfig, Index, Manifest, chain_ids, media_type};
use crate::platform;
use crate::reference::Reference;
use crate::registry::{Credentials, Session, worse};
use crate::store::{Arrival, Image, Images, Lease, parse_reference, read_json};

/// Pieces of a layer between the network and the disk.
const PIECES_MAX: usize = 32;
/// Indexes within indexes are followed so far.
const INDEX_DEPTH_MAX: usize = 4;

/// How an image is pulled.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Who asks.
    pub credentials: Credentials,
    /// Told of every step, if somebody watches.
    pub progress: Option<Arc<Progress>>,
}

/// How far a pull is; read it at any time.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    bytes_total: AtomicU64,
    layers: AtomicU64,
    layers_total: AtomicU64,
}

impl Progress {
    /// Bytes downloaded, and bytes to be downloaded: 0 until it is known.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.bytes_total.load(Ordering::Relaxed))
    }

    /// Layers downloaded, and layers to be downloaded.
    pub fn layers(&self) -> (u64, u64) {
        (self.layers.load(Ordering::Relaxed), self.layers_total.load(Ordering::Relaxed))
    }
}

/// The downloads under way, so that no blob is downloaded twice at a time.
#[derive(Debug, Default)]
pub(crate) struct Pulls(Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>);

impl Pulls {
    /// Waits until nobody else downloads that blob.
    async fn claim(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock();
            all.retain(|_, lock| lock.strong_count() > 0);
            let known = all.get(digest).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::default();
                all.insert(digest.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

impl Images {
    /// Pulls an image: asks its registry what the name means now, and brings in what is not here yet.
    ///
    /// Dropping the future stops the pull. What was downloaded whole is kept for the next try until [`Images::sweep`].
    pub async fn pull(&self, name: &str, options: PullOptions) -> Result<Image> {
        let reference = parse_reference(name)?;
        let wrap = |source| Error::Pull { reference: reference.canonical(), source: Box::new(source) };
        let session = Session::new(&self.0.config.registry, &reference, &options.credentials).map_err(wrap)?;
        let pull = Pull {
            reference: Arc::new(reference.clone()),
            images: self.clone(),
            lease: Arc::new(self.lease()),
            session: Arc::new(session),
            progress: options.progress.unwrap_or_default(),
        };
        pull.run().await.map_err(wrap)
    }
}

/// One pull under way.
#[derive(Clone)]
struct Pull {
    reference: Arc<Reference>,
    images: Images,
    lease: Arc<Lease>,
    session: Arc<Session>,
    progress: Arc<Progress>,
}

impl Pull {
    async fn run(self) -> Result<Image> {
        let name = self.reference.canonical();
        let top = self
            .session
            .resolve()
            .await
            .map_err(|source| Error::Resolve { reference: name.clone(), source: Box::new(source) })?;
        let mut documents = Vec::new();
        let manifest = self.manifest(top.clone(), &mut documents).await?;
        documents.push(manifest.config.digest.clone());
        let config: ImageConfig = self.document("config", &manifest.config).await?;
        let diff_ids = config.rootfs.diff_ids.clone();
        if diff_ids.len() != manifest.layers.len() {
            let (layers, count) = (manifest.layers.len(), diff_ids.len());
            return Err(Error::corrupt(format!("mismatched image rootfs and manifest layers: {count} and {layers}")));
        }
        let chain = chain_ids(&diff_ids);
        self.lease.hold_layers(&chain);
        self.bring_layers(&manifest, diff_ids, chain).await?;
        let mut names = vec![name, self.reference.with_digest(&top.digest)];
        names.dedup();
        let Pull { images, lease, .. } = self;
        tokio::task::spawn_blocking(move || {
            let image =
                images.install(Arrival { documents, manifest: &manifest, config: &config, names, pinned: false })?;
            // All downloads have ended, so this is the last holder.
            match Arc::try_unwrap(lease) {
                Ok(lease) => lease.finish()?,
                Err(shared) => drop(shared),
            }
            Ok(image)
        })
        .await
        .unwrap_or(Err(Error::Cancelled))
    }

    /// Follows indexes to the manifest for this machine.
    async fn manifest(&self, top: Descriptor, documents: &mut Vec<Digest>) -> Result<Manifest> {
        let mut descriptor = top;
        for _ in 0..=INDEX_DEPTH_MAX {
            documents.push(descriptor.digest.clone());
            match descriptor.media_type.as_str() {
                media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_UNSIGNED => {
                    return Err(Error::Unsupported {
                        what: format!(
                            "media type {:?} is no longer supported: rebuild the image as {:?} or {:?}",
                            descriptor.media_type,
                            media_type::DOCKER_MANIFEST,
                            media_type::OCI_MANIFEST
                        ),
                    });
                }
                media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                    return self.document("manifest", &descriptor).await;
                }
                _ if descriptor.is_index() => {
                    let index: Index = self.document("index", &descriptor).await?;
                    let picked = platform::pick(&index.manifests, &platform::host());
                    descriptor = picked
                        .cloned()
                        .ok_or_else(|| Error::NoMatchingPlatform { digest: descriptor.digest.clone() })?;
                }
                other => {
                    return Err(Error::Unsupported { what: format!("unsupported media type {other:?} of a manifest") });
                }
            }
        }
        Err(Error::corrupt("indexes are nested too deep"))
    }

    /// A document: from the store, or else from the registry and then in the store.
    async fn document<T: serde::de::DeserializeOwned>(&self, what: &'static str, descriptor: &Descriptor) -> Result<T> {
        self.lease.hold_blob(&descriptor.digest);
        let blobs = &self.images.0.blobs;
        let _claim = self.images.0.pulls.claim(&descriptor.digest).await;
        if blobs.size(&descriptor.digest).is_some() {
            match read_json(blobs, what, descriptor) {
                // The disk has not kept it true: it is got again.
                Err(error) if error.kind() == ErrorKind::DigestMismatch => blobs.remove(&descriptor.digest)?,
                other => return other,
            }
        }
        if descriptor.size > DOCUMENT_LENGTH_MAX {
            return Err(Error::corrupt(format!("{what} is longer than {DOCUMENT_LENGTH_MAX} bytes")));
        }
        let text = self.session.document(what, descriptor).await?;
        let mut ingest = blobs.ingest(Some((descriptor.digest.clone(), descriptor.size)))?;
        ingest.write(&text)?;
        ingest.commit()?;
        serde_json::from_slice(&text)
            .map_err(|source| Error::Json { what: format!("{what} {}", descriptor.digest), source })
    }

    /// Downloads the layers that are missing and unpacks each as soon as those below it are unpacked.
    async fn bring_layers(&self, manifest: &Manifest, diff_ids: Vec<Digest>, chain: Vec<Digest>) -> Result<()> {
        let keeps = self.images.0.config.keep_packed_layers;
        let missing: Vec<bool> =
            chain.iter().map(|chain_id| keeps || !self.images.0.layers.contains(chain_id)).collect();
        let wanted = || manifest.layers.iter().zip(&missing).filter(|(_, missing)| **missing).map(|(layer, _)| layer);
        self.progress.layers_total.store(wanted().count() as u64, Ordering::Relaxed);
        self.progress.bytes_total.store(wanted().map(|layer| layer.size).sum(), Ordering::Relaxed);
        let mut downloads = JoinSet::new();
        let mut ready = Vec::new();
        let places = Arc::new(Semaphore::new(self.images.0.config.registry.parallel_layers.max(1)));
        for ((layer, chain_id), missing) in manifest.layers.iter().zip(&chain).zip(missing) {
            let (done, here) = oneshot::channel();
            if missing {
                let (pull, layer, chain_id) = (self.clone(), layer.clone(), chain_id.clone());
                let places = Arc::clone(&places);
                downloads.spawn(async move {
                    let _place = places.acquire_owned().await;
                    pull.layer(&layer, &chain_id).await?;
                    // Nobody waits for it if unpacking has failed.
                    let _ = done.send(());
                    Ok::<(), Error>(())
                });
            } else {
                let _ = done.send(());
            }
            ready.push(Some(here));
        }
        let cancel = Cancel::default();
        let guard = StopUnpacking { images: self.images.clone(), _cancel: CancelOnDrop(cancel.clone()) };
        let mut unpacking = {
            let (images, layers, cancel) = (self.images.clone(), manifest.layers.clone(), cancel.clone());
            tokio::task::spawn_blocking(move || {
                images.0.layers.unpack_stack(&diff_ids, &chain, cancel.flag(), &mut |n| {
                    // The sender is dropped without a word when the download fails, which is then the error to tell.
                    let here = ready[n].take().and_then(|here| here.blocking_recv().ok());
                    here.ok_or(Error::Cancelled)?;
                    Ok(Box::new(images.0.blobs.open_blob(&layers[n].digest)?))
                })
            })
        };
        let mut unpacked = None;
        while unpacked.is_none() || !downloads.is_empty() {
            tokio::select! {
                Some(download) = downloads.join_next(), if !downloads.is_empty() => match download {
                    Ok(result) => result?,
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return Err(Error::Cancelled),
                },
                result = &mut unpacking, if unpacked.is_none() => match result {
                    // A download that failed tells why; its error comes next.
                    Ok(Err(Error::Cancelled)) if !downloads.is_empty() => unpacked = Some(Err(Error::Cancelled)),
                    Ok(result) => {
                        result?;
                        unpacked = Some(Ok(()));
                    }
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return Err(Error::Cancelled),
                },
            }
        }
        drop(guard);
        unpacked.unwrap_or(Ok(()))
    }

    /// Downloads one layer, unless it is here or comes here by another pull.
    async fn layer(&self, layer: &Descriptor, chain_id: &Digest) -> Result<()> {
        self.lease.hold_blob(&layer.digest);
        let _claim = self.images.0.pulls.claim(&layer.digest).await;
        let inner = &self.images.0;
        // Another pull may have unpacked it meanwhile and let the packed bytes go.
        let is_unpacked = !inner.config.keep_packed_layers && inner.layers.contains(chain_id);
        if inner.blobs.size(&layer.digest).is_none() && !is_unpacked {
            self.download(layer).await.map_err(|source| Error::Fetch {
                what: "layer",
                digest: layer.digest.clone(),
                source: Box::new(source),
            })?;
        } else {
            self.progress.bytes.fetch_add(layer.size, Ordering::Relaxed);
        }
        self.progress.layers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Tries the sources in turn. What one has sent before it broke need not come again, from whom ever.
    async fn download(&self, layer: &Descriptor) -> Result<()> {
        let mut sink = Sink::new(self, layer)?;
        let mut failure = None;
        for source in 0..self.session.sources() {
            match self.download_from(source, layer, &mut sink).await {
                Ok(()) => {}
                Err(error) if is_of_the_disk(&error) => return Err(error),
                Err(error) => {
                    failure = Some(worse(failure, error));
                    continue;
                }
            }
            match sink.commit().await {
                Ok(()) => return Ok(()),
                // It lied, or somebody before it did: the next one begins anew.
                Err(error) if error.kind() == ErrorKind::DigestMismatch => failure = Some(error),
                Err(error) => return Err(error),
            }
            sink = Sink::new(self, layer)?;
        }
        Err(failure.unwrap_or_else(|| Error::Unusable { what: "no pull hosts".to_owned() }))
    }

    /// Downloads from one source, going on where a broken connection left off as long as each try brings something.
    async fn download_from(&self, source: usize, layer: &Descriptor, sink: &mut Sink) -> Result<()> {
        let mut tries = 0;
        loop {
            let before = sink.taken;
            let mut stream = self.session.blob(source, &layer.digest, sink.taken).await?;
            if stream.offset != sink.taken {
                if stream.offset != 0 {
                    return Err(Error::corrupt(format!(
                        "registry sent content from byte {}, not {}",
                        stream.offset, sink.taken
                    )));
                }
                sink.restart(&self.progress).await?;
            }
            let broken = loop {
                match stream.answer.chunk().await {
                    Ok(Some(bytes)) => sink.take(bytes, &self.progress).await?,
                    Ok(None) if sink.taken < layer.size => break std::io::ErrorKind::UnexpectedEof.into(),
                    Ok(None) => return Ok(()),
                    Err(error) => break error,
                }
            };
            // What went on has a right to be tried as often again.
            tries = if sink.taken > before { 1 } else { tries + 1 };
            if tries >= self.session.tries_max() {
                return Err(self.session.blob_failed(source, &layer.digest, broken));
            }
            tracing::debug!(layer = %layer.digest, at = sink.taken, error = %broken, "download broke; going on");
            self.session.back_off(tries, None).await;
        }
    }
}

fn is_of_the_disk(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::Io | ErrorKind::Cancelled)
}

/// Tells an unpacking thread to stop, even if it waits for another one.
struct StopUnpacking {
    images: Images,
    _cancel: CancelOnDrop,
}

impl Drop for StopUnpacking {
    fn drop(&mut self) {
        self._cancel.0.cancel();
        self.images.0.layers.wake();
    }
}

/// A blob on its way to the disk: the writing and hashing is done on a blocking thread.
struct Sink {
    pieces: mpsc::Sender<Piece>,
    writer: tokio::task::JoinHandle<Result<()>>,
    taken: u64,
}

enum Piece {
    Bytes(Bytes),
    Restart,
    Commit,
}

impl Sink {
    fn new(pull: &Pull, layer: &Descriptor) -> Result<Sink> {
        let mut ingest = pull.images.0.blobs.ingest(Some((layer.digest.clone(), layer.size)))?;
        let (pieces, mut waiting) = mpsc::channel(PIECES_MAX);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(piece) = waiting.blocking_recv() {
                match piece {
                    Piece::Bytes(bytes) => ingest.write(&bytes)?,
                    Piece::Restart => ingest.restart()?,
                    Piece::Commit => return ingest.commit().map(drop),
                }
            }
            // Nobody wants it any more: the ingest removes what came.
            Err(Error::Cancelled)
        });
        Ok(Sink { pieces, writer, taken: 0 })
    }

    async fn take(&mut self, bytes: Bytes, progress: &Progress) -> Result<()> {
        let length = bytes.len() as u64;
        self.send(Piece::Bytes(bytes)).await?;
        self.taken += length;
        progress.bytes.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    async fn restart(&mut self, progress: &Progress) -> Result<()> {
        progress.bytes.fetch_sub(self.taken, Ordering::Relaxed);
        self.taken = 0;
        self.send(Piece::Restart).await
    }

    async fn commit(mut self) -> Result<()> {
        self.send(Piece::Commit).await?;
        self.end().await
    }

    async fn send(&mut self, piece: Piece) -> Result<()> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // The writer has ended, and not because it was asked to.
        Err(self.end().await.err().unwrap_or(Error::Cancelled))
    }

    async fn end(&mut self) -> Result<()> {
        match (&mut self.writer).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Cancelled),
        }
    }
}
