//! The reference: a store in memory that keeps everything in the plainest form, so that one sees that it is right.
//!
//! [`Model`] is the logic with no waiting and no time of its own; tests compare real back ends with it. [`ModelStore`] puts
//! it behind the [`Store`] trait, for tests of what is built on a store. Nothing is durable, and nothing is ever freed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use world::{Clock, Monotonic};

use crate::{
    Batch, BoxFuture, Change, Event, EventKind, GetResponse, KeyRange, LeaseId, LeaseStatus, Op, RangeRequest,
    RangeResponse, Record, Result, Revision, Store, StoreError, Txn, TxnResponse, Watch, WatchItem, WatchRequest,
    WatchSource,
};

/// The whole history of a store.
#[derive(Clone, Debug)]
pub struct Model {
    revision: Revision,
    /// Nothing is thrown away: what is before this revision is only refused.
    compacted: Revision,
    histories: BTreeMap<Bytes, History>,
    batches: BTreeMap<Revision, Arc<Batch>>,
    leases: BTreeMap<LeaseId, ModelLease>,
    lease_next: i64,
}

/// What a key became at which revision: `None` where it was deleted. Oldest first.
type History = Vec<(Revision, Option<Arc<Record>>)>;

#[derive(Clone, Debug)]
struct ModelLease {
    ttl: Duration,
    ends: Monotonic,
    keys: BTreeSet<Bytes>,
}

impl Default for Model {
    fn default() -> Model {
        Model::new()
    }
}

impl Model {
    /// An empty store.
    pub fn new() -> Model {
        Model {
            revision: Revision::FIRST,
            compacted: Revision::ZERO,
            histories: BTreeMap::new(),
            batches: BTreeMap::new(),
            leases: BTreeMap::new(),
            lease_next: 1,
        }
    }

    /// The latest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The changes of a range from a revision on.
    pub fn changes(&self, keys: &KeyRange, start: Revision) -> Result<Vec<Arc<Batch>>> {
        if start <= self.compacted {
            return Err(StoreError::Compacted { requested: start, compacted: self.compacted });
        }
        Ok(self.batches.range(start..).filter_map(|(_, batch)| batch.filter(keys)).collect())
    }

