//! What is particular to the embedded store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use store::{
    Batch, Bytes, KeyRange, RangeRequest, Revision, Store, StoreError, Txn, TxnResponse, WatchItem, WatchRequest,
    WatchSink,
};
use store_embedded::{EmbeddedStore, OpenError, Options};
use store_tests::{block_on, next_batch, repeats};
use world::{Clock, Fault, ManualClock, SimDisk, SimOpKind, Timestamp, World};

const DIR: &str = "/data";

struct Fixture {
    sim: SimDisk,
    clock: Arc<ManualClock>,
    options: Options,
}

impl Fixture {
    fn new() -> Fixture {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)));
        Fixture { sim: SimDisk::new(1), clock, options: Options { background: false, ..Options::default() } }
    }

    fn open(&self) -> EmbeddedStore {
        self.try_open().expect("open")
    }

    fn try_open(&self) -> Result<EmbeddedStore, OpenError> {
        let world =
            World { clock: Arc::clone(&self.clock) as Arc<dyn Clock>, disk: self.sim.attach(), ..World::system() };
        EmbeddedStore::open(&world, Path::new(DIR), self.options)
    }
}

fn put(store: &EmbeddedStore, key: &str, value: &str) -> Result<TxnResponse, StoreError> {
    block_on(store.txn(Txn::put(key.to_owned(), value.to_owned())))
}

fn keys(store: &EmbeddedStore) -> Vec<String> {
    let all = block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("range");
    all.records.iter().map(|record| String::from_utf8_lossy(&record.key).into_owned()).collect()
}

#[test]
fn reads_and_watches_share_the_bytes_that_were_put() {
    let store = Fixture::new().open();
    let value = Bytes::from(vec![b'x'; 5000]);
    let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: None });
    block_on(store.txn(Txn::put("/a", value.clone()))).expect("put");
    let record = block_on(store.get(b"/a", None)).expect("get").record.expect("it exists");
    let batch = next_batch(&mut watch).expect("a batch");
    assert_eq!(record.value.as_ptr(), value.as_ptr());
    assert!(Arc::ptr_eq(&batch.events[0].record, &record));
}

#[test]
fn history_goes_by_age_and_by_size() {
    let mut fixture = Fixture::new();
    fixture.options.history_bytes = 20_000;
    let store = fixture.open();
    let compacted = |store: &EmbeddedStore| {
        // What the store does of its own accord comes before this.
        block_on(store.txn(Txn::default())).expect("nothing to write");
        store.stats().compacted.0
    };
    for _ in 0..10 {
        put(&store, "/a", "1").expect("put");
    }
    assert_eq!(compacted(&store), 0, "young and small");
    fixture.clock.advance(Duration::from_secs(200));
    put(&store, "/a", "2").expect("put");
    fixture.clock.advance(Duration::from_secs(99));
    assert_eq!(compacted(&store), 0, "not yet");
    // Nobody asks for anything now: it goes in portions.
    fixture.clock.advance(Duration::from_secs(16));
    while store.stats().compacted.0 < 11 {
        thread::yield_now();
    }
    assert_eq!(compacted(&store), 11, "the first ten are over five minutes old");
    assert!(matches!(block_on(store.get(b"/a", Some(Revision(10)))), Err(StoreError::Compacted { .. })));
    assert!(block_on(store.get(b"/a", Some(Revision(11)))).is_ok());

    put(&store, "/a", &"x".repeat(19_000)).expect("put");
    assert_eq!(compacted(&store), 11, "just fits with the one before");
    put(&store, "/b", &"x".repeat(19_000)).expect("put");
    assert_eq!(compacted(&store), 13, "only one fits");
    assert_eq!(store.stats().history_len, 1);
    assert_eq!(keys(&store), ["/a", "/b"]);
}

