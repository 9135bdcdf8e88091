//! The objects and events of one resource.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api_schema::SmolStr;
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::history::History;
use crate::object::{Event, Index, Object};
use crate::selection::Selection;
use crate::sleepers::Sleepers;
use crate::watcher::{Expired, Watcher};

/// How far back frames are kept with their events; slower watchers make their own.
const FRAMES_BACK: usize = 2048;

/// What reads an object's index out of its bytes; `None` for bytes that are no object.
pub type Indexer = Box<dyn Fn(&Bytes) -> Option<Index> + Send + Sync>;

/// How far the one stream of store events has been applied, for all resources.
#[derive(Debug)]
pub struct Progress {
    applied: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { applied: AtomicU64::new(0), changed: watch::Sender::new(0) }
    }
}

impl Progress {
    /// The revision up to which every cache is complete.
    pub fn revision(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Says that all caches have seen everything up to `revision`.
    pub fn advance(&self, revision: u64) {
        self.applied.fetch_max(revision, Ordering::AcqRel);
        self.changed.send_if_modified(|seen| {
            let newer = *seen < revision;
            *seen = (*seen).max(revision);
            newer
        });
    }

    /// Waits until every cache has seen `revision`.
    pub async fn reached(&self, revision: u64) {
        if self.revision() >= revision {
            return;
        }
        let mut changed = self.changed.subscribe();
        // The sender lives as long as `self`.
        let _ = changed.wait_for(|seen| *seen >= revision).await;
    }
}

/// A consistent view of (part of) a resource.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The objects, in key order.
    pub objects: Vec<Arc<Object>>,
    /// The revision at which they were all current.
    pub revision: u64,
    /// The key of the last object, when there are more behind it.
    pub continue_after: Option<SmolStr>,
    /// How many objects are behind it (in the namespace, selectors aside).
    pub remaining: usize,
}

/// All objects of one resource and the events of its recent past.
pub struct ResourceCache {
    index: Indexer,
    progress: Arc<Progress>,
    history: Arc<History>,
    state: RwLock<State>,
    /// The watchers that wait.
    pub(crate) sleepers: Sleepers,
    /// The sequence number behind the newest event, for [`Self::appears`].
    newest: watch::Sender<u64>,
}

impl std::fmt::Debug for ResourceCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResourceCache").field("objects", &self.len()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    objects: BTreeMap<SmolStr, Arc<Object>>,
    pub(crate) events: VecDeque<Arc<Event>>,
    /// The sequence number of `events[0]`.
    pub(crate) first_seq: u64,
    /// A watch may start from this revision or later.
    pub(crate) floor: u64,
    /// The revision of the newest event.
    revision: u64,
}

impl State {
    pub(crate) fn end_seq(&self) -> u64 {
        self.first_seq + self.events.len() as u64
    }
}

impl ResourceCache {
    /// An empty cache that follows `progress` and keeps its events for as long as `history` allows.
    pub fn new(index: Indexer, progress: Arc<Progress>, history: Arc<History>) -> Self {
        let (state, sleepers, newest) = (RwLock::default(), Sleepers::default(), watch::Sender::new(0));
        Self { index, progress, history, state, sleepers, newest }
    }

    /// Fills the cache with the objects of a snapshot of the store: watches start there or later. `key` is what follows
    /// the resource's prefix.
    pub fn load(&self, objects: impl IntoIterator<Item = (SmolStr, u64, Bytes)>, revision: u64) {
        let mut state = self.state.write();
        for (key, revision, bytes) in objects {
            if let Some(index) = (self.index)(&bytes) {
                state.objects.insert(key, Arc::new(Object { revision, bytes, index }));
            }
        }
        state.floor = revision;
        state.revision = revision;
    }

    /// Applies one change from the store; `bytes` is none for a deletion. Watchers learn of it by [`Self::publish`].
    pub fn apply(self: &Arc<Self>, key: &str, revision: u64, bytes: Option<Bytes>) {
        let object = bytes.and_then(|bytes| {
            let index = (self.index)(&bytes)?;
            Some(Arc::new(Object { revision, bytes, index }))
        });
        let mut state = self.state.write();
        let previous = match &object {
            Some(object) => state.objects.insert(key.into(), Arc::clone(object)),
            None => state.objects.remove(key),
        };
        state.revision = revision;
        if object.is_none() && previous.is_none() {
            return;
        }
        let event = Arc::new(Event::new(revision, object, previous));
        let weight = event.weight();
        state.events.push_back(event);
        let back = state.events.len().checked_sub(FRAMES_BACK).and_then(|at| state.events.get(at)).cloned();
        drop(state);
        if let Some(event) = back {
            event.forget_frames();
        }
        self.history.add(self, revision, weight);
    }

