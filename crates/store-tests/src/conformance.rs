//! The promises of [`Store`], one function each, named as etcd documents them where it does.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use store::{
    Batch, Bytes, EventKind, KeyRange, LeaseId, Op, RangeRequest, Record, Revision, Store, StoreError, TXN_BYTES_MAX,
    Txn, TxnResponse, WatchItem, WatchRequest, WatchSink,
};

use crate::{Subject, block_on, next_batch};

/// One promise.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Panics if the store breaks it.
    pub run: fn(&Subject),
}

macro_rules! checks {
    ($($name:ident,)*) => {
        /// Every promise.
        pub const ALL: &[Check] = &[$(Check { name: stringify!($name), run: $name },)*];
    };
}

checks! {
    an_empty_store_is_at_the_first_revision,
    every_change_gets_the_next_revision,
    records_count_their_versions,
    a_compare_that_fails_changes_nothing,
    transactions_are_atomic,
    what_changes_nothing_takes_no_revision,
    bad_transactions_are_refused,
    compare_and_swap_loses_no_update,
    reads_see_the_revision_they_ask_for,
    ranges_are_half_open_and_in_order,
    pages_of_one_revision_fit_together,
    watch_is_ordered,
    watch_is_unique_and_reliable,
    watch_is_atomic,
    watch_is_resumable,
    watch_is_bookmarkable,
    watch_sees_its_range_alone,
    watch_from_a_future_revision_waits_for_it,
    a_watch_that_has_seen_everything_survives_compaction,
    subscriptions_hear_what_watches_see,
    compacted_revisions_cannot_be_read,
    compacted_revisions_cannot_be_watched,
    compaction_keeps_what_is_alive,
    a_lease_ends_with_all_its_keys_at_once,
    a_lease_kept_alive_lives,
    a_revoked_lease_takes_its_keys,
    the_last_put_decides_the_lease,
    unknown_leases_are_refused,
}

/// Runs every promise on a store of its own.
pub fn run_all(make: impl Fn() -> Subject) {
    for check in ALL {
        eprintln!("{}", check.name);
        (check.run)(&make());
    }
}

// === helpers ===

fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    commit(store, Txn::put(key.to_owned(), value.to_owned()))
}

fn delete(store: &dyn Store, key: &str) -> Revision {
    commit(store, Txn::delete(key.to_owned()))
}

fn commit(store: &dyn Store, txn: Txn) -> Revision {
    match block_on(store.txn(txn)).expect("the transaction is good") {
        TxnResponse::Committed { revision, .. } => revision,
        refused => panic!("refused: {refused:?}"),
    }
}

fn get(store: &dyn Store, key: &str) -> Option<Arc<Record>> {
    block_on(store.get(key.as_bytes(), None)).expect("get").record
}

fn current(store: &dyn Store) -> Revision {
    block_on(store.current_revision()).expect("revision")
}

/// `key=value` for each record of a range.
fn list(store: &dyn Store, request: RangeRequest) -> String {
    let response = block_on(store.range(request)).expect("range");
    response.records.iter().map(|record| show(record)).collect::<Vec<_>>().join(" ")
}

fn show(record: &Record) -> String {
    format!("{}={}", String::from_utf8_lossy(&record.key), String::from_utf8_lossy(&record.value))
}

/// `revision: +created ~changed -deleted` for a batch.
fn show_batch(batch: &Batch) -> String {
    let mut text = format!("{}:", batch.revision);
    for event in &batch.events {
        assert_eq!(event.record.mod_revision, batch.revision, "an event has the revision of its batch");
        let key = String::from_utf8_lossy(&event.record.key);
        let value = String::from_utf8_lossy(&event.record.value);
        let before = event.previous.as_ref().map_or(String::new(), |record| format!("({})", show(record)));
        text += &match event.kind {
            EventKind::Put if event.is_create() => format!(" +{key}={value}{before}"),
            EventKind::Put => format!(" ~{key}={value}{before}"),
            EventKind::Delete => format!(" -{key}{before}"),
        };
    }
    text
}

