//! Those who follow changes: sinks, which are called, and watches, which ask.
//!
//! A watch has no queue. It remembers the oldest revision that holds something for it, and reads the store's history from
//! there when it is polled. If that revision is compacted first, the watch has been too slow and is cut off.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use store::{Batch, KeyRange, Result, Revision, StoreError, WatchItem, WatchRequest, WatchSink, WatchSource};

use crate::Shared;
use crate::state::State;

/// How many batches a watch takes from the history at once.
const WATCH_BATCHES_MAX: usize = 16;

/// How many batches of others a watch passes over under one hold of the lock.
const WATCH_SCAN_MAX: usize = 4096;

pub(crate) struct Hub {
    followers: Mutex<Followers>,
    /// The revision up to which every follower knows whether there is something for it.
    published: AtomicU64,
}

#[derive(Default)]
struct Followers {
    sinks: Vec<Sink>,
    sink_id_next: u64,
    watches: Vec<Weak<Position>>,
    closed: bool,
}

struct Sink {
    id: u64,
    keys: KeyRange,
    start: Revision,
    sink: Box<dyn WatchSink>,
}

/// Where a watch stands.
struct Position {
    keys: KeyRange,
    inner: Mutex<PositionInner>,
}

struct PositionInner {
    /// Everything before this revision was delivered or passed over.
    next: Revision,
    /// The oldest revision from `next` on that has something to deliver.
    pending: Option<Revision>,
    progress_wanted: bool,
    /// What comes after all that is pending; nothing becomes pending after it.
    end: Option<StoreError>,
    waker: Option<Waker>,
}

impl Hub {
    pub(crate) fn new(revision: Revision) -> Hub {
        Hub { followers: Mutex::default(), published: AtomicU64::new(revision.0) }
    }

    /// Makes changes visible by calling `apply`, then tells the followers of the batches that it answers.
    pub(crate) fn publish(&self, apply: impl FnOnce() -> (Vec<Arc<Batch>>, Revision)) {
        // The lock makes one step of it for those who start to follow: they see the changes either in the history or here.
        let mut followers = self.followers.lock();
        let (batches, revision) = apply();
        for batch in &batches {
            followers.sinks.retain_mut(|sink| {
                let inside = (batch.revision >= sink.start).then(|| batch.filter(&sink.keys)).flatten();
                // A sink that panics is broken; the store and the other followers are not.
                inside.is_none_or(|batch| catch_unwind(AssertUnwindSafe(|| sink.sink.batch(&batch))).is_ok())
            });
        }
        if !batches.is_empty() {
            followers.watches.retain(|watch| watch.upgrade().inspect(|watch| watch.note(&batches)).is_some());
        }
        self.published.store(revision.0, Ordering::Release);
    }

    pub(crate) fn watch(shared: &Arc<Shared>, request: WatchRequest) -> impl WatchSource + use<> {
        let mut followers = shared.hub.followers.lock();
        let state = shared.state.read();
        let next = request.start.unwrap_or(state.revision.next());
        let mut inner = PositionInner { next, pending: None, progress_wanted: false, end: None, waker: None };
        match state.watchable(next) {
            Err(error) => inner.end = Some(error),
            Ok(()) if followers.closed => inner.end = Some(StoreError::Closed),
            Ok(()) => inner.pending = (next <= state.revision).then_some(next),
        }
        let position = Arc::new(Position { keys: request.keys, inner: Mutex::new(inner) });
        followers.watches.retain(|watch| watch.strong_count() > 0);
        followers.watches.push(Arc::downgrade(&position));
        Source { shared: Arc::clone(shared), position, ready: VecDeque::new() }
    }