    /// The changes of every revision there ever was.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Arc<Batch>> {
        self.batches.values()
    }

    /// See [`Store::get`].
    pub fn get(&self, key: &[u8], at: Option<Revision>) -> Result<GetResponse> {
        let revision = self.readable(at)?;
        Ok(GetResponse { record: self.histories.get(key).and_then(|history| as_of(history, revision)), revision })
    }

    /// See [`Store::range`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let revision = self.readable(request.revision)?;
        let inside = self.histories.iter().filter(|(key, _)| request.keys.contains(key));
        let mut records: Vec<_> = inside.filter_map(|(_, history)| as_of(history, revision)).collect();
        let count = records.len();
        match request {
            RangeRequest { count_only: true, .. } => records.clear(),
            RangeRequest { limit: 0, .. } => {}
            RangeRequest { limit, .. } => records.truncate(*limit),
        }
        Ok(RangeResponse { remaining: count - records.len(), records, revision })
    }

    /// See [`Store::txn`].
    pub fn txn(&mut self, txn: &Txn) -> Result<TxnResponse> {
        txn.validate()?;
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && !self.leases.contains_key(lease)
            {
                return Err(StoreError::LeaseNotFound(*lease));
            }
        }
        let current: Vec<_> = txn.compares.iter().map(|compare| self.latest(&compare.key)).collect();
        let holds = |(compare, record): (&crate::Compare, &Option<Arc<Record>>)| {
            compare.mod_revision == record.as_ref().map_or(Revision::ZERO, |record| record.mod_revision)
        };
        if !txn.compares.iter().zip(&current).all(holds) {
            return Ok(TxnResponse::Refused { revision: self.revision, current });
        }
        let changes = self.change(&txn.ops);
        Ok(TxnResponse::Committed { revision: self.revision, changes })
    }

    /// See [`Store::compact`].
    pub fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted { requested: revision, compacted: self.compacted });
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision { requested: revision, current: self.revision });
        }
        self.compacted = revision;
        Ok(())
    }

    /// Takes over what another store has compacted of its own accord, or has found after a restart not to be compacted.
    pub fn set_compacted(&mut self, revision: Revision) {
        self.compacted = revision.min(self.revision);
    }

    /// See [`Store::grant_lease`].
    pub fn grant_lease(&mut self, ttl: Duration, now: Monotonic) -> LeaseId {
        let lease = LeaseId(self.lease_next);
        self.lease_next += 1;
        self.restore_lease(lease, ttl, now);
        lease
    }

    /// Grants a lease whose name another store chose.
    pub fn restore_lease(&mut self, lease: LeaseId, ttl: Duration, now: Monotonic) {
        self.leases.insert(lease, ModelLease { ttl, ends: now.saturating_add(ttl), keys: BTreeSet::new() });
    }

    /// See [`Store::revoke_lease`].
    pub fn revoke_lease(&mut self, lease: LeaseId) -> Result<()> {
        let Some(ended) = self.leases.get(&lease) else { return Err(StoreError::LeaseNotFound(lease)) };
        let ops: Vec<_> = ended.keys.iter().map(|key| Op::Delete { key: key.clone() }).collect();
        self.change(&ops);
        self.leases.remove(&lease);
        Ok(())
    }

    /// See [`Store::keep_lease_alive`].
    pub fn keep_lease_alive(&mut self, lease: LeaseId, now: Monotonic) -> Result<()> {
        let kept = self.leases.get_mut(&lease).ok_or(StoreError::LeaseNotFound(lease))?;
        kept.ends = now.saturating_add(kept.ttl);
        Ok(())
    }

    /// See [`Store::lease`].
    pub fn lease(&self, lease: LeaseId, now: Monotonic) -> Result<LeaseStatus> {
        let found = self.leases.get(&lease).ok_or(StoreError::LeaseNotFound(lease))?;
        let remaining = found.ends.saturating_since(now);
        Ok(LeaseStatus { ttl: found.ttl, remaining, keys: found.keys.iter().cloned().collect() })
    }

    /// The leases there are.
    pub fn leases(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// Ends the leases whose time has come, the earliest first; answers whether there were any.
    pub fn expire_leases(&mut self, now: Monotonic) -> bool {
        let mut ended: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, lease)| (lease.ends, *id)).collect();
        ended.sort_unstable();
        for (_, lease) in &ended {
            let revoked = self.revoke_lease(*lease);
            debug_assert!(revoked.is_ok(), "the lease was just found");
        }
        !ended.is_empty()
    }

    fn readable(&self, at: Option<Revision>) -> Result<Revision> {
        match at {
            None => Ok(self.revision),
            Some(requested) if requested < self.compacted => {
                Err(StoreError::Compacted { requested, compacted: self.compacted })
            }
            Some(requested) if requested > self.revision => {
                Err(StoreError::FutureRevision { requested, current: self.revision })
            }
            Some(requested) => Ok(requested),
        }
    }

    fn latest(&self, key: &[u8]) -> Option<Arc<Record>> {
        self.histories.get(key).and_then(|history| as_of(history, self.revision))
    }

    /// Does the operations at the next revision, if any of them changes something.
    fn change(&mut self, ops: &[Op]) -> Vec<Change> {
        let revision = self.revision.next();
        let mut changes = Vec::new();
        let mut events = Vec::new();
        for op in ops {
            let previous = self.latest(op.key());
            if let Some(lease) = previous.as_ref().and_then(|record| record.lease) {
                self.leases.get_mut(&lease).expect("a lease outlives its keys").keys.remove(op.key());
            }
            let record = match op {
                Op::Put { key, value, lease } => {
                    if let Some(lease) = lease {
                        self.leases.get_mut(lease).expect("checked by the caller").keys.insert(key.clone());
                    }
                    Some(Arc::new(Record {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: previous.as_ref().map_or(revision, |record| record.create_revision),
                        mod_revision: revision,
                        version: previous.as_ref().map_or(0, |record| record.version) + 1,
                        lease: *lease,
                    }))
                }
                Op::Delete { .. } => None,
            };
            if record.is_some() || previous.is_some() {
                self.histories.entry(op.key().clone()).or_default().push((revision, record.clone()));
                events.push(event(op.key(), revision, record.clone(), previous.clone()));
            }
            changes.push(Change { previous, record });
        }
        if !events.is_empty() {
            self.revision = revision;
            self.batches.insert(revision, Arc::new(Batch { revision, events }));
        }
        changes
    }
}

fn as_of(history: &[(Revision, Option<Arc<Record>>)], revision: Revision) -> Option<Arc<Record>> {
    history.iter().rev().find(|(at, _)| *at <= revision).and_then(|(_, record)| record.clone())
}

fn event(key: &Bytes, revision: Revision, record: Option<Arc<Record>>, previous: Option<Arc<Record>>) -> Event {
    match record {
        Some(record) => Event { kind: EventKind::Put, record, previous },
        None => Event { kind: EventKind::Delete, record: Arc::new(Record::deleted(key.clone(), revision)), previous },
    }
}

impl Record {
    /// What stands for a key that was deleted at a revision, in events.
    pub fn deleted(key: Bytes, revision: Revision) -> Record {
        let value = Bytes::new();
        Record { key, value, create_revision: Revision::ZERO, mod_revision: revision, version: 0, lease: None }
    }
}

/// The [`Model`] as a [`Store`]. Leases end when the clock is moved by hand, or at the next operation.
#[derive(Clone, Debug)]
pub struct ModelStore {
    clock: Arc<dyn Clock>,
    shared: Arc<Mutex<Shared>>,
    /// What a clock moved by hand calls; it forgets it when the last handle is gone.
    _on_advance: OnAdvance,
}