fn watch_from(store: &dyn Store, prefix: &str, start: u64) -> store::Watch {
    store.watch(WatchRequest { keys: KeyRange::prefix(prefix.as_bytes()), start: Some(Revision(start)) })
}

fn is_compacted<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Compacted { .. }))
}

// === writing ===

fn an_empty_store_is_at_the_first_revision(subject: &Subject) {
    let store = &*subject.store;
    assert_eq!(current(store), Revision::FIRST);
    let response = block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("range");
    assert!(response.records.is_empty() && !response.more());
    assert_eq!(response.revision, Revision::FIRST);
    let response = block_on(store.get(b"/a", None)).expect("get");
    assert!(response.record.is_none());
    assert_eq!(response.revision, Revision::FIRST);
}

fn every_change_gets_the_next_revision(subject: &Subject) {
    let store = &*subject.store;
    assert_eq!(put(store, "/a", "1"), Revision(2));
    assert_eq!(put(store, "/b", "1"), Revision(3));
    assert_eq!(put(store, "/a", "1"), Revision(4), "putting the same again is a change");
    assert_eq!(delete(store, "/b"), Revision(5));
    assert_eq!(commit(store, Txn::put("/c", "1").and(Txn::delete("/a"))), Revision(6));
    assert_eq!(current(store), Revision(6));
}

fn records_count_their_versions(subject: &Subject) {
    let store = &*subject.store;
    let check = |value: &str, create: u64, revision: u64, version: u64| {
        let record = get(store, "/a").expect("it exists");
        assert_eq!(record.key, "/a");
        assert_eq!(record.value, value.as_bytes());
        assert_eq!((record.create_revision.0, record.mod_revision.0, record.version), (create, revision, version));
        assert_eq!(record.lease, None);
    };
    put(store, "/a", "1");
    check("1", 2, 2, 1);
    put(store, "/b", "x");
    put(store, "/a", "2");
    check("2", 2, 4, 2);
    delete(store, "/a");
    put(store, "/a", "");
    check("", 6, 6, 1);
}

fn a_compare_that_fails_changes_nothing(subject: &Subject) {
    let store = &*subject.store;
    let refused = |txn: Txn, current: Option<u64>| {
        let before = block_on(store.current_revision()).expect("revision");
        match block_on(store.txn(txn)).expect("the transaction is good") {
            TxnResponse::Refused { revision, current: found } => {
                assert_eq!(revision, before);
                assert_eq!(found.len(), 1);
                assert_eq!(found[0].as_ref().map(|record| record.mod_revision.0), current);
                assert_eq!(found[0], get(store, "/a"));
            }
            committed => panic!("committed: {committed:?}"),
        }
        assert_eq!(block_on(store.current_revision()).expect("revision"), before);
    };
    refused(Txn::update("/a", "x", Revision(1)), None);
    refused(Txn::delete_if("/a", Revision(7)), None);
    let created = commit(store, Txn::create("/a", "1"));
    refused(Txn::create("/a", "x"), Some(2));
    refused(Txn::update("/a", "x", Revision(1)), Some(2));
    refused(Txn::delete_if("/a", Revision(3)), Some(2));
    let updated = commit(store, Txn::update("/a", "2", created));
    refused(Txn::update("/a", "x", created), Some(3));
    commit(store, Txn::delete_if("/a", updated));
    refused(Txn::delete_if("/a", updated), None);
    assert_eq!(commit(store, Txn::create("/a", "3")), Revision(5));
}

fn transactions_are_atomic(subject: &Subject) {
    let store = &*subject.store;
    let a = put(store, "/a", "1");
    // One of two compares fails: nothing happens, and both keys are told.
    let txn = Txn::update("/a", "2", a).and(Txn::update("/b", "2", Revision(9)));
    match block_on(store.txn(txn)).expect("the transaction is good") {
        TxnResponse::Refused { current, .. } => assert_eq!(current, [get(store, "/a"), None]),
        committed => panic!("committed: {committed:?}"),
    }
    assert_eq!(list(store, RangeRequest::prefix(b"/")), "/a=1");

    let txn = Txn::update("/a", "2", a).and(Txn::create("/b", "2")).and(Txn::delete("/none"));
    match block_on(store.txn(txn)).expect("the transaction is good") {
        TxnResponse::Committed { revision, changes } => {
            assert_eq!(revision, Revision(3));
            let shown: Vec<_> = changes
                .iter()
                .map(|change| (change.previous.as_deref().map(show), change.record.as_deref().map(show)))
                .collect();
            let text = |text: &str| Some(text.to_owned());
            assert_eq!(shown, [(text("/a=1"), text("/a=2")), (None, text("/b=2")), (None, None)]);
        }
        refused => panic!("refused: {refused:?}"),
    }
    for key in ["/a", "/b"] {
        assert_eq!(get(store, key).expect("it exists").mod_revision, Revision(3));
    }
}

