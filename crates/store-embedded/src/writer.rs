//! The one thread that changes the store. It takes whatever requests have come while the disk was syncing, decides
//! them together, writes one frame, syncs, makes the changes visible, tells the followers and then the requesters.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use store::{LeaseId, Result, Revision, StoreError, Txn, TxnResponse};
use tokio::sync::oneshot;
use world::{Clock, Disk, DiskLock, Monotonic};

use crate::Shared;
use crate::log::{AppendError, Log};
use crate::plan::{Plan, Planned};
use crate::snapshot::{SnapshotJob, Written, snapshot_path};
use crate::state::Budget;

/// A group of requests is closed when its frame is longer than this.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// How many requests may wait.
const QUEUE_LENGTH_MAX: usize = 65_536;

/// How many bytes the waiting requests may hold.
const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The shortest sleep until a lease or a piece of history is due: what is due in between waits a little.
const TIMER_MIN: Duration = Duration::from_secs(1);

/// History goes with the writes that come later anyway. If none come, it goes in portions of this length.
const HISTORY_SLACK: Duration = Duration::from_secs(15);

pub(crate) enum Request {
    Txn { txn: Txn, answer: oneshot::Sender<Result<TxnResponse>> },
    Compact { revision: Revision, answer: oneshot::Sender<Result<()>> },
    GrantLease { ttl: Duration, answer: oneshot::Sender<Result<LeaseId>> },
    RevokeLease { lease: LeaseId, answer: oneshot::Sender<Result<()>> },
    KeepLeaseAlive { lease: LeaseId, answer: oneshot::Sender<Result<()>> },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Txn { txn, .. } => txn.size(),
            _ => size_of::<Request>(),
        }
    }
}

/// What waits for the writer.
pub(crate) struct Queue {
    inner: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    bytes: usize,
    closed: bool,
    /// What comes is kept waiting.
    paused: bool,
    snapshot_done: Option<io::Result<Option<Written>>>,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue { inner: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn push(&self, request: Request) -> Result<()> {
        let mut waiting = self.inner.lock();
        if waiting.closed {
            return Err(StoreError::Closed);
        }
        let bytes = request.bytes();
        if waiting.requests.len() >= QUEUE_LENGTH_MAX || waiting.bytes + bytes > QUEUE_BYTES_MAX {
            return Err(StoreError::Overloaded);
        }
        waiting.bytes += bytes;
        waiting.requests.push(request);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.changed.notify_one();
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.inner.lock().paused = paused;
        self.changed.notify_one();
    }

    /// Makes the writer look at the clock.
    pub(crate) fn poke(&self) {
        // The lock is held so that the writer is either before its look at the clock or waiting.
        let _waiting = self.inner.lock();
        self.changed.notify_one();
    }

    fn snapshot_done(&self, done: io::Result<Option<Written>>) {
        self.inner.lock().snapshot_done = Some(done);
        self.changed.notify_one();
    }

    /// Waits until something is to be done, or until `deadline`.
    fn take(&self, deadline: Option<Monotonic>, clock: &dyn Clock) -> Waiting {
        let mut waiting = self.inner.lock();
        while (waiting.requests.is_empty() || waiting.paused) && !waiting.closed && waiting.snapshot_done.is_none() {
            match deadline.map(|deadline| clock.sleep_until(deadline)) {
                Some(Some(Duration::ZERO)) => break,
                Some(Some(sleep)) => drop(self.changed.wait_for(&mut waiting, sleep.max(TIMER_MIN))),
                Some(None) | None => self.changed.wait(&mut waiting),
            }
        }
        waiting.bytes = 0;
        Waiting {
            requests: std::mem::take(&mut waiting.requests),
            closed: waiting.closed,
            snapshot_done: waiting.snapshot_done.take(),
            ..Waiting::default()
        }
    }
}

/// An answer that is given once it is known whether the frame is durable.
enum Answer {
    Txn(oneshot::Sender<Result<TxnResponse>>, Result<TxnResponse>),
    Lease(oneshot::Sender<Result<LeaseId>>, Result<LeaseId>),
    Done(oneshot::Sender<Result<()>>, Result<()>),
}

impl Answer {
    fn give(self, failure: Option<&StoreError>) {
        fn send<T>(answer: oneshot::Sender<Result<T>>, result: Result<T>, failure: Option<&StoreError>) {
            // What was refused may have been because of others in the frame, and is not known to be right either.
            let result = failure.map_or(result, |error| Err(error.clone()));
            // Whoever asked may have gone; the write is done all the same.
            let _ = answer.send(result);
        }
        match self {
            Answer::Txn(answer, result) => send(answer, result, failure),
            Answer::Lease(answer, result) => send(answer, result, failure),
            Answer::Done(answer, result) => send(answer, result, failure),
        }
    }
}

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) budget: Budget,
    pub(crate) background: bool,
    pub(crate) garbage_bytes_min: u64,
    /// The snapshot in use.
    pub(crate) snapshot: Option<Written>,
    pub(crate) snapshots: Snapshots,
    /// After the end of a lease could not be written, it is not tried before this.
    pub(crate) leases_not_before: Monotonic,
    /// Set once the disk can no longer be trusted.
    pub(crate) stopped: Option<StoreError>,
    /// Held for as long as anything is written.
    pub(crate) lock: Box<dyn DiskLock>,
}