#[derive(Debug)]
struct Shared {
    model: Model,
    waiting: Vec<Waker>,
    /// Counts the calls of `request_progress`.
    progress_requests: u64,
}

#[derive(Clone)]
struct OnAdvance(#[expect(dead_code, reason = "held, never called from here")] Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for OnAdvance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnAdvance")
    }
}

impl ModelStore {
    /// An empty store whose leases go by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> ModelStore {
        let shared = Arc::new(Mutex::new(Shared { model: Model::new(), waiting: Vec::new(), progress_requests: 0 }));
        let on_advance: Arc<dyn Fn() + Send + Sync> = {
            let (clock, shared) = (Arc::downgrade(&clock), Arc::clone(&shared));
            Arc::new(move || {
                if let Some(clock) = clock.upgrade() {
                    change(&shared, |model| model.expire_leases(clock.monotonic()));
                }
            })
        };
        clock.on_advance(Arc::downgrade(&on_advance));
        ModelStore { clock, shared, _on_advance: OnAdvance(on_advance) }
    }

    /// Ends what leases are due, then does the operation, then wakes the watches.
    fn now<T: Send + 'static>(&self, operation: impl FnOnce(&mut Model, Monotonic) -> T) -> BoxFuture<T> {
        let now = self.clock.monotonic();
        let answer = change(&self.shared, |model| {
            model.expire_leases(now);
            operation(model, now)
        });
        Box::pin(std::future::ready(answer))
    }
}

fn change<T>(shared: &Mutex<Shared>, operation: impl FnOnce(&mut Model) -> T) -> T {
    let (answer, waiting) = {
        let mut shared = shared.lock();
        (operation(&mut shared.model), std::mem::take(&mut shared.waiting))
    };
    for waker in waiting {
        waker.wake();
    }
    answer
}

impl Store for ModelStore {
    fn current_revision(&self) -> BoxFuture<Result<Revision>> {
        self.now(|model, _| Ok(model.revision()))
    }

    fn get(&self, key: &[u8], at: Option<Revision>) -> BoxFuture<Result<GetResponse>> {
        self.now(|model, _| model.get(key, at))
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<Result<RangeResponse>> {
        self.now(|model, _| model.range(&request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<Result<TxnResponse>> {
        self.now(|model, _| model.txn(&txn))
    }

    fn watch(&self, request: WatchRequest) -> Watch {
        let mut shared = self.shared.lock();
        shared.model.expire_leases(self.clock.monotonic());
        let next = request.start.unwrap_or(shared.model.revision().next());
        Watch::new(Box::new(ModelWatch {
            shared: Arc::clone(&self.shared),
            keys: request.keys,
            next,
            missed: next <= shared.model.compacted(),
            progress_answered: shared.progress_requests,
        }))
    }

    fn request_progress(&self) {
        self.shared.lock().progress_requests += 1;
        change(&self.shared, |_| ());
    }

    fn compact(&self, revision: Revision) -> BoxFuture<Result<()>> {
        self.now(|model, _| model.compact(revision))
    }

    fn grant_lease(&self, ttl: Duration) -> BoxFuture<Result<LeaseId>> {
        self.now(|model, now| Ok(model.grant_lease(ttl, now)))
    }

    fn revoke_lease(&self, lease: LeaseId) -> BoxFuture<Result<()>> {
        self.now(|model, _| model.revoke_lease(lease))
    }

    fn keep_lease_alive(&self, lease: LeaseId) -> BoxFuture<Result<()>> {
        self.now(|model, now| model.keep_lease_alive(lease, now))
    }

    fn lease(&self, lease: LeaseId) -> BoxFuture<Result<LeaseStatus>> {
        self.now(|model, now| model.lease(lease, now))
    }
}

struct ModelWatch {
    shared: Arc<Mutex<Shared>>,
    keys: KeyRange,
    /// The revision to look for next.
    next: Revision,
    /// Whether the start was compacted when the watch was made.
    missed: bool,
    progress_answered: u64,
}

impl WatchSource for ModelWatch {
    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchItem>> {
        let mut shared = self.shared.lock();
        let model = &shared.model;
        let batch = model.batches.range(self.next..).find_map(|(_, batch)| batch.filter(&self.keys));
        // A watch that slept through compactions is cut off only if one of its own changes went with them.
        if self.missed || batch.as_ref().is_some_and(|batch| batch.revision <= model.compacted()) {
            return Poll::Ready(Err(StoreError::Compacted { requested: self.next, compacted: model.compacted() }));
        }
        if let Some(batch) = batch {
            self.next = batch.revision.next();
            return Poll::Ready(Ok(WatchItem::Batch(batch)));
        }
        self.next = self.next.max(model.revision().next());
        if self.progress_answered < shared.progress_requests {
            self.progress_answered = shared.progress_requests;
            return Poll::Ready(Ok(WatchItem::Progress(model.revision())));
        }
        shared.waiting.push(context.waker().clone());
        Poll::Pending
    }
}