fn what_changes_nothing_takes_no_revision(subject: &Subject) {
    let store = &*subject.store;
    put(store, "/a", "1");
    assert_eq!(delete(store, "/none"), Revision(2));
    assert_eq!(commit(store, Txn::default()), Revision(2));
    assert_eq!(commit(store, Txn::delete_if("/none", Revision::ZERO)), Revision(2));
    assert_eq!(put(store, "/a", "2"), Revision(3));
}

fn bad_transactions_are_refused(subject: &Subject) {
    let store = &*subject.store;
    let result = block_on(store.txn(Txn::put("/a", "1").and(Txn::delete("/a"))));
    assert!(matches!(result, Err(StoreError::DuplicateKey)), "{result:?}");
    let result = block_on(store.txn(Txn::put("/a", vec![b'x'; TXN_BYTES_MAX])));
    assert!(matches!(result, Err(StoreError::TooLarge { .. })), "{result:?}");
    assert_eq!(current(store), Revision::FIRST);
    let large = vec![b'x'; 1024 * 1024];
    commit(store, Txn::put("/large", large.clone()));
    assert!(get(store, "/large").expect("it exists").value == large);
    commit(store, Txn::put("/zeros", vec![0; 100_000]));
    assert!(get(store, "/zeros").expect("it exists").value == vec![0; 100_000]);
}

fn compare_and_swap_loses_no_update(subject: &Subject) {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 25;
    let store = &*subject.store;
    put(store, "/counter", "0");
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut done = 0;
                let mut known = get(store, "/counter").expect("it exists");
                while done < ROUNDS {
                    let count: u64 = String::from_utf8_lossy(&known.value).parse().expect("a number");
                    let txn = Txn::update("/counter", (count + 1).to_string(), known.mod_revision);
                    known = match block_on(store.txn(txn)).expect("the transaction is good") {
                        TxnResponse::Committed { mut changes, .. } => {
                            done += 1;
                            changes.remove(0).record.expect("it was put")
                        }
                        TxnResponse::Refused { mut current, .. } => current.remove(0).expect("it exists"),
                    };
                }
            });
        }
    });
    let record = get(store, "/counter").expect("it exists");
    assert_eq!(record.value, (THREADS * ROUNDS).to_string());
    assert_eq!(record.version, THREADS * ROUNDS + 1);
    assert_eq!(current(store), Revision(2 + THREADS * ROUNDS));
}

// === reading ===

/// Revision 2 to 7: /a=1, /b=1, /a=2, -/b, /b=2, /c=1.
fn small_history(store: &dyn Store) {
    put(store, "/a", "1");
    put(store, "/b", "1");
    put(store, "/a", "2");
    delete(store, "/b");
    put(store, "/b", "2");
    put(store, "/c", "1");
}