    /// Wakes the watchers, after a batch of [`Self::apply`].
    pub fn publish(&self) {
        let end = self.state.read().end_seq();
        self.newest.send_if_modified(|seen| std::mem::replace(seen, end) != end);
        self.sleepers.wake(end);
    }

    /// Lets go of the events up to a revision.
    pub(crate) fn forget(&self, revision: u64) {
        let mut state = self.state.write();
        let state = &mut *state;
        while let Some(event) = state.events.pop_front_if(|event| event.revision <= revision) {
            state.first_seq += 1;
            state.floor = state.floor.max(event.revision);
        }
    }

    /// The progress that this cache follows.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Reads the index out of stored bytes.
    pub fn index(&self, bytes: &Bytes) -> Option<Index> {
        (self.index)(bytes)
    }

    /// The newest version of an object in the cache.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(key).cloned()
    }

    /// The newest version of an object, as soon as there is one.
    pub async fn appears(&self, key: &str) -> Arc<Object> {
        let mut newest = self.newest.subscribe();
        loop {
            if let Some(object) = self.get(key) {
                return object;
            }
            // The sender lives as long as `self`.
            let _ = newest.changed().await;
        }
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The selected objects behind the key `after`, at most `limit` (0: all).
    pub fn list(&self, selection: &Selection, after: Option<&str>, limit: usize) -> Snapshot {
        let applied = self.progress.revision();
        let state = self.state.read();
        self.snapshot(&state, applied, selection, after, limit)
    }

    fn snapshot(
        &self,
        state: &State,
        applied: u64,
        selection: &Selection,
        after: Option<&str>,
        limit: usize,
    ) -> Snapshot {
        let mut snapshot = Snapshot { revision: applied.max(state.revision), ..Snapshot::default() };
        let prefix = if selection.namespace.is_empty() { String::new() } else { format!("{}/", selection.namespace) };
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix.as_str()),
        };
        let mut last_key = None;
        let mut range = state.objects.range::<str, _>((from, Bound::Unbounded));
        for (key, object) in range.by_ref().take_while(|(key, _)| key.starts_with(&prefix)) {
            if !selection.matches(object) {
                continue;
            }
            if limit > 0 && snapshot.objects.len() == limit {
                // The one that did not fit counts as remaining, and all behind it.
                snapshot.continue_after = last_key;
                snapshot.remaining = 1 + range.take_while(|(key, _)| key.starts_with(&prefix)).count();
                break;
            }
            snapshot.objects.push(Arc::clone(object));
            if limit > 0 && snapshot.objects.len() == limit {
                last_key = Some(key.clone());
            }
        }
        snapshot
    }

    /// Watches the changes after `revision`.
    pub fn watch_from(self: &Arc<Self>, selection: Selection, revision: u64) -> Result<Watcher, Expired> {
        let state = self.state.read();
        if revision < state.floor {
            return Err(Expired);
        }
        let skipped = state.events.partition_point(|event| event.revision <= revision);
        let next = state.first_seq + skipped as u64;
        drop(state);
        Ok(Watcher::new(Arc::clone(self), selection, next))
    }

    /// The present objects and the changes from then on, without gap or overlap.
    pub fn watch_with_snapshot(self: &Arc<Self>, selection: Selection) -> (Snapshot, Watcher) {
        let applied = self.progress.revision();
        let state = self.state.read();
        let snapshot = self.snapshot(&state, applied, &selection, None, 0);
        let next = state.end_seq();
        drop(state);
        (snapshot, Watcher::new(Arc::clone(self), selection, next))
    }

    pub(crate) fn events_from(&self, seq: u64, into: &mut Vec<Arc<Event>>, max: usize) -> Result<u64, Expired> {
        let state = self.state.read();
        let start = seq.checked_sub(state.first_seq).ok_or(Expired)? as usize;
        into.extend(state.events.iter().skip(start).take(max).cloned());
        Ok(seq + into.len() as u64)
    }
}
