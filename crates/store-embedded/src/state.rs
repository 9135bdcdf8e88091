//! The store in memory: for each key its versions, the recent history, and the leases.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{
    Batch, Event, EventKind, GetResponse, KeyRange, LeaseId, Op, RangeRequest, RangeResponse, Record, Result, Revision,
    StoreError,
};
use world::{Clock, Monotonic, Timestamp};

/// What a record costs in memory besides its key and value: handles, counts, index and history entries.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 320;

/// How many keys are read under one hold of the lock; a longer range lets writers in between.
pub(crate) const RANGE_CHUNK_KEYS: usize = 4096;

pub(crate) struct State {
    keys: BTreeMap<Bytes, Versions>,
    /// The latest revision.
    pub(crate) revision: Revision,
    /// The oldest revision that may be read.
    pub(crate) compacted: Revision,
    /// The changes of each revision after those that were purged, without gaps.
    history: VecDeque<Past>,
    history_bytes: usize,
    /// The keys and values of the latest revision.
    pub(crate) live_bytes: u64,
    pub(crate) live_keys: usize,
    pub(crate) leases: Leases,
    /// A snapshot is being written of this revision: what it sees must stay.
    pin: Option<Revision>,
    /// The sequence number of the last frame that was applied.
    pub(crate) seq: u64,
}

struct Past {
    batch: Arc<Batch>,
    /// The frame that holds it.
    seq: u64,
    /// When it is old enough to go.
    until: Monotonic,
    bytes: usize,
}

/// What a key was, latest last. A deleted key stays as long as somebody can read what it was.
struct Versions {
    latest: Version,
    older: VecDeque<Version>,
}

#[derive(Clone)]
struct Version {
    revision: Revision,
    record: Option<Arc<Record>>,
}

/// What a frame did.
pub(crate) enum Effect {
    Changes { revision: Revision, events: Vec<Event> },
    GrantLease { id: LeaseId, lease: Lease },
    KeepLease { id: LeaseId, ends: Monotonic, ends_wall: Timestamp },
    EndLease { id: LeaseId },
    Compact { revision: Revision },
}