fn reads_see_the_revision_they_ask_for(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    let states = ["", "/a=1", "/a=1 /b=1", "/a=2 /b=1", "/a=2", "/a=2 /b=2", "/a=2 /b=2 /c=1"];
    for (revision, expect) in (1..).map(Revision).zip(states) {
        assert_eq!(list(store, RangeRequest::prefix(b"/").at(revision)), expect, "at {revision}");
        for key in ["/a", "/b", "/c", "/d"] {
            let response = block_on(store.get(key.as_bytes(), Some(revision))).expect("get");
            assert_eq!(response.revision, revision);
            let found = response.record.as_deref().map(show);
            assert_eq!(found.as_deref(), expect.split(' ').find(|pair| pair.starts_with(key)), "{key} at {revision}");
        }
        let count = block_on(store.range(RangeRequest::prefix(b"/").at(revision).count_only())).expect("count");
        assert_eq!(count.remaining, expect.split_whitespace().count());
        assert!(count.records.is_empty());
    }
    let future = block_on(store.get(b"/a", Some(Revision(8))));
    assert!(
        matches!(future, Err(StoreError::FutureRevision { requested: Revision(8), current: Revision(7) })),
        "{future:?}"
    );
    let future = block_on(store.range(RangeRequest::prefix(b"/").at(Revision(100))));
    assert!(matches!(future, Err(StoreError::FutureRevision { .. })), "{future:?}");
}

fn ranges_are_half_open_and_in_order(subject: &Subject) {
    let store = &*subject.store;
    for key in ["/b/2", "/a", "/b/", "/b", "/c", "/b/1", "/b0"] {
        put(store, key, "");
    }
    commit(store, Txn::put(&b"/b/\xff\xff"[..], ""));
    let check = |keys: KeyRange, expect: &[&[u8]]| {
        let response = block_on(store.range(RangeRequest::new(keys))).expect("range");
        let found: Vec<&[u8]> = response.records.iter().map(|record| &record.key[..]).collect();
        assert_eq!(found, expect);
    };
    check(KeyRange::prefix(b"/b/"), &[b"/b/", b"/b/1", b"/b/2", b"/b/\xff\xff"]);
    check(KeyRange::key(b"/b"), &[b"/b"]);
    check(KeyRange { start: Bytes::from("/b/1"), end: Some(Bytes::from("/b0")) }, &[b"/b/1", b"/b/2", b"/b/\xff\xff"]);
    check(KeyRange { start: Bytes::from("/b0"), end: None }, &[b"/b0", b"/c"]);
    check(KeyRange { start: Bytes::from("/c"), end: Some(Bytes::from("/a")) }, &[]);
    check(KeyRange::prefix(b"/x"), &[]);
    check(KeyRange::all(), &[b"/a", b"/b", b"/b/", b"/b/1", b"/b/2", b"/b/\xff\xff", b"/b0", b"/c"]);
}

fn pages_of_one_revision_fit_together(subject: &Subject) {
    let store = &*subject.store;
    let ops = (0..23).map(|n| Op::Put { key: format!("/p/{n:02}").into(), value: "1".into(), lease: None });
    commit(store, Txn { compares: Vec::new(), ops: ops.collect() });
    put(store, "/q", "outside");
    let revision = current(store);
    let whole = list(store, RangeRequest::prefix(b"/p/"));
    for limit in [1, 4, 22, 23, 24] {
        let mut pages = Vec::new();
        let mut keys = KeyRange::prefix(b"/p/");
        loop {
            let response =
                block_on(store.range(RangeRequest::new(keys.clone()).at(revision).limit(limit))).expect("a page");
            // Whatever happens between the pages is not seen.
            put(store, &format!("/p/{:02}x{limit}", pages.len()), "new");
            delete(store, "/p/20");
            assert_eq!(response.revision, revision);
            assert!(response.records.len() == limit || response.remaining == 0);
            pages.extend(response.records.iter().map(|record| show(record)));
            assert_eq!(response.remaining, 23 - pages.len());
            if !response.more() {
                break;
            }
            let last = response.records.last().expect("a page that is not the last has records");
            keys = keys.starting_at(&[&last.key[..], b"\0"].concat());
        }
        assert_eq!(pages.join(" "), whole, "pages of {limit}");
    }
}

// === watching ===

fn watch_is_ordered(subject: &Subject) {
    let store = &*subject.store;
    let mut live = watch_from(store, "/", 2);
    small_history(store);
    let mut late = watch_from(store, "/", 2);
    let expect = ["2: +/a=1", "3: +/b=1", "4: ~/a=2(/a=1)", "5: -/b(/b=1)", "6: +/b=2", "7: +/c=1"];
    for text in expect {
        assert_eq!(show_batch(&next_batch(&mut live).expect("live")), text);
        assert_eq!(show_batch(&next_batch(&mut late).expect("late")), text);
    }
    assert!(live.try_recv().is_none() && late.try_recv().is_none(), "nothing more has happened");
    let mut from_now = store.watch(WatchRequest { keys: KeyRange::all(), start: None });
    put(store, "/d", "1");
    assert_eq!(show_batch(&next_batch(&mut from_now).expect("from now")), "8: +/d=1");
}

