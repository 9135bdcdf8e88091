//! The embedded [`Store`]: a log on the local disk, an index in memory.
//!
//! Everything lives in memory, shared with whoever reads and watches. The disk is written for one purpose, to have it all
//! again after a restart: one thread appends the changes of many writers as one frame and syncs once (`writer`, `frame`,
//! `log`). When enough of the log is of no more use, a snapshot takes its place in the background (`snapshot`). Opening reads the
//! snapshot and the log behind it (`recover`).
//!
//! The data folder has a version and one holder. Anything in it that is not as this crate writes it, and cannot be explained
//! by a crash, is refused with one line, and nothing is overwritten.

mod codec;
mod frame;
mod hub;
mod log;
mod plan;
mod recover;
mod snapshot;
mod state;
mod writer;

use std::fmt;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::RwLock;
use store::{
    BoxFuture, GetResponse, LeaseId, LeaseStatus, RangeRequest, RangeResponse, Result, Revision, Store, StoreError,
    Subscription, Txn, TxnResponse, Watch, WatchRequest, WatchSink,
};
use tokio::sync::oneshot;
use world::{Clock, Monotonic, World};

use crate::hub::Hub;
use crate::state::{Budget, RANGE_CHUNK_KEYS, State};
use crate::writer::{Queue, Request, Snapshots, Writer};

/// How a store keeps its history and its files.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For how long a change can be watched and read around.
    pub history_age: Duration,
    /// How much memory the changes that can be watched may take; the oldest go first.
    pub history_bytes: usize,
    /// The length of a segment of the log.
    pub segment_bytes: u64,
    /// How much of the log must be of no more use before a snapshot is written; at least half of what is live.
    pub garbage_bytes_min: u64,
    /// Whether segments and snapshots are written by threads of their own. Without, writers wait, but what happens to the disk
    /// follows from the requests alone: for tests.
    pub background: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            history_age: Duration::from_secs(5 * 60),
            history_bytes: 32 * 1024 * 1024,
            segment_bytes: 4 * 1024 * 1024,
            garbage_bytes_min: 8 * 1024 * 1024,
            background: true,
        }
    }
}

/// Why a data folder cannot be used. Nothing in it was changed, unless it says that writing failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it.
    #[error("the data folder {} is in use by another process", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// A later version of kubox has written it.
    #[error("the data folder {} has format {found}, but this program knows formats up to {supported}: use a newer kubox", dir.display())]
    NewerFormat {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known here.
        supported: u64,
    },
    /// The folder belongs to something else.
    #[error("{} does not say that its folder is a kubox store", path.display())]
    NotAStore {
        /// The file that should say so.
        path: PathBuf,
    },
    /// A part of it is gone.
    #[error("the data folder {} has lost {missing}; nothing was changed", dir.display())]
    Incomplete {
        /// The folder.
        dir: PathBuf,
        /// What it should have.
        missing: &'static str,
    },
    /// A file is not as it was written.
    #[error("{} is damaged at byte {offset}: {damage}; nothing was changed", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        damage: &'static str,
    },
    /// The system refused something.
    #[error("cannot {attempted} {}", path.display())]
    Io {
        /// What was attempted.
        attempted: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What a store holds, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The latest revision.
    pub revision: Revision,
    /// The oldest revision that can be read.
    pub compacted: Revision,
    /// How many keys exist.
    pub keys: usize,
    /// The bytes of their keys and values.
    pub live_bytes: u64,
    /// How many changes can be watched.
    pub history_len: usize,
    /// The memory they take.
    pub history_bytes: usize,
    /// How many leases there are.
    pub leases: usize,
    /// The bytes of the data folder.
    pub disk_bytes: u64,
    /// How many group commits were made, since the store came into being.
    pub frames: u64,
    /// How many snapshots failed since the store was opened.
    pub snapshot_failures: u64,
}

/// A store in a folder of the local disk. It closes when dropped: writes that were accepted are done first.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    writer: Option<JoinHandle<()>>,
    /// What a clock moved by hand calls; it forgets it when the store is gone.
    _on_advance: Arc<dyn Fn() + Send + Sync>,
}

/// What readers, watches and the writer share.
struct Shared {
    state: RwLock<State>,
    hub: Hub,
    queue: Queue,
    disk_bytes: AtomicU64,
    frames: AtomicU64,
    snapshot_failures: AtomicU64,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, making it if the folder is empty or absent.
    pub fn open(world: &World, dir: &Path, options: Options) -> Result<EmbeddedStore, OpenError> {
        let recover::Recovered { state, log, snapshot, lock } = recover::open(world, dir, &options)?;
        let shared = Arc::new(Shared {
            hub: Hub::new(state.revision),
            state: RwLock::new(state),
            queue: Queue::new(),
            disk_bytes: AtomicU64::new(log.bytes() + snapshot.map_or(0, |snapshot| snapshot.bytes)),
            frames: AtomicU64::new(log.seq_next() - 1),
            snapshot_failures: AtomicU64::new(0),
        });
        let on_advance: Arc<dyn Fn() + Send + Sync> = {
            let shared = Arc::clone(&shared);
            Arc::new(move || shared.queue.poke())
        };
        world.clock.on_advance(Arc::downgrade(&on_advance));
        let writer = Writer {
            shared: Arc::clone(&shared),
            log,
            clock: Arc::clone(&world.clock),
            disk: Arc::clone(&world.disk),
            dir: dir.to_owned(),
            budget: Budget { age: options.history_age, bytes: options.history_bytes },
            background: options.background,
            garbage_bytes_min: options.garbage_bytes_min,
            snapshot,
            snapshots: Snapshots::default(),
            leases_not_before: Monotonic::START,
            stopped: None,
            lock,
        };
        let writer = thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        let writer =
            writer.map_err(|source| OpenError::Io { attempted: "start a thread for", path: dir.to_owned(), source })?;
        let clock = Arc::clone(&world.clock);
        Ok(EmbeddedStore { shared, clock, writer: Some(writer), _on_advance: on_advance })
    }

