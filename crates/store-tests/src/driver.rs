//! Seeded operations on the embedded store, beside the model, while its disk fails.
//!
//! After each operation both must give the same answer. After each kill, power failure or failed sync the store is opened again,
//! and must hold what the model held at some point between the last acknowledged operation and the last one that was begun:
//! the same records, the same history, the same leases.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use store::model::Model;
use store::{
    Bytes, KeyRange, LeaseId, Op, RangeRequest, Record, Result, Revision, Store, StoreError, Txn, TxnResponse, Watch,
    WatchItem, WatchRequest,
};
use store_embedded::{EmbeddedStore, OpenError, Options};
use world::{Clock, Fault, ManualClock, SeededRandom, SimDisk, Timestamp, World};

use crate::block_on;

const DIR: &str = "/data";

/// How many different keys there are: few, so that they meet often.
const KEYS: usize = 14;

/// What a run is allowed to do.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// How many operations to do.
    pub steps: usize,
    /// One in so many operations is preceded by ordering a fault some disk operations ahead; 0 for never.
    pub fault_every: usize,
    /// One in so many operations is a kill or a power failure; 0 for never.
    pub crash_every: usize,
}

/// What a run met, so that a test can see that it met enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    /// The store was opened again.
    pub reopened: usize,
    /// An operation whose outcome was unknown turned out to be done.
    pub unknown_done: usize,
    /// An operation whose outcome was unknown turned out not to be done.
    pub unknown_undone: usize,
    /// Writes that failed and were taken back.
    pub taken_back: usize,
    /// Disk failures that stopped the store.
    pub stopped: usize,
    /// Opening failed because of a fault.
    pub open_failed: usize,
    /// Watches that were cut off.
    pub cut_off: usize,
    /// Batches that watches delivered.
    pub batches: usize,
    /// Disk operations.
    pub disk_operations: u64,
}

/// Runs everything that belongs to a seed.
///
/// # Panics
/// If the store breaks a promise; the message has the seed.
pub fn run(seed: u64, chaos: Chaos) -> Met {
    let told = Told(seed, chaos);
    let mut driver = Driver::new(seed);
    for _ in 0..chaos.steps {
        driver.step(chaos);
    }
    driver.finish();
    std::mem::forget(told);
    driver.met
}

/// Runs the operations of a seed with one fault at a disk operation. Answers whether the fault was met.
///
/// # Panics
/// If the store breaks a promise.
pub fn run_with_fault(seed: u64, steps: usize, at: u64, fault: Fault) -> bool {
    let chaos = Chaos { steps, fault_every: 0, crash_every: 0 };
    let told = ToldFault(seed, at, fault);
    let mut driver = Driver::with_fault(seed, at, fault);
    for _ in 0..steps {
        driver.step(chaos);
    }
    driver.finish();
    std::mem::forget(told);
    driver.met.disk_operations > at
}

/// Says what was running when a panic passes by.
struct Told(u64, Chaos);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("failed: store_tests::driver::run({}, {:?})", self.0, self.1);
    }
}

struct ToldFault(u64, u64, Fault);

impl Drop for ToldFault {
    fn drop(&mut self) {
        eprintln!("failed: run_with_fault(seed {}, at {}, {:?})", self.0, self.1, self.2);
    }
}

struct Driver {
    random: fastrand::Rng,
    sim: SimDisk,
    clock: Arc<ManualClock>,
    options: Options,
    store: Option<EmbeddedStore>,
    model: Model,
    /// Compactions that were asked for hold across restarts; the store's own may not.
    compacted: Revision,
    watches: Vec<Followed>,
    /// The highest number of a lease.
    lease_max: i64,
    met: Met,
}

/// A watch, and what it must deliver next.
struct Followed {
    watch: Watch,
    keys: KeyRange,
    next: Revision,
}

/// A change to the store, in a form that both sides understand.
#[derive(Clone, Debug)]
enum Change {
    Txn(Txn),
    Compact(Revision),
    Grant(Duration),
    Revoke(LeaseId),
    KeepAlive(LeaseId),
}