fn watch_is_unique_and_reliable(subject: &Subject) {
    const THREADS: u64 = 6;
    const WRITES: u64 = 40;
    let store = &*subject.store;
    let last = 1 + THREADS * WRITES;
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for write in 0..WRITES {
                    put(store, &format!("/{}/{}", thread % 2, write % 7), &format!("{thread}.{write}"));
                }
            });
            // Watchers come while the writers write, from the beginning and from now.
            scope.spawn(move || {
                let start = if thread % 2 == 0 { 2 } else { current(store).0 + 1 };
                let mut watch = watch_from(store, "/", start);
                for revision in start..=last {
                    let batch = next_batch(&mut watch).expect("a batch");
                    assert_eq!(batch.revision.0, revision, "no revision is missed, none comes twice");
                    assert_eq!(batch.events.len(), 1);
                }
                assert!(watch.try_recv().is_none());
            });
        }
    });
}

fn watch_is_atomic(subject: &Subject) {
    let store = &*subject.store;
    let mut watch = watch_from(store, "/", 2);
    commit(store, Txn::put("/b", "1").and(Txn::put("/a", "1")));
    commit(store, Txn::put("/a", "2").and(Txn::delete("/b")).and(Txn::delete("/none")));
    assert_eq!(show_batch(&next_batch(&mut watch).expect("a batch")), "2: +/b=1 +/a=1");
    assert_eq!(show_batch(&next_batch(&mut watch).expect("a batch")), "3: ~/a=2(/a=1) -/b(/b=1)");
}

fn watch_is_resumable(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    let mut whole = watch_from(store, "/", 2);
    let whole: Vec<_> = (2..=7).map(|_| next_batch(&mut whole).expect("a batch")).collect();
    for seen in 0..whole.len() {
        let resume_at = whole.get(seen).map_or(8, |batch| batch.revision.0);
        let mut resumed = watch_from(store, "/", resume_at);
        for batch in &whole[seen..] {
            assert_eq!(next_batch(&mut resumed).expect("a batch"), *batch);
        }
        assert!(resumed.try_recv().is_none());
    }
    // A list and a watch from behind it together show everything once.
    for revision in 1..=7 {
        let response = block_on(store.range(RangeRequest::prefix(b"/").at(Revision(revision)))).expect("range");
        let mut state: BTreeMap<_, _> =
            response.records.into_iter().map(|record| (record.key.clone(), record)).collect();
        let mut watch = store.watch(WatchRequest::prefix_after(b"/", response.revision));
        for _ in revision..7 {
            for event in &next_batch(&mut watch).expect("a batch").events {
                let before = match event.kind {
                    EventKind::Put => state.insert(event.record.key.clone(), Arc::clone(&event.record)),
                    EventKind::Delete => state.remove(&event.record.key),
                };
                assert_eq!(before, event.previous);
            }
        }
        let found: Vec<_> = state.values().map(|record| show(record)).collect();
        assert_eq!(found.join(" "), "/a=2 /b=2 /c=1");
    }
}

fn watch_is_bookmarkable(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    let mut watch = watch_from(store, "/a", 2);
    store.request_progress();
    assert_eq!(show_batch(&next_batch(&mut watch).expect("a batch")), "2: +/a=1");
    let mut seen = Vec::new();
    let progress = loop {
        match block_on(watch.recv()).expect("an item") {
            WatchItem::Batch(batch) => seen.push(batch.revision.0),
            WatchItem::Progress(revision) => break revision,
        }
    };
    assert_eq!(seen, [4], "progress comes after everything before it");
    assert_eq!(progress, Revision(7));
    put(store, "/x", "others");
    store.request_progress();
    assert!(matches!(block_on(watch.recv()), Ok(WatchItem::Progress(Revision(8)))));
    assert!(watch.try_recv().is_none(), "one answer to one question");
}

