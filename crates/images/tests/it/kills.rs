//! A process that pulls is killed at random instants: the store opens clean each time, and the image comes in the end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use images::{Config, Images, PullOptions};

use crate::support::image::{Packing, TestImage};
use crate::support::registry::{FaultyRegistry, Reply};
use crate::support::tarball::Tar;
use crate::support::{Bench, listing};

const KILLS: u32 = 25;
const STORE: &str = "IMAGES_TEST_STORE";
const IMAGE: &str = "IMAGES_TEST_IMAGE";

/// The process to be killed.
#[test]
#[ignore = "the victim of a_store_killed_at_any_instant_opens_clean, which starts it as a process of its own"]
fn victim() {
    let (store, image) = (std::env::var(STORE).unwrap(), std::env::var(IMAGE).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let images = Images::open(Config::new(store)).unwrap();
    loop {
        runtime.block_on(images.pull(&image, PullOptions::default())).unwrap();
        images.prepare("container", &image).unwrap();
        images.remove_snapshot("container").unwrap();
        images.remove(&image).unwrap();
    }
}

#[test]
fn a_store_killed_at_any_instant_opens_clean() {
    let mut bench = Bench::without_store();
    let registry = FaultyRegistry::start(|_| Reply::Well);
    let files = |layer: u32| {
        (0..150).fold(Tar::new(), |tar, n| {
            tar.file(&format!("l{layer}/f{n}"), format!("{layer} {n} ").repeat(50).as_bytes())
        })
    };
    let layers: Vec<Vec<u8>> = (0..4).map(|layer| files(layer).finish()).collect();
    let image = TestImage::new(&layers, Packing::Gzip);
    registry.put("a", "1", &image);
    let name = format!("{}/a:1", registry.address());
    let store = bench.path("store");
    // One whole round tells how long the instants may be apart.
    let begun = Instant::now();
    bench.open(|_| {});
    bench.wait(bench.images().pull(&name, PullOptions::default())).unwrap();
    bench.images().remove(&name).unwrap();
    bench.images = None;
    let round = begun.elapsed();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for kill in 0..KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let instant = Duration::from_nanos(random % u64::try_from(round.as_nanos() * 2).unwrap());
        run_and_kill(&store, &name, instant);
        bench.open(|_| {});
        assert_whole(&bench, &name, &image, kill);
        bench.images = None;
    }
    bench.open(|_| {});
    bench.wait(bench.images().pull(&name, PullOptions::default())).unwrap();
    assert_whole(&bench, &name, &image, KILLS);
    bench.images().remove(&name).unwrap();
    assert_eq!(bench.images().usage(), images::Usage::default());
}

fn run_and_kill(store: &Path, name: &str, instant: Duration) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["kills::victim", "--exact", "--ignored"])
        .env(STORE, store)
        .env(IMAGE, name)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The store's lock shows that it has begun.
    let lock = std::fs::File::open(store.join("lock")).unwrap();
    while lock.try_lock().is_ok() {
        lock.unlock().unwrap();
        assert!(victim.try_wait().unwrap().is_none(), "the victim died by itself");
        std::thread::yield_now();
    }
    std::thread::sleep(instant);
    victim.kill().unwrap();
    assert_eq!(victim.wait().unwrap().code(), None, "the victim died by itself");
}

/// Nothing is half there; and if the image is there, it is whole.
fn assert_whole(bench: &Bench, name: &str, image: &TestImage, kill: u32) {
    let images = bench.images();
    assert_eq!(std::fs::read_dir(images.root().join("ingest")).unwrap().count(), 0, "kill {kill}");
    for layer in std::fs::read_dir(images.root().join("layers")).unwrap() {
        assert!(layer.unwrap().path().join("layer.json").exists(), "kill {kill}");
    }
    let Some(found) = images.get(name) else {
        assert_eq!(images.list(), [], "kill {kill}");
        return;
    };
    assert_eq!(found.id, image.id());
    if images.snapshot("container").is_none() {
        images.prepare("container", name).unwrap();
    }
    let target = bench.path("mounted");
    std::fs::create_dir_all(&target).unwrap();
    images.mount("container", &target).unwrap();
    let seen = listing(&target);
    assert_eq!(seen.lines().count(), 4 * 151, "kill {kill}");
    assert!(seen.contains(&format!("l3/f149 f 644 0:0 {:?}\n", "3 149 ".repeat(50))), "kill {kill}");
    images::unmount(&target).unwrap();
    images.remove_snapshot("container").unwrap();
}