    /// Delivers what there is from the start on, then keeps the sink; answers what removes it.
    pub(crate) fn subscribe(
        shared: &Arc<Shared>,
        request: WatchRequest,
        mut sink: Box<dyn WatchSink>,
    ) -> Option<impl FnOnce() + Send + Sync + use<>> {
        let mut followers = shared.hub.followers.lock();
        let past: Result<(Revision, Vec<Arc<Batch>>)> = {
            let state = shared.state.read();
            let start = request.start.unwrap_or(state.revision.next());
            state.watchable(start).map(|()| (start, batches_for(&state, start, &request.keys)))
        };
        let (start, batches) = match past {
            _ if followers.closed => {
                sink.end(StoreError::Closed);
                return None;
            }
            Err(error) => {
                sink.end(error);
                return None;
            }
            Ok(past) => past,
        };
        for batch in &batches {
            sink.batch(batch);
        }
        let id = followers.sink_id_next;
        followers.sink_id_next += 1;
        followers.sinks.push(Sink { id, keys: request.keys, start, sink });
        drop(followers);
        let shared = Arc::downgrade(shared);
        Some(move || {
            if let Some(shared) = shared.upgrade() {
                let removed: Vec<Sink> = {
                    let mut followers = shared.hub.followers.lock();
                    followers.sinks.extract_if(.., |sink| sink.id == id).collect()
                };
                drop(removed);
            }
        })
    }

    pub(crate) fn request_progress(&self) {
        let mut followers = self.followers.lock();
        let revision = Revision(self.published.load(Ordering::Acquire));
        for sink in &mut followers.sinks {
            sink.sink.progress(revision);
        }
        for watch in followers.watches.iter().filter_map(Weak::upgrade) {
            watch.change(|inner| inner.progress_wanted = true);
        }
    }

    /// Ends all followers.
    pub(crate) fn close(&self) {
        let mut followers = self.followers.lock();
        followers.closed = true;
        for mut sink in std::mem::take(&mut followers.sinks) {
            let ended = catch_unwind(AssertUnwindSafe(|| sink.sink.end(StoreError::Closed)));
            drop(ended);
        }
        for watch in std::mem::take(&mut followers.watches).iter().filter_map(Weak::upgrade) {
            watch.change(|inner| {
                inner.end.get_or_insert(StoreError::Closed);
            });
        }
    }
}

fn batches_for(state: &State, start: Revision, keys: &KeyRange) -> Vec<Arc<Batch>> {
    state.batches_from(start).filter_map(|batch| batch.filter(keys)).collect()
}

impl Position {
    /// Changes it and wakes whoever waits for that.
    fn change(&self, change: impl FnOnce(&mut PositionInner)) {
        let waker = {
            let mut inner = self.inner.lock();
            change(&mut inner);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn note(&self, batches: &[Arc<Batch>]) {
        let first_inside = |next: Revision| {
            let mut later = batches.iter().filter(|batch| batch.revision >= next);
            later.find(|batch| batch.events.iter().any(|event| self.keys.contains(&event.record.key)))
        };
        let waker = {
            let mut inner = self.inner.lock();
            if inner.pending.is_some() || inner.end.is_some() {
                return;
            }
            // The watch may have read some of the batches already, between their becoming visible and now.
            let Some(batch) = first_inside(inner.next) else { return };
            inner.pending = Some(batch.revision);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The watch's own side.
struct Source {
    shared: Arc<Shared>,
    position: Arc<Position>,
    /// Taken from the history, not yet delivered.
    ready: VecDeque<Arc<Batch>>,
}

impl WatchSource for Source {
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchItem>> {
        if let Some(batch) = self.ready.pop_front() {
            return Poll::Ready(Ok(WatchItem::Batch(batch)));
        }
        // Read first: whatever is published by now has left its mark in `pending`.
        let published = Revision(self.shared.hub.published.load(Ordering::Acquire));
        let mut inner = self.position.inner.lock();
        while let Some(from) = inner.pending {
            let state = self.shared.state.read();
            state.watchable(from)?;
            let mut scanned = 0;
            for batch in state.batches_from(from).take(WATCH_SCAN_MAX) {
                scanned += 1;
                inner.next = batch.revision.next();
                self.ready.extend(batch.filter(&self.position.keys));
                if self.ready.len() == WATCH_BATCHES_MAX {
                    break;
                }
            }
            let more = scanned > 0 && inner.next <= state.revision;
            inner.pending = more.then_some(inner.next);
            if let Some(batch) = self.ready.pop_front() {
                return Poll::Ready(Ok(WatchItem::Batch(batch)));
            }
        }
        if let Some(error) = &inner.end {
            return Poll::Ready(Err(error.clone()));
        }
        if std::mem::take(&mut inner.progress_wanted) {
            return Poll::Ready(Ok(WatchItem::Progress(published)));
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