fn watch_sees_its_range_alone(subject: &Subject) {
    let store = &*subject.store;
    let mut watch = watch_from(store, "/a/", 2);
    put(store, "/b/1", "x");
    put(store, "/a/1", "1");
    commit(store, Txn::put("/a/2", "1").and(Txn::put("/b/2", "1")).and(Txn::put("/a0", "1")));
    delete(store, "/b/1");
    delete(store, "/a/1");
    for text in ["3: +/a/1=1", "4: +/a/2=1", "6: -/a/1(/a/1=1)"] {
        assert_eq!(show_batch(&next_batch(&mut watch).expect("a batch")), text);
    }
    assert!(watch.try_recv().is_none());
}

fn watch_from_a_future_revision_waits_for_it(subject: &Subject) {
    let store = &*subject.store;
    put(store, "/a", "1");
    let mut watch = watch_from(store, "/", 5);
    for value in ["2", "3", "4", "5"] {
        put(store, "/a", value);
    }
    assert_eq!(next_batch(&mut watch).expect("a batch").revision, Revision(5));
    assert_eq!(next_batch(&mut watch).expect("a batch").revision, Revision(6));
    assert!(watch.try_recv().is_none());
}

fn a_watch_that_has_seen_everything_survives_compaction(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    let mut all = watch_from(store, "/", 2);
    let mut narrow = watch_from(store, "/a", 2);
    for _ in 2..=7 {
        next_batch(&mut all).expect("a batch");
    }
    for _ in 0..2 {
        next_batch(&mut narrow).expect("a batch");
    }
    // Both are polled once more, so that the store knows they are waiting.
    assert!(all.try_recv().is_none() && narrow.try_recv().is_none());
    put(store, "/z", "1");
    put(store, "/z", "2");
    assert_eq!(next_batch(&mut all).expect("a batch").revision, Revision(8));
    assert_eq!(next_batch(&mut all).expect("a batch").revision, Revision(9));
    block_on(store.compact(Revision(9))).expect("compact");
    put(store, "/a", "3");
    assert_eq!(show_batch(&next_batch(&mut all).expect("all")), "10: ~/a=3(/a=2)");
    assert_eq!(show_batch(&next_batch(&mut narrow).expect("narrow")), "10: ~/a=3(/a=2)");
}

struct Send(mpsc::Sender<String>);

impl WatchSink for Send {
    fn batch(&mut self, batch: &Arc<Batch>) {
        // The test may have ended.
        let _ = self.0.send(show_batch(batch));
    }

    fn progress(&mut self, revision: Revision) {
        let _ = self.0.send(format!("progress {revision}"));
    }

    fn end(&mut self, error: StoreError) {
        let _ = self.0.send(format!("end {}", matches!(error, StoreError::Compacted { .. })));
    }
}

fn subscriptions_hear_what_watches_see(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    let (sender, heard) = mpsc::channel();
    let subscription = store.subscribe(WatchRequest::prefix_after(b"/b", Revision(2)), Box::new(Send(sender)));
    let next = || heard.recv_timeout(Duration::from_secs(120)).expect("the sink is called");
    for text in ["3: +/b=1", "5: -/b(/b=1)", "6: +/b=2"] {
        assert_eq!(next(), text);
    }
    commit(store, Txn::put("/a", "x").and(Txn::put("/b2", "x")));
    assert_eq!(next(), "8: +/b2=x");
    store.request_progress();
    assert_eq!(next(), "progress 8");
    drop(subscription);
    put(store, "/b", "unheard");
    assert!(heard.recv().is_err(), "the sink is gone");

    block_on(store.compact(Revision(9))).expect("compact");
    let (sender, heard) = mpsc::channel();
    let _subscription = store.subscribe(WatchRequest::prefix_after(b"/", Revision(2)), Box::new(Send(sender)));
    assert_eq!(heard.recv_timeout(Duration::from_secs(120)).as_deref(), Ok("end true"));
}

// === compaction ===

