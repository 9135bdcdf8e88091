//! A damaged data folder is refused with one line, and nothing in it is changed; or the damage hit nothing that matters.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::{KeyRange, RangeRequest, Record, Store, Txn};
use store_embedded::{EmbeddedStore, OpenError, Options};
use store_tests::{block_on, repeats};
use world::{SimDisk, World};

const DIR: &str = "/data";

fn open(sim: &SimDisk) -> Result<EmbeddedStore, OpenError> {
    let world = World { disk: sim.attach(), ..World::system() };
    let options = Options {
        segment_bytes: 4096,
        garbage_bytes_min: 16 * 1024,
        history_bytes: 12_000,
        background: false,
        ..Options::default()
    };
    EmbeddedStore::open(&world, Path::new(DIR), options)
}

fn records(store: &EmbeddedStore) -> Vec<Arc<Record>> {
    block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("range").records
}

/// A folder with a snapshot, several segments and a few frames in the last, and what it holds.
fn filled(seed: u64) -> (SimDisk, Vec<Arc<Record>>) {
    let sim = SimDisk::new(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let store = open(&sim).expect("open");
    for number in 0..150 {
        let value = vec![random.u8(..4); random.usize(1..700)];
        block_on(store.txn(Txn::put(format!("/key/{}", number % 30), value))).expect("put");
    }
    let records = records(&store);
    drop(store);
    let names: Vec<_> = sim.files();
    assert!(names.iter().any(|path| path.to_string_lossy().contains("snapshot-")), "{names:?}");
    assert!(names.iter().filter(|path| path.to_string_lossy().contains("log-")).count() > 2, "{names:?}");
    (sim, records)
}

fn contents(sim: &SimDisk) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    sim.files().into_iter().map(|path| (path.clone(), sim.content(&path))).collect()
}

/// Opens after some damage; answers the refusal, if it was refused.
fn check(sim: &SimDisk, expect: &[Arc<Record>], what: &str) -> Option<OpenError> {
    let before = contents(sim);
    match open(sim) {
        Ok(store) => {
            assert_eq!(records(&store), expect, "{what}: opened with something missing");
            None
        }
        Err(error) => {
            assert!(!matches!(error, OpenError::Io { .. }), "{what}: {error}");
            assert!(!error.to_string().contains('\n'));
            assert_eq!(contents(sim), before, "{what}: refused, but something was changed");
            Some(error)
        }
    }
}

#[test]
fn a_flipped_bit_is_never_overlooked() {
    let mut refused = 0;
    let mut opened = 0;
    for seed in 0..repeats(150, 20_000) {
        let (sim, expect) = filled(seed % 10);
        let mut random = fastrand::Rng::with_seed(seed);
        let files: Vec<_> = sim.files().into_iter().filter(|path| !path.ends_with("LOCK")).collect();
        let path = &files[random.usize(..files.len())];
        let mut at = 0;
        sim.tamper(path, |content| {
            at = random.usize(..content.len());
            content[at] ^= 1 << random.u8(..8);
        });
        match check(&sim, &expect, &format!("seed {seed}, {} at {at}", path.display())) {
            Some(_) => refused += 1,
            None => opened += 1,
        }
    }
    assert!(refused > opened, "{refused} refused, {opened} harmless: most of the folder matters");
}

#[test]
fn bytes_lost_in_the_middle_are_never_overlooked() {
    for seed in 0..repeats(100, 5_000) {
        let (sim, expect) = filled(seed % 10);
        let mut random = fastrand::Rng::with_seed(seed);
        let logs: Vec<_> = sim.files().into_iter().filter(|path| path.to_string_lossy().contains("log-")).collect();
        // A sector of zeros in a segment that is not the last: it looks like a torn frame, but others follow.
        let path = &logs[random.usize(..logs.len() - 1)];
        let mut sector = 0;
        let mut harmless = false;
        sim.tamper(path, |content| {
            sector = random.usize(..content.len() / 512);
            let sector = &mut content[sector * 512..][..512];
            harmless = sector.iter().all(|byte| *byte == 0);
            sector.fill(0);
        });
        let refused = check(&sim, &expect, &format!("seed {seed}, {} sector {sector}", path.display()));
        assert!(refused.is_some() || harmless, "seed {seed}: {} sector {sector}", path.display());
    }
}

#[test]
fn a_missing_file_is_named() {
    let (sim, expect) = filled(3);
    let files = sim.files();
    let last_log = files.iter().rfind(|path| path.to_string_lossy().contains("log-")).expect("there are logs");
    for path in &files {
        let (sim, _) = filled(3);
        sim.attach().remove(path).expect("remove");
        if path == last_log {
            // The one loss that nothing tells of: the log just ends earlier.
            continue;
        }
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let refused = check(&sim, &expect, &name).map(|error| error.to_string());
        match (&name[..], refused) {
            ("LOCK", None) => {}
            ("FORMAT", Some(text)) => {
                assert_eq!(text, "the data folder /data has lost its file FORMAT; nothing was changed")
            }
            (name, Some(text)) if name.starts_with("log-") || name.starts_with("snapshot-") => {
                assert!(text.contains("does not follow"), "{name}: {text}");
            }
            (name, refused) => panic!("{name}: {refused:?}"),
        }
    }
}

#[test]
fn a_newer_or_foreign_folder_is_refused() {
    let (sim, expect) = filled(4);
    let format = Path::new("/data/FORMAT");
    let check_format = |text: &str, expect_text: &str| {
        sim.tamper(format, |content| *content = text.as_bytes().to_vec());
        let refused = check(&sim, &expect, text).map(|error| error.to_string());
        assert_eq!(refused.as_deref().unwrap_or("opened"), expect_text);
    };
    check_format(
        "kubox-store 2\n",
        "the data folder /data has format 2, but this program knows formats up to 1: use a newer kubox",
    );
    check_format("kubox-store one\n", "/data/FORMAT does not say that its folder is a kubox store");
    check_format("postgres", "/data/FORMAT does not say that its folder is a kubox store");
    check_format("", "the data folder /data has lost its file FORMAT; nothing was changed");
    check_format("kubox-store 1\n", "opened");
}

#[test]
fn a_folder_has_one_holder() {
    let (sim, expect) = filled(5);
    let first = open(&sim).expect("open");
    assert_eq!(open(&sim).expect_err("locked").to_string(), "the data folder /data is in use by another process");
    block_on(first.txn(Txn::put("/still", "works"))).expect("put");
    drop(first);
    assert_eq!(records(&open(&sim).expect("free again")).len(), expect.len() + 1);
}