/// How much history is kept.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) age: Duration,
    pub(crate) bytes: usize,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            keys: BTreeMap::new(),
            revision: Revision::FIRST,
            compacted: Revision::ZERO,
            history: VecDeque::new(),
            history_bytes: 0,
            live_bytes: 0,
            live_keys: 0,
            leases: Leases::default(),
            pin: None,
            seq: 0,
        }
    }

    /// The state of a snapshot. The records must be in the order of their keys.
    pub(crate) fn restore(revision: Revision, seq: u64, records: Vec<Arc<Record>>, leases: Leases) -> State {
        // Before the first compaction the snapshot is of the empty store.
        let mut state =
            State { revision: revision.max(Revision::FIRST), compacted: revision, seq, leases, ..State::new() };
        for record in &records {
            state.live_bytes += record_bytes(record);
            state.live_keys += 1;
            state.leases.attach(record);
        }
        let version = |record: Arc<Record>| Version { revision: record.mod_revision, record: Some(record) };
        let entries = records
            .into_iter()
            .map(|record| (record.key.clone(), Versions { latest: version(record), older: VecDeque::new() }));
        state.keys = entries.collect();
        state
    }

    // === reading ===

    pub(crate) fn latest(&self, key: &[u8]) -> Option<&Arc<Record>> {
        self.keys.get(key).and_then(|versions| versions.latest.record.as_ref())
    }

    pub(crate) fn get(&self, key: &[u8], at: Option<Revision>) -> Result<GetResponse> {
        let revision = self.readable(at)?;
        let record = self.keys.get(key).and_then(|versions| versions.at(revision)).cloned();
        Ok(GetResponse { record, revision })
    }

    /// The revision to read at, if it can be read.
    pub(crate) fn readable(&self, at: Option<Revision>) -> Result<Revision> {
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

    /// Adds the records of a range at a readable revision to `response`, beginning at `start` and looking at no more than
    /// `keys_max` keys. Answers the key to go on with, if there may be more.
    pub(crate) fn range_chunk(
        &self,
        request: &RangeRequest,
        start: &Bytes,
        keys_max: usize,
        response: &mut RangeResponse,
    ) -> Option<Bytes> {
        if request.keys.end.as_ref().is_some_and(|end| end <= start) {
            return None;
        }
        let end = request.keys.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.keys.range::<[u8], _>((Bound::Included(&start[..]), end));
        for (seen, (key, versions)) in keys.enumerate() {
            if seen == keys_max {
                return Some(key.clone());
            }
            if let Some(record) = versions.at(response.revision) {
                let full = request.limit > 0 && response.records.len() == request.limit;
                if request.count_only || full {
                    response.remaining += 1;
                } else {
                    response.records.push(Arc::clone(record));
                }
            }
        }
        None
    }

    /// Whether a watch can start at this revision.
    pub(crate) fn watchable(&self, start: Revision) -> Result<()> {
        match start <= self.compacted {
            true => Err(StoreError::Compacted { requested: start, compacted: self.compacted }),
            false => Ok(()),
        }
    }

    /// The batches from a watchable revision on.
    pub(crate) fn batches_from(&self, start: Revision) -> impl Iterator<Item = &Arc<Batch>> {
        let first = self.history.front().map_or(start, |past| past.batch.revision);
        let skip = usize::try_from(start.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
        self.history.range(skip.min(self.history.len())..).map(|past| &past.batch)
    }

    pub(crate) fn history_len(&self) -> usize {
        self.history.len()
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    // === changing ===

    /// Makes visible what has become durable. Answers the batches of changes.
    pub(crate) fn apply(&mut self, effects: Vec<Effect>, seq: u64, until: Monotonic) -> Vec<Arc<Batch>> {
        self.seq = seq;
        let mut batches = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Changes { revision, events } => batches.push(self.change(revision, events, seq, until)),
                Effect::GrantLease { id, lease } => self.leases.grant(id, lease),
                Effect::KeepLease { id, ends, ends_wall } => self.leases.keep(id, ends, ends_wall),
                Effect::EndLease { id } => self.leases.end(id),
                Effect::Compact { revision } => self.compacted = self.compacted.max(revision),
            }
        }
        batches
    }

    /// Applies changes that are compacted already: without history. `None` if a key is deleted that is not there.
    pub(crate) fn apply_compacted(&mut self, revision: Revision, ops: Vec<Op>) -> Option<()> {
        debug_assert!(self.history.is_empty());
        assert_eq!(revision, self.revision.next(), "revisions have no gaps");
        self.revision = revision;
        self.compacted = revision;
        for op in ops {
            let key = op.key().clone();
            let event = match self.keys.entry(key) {
                Entry::Vacant(entry) => {
                    let event = event(&op, revision, None)?;
                    let latest = Version { revision, record: Some(Arc::clone(&event.record)) };
                    entry.insert(Versions { latest, older: VecDeque::new() });
                    event
                }
                Entry::Occupied(mut entry) => {
                    let event = event(&op, revision, entry.get().latest.record.clone())?;
                    match event.kind {
                        EventKind::Put => {
                            let record = Some(Arc::clone(&event.record));
                            entry.get_mut().latest = Version { revision, record };
                        }
                        EventKind::Delete => drop(entry.remove()),
                    }
                    event
                }
            };
            self.count(&event);
        }
        Some(())
    }

    /// Keeps the books of live keys and leases.
    fn count(&mut self, event: &Event) {
        if let Some(previous) = &event.previous {
            self.leases.detach(previous);
            self.live_bytes -= record_bytes(previous);
            self.live_keys -= 1;
        }
        if event.kind == EventKind::Put {
            self.leases.attach(&event.record);
            self.live_bytes += record_bytes(&event.record);
            self.live_keys += 1;
        }
    }

    fn change(&mut self, revision: Revision, events: Vec<Event>, seq: u64, until: Monotonic) -> Arc<Batch> {
        assert_eq!(revision, self.revision.next(), "revisions have no gaps");
        self.revision = revision;
        let mut bytes = 0;
        for event in &events {
            self.count(event);
            let record = (event.kind == EventKind::Put).then(|| Arc::clone(&event.record));
            bytes += event.record.key.len() + event.record.value.len() + RECORD_OVERHEAD_BYTES;
            let version = Version { revision, record };
            match self.keys.get_mut(&event.record.key) {
                Some(versions) => {
                    let older = std::mem::replace(&mut versions.latest, version);
                    versions.older.push_back(older);
                }
                None => {
                    self.keys.insert(event.record.key.clone(), Versions { latest: version, older: VecDeque::new() });
                }
            }
        }
        let batch = Arc::new(Batch { revision, events });
        self.history_bytes += bytes;
        self.history.push_back(Past { batch: Arc::clone(&batch), seq, until, bytes });
        batch
    }

    /// The revision of the oldest history, if it is compacted, too old or too much.
    pub(crate) fn trimmable(&self, budget: Budget, now: Monotonic) -> Option<Revision> {
        let past = self.history.front()?;
        let revision = past.batch.revision;
        let goes = revision <= self.compacted || past.until <= now || self.history_bytes > budget.bytes;
        (goes && self.pin.is_none_or(|pin| revision <= pin)).then_some(revision)
    }

    /// Lets go of history that is compacted, too old or too much.
    pub(crate) fn trim(&mut self, budget: Budget, now: Monotonic) {
        while let Some(revision) = self.trimmable(budget, now) {
            self.compacted = self.compacted.max(revision);
            let Some(past) = self.history.pop_front() else { break };
            self.history_bytes -= past.bytes;
            for event in &past.batch.events {
                self.purge(&event.record.key, revision);
            }
        }
    }

    /// Drops the versions of a key that only revisions before `revision` can see.
    fn purge(&mut self, key: &Bytes, revision: Revision) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        if versions.latest.revision <= revision {
            match versions.latest.record {
                Some(_) => versions.older = VecDeque::new(),
                None => drop(self.keys.remove(key)),
            }
            return;
        }
        let seen = versions.older.partition_point(|version| version.revision <= revision);
        if seen > 0 {
            let keep = usize::from(versions.older[seen - 1].record.is_some());
            versions.older.drain(..seen - keep);
        }
    }

    /// When the oldest history is due to go.
    pub(crate) fn history_until(&self) -> Option<Monotonic> {
        self.history.front().map(|past| past.until)
    }

    // === snapshots ===

    /// The first frame that recovery needs besides a snapshot of the oldest readable revision.
    pub(crate) fn seq_needed(&self) -> u64 {
        // Revisions have no gaps: the first one needed stands at a known place.
        let compacted = self.compacted;
        let first = self.history.front().map_or(Revision::ZERO, |past| past.batch.revision);
        let skip = usize::try_from(compacted.next().0.saturating_sub(first.0)).unwrap_or(usize::MAX);
        self.history.get(skip).map_or(self.seq + 1, |past| past.seq)
    }

    /// Keeps what the oldest readable revision sees until [`State::unpin`].
    pub(crate) fn pin(&mut self) -> Revision {
        self.pin = Some(self.compacted);
        self.compacted
    }

    pub(crate) fn unpin(&mut self) {
        self.pin = None;
    }

    /// The records of a pinned revision from a key on, at most so many, and the key to go on with.
    pub(crate) fn pinned_chunk(
        &self,
        pinned: Revision,
        start: &Bytes,
        keys_max: usize,
    ) -> (Vec<Arc<Record>>, Option<Bytes>) {
        let mut response = RangeResponse { records: Vec::new(), revision: pinned, remaining: 0 };
        let next = self.range_chunk(&RangeRequest::new(KeyRange::all()), start, keys_max, &mut response);
        (response.records, next)
    }
}

