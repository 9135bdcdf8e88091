//! kill -9 of a real process with the real disk.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use store::{KeyRange, RangeRequest, Store, Txn, TxnResponse, WatchRequest};
use store_embedded::{EmbeddedStore, Options};
use store_tests::{block_on, next_batch, repeats};
use world::World;

const DIR_VARIABLE: &str = "KUBOX_STORE_KILL_DIR";
const WRITERS: usize = 8;

fn open(dir: &Path) -> EmbeddedStore {
    let options = Options {
        segment_bytes: 64 * 1024,
        garbage_bytes_min: 64 * 1024,
        history_bytes: 256 * 1024,
        ..Options::default()
    };
    EmbeddedStore::open(&World::system(), dir, options).expect("open")
}

/// What the child does until it is killed; without the variable, which only the test below sets, there is no child.
#[test]
fn writes_until_killed() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let store = open(Path::new(&dir));
    let out = Mutex::new(std::io::stdout());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, out) = (&store, &out);
            scope.spawn(move || {
                for number in 0_u64.. {
                    let value = format!("{number} {}", "x".repeat((number % 1500) as usize));
                    let txn = Txn::put(format!("/writer/{writer}/{}", number % 50), value);
                    let response = block_on(store.txn(txn)).expect("put");
                    let TxnResponse::Committed { revision, .. } = response else { panic!("{response:?}") };
                    let mut out = out.lock().expect("no writer panics");
                    writeln!(out, "acknowledged {writer} {number} {revision}").expect("the parent reads");
                }
            });
        }
    });
}

#[test]
fn a_killed_process_has_lost_nothing_it_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut random = fastrand::Rng::with_seed(7);
    let mut revision_before = 1;
    for _ in 0..repeats(6, 200) {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "kill::writes_until_killed", "--nocapture"])
            .env(DIR_VARIABLE, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the child");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let enough = random.usize(1..3000);
        let mut acknowledged: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut killed = false;
        for line in lines {
            // The line that was being written when the child died is cut off.
            let Ok(line) = line else { break };
            let words: Vec<_> = line.split(' ').collect();
            let ["acknowledged", writer, number, revision] = words[..] else { continue };
            let Ok(revision) = revision.parse::<u64>() else { continue };
            acknowledged.insert(revision, (writer.parse().expect("a number"), number.parse().expect("a number")));
            if !killed && acknowledged.len() >= enough {
                child.kill().expect("kill");
                killed = true;
            }
        }
        child.wait().expect("wait");
        assert!(killed, "the child ended by itself after {} writes", acknowledged.len());

        // The last line may be cut off within its number: a shorter number would be a revision long past.
        acknowledged.retain(|revision, _| *revision > revision_before);
        let store = open(folder.path());
        let stats = store.stats();
        let last = *acknowledged.keys().next_back().expect("something was acknowledged");
        assert!(stats.revision.0 >= last, "revision {} was acknowledged, but only {} is left", last, stats.revision);
        let mut watch = store.watch(WatchRequest { keys: KeyRange::all(), start: Some(stats.compacted.next()) });
        for revision in stats.compacted.0 + 1..=stats.revision.0 {
            let batch = next_batch(&mut watch).expect("a batch");
            assert_eq!(batch.revision.0, revision);
            if let Some((writer, number)) = acknowledged.get(&revision) {
                assert_eq!(batch.events[0].record.key, format!("/writer/{writer}/{}", number % 50));
                assert!(batch.events[0].record.value.starts_with(format!("{number} ").as_bytes()));
            }
        }
        let all = block_on(store.range(RangeRequest::new(KeyRange::all()))).expect("range");
        assert!(all.records.len() <= WRITERS * 50);
        revision_before = stats.revision.0;
    }
}