    /// What the store holds now.
    pub fn stats(&self) -> Stats {
        let state = self.shared.state.read();
        Stats {
            revision: state.revision,
            compacted: state.compacted,
            keys: state.live_keys,
            live_bytes: state.live_bytes,
            history_len: state.history_len(),
            history_bytes: state.history_bytes(),
            leases: state.leases.len(),
            disk_bytes: self.shared.disk_bytes.load(Ordering::Relaxed),
            frames: self.shared.frames.load(Ordering::Relaxed),
            snapshot_failures: self.shared.snapshot_failures.load(Ordering::Relaxed),
        }
    }

    /// Lets all requests wait until the answer is dropped, so that a test decides which are written together.
    #[doc(hidden)]
    pub fn pause(&self) -> impl Drop + '_ {
        struct Paused<'a>(&'a Queue);
        impl Drop for Paused<'_> {
            fn drop(&mut self) {
                self.0.pause(false);
            }
        }
        self.shared.queue.pause(true);
        Paused(&self.shared.queue)
    }

    fn read_range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let mut keys_max = RANGE_CHUNK_KEYS;
        'again: loop {
            let revision = self.shared.state.read().readable(request.revision)?;
            let mut response = RangeResponse { records: Vec::new(), revision, remaining: 0 };
            let mut next = Some(request.keys.start.clone());
            while let Some(start) = next {
                let state = self.shared.state.read();
                match state.readable(Some(revision)) {
                    Ok(_) => {}
                    // So many writes came in between that the latest revision of the start is gone. Keep them out this time.
                    Err(_) if request.revision.is_none() => {
                        keys_max = usize::MAX;
                        continue 'again;
                    }
                    Err(error) => return Err(error),
                }
                next = state.range_chunk(request, &start, keys_max, &mut response);
            }
            return Ok(response);
        }
    }

    /// Hands a request to the writer, and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> BoxFuture<Result<T>> {
        let (answer, answered) = oneshot::channel();
        match self.shared.queue.push(request(answer)) {
            // The writer drops what it cannot answer only when it ends.
            Ok(()) => Box::pin(async move { answered.await.unwrap_or(Err(StoreError::Closed)) }),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}

impl Store for EmbeddedStore {
    fn current_revision(&self) -> BoxFuture<Result<Revision>> {
        Box::pin(ready(Ok(self.shared.state.read().revision)))
    }

    fn get(&self, key: &[u8], at: Option<Revision>) -> BoxFuture<Result<GetResponse>> {
        let response = self.shared.state.read().get(key, at);
        Box::pin(ready(response))
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<Result<RangeResponse>> {
        Box::pin(ready(self.read_range(&request)))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<Result<TxnResponse>> {
        match txn.validate() {
            Ok(()) => self.ask(|answer| Request::Txn { txn, answer }),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn watch(&self, request: WatchRequest) -> Watch {
        Watch::new(Box::new(Hub::watch(&self.shared, request)))
    }

    fn subscribe(&self, request: WatchRequest, sink: Box<dyn WatchSink>) -> Subscription {
        let cancel = Hub::subscribe(&self.shared, request, sink);
        Subscription::new(move || {
            if let Some(cancel) = cancel {
                cancel();
            }
        })
    }

    fn request_progress(&self) {
        self.shared.hub.request_progress();
    }

    fn compact(&self, revision: Revision) -> BoxFuture<Result<()>> {
        self.ask(|answer| Request::Compact { revision, answer })
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<Result<LeaseId>> {
        self.ask(|answer| Request::GrantLease { ttl, answer })
    }

    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<Result<()>> {
        self.ask(|answer| Request::RevokeLease { lease, answer })
    }

    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<Result<()>> {
        self.ask(|answer| Request::KeepLeaseAlive { lease, answer })
    }

    fn lease(&self, lease: LeaseId) -> BoxFuture<Result<LeaseStatus>> {
        let state = self.shared.state.read();
        let now = self.clock.monotonic();
        let status = state.leases.get(lease).filter(|found| found.ends > now).map(|found| LeaseStatus {
            ttl: found.ttl,
            remaining: found.ends.saturating_since(now),
            keys: found.keys.iter().cloned().collect(),
        });
        Box::pin(ready(status.ok_or(StoreError::LeaseNotFound(lease))))
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.thread().id() != thread::current().id()
        {
            // It has said so already if it panicked.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
