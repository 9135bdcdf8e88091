//! Checks what concurrent clients saw against one order of events.
//!
//! Each client notes, for every call, which revision had been acknowledged to anybody before the call began. A watch from the
//! beginning gives the order of events. Then, with the names of etcd's promises:
//!
//! * **Ordered, unique, reliable**: the watch has every revision once, and its records follow from one another.
//! * **Atomic**: each write that was acknowledged is one batch of the watch, whole, at its revision; and each batch is a write of
//!   somebody.
//! * **Linearizable**: a write's revision is above, a read's at or above all that was acknowledged before it began; and the read
//!   shows exactly what the watch says was there at its revision. A write that was refused is a read of what it compared.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use store::{
    Batch, Bytes, EventKind, KeyRange, RangeRequest, Record, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest,
};

use crate::{block_on, next_batch};

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many clients at once.
    pub clients: usize,
    /// How many calls each makes.
    pub calls: usize,
    /// How many keys they share.
    pub keys: usize,
    /// How many bytes the values have, about.
    pub value_bytes: usize,
}

/// What one call saw.
#[derive(Debug)]
enum Seen {
    Wrote {
        revision: Revision,
        key: Bytes,
        value: Option<Bytes>,
        previous: Option<Arc<Record>>,
    },
    /// A key at a revision.
    Read {
        revision: Revision,
        key: Bytes,
        record: Option<Arc<Record>>,
    },
    /// All keys at a revision.
    Listed {
        revision: Revision,
        records: Vec<Arc<Record>>,
    },
}

#[derive(Debug)]
struct Call {
    /// The highest revision acknowledged before it began.
    after: Revision,
    seen: Seen,
}

/// Lets clients work on an empty store, then checks what they saw.
///
/// # Panics
/// If they saw what no single order of events explains; the message has the seed.
pub fn run(store: &dyn Store, seed: u64, load: Load) {
    let acknowledged = AtomicU64::new(Revision::FIRST.0);
    let calls = Mutex::new(Vec::new());
    let running = AtomicUsize::new(load.clients);
    let start = block_on(store.current_revision()).expect("revision");
    let history = thread::scope(|scope| {
        let clients: Vec<_> = (0..load.clients)
            .map(|client| {
                let (acknowledged, calls, running) = (&acknowledged, &calls, &running);
                scope.spawn(move || {
                    let _running = Running(running);
                    let mut random = fastrand::Rng::with_seed(seed ^ (client as u64) << 32);
                    let mut own = Vec::with_capacity(load.calls);
                    for number in 0..load.calls {
                        let after = Revision(acknowledged.load(Ordering::SeqCst));
                        let value = format!("{client}.{number}.{}", "x".repeat(random.usize(..=load.value_bytes)));
                        let seen = call(store, &mut random, load.keys, value);
                        if let Seen::Wrote { revision, .. } = &seen {
                            acknowledged.fetch_max(revision.0, Ordering::SeqCst);
                        }
                        own.push(Call { after, seen });
                    }
                    calls.lock().extend(own);
                })
            })
            .collect();
        // Another watches from somewhere, and is made anew from where it got to: it must see the same.
        let resumed = scope.spawn(|| resume(store, start, seed, &running));
        for client in clients {
            client.join().expect("a client is fine");
        }
        let end = block_on(store.current_revision()).expect("revision");
        let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: Some(start.next()) });
        let history: Vec<_> = (start.0..end.0).map(|_| next_batch(&mut watch).expect("a batch")).collect();
        assert!(watch.try_recv().is_none(), "seed {seed}: the watch has more than the revisions");
        let resumed = resumed.join().expect("the resumed watch is fine");
        assert!(history.starts_with(&resumed), "seed {seed}: resumed watches saw something else");
        history
    });
    check(seed, start, &history, &calls.into_inner());
}

/// Counts itself out, however the client ends.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn call(store: &dyn Store, random: &mut fastrand::Rng, keys: usize, value: String) -> Seen {
    let key = Bytes::from(format!("/registry/{:03}", random.usize(..keys)));
    let value = Bytes::from(value);
    let txn = match random.u8(..10) {
        0..2 => {
            let response = block_on(store.get(&key, None)).expect("get");
            return Seen::Read { revision: response.revision, key, record: response.record };
        }
        2 => {
            let response = block_on(store.range(RangeRequest::prefix(b"/registry/"))).expect("range");
            return Seen::Listed { revision: response.revision, records: response.records };
        }
        3 => Txn::create(key.clone(), value.clone()),
        4 => Txn::put(key.clone(), value.clone()),
        5..8 => {
            let known = block_on(store.get(&key, None)).expect("get").record;
            Txn::update(key.clone(), value.clone(), known.map_or(Revision::ZERO, |record| record.mod_revision))
        }
        8 => Txn::delete(key.clone()),
        _ => {
            let known = block_on(store.get(&key, None)).expect("get").record;
            Txn::delete_if(key.clone(), known.map_or(Revision::ZERO, |record| record.mod_revision))
        }
    };
    match block_on(store.txn(txn)).expect("the transaction is good") {
        TxnResponse::Refused { revision, mut current } => Seen::Read { revision, key, record: current.remove(0) },
        TxnResponse::Committed { revision, mut changes } => {
            let change = changes.remove(0);
            match (&change.previous, &change.record) {
                // It deleted what was not there.
                (None, None) => Seen::Read { revision, key, record: None },
                _ => {
                    let value = change.record.map(|record| record.value.clone());
                    Seen::Wrote { revision, key, value, previous: change.previous }
                }
            }
        }
    }
}