/// What became of it.
#[derive(Debug)]
enum Outcome {
    Txn(Result<TxnResponse>),
    Lease(Result<LeaseId>),
    Done(Result<()>),
}

impl Outcome {
    fn wrote(&self) -> bool {
        match self {
            Outcome::Txn(Ok(TxnResponse::Committed { changes, .. })) => {
                changes.iter().any(|change| change.previous.is_some() || change.record.is_some())
            }
            Outcome::Txn(_) => false,
            Outcome::Lease(result) => result.is_ok(),
            Outcome::Done(result) => result.is_ok(),
        }
    }

    fn error(&self) -> Option<&StoreError> {
        match self {
            Outcome::Txn(result) => result.as_ref().err(),
            Outcome::Lease(result) => result.as_ref().err(),
            Outcome::Done(result) => result.as_ref().err(),
        }
    }
}

impl Driver {
    fn new(seed: u64) -> Driver {
        let mut driver = Driver::unopened(seed);
        driver.open();
        driver
    }

    fn with_fault(seed: u64, at: u64, fault: Fault) -> Driver {
        let mut driver = Driver::unopened(seed);
        driver.sim.fail_at(at, fault);
        driver.open();
        driver
    }

    fn unopened(seed: u64) -> Driver {
        let mut random = fastrand::Rng::with_seed(seed);
        let options = Options {
            history_age: Duration::from_secs(300),
            history_bytes: random.usize(2_000..40_000),
            segment_bytes: random.u64(1_500..6_000),
            garbage_bytes_min: random.u64(2_000..12_000),
            background: false,
        };
        Driver {
            sim: SimDisk::new(random.u64(..)),
            random,
            clock: Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000))),
            options,
            store: None,
            model: Model::new(),
            compacted: Revision::ZERO,
            watches: Vec::new(),
            lease_max: 0,
            met: Met::default(),
        }
    }

    fn store(&self) -> &EmbeddedStore {
        self.store.as_ref().expect("the store is open")
    }

    fn now(&self) -> world::Monotonic {
        self.clock.monotonic()
    }

    fn step(&mut self, chaos: Chaos) {
        if chaos.fault_every > 0 && self.random.usize(..chaos.fault_every) == 0 {
            let fault = [Fault::Io, Fault::NoSpace, Fault::PowerOff][self.random.usize(..3)];
            self.sim.fail_at(self.sim.operation_next() + self.random.u64(..12), fault);
        }
        if chaos.crash_every > 0 && self.random.usize(..chaos.crash_every) == 0 {
            return self.crash(&[]);
        }
        match self.random.u8(..100) {
            0..6 => self.pass_time(),
            6..10 => self.read(),
            10..13 => self.follow(),
            13..16 => self.close_and_open(),
            _ => {
                // Several at once are decided and written as groups.
                let count = if self.random.u8(..4) == 0 { self.random.usize(2..6) } else { 1 };
                let changes: Vec<_> = (0..count).map(|_| self.some_change()).collect();
                self.change(&changes);
            }
        }
        self.settle();
        if self.sim.is_off() {
            return self.crash(&[]);
        }
        self.check_watches();
    }

    fn some_key(&mut self) -> Bytes {
        let number = self.random.usize(..KEYS);
        format!("/registry/{}/{number}", ["pods", "leases"][number % 2]).into()
    }

    fn some_value(&mut self) -> Bytes {
        let len = match self.random.u8(..20) {
            0 => self.random.usize(1_000..9_000),
            1 => 0,
            _ => self.random.usize(1..200),
        };
        // Runs of zeros are what an unwritten sector looks like.
        let byte = if self.random.u8(..4) == 0 { 0 } else { self.random.u8(1..) };
        Bytes::from(vec![byte; len])
    }

    fn some_lease(&mut self) -> Option<LeaseId> {
        let leases = self.model.leases();
        (!leases.is_empty()).then(|| leases[self.random.usize(..leases.len())])
    }

    fn some_change(&mut self) -> Change {
        match self.random.u8(..100) {
            0..3 => {
                let revision = self.model.revision().0;
                Change::Compact(Revision(self.random.u64(revision.saturating_sub(30)..=revision + 1)))
            }
            3..8 => Change::Grant(Duration::from_secs(self.random.u64(1..120))),
            8..10 => Change::Revoke(self.some_lease().unwrap_or(LeaseId(99_999))),
            10..13 => Change::KeepAlive(self.some_lease().unwrap_or(LeaseId(99_999))),
            _ => Change::Txn(self.some_txn()),
        }
    }

    fn some_txn(&mut self) -> Txn {
        let mut txn = Txn::default();
        for _ in 0..if self.random.u8(..8) == 0 { 3 } else { 1 } {
            let key = self.some_key();
            if txn.ops.iter().any(|op| *op.key() == key) {
                continue;
            }
            let known = self.model.get(&key, None).ok().and_then(|response| response.record);
            let known = known.map_or(Revision::ZERO, |record| record.mod_revision);
            let lease = if self.random.u8(..6) == 0 { self.some_lease() } else { None };
            let put = Op::Put { key: key.clone(), value: self.some_value(), lease };
            let op = if self.random.u8(..4) == 0 { Op::Delete { key: key.clone() } } else { put };
            if self.random.bool() {
                // Mostly what is there, so that most compares hold.
                let guess = if self.random.u8(..8) == 0 { Revision(self.random.u64(..5)) } else { known };
                txn.compares.push(store::Compare { key, mod_revision: guess });
            }
            txn.ops.push(op);
        }
        txn
    }

    /// Does changes that are submitted together, on both sides.
    fn change(&mut self, changes: &[Change]) {
        let store = self.store();
        let futures: Vec<_> = {
            let _together = store.pause();
            changes.iter().map(|change| submit(store, change)).collect()
        };
        let mut unknown: Option<usize> = None;
        for (index, future) in futures.into_iter().enumerate() {
            let outcome = block_on(future);
            match outcome.error() {
                Some(StoreError::NoSpace(_) | StoreError::WriteFailed(_)) => self.met.taken_back += 1,
                Some(StoreError::Stopped(_)) => {
                    // Only the group that met the failure may have been done; what came after was not begun. The test
                    // cannot tell where the group ends, and allows for all.
                    unknown = unknown.or(Some(index));
                }
                // What needs nothing written is answered as a read is.
                _ if unknown.is_some() => {
                    assert!(!outcome.wrote(), "a write succeeded after the store had stopped: {outcome:?}");
                }
                _ => {
                    let now = self.now();
                    match &changes[index] {
                        Change::Compact(revision) => self.check_compact(*revision, &outcome),
                        change => same(&outcome, &apply(&mut self.model, change, now), change),
                    }
                }
            }
        }
        if let Some(first) = unknown {
            if !self.sim.is_off() {
                self.met.stopped += 1;
                self.check_stopped();
            }
            self.crash(&changes[first..]);
        }
    }

    /// What is compacted already depends on what the store has compacted of its own accord.
    fn check_compact(&mut self, revision: Revision, outcome: &Outcome) {
        match outcome.error() {
            None => {
                assert!(revision <= self.model.revision());
                self.compacted = self.compacted.max(revision);
            }
            Some(StoreError::FutureRevision { .. }) => assert!(revision > self.model.revision()),
            Some(StoreError::Compacted { .. }) => assert!(revision <= self.store().stats().compacted),
            Some(error) => panic!("compacting {revision}: {error}"),
        }
        self.follow_compaction();
    }

    /// A store that has stopped still answers reads, with what was acknowledged.
    fn check_stopped(&self) {
        let store = self.store();
        let refused = block_on(store.txn(Txn::put("/x", "x")));
        assert!(matches!(refused, Err(StoreError::Stopped(_))), "{refused:?}");
        let found = block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("reads go on");
        let expect = self.model.range(&RangeRequest::new(KeyRange::all())).expect("the model reads");
        assert_eq!(found.records, expect.records);
        assert_eq!(found.revision, expect.revision);
    }

    /// The store compacts by itself; the model follows.
    fn follow_compaction(&mut self) {
        let compacted = self.store().stats().compacted;
        if compacted > self.model.compacted() {
            self.model.set_compacted(compacted);
        }
    }

    fn pass_time(&mut self) {
        let seconds = if self.random.u8(..4) == 0 { self.random.u64(..400) } else { self.random.u64(..20) };
        self.clock.advance(Duration::from_secs(seconds));
        self.settle();
        if self.has_overdue_leases() {
            // A fault has kept a lease from ending. It ends when the store is opened again.
            return self.crash(&[]);
        }
        let now = self.now();
        self.model.expire_leases(now);
        assert_eq!(self.store().stats().revision, self.model.revision());
    }

    /// Waits until the store has done what it does of its own accord.
    fn settle(&self) {
        block_on(self.store().txn(Txn::default())).expect("there is nothing to write");
    }

    fn has_overdue_leases(&mut self) -> bool {
        let known = self.model.leases().last().map_or(0, |lease| lease.0);
        self.lease_max = self.lease_max.max(known);
        // A few more may have been granted by what was begun.
        let live = (1..self.lease_max + 10).filter(|lease| block_on(self.store().lease(LeaseId(*lease))).is_ok());
        live.count() < self.store().stats().leases
    }

    fn read(&mut self) {
        self.follow_compaction();
        for _ in 0..5 {
            let latest = self.model.revision().0;
            let at =
                Some(Revision(self.random.u64(latest.saturating_sub(40)..=latest + 1))).filter(|_| self.random.bool());
            let request = RangeRequest {
                keys: KeyRange::prefix([&b"/registry/"[..], b"/registry/pods/", b"/none"][self.random.usize(..3)]),
                revision: at,
                limit: self.random.usize(..8),
                count_only: self.random.u8(..5) == 0,
            };
            let found = block_on(self.store().range(request.clone()));
            let expect = self.model.range(&request);
            match (found, expect) {
                (Ok(found), Ok(expect)) => {
                    assert_eq!(found.records, expect.records);
                    assert_eq!((found.revision, found.remaining), (expect.revision, expect.remaining));
                }
                (found, expect) => assert_eq!(kind(found.err().as_ref()), kind(expect.err().as_ref()), "{request:?}"),
            }
            let key = self.some_key();
            let found = block_on(self.store().get(&key, at));
            match (found, self.model.get(&key, at)) {
                (Ok(found), Ok(expect)) => assert_eq!((found.record, found.revision), (expect.record, expect.revision)),
                (found, expect) => assert_eq!(kind(found.err().as_ref()), kind(expect.err().as_ref())),
            }
        }
        if let Some(lease) = self.some_lease() {
            let found = block_on(self.store().lease(lease)).expect("the model has it");
            assert_eq!(found, self.model.lease(lease, self.now()).expect("it is listed"));
        }
    }

    fn follow(&mut self) {
        if self.watches.len() == 6 {
            self.watches.remove(0);
        }
        let latest = self.model.revision().0;
        let keys = KeyRange::prefix([&b"/"[..], b"/registry/pods/", b"/registry/leases/3"][self.random.usize(..3)]);
        let next = Revision(self.random.u64(latest.saturating_sub(10)..=latest + 2));
        let watch = self.store().watch(WatchRequest { keys: keys.clone(), start: Some(next) });
        self.watches.push(Followed { watch, keys, next });
    }

    /// Takes what watches have. Some are read rarely, so that they fall behind.
    fn check_watches(&mut self) {
        self.follow_compaction();
        let mut watches = std::mem::take(&mut self.watches);
        watches.retain_mut(|followed| self.random.u8(..3) > 0 || self.check_watch(followed));
        self.watches = watches;
    }

    /// Answers whether the watch goes on.
    fn check_watch(&mut self, followed: &mut Followed) -> bool {
        let later = self.model.history().rev().take_while(|batch| batch.revision >= followed.next);
        let mut expected: Vec<_> = later.filter_map(|batch| batch.filter(&followed.keys)).collect();
        while let Some(item) = followed.watch.try_recv() {
            match item {
                Ok(WatchItem::Batch(batch)) => {
                    assert_eq!(Some(&batch), expected.pop().as_ref(), "a gap or a duplicate");
                    followed.next = batch.revision.next();
                    self.met.batches += 1;
                }
                Ok(WatchItem::Progress(revision)) => panic!("nobody asked for progress: {revision}"),
                Err(StoreError::Compacted { .. }) => {
                    let missed = followed.next <= self.model.compacted();
                    assert!(missed, "cut off at {} without need", followed.next);
                    self.met.cut_off += 1;
                    return false;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(expected.pop(), None, "nothing is held back");
        true
    }

    fn close_and_open(&mut self) {
        self.watches.clear();
        self.store = None;
        if self.sim.is_off() {
            self.sim.power_on();
        }
        self.open();
        self.compare(&[]);
    }

    /// Ends the store the hard way and opens it again. `begun` are the changes whose outcome is not known.
    fn crash(&mut self, begun: &[Change]) {
        self.watches.clear();
        let kill = !self.sim.is_off() && self.random.bool();
        match kill {
            true => self.sim.kill(),
            false => self.sim.power_on(),
        }
        self.store = None;
        self.open();
        self.compare(begun);
    }

    fn open(&mut self) {
        for attempt in 0.. {
            let world = World {
                clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
                random: Arc::new(SeededRandom::new(self.random.u64(..))),
                disk: self.sim.attach(),
            };
            match EmbeddedStore::open(&world, Path::new(DIR), self.options) {
                Ok(store) => {
                    self.store = Some(store);
                    break;
                }
                Err(error) => {
                    assert!(matches!(error, OpenError::Io { .. }), "{error}");
                    assert!(attempt < 20, "it must open once the faults are gone: {error}");
                    self.met.open_failed += 1;
                    if self.sim.is_off() || self.random.bool() {
                        self.sim.power_on();
                    } else {
                        self.sim.kill();
                    }
                }
            }
        }
        self.met.reopened += 1;
    }

    /// The store must hold what the model holds, or what it would hold after some of the changes that were begun.
    fn compare(&mut self, begun: &[Change]) {
        self.settle();
        while self.has_overdue_leases() {
            // The store ends what is overdue when it is opened, and another fault was in the way.
            self.sim.clear_faults();
            self.sim.power_on();
            self.store = None;
            self.open();
            self.settle();
        }
        let stats = self.store().stats();
        assert!(stats.compacted >= self.compacted, "a compaction that was acknowledged is lost");
        let now = self.now();
        let mut why = String::new();
        let mut model = self.model.clone();
        for done in 0..=begun.len() {
            let mut candidate = model.clone();
            candidate.expire_leases(now);
            candidate.set_compacted(stats.compacted);
            match self.differs(&candidate) {
                None => {
                    self.model = candidate;
                    self.met.unknown_done += done;
                    self.met.unknown_undone += begun.len() - done;
                    return;
                }
                Some(difference) => why += &format!("\nafter {done}: {difference}"),
            }
            if let Some(change) = begun.get(done)
                && !matches!(change, Change::Compact(_))
            {
                drop(apply(&mut model, change, now));
            }
        }
        panic!("the store was opened with what it never held:{why}\nbegun: {begun:?}");
    }

    fn differs(&self, model: &Model) -> Option<String> {
        let store = self.store();
        let stats = store.stats();
        if stats.revision != model.revision() {
            return Some(format!("revision {} instead of {}", stats.revision, model.revision()));
        }
        for revision in stats.compacted.0.max(1)..=stats.revision.0 {
            let request = RangeRequest::new(KeyRange::all()).at(Revision(revision));
            let found = block_on(store.range(request.clone())).expect("it is not compacted");
            let expect = model.range(&request).expect("it is not compacted");
            if found.records != expect.records {
                let only = |these: &[Arc<Record>], those: &[Arc<Record>]| -> Vec<_> {
                    these.iter().filter(|record| !those.contains(record)).cloned().collect()
                };
                let unexpected = only(&found.records, &expect.records);
                let missing = only(&expect.records, &found.records);
                return Some(format!("records at {revision}: unexpected {unexpected:?}, missing {missing:?}"));
            }
        }
        let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: Some(stats.compacted.next()) });
        let expect = model.changes(&KeyRange::all(), stats.compacted.next()).expect("it is not compacted");
        for batch in expect {
            let found = watch.try_recv();
            if !matches!(&found, Some(Ok(WatchItem::Batch(found))) if *found == batch) {
                return Some(format!("history: {found:?} instead of {batch:?}"));
            }
        }
        let leases = model.leases();
        if stats.leases != leases.len() {
            return Some(format!("{} leases instead of {}", stats.leases, leases.len()));
        }
        for lease in leases {
            let found = block_on(store.lease(lease)).ok();
            let expect = model.lease(lease, self.now()).ok();
            if found != expect {
                return Some(format!("lease {lease}: {found:?} instead of {expect:?}"));
            }
        }
        if stats.live_bytes != live_bytes(model) {
            return Some(format!("{} live bytes instead of {}", stats.live_bytes, live_bytes(model)));
        }
        None
    }

    fn finish(&mut self) {
        self.sim.clear_faults();
        self.close_and_open();
        self.met.disk_operations = self.sim.operation_next();
    }
}