fn compacted_revisions_cannot_be_read(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    let result = block_on(store.compact(Revision(8)));
    assert!(matches!(result, Err(StoreError::FutureRevision { .. })), "{result:?}");
    block_on(store.compact(Revision(4))).expect("compact");
    for revision in 1..4 {
        let result = block_on(store.get(b"/a", Some(Revision(revision))));
        assert!(is_compacted(&result), "{revision}: {result:?}");
        let result = block_on(store.range(RangeRequest::prefix(b"/").at(Revision(revision))));
        assert!(is_compacted(&result), "{revision}: {result:?}");
    }
    for revision in [2, 4] {
        assert!(is_compacted(&block_on(store.compact(Revision(revision)))), "{revision} again");
    }
    for (revision, expect) in [(4, "/a=2 /b=1"), (5, "/a=2"), (6, "/a=2 /b=2"), (7, "/a=2 /b=2 /c=1")] {
        assert_eq!(list(store, RangeRequest::prefix(b"/").at(Revision(revision))), expect, "at {revision}");
    }
    block_on(store.compact(Revision(5))).expect("compact further");
    assert!(is_compacted(&block_on(store.get(b"/a", Some(Revision(4))))));
}

fn compacted_revisions_cannot_be_watched(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    let mut slow = watch_from(store, "/", 2);
    block_on(store.compact(Revision(5))).expect("compact");
    // Whether a watch may start at the compacted revision itself is the back end's choice.
    for start in 2..5 {
        let result = block_on(watch_from(store, "/", start).recv());
        match result {
            Err(StoreError::Compacted { compacted, .. }) => assert_eq!(compacted, Revision(5)),
            other => panic!("{start}: {other:?}"),
        }
    }
    let mut watch = watch_from(store, "/", 6);
    assert_eq!(show_batch(&next_batch(&mut watch).expect("a batch")), "6: +/b=2");
    // A watch that was too slow either has its events at hand or is cut off; it never has a gap.
    let mut next = 2;
    loop {
        match block_on(slow.recv()) {
            Ok(WatchItem::Batch(batch)) => {
                assert_eq!(batch.revision.0, next);
                next += 1;
                if next == 8 {
                    break;
                }
            }
            Ok(WatchItem::Progress(_)) => {}
            Err(error) => {
                assert!(matches!(error, StoreError::Compacted { .. }), "{error:?}");
                assert!(matches!(block_on(slow.recv()), Err(StoreError::Closed)), "the end is the end");
                break;
            }
        }
    }
}

fn compaction_keeps_what_is_alive(subject: &Subject) {
    let store = &*subject.store;
    small_history(store);
    delete(store, "/c");
    let before = get(store, "/a");
    block_on(store.compact(Revision(8))).expect("compact");
    assert_eq!(get(store, "/a"), before);
    assert_eq!(list(store, RangeRequest::prefix(b"/")), "/a=2 /b=2");
    assert_eq!(list(store, RangeRequest::prefix(b"/").at(Revision(8))), "/a=2 /b=2");
    put(store, "/a", "3");
    let record = get(store, "/a").expect("it exists");
    assert_eq!((record.create_revision, record.version), (Revision(2), 3));
    put(store, "/c", "2");
    let record = get(store, "/c").expect("it exists");
    assert_eq!((record.create_revision, record.version), (Revision(10), 1));
}

// === leases ===

const TTL: Duration = Duration::from_secs(10);

fn grant(store: &dyn Store) -> LeaseId {
    block_on(store.grant_lease(TTL)).expect("grant")
}

/// Waits until a watch has brought the batch that must come.
fn expect_batch(watch: &mut store::Watch, expect: &str) {
    assert_eq!(show_batch(&next_batch(watch).expect("a batch")), expect);
}

