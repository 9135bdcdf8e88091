//! Batches, and watches moved to sinks.

use std::sync::{Arc, mpsc};

use store::model::ModelStore;
use store::{Batch, Event, EventKind, KeyRange, Record, Revision, Store, StoreError, Txn, WatchRequest, WatchSink};
use world::SystemClock;

use crate::ready;

fn batch(keys: &[&'static str]) -> Arc<Batch> {
    let event = |key: &&'static str| Event {
        kind: EventKind::Delete,
        record: Arc::new(Record::deleted(key.as_bytes().into(), Revision(9))),
        previous: None,
    };
    Arc::new(Batch { revision: Revision(9), events: keys.iter().map(event).collect() })
}

#[test]
fn a_filtered_batch_keeps_the_events_of_its_range() {
    let check = |keys: &[&'static str], prefix: &str, expect: Option<&[&'static str]>| {
        let filtered = batch(keys).filter(&KeyRange::prefix(prefix.as_bytes()));
        assert_eq!(filtered, expect.map(batch), "{keys:?} {prefix}");
    };
    check(&["/a/1", "/b/1", "/a/2"], "/a/", Some(&["/a/1", "/a/2"]));
    check(&["/a/1", "/a/2"], "/a/", Some(&["/a/1", "/a/2"]));
    check(&["/a/1"], "/b/", None);
    check(&[], "/", None);
    let whole = batch(&["/a/1", "/a/2"]);
    assert!(whole.filter(&KeyRange::all()).is_some_and(|same| Arc::ptr_eq(&same, &whole)), "not copied");
}

struct Report(mpsc::Sender<String>);

impl WatchSink for Report {
    fn batch(&mut self, batch: &Arc<Batch>) {
        let keys: Vec<_> = batch.events.iter().map(|event| String::from_utf8_lossy(&event.record.key)).collect();
        self.0.send(format!("{} {}", batch.revision, keys.join(","))).expect("the test listens");
    }

    fn progress(&mut self, revision: Revision) {
        self.0.send(format!("progress {revision}")).expect("the test listens");
    }

    fn end(&mut self, error: StoreError) {
        self.0.send(format!("end: {error}")).expect("the test listens");
    }
}

#[test]
fn a_sink_hears_of_everything_until_it_is_dropped() {
    let store = ModelStore::new(Arc::new(SystemClock::new()));
    ready(store.txn(Txn::put("/a", "1"))).expect("put");
    let (sender, heard) = mpsc::channel();
    let request = WatchRequest::prefix_after(b"/", Revision::FIRST);
    let subscription = store.subscribe(request, Box::new(Report(sender)));
    ready(store.txn(Txn::put("/b", "1").and(Txn::put("/c", "1")))).expect("put");
    assert_eq!(heard.recv().as_deref(), Ok("2 /a"));
    assert_eq!(heard.recv().as_deref(), Ok("3 /b,/c"));
    store.request_progress();
    assert_eq!(heard.recv().as_deref(), Ok("progress 3"));
    drop(subscription);
    ready(store.txn(Txn::put("/d", "1"))).expect("put");
    assert!(heard.recv().is_err(), "the sink is gone");
}

#[test]
fn a_sink_is_told_why_it_ends() {
    let store = ModelStore::new(Arc::new(SystemClock::new()));
    ready(store.txn(Txn::put("/a", "1"))).expect("put");
    ready(store.compact(Revision(2))).expect("compact");
    let (sender, heard) = mpsc::channel();
    let request = WatchRequest { keys: KeyRange::all(), start: Some(Revision(2)) };
    let _subscription = store.subscribe(request, Box::new(Report(sender)));
    assert_eq!(heard.recv().as_deref(), Ok("end: revision 2 is compacted: history starts at 2"));
    assert!(heard.recv().is_err());
}