fn live_bytes(model: &Model) -> u64 {
    let all = model.range(&RangeRequest::new(KeyRange::all())).expect("the latest can be read");
    all.records.iter().map(|record| (record.key.len() + record.value.len()) as u64).sum()
}

fn submit(store: &EmbeddedStore, change: &Change) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>> {
    match change.clone() {
        Change::Txn(txn) => {
            let future = store.txn(txn);
            Box::pin(async { Outcome::Txn(future.await) })
        }
        Change::Compact(revision) => {
            let future = store.compact(revision);
            Box::pin(async { Outcome::Done(future.await) })
        }
        Change::Grant(ttl) => {
            let future = store.grant_lease(ttl);
            Box::pin(async { Outcome::Lease(future.await) })
        }
        Change::Revoke(lease) => {
            let future = store.revoke_lease(lease);
            Box::pin(async { Outcome::Done(future.await) })
        }
        Change::KeepAlive(lease) => {
            let future = store.keep_lease_alive(lease);
            Box::pin(async { Outcome::Done(future.await) })
        }
    }
}

fn apply(model: &mut Model, change: &Change, now: world::Monotonic) -> Outcome {
    match change {
        Change::Txn(txn) => Outcome::Txn(model.txn(txn)),
        Change::Compact(revision) => Outcome::Done(model.compact(*revision)),
        Change::Grant(ttl) => Outcome::Lease(Ok(model.grant_lease(*ttl, now))),
        Change::Revoke(lease) => Outcome::Done(model.revoke_lease(*lease)),
        Change::KeepAlive(lease) => Outcome::Done(model.keep_lease_alive(*lease, now)),
    }
}