fn a_lease_ends_with_all_its_keys_at_once(subject: &Subject) {
    let store = &*subject.store;
    let (lease, other) = (grant(store), grant(store));
    assert_ne!(lease, other);
    assert!(lease.0 > 0);
    assert_eq!(current(store), Revision::FIRST, "a grant takes no revision");
    commit(store, Txn::put("/b", "1").with_lease(lease));
    commit(store, Txn::put("/a", "1").and(Txn::put("/c", "1")).with_lease(lease));
    put(store, "/d", "forever");
    assert_eq!(get(store, "/a").expect("it exists").lease, Some(lease));
    let status = block_on(store.lease(lease)).expect("status");
    assert_eq!(status.ttl, TTL);
    assert!(status.remaining <= TTL);
    assert_eq!(status.keys, ["/a", "/b", "/c"]);

    let mut watch = watch_from(store, "/", 5);
    (subject.advance)(TTL + Duration::from_secs(2));
    expect_batch(&mut watch, "5: -/a(/a=1) -/b(/b=1) -/c(/c=1)");
    assert_eq!(list(store, RangeRequest::prefix(b"/")), "/d=forever");
    assert!(matches!(block_on(store.lease(lease)), Err(StoreError::LeaseNotFound(id)) if id == lease));
    assert_eq!(current(store), Revision(5), "a lease without keys takes no revision at its end");
}

fn a_lease_kept_alive_lives(subject: &Subject) {
    let store = &*subject.store;
    let (kept, left) = (grant(store), grant(store));
    commit(store, Txn::put("/kept", "1").with_lease(kept));
    commit(store, Txn::put("/left", "1").with_lease(left));
    let mut watch = watch_from(store, "/", 4);
    (subject.advance)(TTL * 2 / 3);
    block_on(store.keep_lease_alive(kept)).expect("keep alive");
    assert!(block_on(store.lease(kept)).expect("status").remaining > TTL * 2 / 3);
    (subject.advance)(TTL * 2 / 3);
    expect_batch(&mut watch, "4: -/left(/left=1)");
    assert!(get(store, "/kept").is_some());
    (subject.advance)(TTL * 2 / 3);
    expect_batch(&mut watch, "5: -/kept(/kept=1)");
}

fn a_revoked_lease_takes_its_keys(subject: &Subject) {
    let store = &*subject.store;
    let lease = grant(store);
    commit(store, Txn::put("/a", "1").and(Txn::put("/b", "1")).with_lease(lease));
    block_on(store.revoke_lease(lease)).expect("revoke");
    assert_eq!(list(store, RangeRequest::prefix(b"/")), "");
    assert_eq!(current(store), Revision(3));
    let empty = grant(store);
    block_on(store.revoke_lease(empty)).expect("revoke");
    assert_eq!(current(store), Revision(3));
    assert!(matches!(block_on(store.revoke_lease(lease)), Err(StoreError::LeaseNotFound(_))));
}

fn the_last_put_decides_the_lease(subject: &Subject) {
    let store = &*subject.store;
    let (first, second) = (grant(store), grant(store));
    commit(store, Txn::put("/moved", "1").and(Txn::put("/freed", "1")).and(Txn::put("/again", "1")).with_lease(first));
    commit(store, Txn::put("/moved", "2").with_lease(second));
    put(store, "/freed", "2");
    delete(store, "/again");
    put(store, "/again", "2");
    assert_eq!(block_on(store.lease(first)).expect("status").keys, Vec::<Bytes>::new());
    assert_eq!(block_on(store.lease(second)).expect("status").keys, ["/moved"]);
    block_on(store.revoke_lease(first)).expect("revoke");
    assert_eq!(list(store, RangeRequest::prefix(b"/")), "/again=2 /freed=2 /moved=2");
    block_on(store.revoke_lease(second)).expect("revoke");
    assert_eq!(list(store, RangeRequest::prefix(b"/")), "/again=2 /freed=2");
}

fn unknown_leases_are_refused(subject: &Subject) {
    let store = &*subject.store;
    let unknown = LeaseId(4711);
    let result = block_on(store.txn(Txn::put("/a", "1").with_lease(unknown)));
    assert!(matches!(result, Err(StoreError::LeaseNotFound(id)) if id == unknown), "{result:?}");
    assert!(matches!(block_on(store.keep_lease_alive(unknown)), Err(StoreError::LeaseNotFound(_))));
    assert!(matches!(block_on(store.lease(unknown)), Err(StoreError::LeaseNotFound(_))));
    assert_eq!(current(store), Revision::FIRST);
}