/// Follows the store while the clients work, dropping the watch and resuming it now and then.
fn resume(store: &dyn Store, start: Revision, seed: u64, running: &AtomicUsize) -> Vec<Arc<Batch>> {
    let mut random = fastrand::Rng::with_seed(!seed);
    let mut seen: Vec<Arc<Batch>> = Vec::new();
    while running.load(Ordering::SeqCst) > 0 {
        let next = seen.last().map_or(start, |batch| batch.revision).next();
        let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: Some(next) });
        let target = next.0 + random.u64(1..100);
        while seen.last().is_none_or(|batch| batch.revision.0 < target) {
            match watch.try_recv() {
                Some(Ok(store::WatchItem::Batch(batch))) => seen.push(batch),
                Some(Ok(store::WatchItem::Progress(_))) => {}
                Some(Err(error @ StoreError::Compacted { .. })) => panic!("seed {seed}: {error}"),
                Some(Err(error)) => panic!("seed {seed}: {error}"),
                None if running.load(Ordering::SeqCst) == 0 => break,
                None => thread::yield_now(),
            }
        }
    }
    seen
}

fn check(seed: u64, start: Revision, history: &[Arc<Batch>], calls: &[Call]) {
    // For each key, what it became when. The state at any revision can be read from it.
    let mut lives: HashMap<&Bytes, BTreeMap<Revision, Option<&Arc<Record>>>> = HashMap::new();
    let mut expect = start;
    for batch in history {
        expect = expect.next();
        assert_eq!(batch.revision, expect, "seed {seed}: broke Ordered, Unique or Reliable");
        for event in &batch.events {
            let life = lives.entry(&event.record.key).or_default();
            let before = life.last_key_value().and_then(|(_, record)| *record);
            assert_eq!(
                before,
                event.previous.as_ref(),
                "seed {seed}: an event does not follow from the last of its key"
            );
            let record = (event.kind == EventKind::Put).then_some(&event.record);
            if let Some(record) = record {
                let (create, version) =
                    before.map_or((expect, 1), |before| (before.create_revision, before.version + 1));
                assert_eq!((record.create_revision, record.mod_revision, record.version), (create, expect, version));
            }
            life.insert(expect, record);
        }
    }
    let at = |key: &Bytes, revision: Revision| {
        lives.get(key).and_then(|life| life.range(..=revision).next_back()).and_then(|(_, record)| *record)
    };

    let mut written: HashMap<Revision, usize> = HashMap::new();
    for Call { after, seen } in calls {
        match seen {
            Seen::Wrote { revision, key, value, previous } => {
                assert!(
                    revision > after,
                    "seed {seed}: broke Linearizable: a write went before one that was acknowledged"
                );
                *written.entry(*revision).or_default() += 1;
                let index = usize::try_from(revision.0 - start.0 - 1).expect("it fits");
                let [event] = &history[index].events[..] else { panic!("seed {seed}: broke Atomic at {revision}") };
                let found = (event.kind == EventKind::Put).then(|| &event.record.value);
                assert_eq!(
                    (&event.record.key, found),
                    (key, value.as_ref()),
                    "seed {seed}: broke Atomic at {revision}"
                );
                assert_eq!(event.previous, *previous, "seed {seed}: a write was told of another record before it");
            }
            Seen::Read { revision, key, record } => {
                assert!(revision >= after, "seed {seed}: broke Linearizable: a stale read");
                assert_eq!(
                    at(key, *revision),
                    record.as_ref(),
                    "seed {seed}: broke Linearizable: {key:?} at {revision}"
                );
            }
            Seen::Listed { revision, records } => {
                assert!(revision >= after, "seed {seed}: broke Linearizable: a stale list");
                let mut expected: Vec<_> = lives.keys().filter_map(|key| at(key, *revision)).collect();
                expected.sort_by(|a, b| a.key.cmp(&b.key));
                assert!(expected.into_iter().eq(records), "seed {seed}: broke Linearizable: a list at {revision}");
            }
        }
    }
    assert!(written.values().all(|count| *count == 1), "seed {seed}: broke Unique: two writes at one revision");
    assert_eq!(written.len(), history.len(), "seed {seed}: an event that nobody caused");
}
