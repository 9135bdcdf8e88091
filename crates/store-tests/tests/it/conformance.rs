//! The promises, for each back end.

use std::path::Path;
use std::sync::Arc;

use store::model::ModelStore;
use store_embedded::{EmbeddedStore, Options};
use store_tests::{Subject, conformance};
use world::{Clock, ManualClock, SeededRandom, SimDisk, SystemDisk, Timestamp, World};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)))
}

#[test]
fn the_model_keeps_every_promise() {
    conformance::run_all(|| {
        let clock = clock();
        let store = Arc::new(ModelStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
        Subject { store, advance: Box::new(move |time| clock.advance(time)) }
    });
}

#[test]
fn the_embedded_store_keeps_every_promise() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut count = 0;
    let mut next_dir = || {
        count += 1;
        folder.path().join(count.to_string())
    };
    for check in conformance::ALL {
        let clock = clock();
        let world =
            World { clock: Arc::clone(&clock) as Arc<dyn Clock>, disk: Arc::new(SystemDisk), ..World::system() };
        let store = EmbeddedStore::open(&world, &next_dir(), Options::default()).expect("open");
        eprintln!("{}", check.name);
        (check.run)(&Subject { store: Arc::new(store), advance: Box::new(move |time| clock.advance(time)) });
    }
}

/// Segments so small that every few writes begin another, and a snapshot is due all the time.
#[test]
fn the_embedded_store_keeps_every_promise_with_tiny_segments() {
    for background in [false, true] {
        conformance::run_all(|| {
            let clock = clock();
            let world = World {
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                random: Arc::new(SeededRandom::new(1)),
                disk: SimDisk::new(1).attach(),
            };
            let options = Options { segment_bytes: 2048, garbage_bytes_min: 4096, background, ..Options::default() };
            let store = EmbeddedStore::open(&world, Path::new("/data"), options).expect("open");
            Subject { store: Arc::new(store), advance: Box::new(move |time| clock.advance(time)) }
        });
    }
}