#[test]
fn a_slow_watch_is_cut_off_and_others_are_not() {
    let mut fixture = Fixture::new();
    fixture.options.history_bytes = 10_000;
    let store = fixture.open();
    let watch = |prefix: &[u8]| store.watch(WatchRequest { keys: KeyRange::prefix(prefix), start: None });
    let (mut slow, mut fast, mut idle) = (watch(b"/a"), watch(b"/a"), watch(b"/none"));
    assert!(idle.try_recv().is_none());
    for number in 0..100 {
        put(&store, "/a", &number.to_string()).expect("put");
        assert_eq!(next_batch(&mut fast).expect("a batch").events[0].record.value, number.to_string());
    }
    assert!(store.stats().history_len < 40);
    assert!(matches!(block_on(slow.recv()), Err(StoreError::Compacted { .. })));
    assert!(matches!(block_on(slow.recv()), Err(StoreError::Closed)));
    assert!(idle.try_recv().is_none(), "it has missed nothing");
    put(&store, "/none", "x").expect("put");
    assert_eq!(next_batch(&mut idle).expect("a batch").revision, Revision(102));
}

struct Last(Arc<AtomicU64>);

impl WatchSink for Last {
    fn batch(&mut self, batch: &Arc<Batch>) {
        let before = self.0.swap(batch.revision.0, Ordering::SeqCst);
        assert_eq!(before + 1, batch.revision.0);
    }

    fn end(&mut self, error: StoreError) {
        assert!(matches!(error, StoreError::Closed));
        self.0.store(u64::MAX, Ordering::SeqCst);
    }
}

#[test]
fn a_subscription_has_every_write_before_its_writer_knows() {
    let store = Fixture::new().open();
    let last = Arc::new(AtomicU64::new(1));
    let _subscription =
        store.subscribe(WatchRequest { keys: KeyRange::all(), start: None }, Box::new(Last(Arc::clone(&last))));
    thread::scope(|scope| {
        for thread in 0..4 {
            let (store, last) = (&store, &last);
            scope.spawn(move || {
                for number in 0..100 {
                    let revision = put(store, &format!("/{thread}"), &number.to_string()).expect("put").revision();
                    assert!(last.load(Ordering::SeqCst) >= revision.0);
                }
            });
        }
    });
    assert_eq!(last.load(Ordering::SeqCst), 401);
    drop(store);
    assert_eq!(last.load(Ordering::SeqCst), u64::MAX, "it is told of the end");
}

struct Panics;

impl WatchSink for Panics {
    fn batch(&mut self, _batch: &Arc<Batch>) {
        panic!("a sink with a bug (expected by this test)");
    }

    fn end(&mut self, _error: StoreError) {}
}

#[test]
fn a_sink_that_panics_harms_nobody_else() {
    let store = Fixture::new().open();
    let request = || WatchRequest { keys: KeyRange::all(), start: None };
    let _broken = store.subscribe(request(), Box::new(Panics));
    let last = Arc::new(AtomicU64::new(1));
    let _fine = store.subscribe(request(), Box::new(Last(Arc::clone(&last))));
    put(&store, "/a", "1").expect("put");
    put(&store, "/a", "2").expect("put");
    assert_eq!(last.load(Ordering::SeqCst), 3);
}

#[test]
fn closing_ends_watches_and_finishes_writes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: None });
    let pending: Vec<_> = (0..50).map(|number| store.txn(Txn::put(format!("/{number:02}"), "x"))).collect();
    drop(store);
    for future in pending {
        block_on(future).expect("it was accepted");
    }
    for _ in 0..50 {
        next_batch(&mut watch).expect("what happened before the end");
    }
    assert!(matches!(block_on(watch.recv()), Err(StoreError::Closed)));
    assert_eq!(keys(&fixture.open()).len(), 50);
}