/// The snapshot that is being written.
#[derive(Default)]
pub(crate) struct Snapshots {
    running: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// After a failure nothing is tried until this frame.
    not_before_seq: u64,
}

/// Closes the store however its thread ends.
struct CloseAtEnd(Arc<Shared>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.hub.close();
        // Their senders go with them, which tells those who wait.
        drop(std::mem::take(&mut self.0.queue.inner.lock().requests));
    }
}

impl Writer {
    pub(crate) fn run(mut self) {
        let _end = CloseAtEnd(Arc::clone(&self.shared));
        loop {
            let deadline = self.deadline();
            let work = self.shared.queue.take(deadline, &*self.clock);
            if let Some(done) = work.snapshot_done {
                self.snapshot_done(done);
            }
            let idle = work.requests.is_empty();
            self.trim();
            self.expire_leases();
            let mut requests = work.requests.into_iter().peekable();
            while requests.peek().is_some() {
                self.commit(&mut requests);
            }
            self.maintain();
            if work.closed && idle {
                break;
            }
        }
        self.snapshots.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.snapshots.running.take() {
            // It has said so already if it panicked.
            let _ = running.join();
        }
        // In this order: nobody else may open the folder while something is still being written.
        drop(self.log);
        drop(self.lock);
    }

    /// When there is something to do without being asked.
    fn deadline(&self) -> Option<Monotonic> {
        let state = self.shared.state.read();
        let lease = state.leases.next_end().filter(|_| self.stopped.is_none());
        let lease = lease.map(|ends| ends.max(self.leases_not_before));
        // A snapshot keeps history from going, and wakes this thread when it is done.
        let history = state.history_until().filter(|_| self.snapshots.running.is_none());
        let history = history.map(|until| until.saturating_add(HISTORY_SLACK));
        [lease, history].into_iter().flatten().min()
    }

    fn expire_leases(&mut self) {
        let now = self.clock.monotonic();
        while self.stopped.is_none() && now >= self.leases_not_before {
            let shared = Arc::clone(&self.shared);
            let planned = {
                let state = shared.state.read();
                let Some(due) = state.leases.due(now) else { return };
                let mut plan = Plan::new(&state, &*self.clock);
                // The lease was found just now, and nothing else can end it.
                if plan.end_lease(due).is_err() {
                    return;
                }
                plan.finish()
            };
            if self.write(planned).is_err() {
                self.leases_not_before = now.saturating_add(LEASES_RETRY);
            }
        }
    }