pub(crate) fn record_bytes(record: &Record) -> u64 {
    (record.key.len() + record.value.len()) as u64
}

impl Versions {
    fn at(&self, revision: Revision) -> Option<&Arc<Record>> {
        if self.latest.revision <= revision {
            return self.latest.record.as_ref();
        }
        let seen = self.older.partition_point(|version| version.revision <= revision);
        seen.checked_sub(1).and_then(|last| self.older[last].record.as_ref())
    }
}

/// The event that an operation causes at a revision: none if it deletes what does not exist.
pub(crate) fn event(op: &Op, revision: Revision, previous: Option<Arc<Record>>) -> Option<Event> {
    // The key in the index is shared by all records of the key.
    let key = previous.as_ref().map_or(op.key(), |previous| &previous.key).clone();
    match op {
        Op::Put { value, lease, .. } => {
            let record = Record {
                key,
                value: value.clone(),
                create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
                mod_revision: revision,
                version: previous.as_ref().map_or(0, |previous| previous.version) + 1,
                lease: *lease,
            };
            Some(Event { kind: EventKind::Put, record: Arc::new(record), previous })
        }
        Op::Delete { .. } => previous.map(|previous| Event {
            kind: EventKind::Delete,
            record: Arc::new(Record::deleted(key, revision)),
            previous: Some(previous),
        }),
    }
}

