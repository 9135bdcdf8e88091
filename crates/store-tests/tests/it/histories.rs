//! Concurrent clients, and one order of events that explains what they saw.

use std::path::Path;
use std::sync::Arc;

use store::model::ModelStore;
use store_embedded::{EmbeddedStore, Options};
use store_tests::history::{Load, run};
use store_tests::repeats;
use world::{SimDisk, SystemClock, SystemDisk, World};

const LOADS: [Load; 3] = [
    Load { clients: 8, calls: 120, keys: 3, value_bytes: 20 },
    Load { clients: 4, calls: 200, keys: 40, value_bytes: 2000 },
    Load { clients: 16, calls: 60, keys: 1, value_bytes: 0 },
];

#[test]
fn the_model_is_linearizable() {
    for (seed, load) in (0..repeats(2, 50)).flat_map(|seed| LOADS.map(|load| (seed, load))) {
        run(&ModelStore::new(Arc::new(SystemClock::new())), seed, load);
    }
}

#[test]
fn the_embedded_store_is_linearizable() {
    for (seed, load) in (0..repeats(3, 200)).flat_map(|seed| LOADS.map(|load| (seed, load))) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let world = World { disk: Arc::new(SystemDisk), ..World::system() };
        // Enough history for the whole run, and segments so small that snapshots go on all the time.
        let options = Options { segment_bytes: 8 * 1024, garbage_bytes_min: 16 * 1024, ..Options::default() };
        run(&EmbeddedStore::open(&world, folder.path(), options).expect("open"), seed, load);
        let world = World { disk: SimDisk::new(seed).attach(), ..World::system() };
        run(&EmbeddedStore::open(&world, Path::new("/data"), options).expect("open"), seed, load);
    }
}