/// What sort of error it is.
fn kind(error: Option<&StoreError>) -> Option<std::mem::Discriminant<StoreError>> {
    error.map(std::mem::discriminant)
}

fn same(found: &Outcome, expect: &Outcome, change: &Change) {
    let fine = match (found, expect) {
        (
            Outcome::Txn(Ok(TxnResponse::Committed { revision: found_at, changes: found })),
            Outcome::Txn(Ok(TxnResponse::Committed { revision: expect_at, changes: expect })),
        ) => {
            let pairs = |changes: &[store::Change]| -> Vec<_> {
                changes.iter().map(|change| (change.previous.clone(), change.record.clone())).collect()
            };
            found_at == expect_at && pairs(found) == pairs(expect)
        }
        (
            Outcome::Txn(Ok(TxnResponse::Refused { revision: found_at, current: found })),
            Outcome::Txn(Ok(TxnResponse::Refused { revision: expect_at, current: expect })),
        ) => found_at == expect_at && found == expect,
        (Outcome::Lease(Ok(found)), Outcome::Lease(Ok(expect))) => found == expect,
        (Outcome::Done(Ok(())), Outcome::Done(Ok(()))) => true,
        (found, expect) => kind(found.error()).is_some() && kind(found.error()) == kind(expect.error()),
    };
    assert!(fine, "{change:?}\nthe store: {found:?}\nthe model: {expect:?}");
}