/// All leases, and which end next.
#[derive(Default)]
pub(crate) struct Leases {
    by_id: HashMap<LeaseId, Lease>,
    /// In the order of their ends. Those that ended while the store was closed are all due at once, and have an order all the same.
    ends: BTreeSet<(Monotonic, Timestamp, LeaseId)>,
    /// The highest number that was ever given.
    pub(crate) last_id: i64,
}

#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) ttl: Duration,
    pub(crate) ends: Monotonic,
    /// The same on the wall clock, for after a restart.
    pub(crate) ends_wall: Timestamp,
    pub(crate) keys: BTreeSet<Bytes>,
}

impl Lease {
    pub(crate) fn new(ttl: Duration, clock: &dyn Clock) -> Lease {
        let ends = clock.monotonic().saturating_add(ttl);
        Lease { ttl, ends, ends_wall: clock.now().saturating_add(ttl), keys: BTreeSet::new() }
    }

    /// A lease found on disk. A wall clock that was set back does not make it longer than it was granted.
    pub(crate) fn found(ttl: Duration, ends_wall: Timestamp, clock: &dyn Clock) -> Lease {
        Lease { ttl, ends: found_end(ttl, ends_wall, clock), ends_wall, keys: BTreeSet::new() }
    }
}

impl Lease {
    fn end_key(&self, id: LeaseId) -> (Monotonic, Timestamp, LeaseId) {
        (self.ends, self.ends_wall, id)
    }
}

pub(crate) fn found_end(ttl: Duration, ends_wall: Timestamp, clock: &dyn Clock) -> Monotonic {
    clock.monotonic().saturating_add(ends_wall.saturating_since(clock.now()).min(ttl))
}

impl Leases {
    pub(crate) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The end that comes first.
    pub(crate) fn next_end(&self) -> Option<Monotonic> {
        self.ends.first().map(|(ends, ..)| *ends)
    }

    /// A lease whose time has come.
    pub(crate) fn due(&self, now: Monotonic) -> Option<LeaseId> {
        self.ends.first().filter(|(ends, ..)| *ends <= now).map(|(.., id)| *id)
    }