#[test]
fn a_full_disk_fails_writes_until_there_is_room() {
    let mut fixture = Fixture::new();
    fixture.options.segment_bytes = 4096;
    let store = fixture.open();
    put(&store, "/before", "x").expect("put");
    fixture.sim.set_capacity(Some(fixture.sim.used()));
    let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: None });
    let mut done = 0;
    let error = loop {
        match put(&store, &format!("/{done}"), &"x".repeat(500)) {
            Ok(_) => done += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace(_)), "{error:?}");
    assert_eq!(error.to_string(), "no space left for the write");
    assert!(done >= 4, "the segment was made before the disk filled up");
    let error = put(&store, "/again", &"x".repeat(500)).expect_err("still full");
    assert!(matches!(error, StoreError::NoSpace(_)), "{error:?}");
    assert_eq!(keys(&store).len(), done + 1, "a write that failed is not seen");

    fixture.sim.set_capacity(None);
    let revision = put(&store, "/after", "x").expect("room again").revision();
    assert_eq!(revision.0, done as u64 + 3, "no revision is lost");
    for _ in 0..=done {
        next_batch(&mut watch).expect("a batch");
    }
    assert!(watch.try_recv().is_none());
    drop(store);
    fixture.sim.power_on();
    assert_eq!(keys(&fixture.open()).len(), done + 2);
}