    /// Decides the next requests together and does them.
    fn commit(&mut self, requests: &mut std::iter::Peekable<std::vec::IntoIter<Request>>) {
        let mut answers = Vec::new();
        let shared = Arc::clone(&self.shared);
        let planned = {
            let state = shared.state.read();
            let mut plan = Plan::new(&state, &*self.clock);
            // The end of a lease looks at all its keys, and so stands alone.
            let joins = |request: &Request, plan: &Plan<'_>| {
                plan.len() < FRAME_BYTES_MAX && (plan.is_empty() || !matches!(request, Request::RevokeLease { .. }))
            };
            while let Some(request) = requests.next_if(|request| joins(request, &plan)) {
                let alone = matches!(request, Request::RevokeLease { .. });
                answers.push(decide(&mut plan, request));
                if alone {
                    break;
                }
            }
            plan.finish()
        };
        let failure = if planned.effects.is_empty() { None } else { self.write(planned).err() };
        for answer in answers {
            answer.give(failure.as_ref());
        }
    }

    /// Makes a plan durable, then visible.
    fn write(&mut self, planned: Planned) -> Result<()> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let Planned { frame, effects, compacted } = planned;
        let seq = match self.log.append(frame, self.clock.now(), compacted.0) {
            Ok(seq) => seq,
            Err(AppendError::TakenBack(error)) => {
                let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                let error = Arc::new(error);
                return Err(if full { StoreError::NoSpace(error) } else { StoreError::WriteFailed(error) });
            }
            Err(AppendError::Unknown(error)) => {
                let stopped = StoreError::Stopped(Arc::new(error));
                self.stopped = Some(stopped.clone());
                return Err(stopped);
            }
        };
        let now = self.clock.monotonic();
        let until = now.saturating_add(self.budget.age);
        self.shared.hub.publish(|| {
            let mut state = self.shared.state.write();
            let batches = state.apply(effects, seq, until);
            state.trim(self.budget, now);
            (batches, state.revision)
        });
        Ok(())
    }

    fn trim(&self) {
        let now = self.clock.monotonic();
        let due = self.shared.state.read().trimmable(self.budget, now).is_some();
        if due {
            self.shared.state.write().trim(self.budget, now);
        }
    }

    /// What can wait until those who asked have their answers.
    fn maintain(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.log.prepare();
        let (needed, live_bytes) = {
            let state = self.shared.state.read();
            (state.seq_needed(), state.live_bytes)
        };
        let garbage = self.log.garbage_bytes(needed);
        if garbage >= self.garbage_bytes_min.max(live_bytes / 2)
            && self.snapshots.running.is_none()
            && self.snapshot.map_or(1, |snapshot| snapshot.seq) < needed
            && self.log.seq_next() >= self.snapshots.not_before_seq
        {
            self.start_snapshot();
        }
        let snapshot_bytes = self.snapshot.map_or(0, |snapshot| snapshot.bytes);
        self.shared.disk_bytes.store(self.log.bytes() + snapshot_bytes, Ordering::Relaxed);
        self.shared.frames.store(self.log.seq_next() - 1, Ordering::Relaxed);
    }

    fn start_snapshot(&mut self) {
        let mut job = SnapshotJob::new(&mut self.shared.state.write(), Arc::clone(&self.disk), self.dir.clone());
        job.replaces = self.log.paths_before(job.seq);
        job.replaces.extend(self.snapshot.map(|snapshot| snapshot_path(&self.dir, snapshot.seq)));
        let (shared, stop) = (Arc::clone(&self.shared), Arc::clone(&self.snapshots.stop));
        let run = move || {
            // If it panics, history must go on going.
            let done = catch_unwind(AssertUnwindSafe(|| job.run(&shared, &stop))).unwrap_or_else(|_| {
                shared.state.write().unpin();
                Err(io::Error::other("the snapshot panicked"))
            });
            shared.queue.snapshot_done(done);
        };
        if !self.background {
            return run();
        }
        match thread::Builder::new().name("store-snapshot".to_owned()).spawn(run) {
            Ok(running) => self.snapshots.running = Some(running),
            Err(error) => {
                self.shared.state.write().unpin();
                self.snapshot_done(Err(error));
            }
        }
    }

    fn snapshot_done(&mut self, done: io::Result<Option<Written>>) {
        if let Some(running) = self.snapshots.running.take() {
            let _ = running.join();
        }
        match done {
            Ok(Some(written)) => {
                self.log.forget_before(written.seq);
                self.snapshot = Some(written);
            }
            Ok(None) => {}
            // Nothing is lost, the log is only longer. Most failures are a full disk: try again after some more writes.
            Err(_) => {
                self.shared.snapshot_failures.fetch_add(1, Ordering::Relaxed);
                self.snapshots.not_before_seq = self.log.seq_next() + SNAPSHOT_RETRY_FRAMES;
            }
        }
    }
}

/// After how long the end of a lease is tried again that could not be written.
const LEASES_RETRY: Duration = Duration::from_secs(5);

/// After how many frames a snapshot that failed is tried again.
const SNAPSHOT_RETRY_FRAMES: u64 = 1000;

fn decide(plan: &mut Plan<'_>, request: Request) -> Answer {
    match request {
        Request::Txn { txn, answer } => {
            let result = plan.txn(&txn);
            Answer::Txn(answer, result)
        }
        Request::Compact { revision, answer } => Answer::Done(answer, plan.compact(revision)),
        Request::GrantLease { ttl, answer } => Answer::Lease(answer, Ok(plan.grant_lease(ttl))),
        Request::RevokeLease { lease, answer } => Answer::Done(answer, plan.end_lease(lease)),
        Request::KeepLeaseAlive { lease, answer } => Answer::Done(answer, plan.keep_lease_alive(lease)),
    }
}