    pub(crate) fn grant(&mut self, id: LeaseId, lease: Lease) {
        // Recovery may meet the grant of a lease that its snapshot knows already: the keys stay.
        let keys = self.by_id.remove(&id).map(|known| {
            self.ends.remove(&known.end_key(id));
            known.keys
        });
        self.last_id = self.last_id.max(id.0);
        self.ends.insert(lease.end_key(id));
        self.by_id.insert(id, Lease { keys: keys.unwrap_or_default(), ..lease });
    }

    fn keep(&mut self, id: LeaseId, ends: Monotonic, ends_wall: Timestamp) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            self.ends.remove(&lease.end_key(id));
            (lease.ends, lease.ends_wall) = (ends, ends_wall);
            self.ends.insert(lease.end_key(id));
        }
    }

    fn end(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.remove(&id) {
            self.ends.remove(&lease.end_key(id));
        }
    }

    // A lease may be unknown here during recovery: it had ended by the time the snapshot was written, and what ended its
    // keys is still to come.

    fn attach(&mut self, record: &Record) {
        if let Some(lease) = record.lease.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.insert(record.key.clone());
        }
    }

    fn detach(&mut self, record: &Record) {
        if let Some(lease) = record.lease.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.remove(&record.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic::START;

    /// Puts (or with an empty value deletes) keys at the next revision.
    fn change(state: &mut State, pairs: &[(&'static str, &'static str)]) {
        let revision = state.revision.next();
        let events = pairs.iter().filter_map(|(key, value)| {
            let key = Bytes::from_static(key.as_bytes());
            let previous = state.latest(&key).cloned();
            let op = match *value {
                "" => Op::Delete { key },
                value => Op::Put { key, value: Bytes::from_static(value.as_bytes()), lease: None },
            };
            event(&op, revision, previous)
        });
        let events = events.collect();
        let seq = state.seq + 1;
        let later = NOW.saturating_add(Duration::from_secs(1));
        state.apply(vec![Effect::Changes { revision, events }], seq, later);
    }

    fn pinned(state: &State, revision: Revision) -> String {
        let mut text = Vec::new();
        let mut start = Some(Bytes::new());
        while let Some(from) = start {
            let (records, next) = state.pinned_chunk(revision, &from, 1);
            text.extend(records.iter().map(|record| {
                format!("{}={}", String::from_utf8_lossy(&record.key), String::from_utf8_lossy(&record.value))
            }));
            start = next;
        }
        text.join(" ")
    }

    #[test]
    fn what_a_snapshot_sees_stays_until_it_is_collected() {
        let nothing_kept = Budget { age: Duration::from_secs(1), bytes: 0 };
        let mut state = State::new();
        change(&mut state, &[("/a", "1"), ("/b", "1"), ("/gone", "1")]);
        change(&mut state, &[("/a", "2"), ("/gone", "")]);
        state.trim(nothing_kept, NOW);
        assert_eq!((state.compacted, state.history_len()), (Revision(3), 0));
        assert_eq!(state.seq_needed(), 3);

        let revision = state.pin();
        assert_eq!(revision, Revision(3));
        change(&mut state, &[("/a", "3"), ("/b", ""), ("/new", "1")]);
        change(&mut state, &[("/a", ""), ("/b", "2")]);
        state.trim(nothing_kept, NOW);
        assert_eq!(pinned(&state, revision), "/a=2 /b=1");
        assert_eq!(state.history_len(), 2, "history waits");
        assert_eq!(state.seq_needed(), 3);

        state.unpin();
        state.trim(nothing_kept, NOW);
        assert_eq!((state.compacted, state.history_len()), (Revision(5), 0));
        assert_eq!(state.seq_needed(), 5);
        assert_eq!(pinned(&state, Revision(5)), "/b=2 /new=1");
        assert!(!state.keys.contains_key(&b"/a"[..]), "nothing is left of a deleted key");
        assert!(state.keys.values().all(|versions| versions.older.is_empty()));
        assert_eq!((state.live_keys, state.live_bytes), (2, 8));
    }
}