#[test]
fn a_failed_write_is_taken_back_and_the_next_succeeds() {
    for (seed, fault) in (0..repeats(30, 1000)).flat_map(|seed| [(seed, Fault::Io), (seed, Fault::NoSpace)]) {
        let fixture = Fixture { sim: SimDisk::new(seed), ..Fixture::new() };
        let store = fixture.open();
        put(&store, "/a", "1").expect("put");
        fixture.sim.fail_at(fixture.sim.operation_next(), fault);
        let error = put(&store, "/b", &"x".repeat(3000)).expect_err("ordered to fail");
        let expected = match fault {
            Fault::NoSpace => matches!(error, StoreError::NoSpace(_)),
            _ => matches!(error, StoreError::WriteFailed(_)),
        };
        assert!(expected, "{error:?}");
        put(&store, "/c", "1").expect("the next");
        assert_eq!(keys(&store), ["/a", "/c"]);
        fixture.sim.power_on();
        drop(store);
        assert_eq!(keys(&fixture.open()), ["/a", "/c"], "seed {seed}");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_reopened() {
    for seed in 0..repeats(30, 1000) {
        let fixture = Fixture { sim: SimDisk::new(seed), ..Fixture::new() };
        let store = fixture.open();
        put(&store, "/a", "1").expect("put");
        fixture.sim.fail_at(fixture.sim.operation_next() + 1, Fault::Io);
        for _ in 0..2 {
            let error = put(&store, "/b", &"x".repeat(3000)).expect_err("ordered to fail");
            assert!(matches!(error, StoreError::Stopped(_)), "{error:?}");
        }
        let sync = fixture.sim.operations().pop().map(|op| op.kind);
        assert_eq!(sync, Some(SimOpKind::SyncData), "nothing was asked of the disk after it");
        assert_eq!(keys(&store), ["/a"], "reads go on");
        // Opened without a power failure, the system still shows what may not be on the disk: it is written again.
        drop(store);
        let store = fixture.open();
        let found = keys(&store);
        put(&store, "/c", "1").expect("put");
        drop(store);
        fixture.sim.power_on();
        assert_eq!(keys(&fixture.open()), [&found[..], &["/c".to_owned()]].concat(), "seed {seed}");
    }
}

/// A torn frame is cleared away at opening; the sync of that fails; the next process sees it cleared, but the disk still has it.
#[test]
fn what_a_failed_opening_seems_to_have_cleared_does_no_harm() {
    let mut failed = 0;
    for (seed, at) in (0..repeats(40, 1000)).flat_map(|seed| (4..24).map(move |at| (seed, at))) {
        let mut fixture = Fixture { sim: SimDisk::new(seed), ..Fixture::new() };
        fixture.options.segment_bytes = 4096;
        let store = fixture.open();
        put(&store, "/a", &"a".repeat(2200)).expect("put");
        let power_off_at_sync = || fixture.sim.fail_at(fixture.sim.operation_next() + 1, Fault::PowerOff);
        power_off_at_sync();
        put(&store, "/b", &"b".repeat(1200)).expect_err("the power fails");
        fixture.sim.power_on();
        drop(store);

        fixture.sim.fail_at(fixture.sim.operation_next() + at, Fault::Io);
        failed += u32::from(fixture.try_open().is_err());
        fixture.sim.kill();
        fixture.sim.clear_faults();
        let store = fixture.open();
        let before = keys(&store);
        power_off_at_sync();
        put(&store, "/c", &"c".repeat(300)).expect_err("the power fails");
        fixture.sim.power_on();
        drop(store);
        let mut found = keys(&fixture.open());
        found.retain(|key| key != "/c");
        assert_eq!(found, before, "seed {seed} at {at}");
        assert_eq!(found[0], "/a");
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn a_lease_whose_end_cannot_be_written_ends_later() {
    let mut fixture = Fixture::new();
    fixture.options.segment_bytes = 4096;
    let store = fixture.open();
    let lease = block_on(store.grant_lease(Duration::from_secs(10))).expect("grant");
    block_on(store.txn(Txn::put("/a", "1").with_lease(lease))).expect("put");
    fixture.sim.set_capacity(Some(fixture.sim.used()));
    while put(&store, "/fill", &"x".repeat(100)).is_ok() {}
    while put(&store, "/f", "").is_ok() {}
    fixture.clock.advance(Duration::from_secs(11));
    assert!(put(&store, "/f", "").is_err());
    assert!(keys(&store).contains(&"/a".to_owned()));
    fixture.sim.set_capacity(None);
    let mut watch = store.watch(WatchRequest { keys: KeyRange::key(b"/a"), start: None });
    fixture.clock.advance(Duration::from_secs(6));
    let batch = next_batch(&mut watch).expect("a batch");
    assert_eq!(batch.events[0].record.key, "/a");
}

#[test]
fn leases_survive_restarts_with_what_is_left_of_them() {
    let fixture = Fixture::new();
    let seconds = Duration::from_secs;
    let store = fixture.open();
    let (short, long) = (block_on(store.grant_lease(seconds(60))), block_on(store.grant_lease(seconds(3600))));
    let (short, long) = (short.expect("grant"), long.expect("grant"));
    block_on(store.txn(Txn::put("/short", "1").with_lease(short))).expect("put");
    block_on(store.txn(Txn::put("/long", "1").with_lease(long))).expect("put");
    drop(store);
    fixture.clock.advance(seconds(20));
    let store = fixture.open();
    assert_eq!(block_on(store.lease(short)).expect("status").remaining, seconds(40));
    assert_eq!(block_on(store.lease(long)).expect("status").keys, ["/long"]);
    drop(store);
    // While the store was closed the short one's time came.
    fixture.clock.advance(seconds(50));
    let store = fixture.open();
    let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: Some(Revision(4)) });
    assert_eq!(next_batch(&mut watch).expect("a batch").events[0].record.key, "/short");
    drop(store);
    // A wall clock that was set back does not make a lease longer than it was granted.
    fixture.clock.set_wall(Timestamp::from_seconds(1_600_000_000));
    let store = fixture.open();
    assert_eq!(block_on(store.lease(long)).expect("status").remaining, seconds(3600));
    let third = block_on(store.grant_lease(seconds(1))).expect("grant");
    assert!(third != short && third != long, "a name is not given twice");
}

#[test]
fn many_overwrites_leave_a_small_folder() {
    let mut fixture = Fixture::new();
    fixture.options = Options {
        history_bytes: 64 * 1024,
        segment_bytes: 16 * 1024,
        garbage_bytes_min: 32 * 1024,
        background: false,
        ..fixture.options
    };
    let store = fixture.open();
    let mut used_max = 0;
    for number in 0..3000_u64 {
        put(&store, &format!("/registry/leases/{}", number % 10), &format!("{number:0300}")).expect("put");
        used_max = used_max.max(fixture.sim.used());
    }
    // History takes a third of its budget on disk; then garbage, and a segment that fills.
    assert!(used_max < (64 + 32 + 16 + 16) * 1024, "{used_max}");
    assert!(used_max > 32 * 1024, "{used_max}");
    let stats = store.stats();
    assert_eq!((stats.keys, stats.revision, stats.snapshot_failures), (10, Revision(3001), 0));
    drop(store);
    let reopened = fixture.open();
    assert_eq!(reopened.stats().revision, Revision(3001));
    assert_eq!(reopened.stats().history_len, stats.history_len, "history survives");
}

#[test]
fn an_idle_store_touches_the_disk_only_when_something_is_due() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, "/a", "1").expect("put");
    let before = fixture.sim.operation_next();
    fixture.clock.advance(Duration::from_secs(10_000));
    while store.stats().history_len > 0 {
        thread::yield_now();
    }
    assert_eq!(fixture.sim.operation_next(), before);
}

#[test]
fn a_long_read_is_one_snapshot_while_others_write() {
    let mut fixture = Fixture::new();
    fixture.options.history_bytes = 50_000;
    let store = fixture.open();
    let count = 10_000;
    let futures: Vec<_> = (0..count).map(|number| store.txn(Txn::put(format!("/{number:05}"), "0"))).collect();
    for future in futures {
        block_on(future).expect("put");
    }
    let reads = repeats(10, 200);
    struct Stop<'a>(&'a AtomicU64);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(1, Ordering::Relaxed);
        }
    }
    let stop = AtomicU64::new(0);
    thread::scope(|scope| {
        let (store, stop) = (&store, &stop);
        let _stop = Stop(stop);
        scope.spawn(move || {
            // The first key is always ahead of the last one, or equal.
            let mut number = 0;
            while stop.load(Ordering::Relaxed) == 0 {
                number += 1;
                put(store, "/00000", &number.to_string()).expect("put");
                put(store, "/09999", &number.to_string()).expect("put");
            }
        });
        for _ in 0..reads {
            let response = block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("range");
            assert_eq!(response.records.len(), count);
            let number = |index: usize| -> u64 {
                String::from_utf8_lossy(&response.records[index].value).parse().expect("a number")
            };
            let (first, last) = (number(0), number(count - 1));
            assert!(first == last || first == last + 1, "{first} and {last} were never there together");
            assert!(response.records.iter().all(|record| record.mod_revision <= response.revision));
        }
    });
}

#[test]
fn a_snapshot_is_of_one_revision_while_others_write() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options {
        history_bytes: 8 * 1024,
        segment_bytes: 64 * 1024,
        garbage_bytes_min: 128 * 1024,
        background: true,
        ..Options::default()
    };
    let open = || EmbeddedStore::open(&World::system(), folder.path(), options).expect("open");
    // How long the background may take, on a machine that does much else.
    let patience = Duration::from_secs(120);
    let mut store = open();
    let count = 9_000;
    let rounds = repeats(3, 40);
    for round in 0..rounds {
        // Write until a snapshot has been made meanwhile, which takes the lock several times.
        let (old, start) = (newest_snapshot(folder.path()), Instant::now());
        while newest_snapshot(folder.path()) == old {
            assert!(start.elapsed() < patience, "round {round}: no snapshot after {old:?}");
            let futures: Vec<_> = (0..2 * count)
                .map(|number| store.txn(Txn::put(format!("/{:05}", number * 7 % count), format!("{round}"))))
                .collect();
            for future in futures {
                block_on(future).expect("put");
            }
        }
        let before = block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("range");
        drop(store);
        store = open();
        let after = block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("range");
        assert_eq!((after.revision, after.records.len()), (before.revision, count));
        assert!(after.records == before.records, "round {round}: opened with other records");
    }
}

/// The name of the newest snapshot in a data folder.
fn newest_snapshot(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).expect("list");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("snapshot-")).max()
}

#[test]
fn progress_is_answered_by_open_watches() {
    let store = Fixture::new().open();
    let mut watch = store.watch(WatchRequest { keys: KeyRange::prefix(b"/x"), start: None });
    put(&store, "/a", "1").expect("put");
    assert!(watch.try_recv().is_none());
    store.request_progress();
    assert!(matches!(watch.try_recv(), Some(Ok(WatchItem::Progress(Revision(2))))));
}
