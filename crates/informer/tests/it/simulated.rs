//! Informers on virtual time, over a server with faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{DeleteOptions, Patch, SmolStr, Value};
use informer::{Change, Extract, Informer, Informers, Key};
use parking_lot::Mutex;
use testkit::{Faults, Simulation, simulate};

fn map(name: &str, value: u64) -> Value {
    let mut map = Value::from([("data", Value::from([("value", value.to_string())]))]);
    map.set(&["metadata", "namespace"], "default");
    map.set(&["metadata", "name"], name);
    map
}

fn maps(sim: &Simulation) -> Informer<Value> {
    Informer::start(sim.client("watcher").resource("", "v1", "configmaps"), "", "")
}

/// What a handler may believe: it follows the changes and finds every contradiction.
#[derive(Default)]
struct Mirror(Mutex<BTreeMap<Key, (SmolStr, u64)>>);

impl Mirror {
    fn follow(self: &Arc<Self>, informer: &Informer<Value>) {
        let mirror = Arc::clone(self);
        informer.subscribe(move |change| mirror.take(change));
    }

    fn take(&self, change: &Change<Value>) {
        let version = |object: &informer::Object| object.resource_version.parse::<u64>().expect("a number");
        let state = |object: &informer::Object| (object.uid.clone(), version(object));
        let mut mirror = self.0.lock();
        match change {
            Change::Added { object, .. } => {
                assert_eq!(mirror.insert(object.key(), state(object)), None, "{change:?}: it was there");
            }
            Change::Updated { old, new } => {
                assert_eq!(mirror.insert(new.key(), state(new)), Some(state(old)), "{change:?}: not what it was");
                assert!(old.uid == new.uid && version(old) < version(new), "{change:?}: not a newer state");
            }
            Change::Deleted { object, .. } => {
                let known = mirror.remove(&object.key()).expect("it was there");
                assert_eq!(known.0, object.uid, "{change:?}: another object");
                assert!(known.1 <= version(object), "{change:?}: an older state");
            }
        }
    }

    fn shows(&self, sim: &Simulation) -> bool {
        let truth = sim.server.objects("", "v1", "configmaps");
        let mirror = self.0.lock();
        truth.len() == mirror.len()
            && truth.iter().all(|object| {
                mirror.get(&Key::of(object)).is_some_and(|(uid, version)| {
                    uid == object.str_at(&["metadata", "uid"])
                        && version.to_string() == object.str_at(&["metadata", "resourceVersion"])
                })
            })
    }
}

/// Objects are made, changed and deleted while everything goes wrong that can.
async fn churn(sim: &Simulation) -> String {
    sim.server.set_faults(Faults::rough());
    let mirror = Arc::new(Mirror::default());
    let informer = maps(sim);
    mirror.follow(&informer);
    informer.subscribe({
        let trace = sim.trace.clone();
        move |change| trace.note(format!("seen {change:?}"))
    });
    let tester = sim.tester().resource("", "v1", "configmaps").namespace("default");
    let names = ["a", "b", "c", "d", "e"];
    for step in 0..150 {
        let name = *sim.one_of(&names);
        // What is there already, or no more, is no matter here.
        match sim.below(8) {
            0 | 1 => drop(tester.create(&map(name, step)).await),
            2 => drop(tester.delete(name, &DeleteOptions::default()).await),
            3 if step % 5 == 0 => sim.server.compact(),
            4 if step % 10 == 0 => {
                sim.server.stop();
                sim.pass(Duration::from_millis(sim.below(5_000))).await;
                sim.server.start();
            }
            _ => drop(tester.patch(name, &Patch::Merge(&map(name, step))).await),
        }
        sim.pass(Duration::from_millis(sim.below(1_000))).await;
    }
    sim.server.set_faults(Faults::none());
    sim.wait_for("the cache shows the truth", Duration::from_secs(300), || mirror.shows(sim)).await;
    assert_eq!(informer.stats().panics, 0, "no handler was contradicted");
    format!("{:?}", informer.stats())
}

#[test]
fn a_cache_shows_the_truth_in_the_end_and_never_contradicts_itself() {
    for seed in 0..30 {
        simulate(seed, churn);
    }
}

#[test]
fn one_seed_gives_one_trace() {
    let (first, second) = (simulate(7, churn), simulate(7, churn));
    assert!(first.1.lines().count() > 100, "much has happened");
    assert_eq!(first, second);
    assert_ne!(first.1, simulate(8, churn).1, "another seed is another story");
}

#[test]
fn what_was_deleted_unseen_is_noticed_and_a_successor_is_another_object() {
    simulate(1, async |sim| {
        let tester = sim.tester().resource("", "v1", "configmaps").namespace("default");
        for name in ["stays", "goes", "returns"] {
            tester.create(&map(name, 1)).await.expect("it is made");
        }
        let informer = maps(sim);
        informer.synced().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        informer.subscribe({
            let seen = Arc::clone(&seen);
            move |change: &Change<Value>| {
                let uid = &change.object().uid[..4];
                seen.lock().push((format!("{change:?}"), uid.to_owned()));
            }
        });
        seen.lock().clear();
        sim.server.stop();
        sim.pass(Duration::from_secs(1)).await;
        for name in ["goes", "returns"] {
            tester.delete(name, &DeleteOptions::default()).await.expect("it is deleted");
        }
        tester.create(&map("returns", 2)).await.expect("it is made again");
        sim.server.compact();
        sim.server.start();
        sim.wait_for("three changes were seen", Duration::from_secs(60), || seen.lock().len() == 3).await;
        let seen = seen.lock();
        let changes: Vec<&str> = seen.iter().map(|(change, _)| change.as_str()).collect();
        assert_eq!(changes, ["?default/goes@3", "?default/returns@4", "+default/returns@7"]);
        assert_ne!(seen[1].1, seen[2].1);
        assert_eq!(informer.len(), 2);
    });
}

#[test]
fn nobody_storms_a_server_that_is_down_or_forgetful() {
    simulate(1, async |sim| {
        let informers: Vec<_> = (0..10).map(|_| maps(sim)).collect();
        for informer in &informers {
            informer.synced().await;
        }
        sim.server.stop();
        let before = sim.server.requests();
        sim.pass(Duration::from_secs(600)).await;
        let asked = sim.server.requests() - before;
        // Pauses come to 30 to 60 seconds; each attempt is one request.
        assert!((100..=300).contains(&asked), "{asked} requests of 10 informers in ten minutes");
        sim.server.start();
        sim.pass(Duration::from_secs(61)).await;
        let versions: Vec<_> = informers.iter().map(Informer::resource_version).collect();
        assert!(versions.iter().all(|version| version == "1"), "{versions:?}");
        // A server that never knows what has changed since, and ends every watch at its next event.
        sim.server.set_faults(Faults { expired_watch: 1000, ended_watch: 1000, ..Faults::none() });
        let lists = || informers.iter().map(|informer| informer.stats().lists).sum::<u64>();
        let (tester, before) = (sim.tester().resource("", "v1", "configmaps").namespace("default"), lists());
        tester.create(&map("a", 0)).await.expect("it is made");
        for step in 0..600 {
            tester.patch("a", &Patch::Merge(&map("a", step))).await.expect("it is changed");
            sim.pass(Duration::from_secs(1)).await;
        }
        let listed = lists() - before;
        assert!(listed <= 400, "{listed} lists of 10 informers in ten minutes");
    });
}

#[test]
fn a_server_that_shows_no_initial_events_is_listed() {
    simulate(1, async |sim| {
        sim.server.set_faults(Faults { no_initial_events: true, ..Faults::none() });
        let tester = sim.tester().resource("", "v1", "configmaps").namespace("default");
        tester.create(&map("a", 1)).await.expect("it is made");
        let informer = maps(sim);
        informer.synced().await;
        assert!(informer.get("default", "a").is_some());
        tester.create(&map("b", 1)).await.expect("it is made");
        sim.wait_for("b is seen", Duration::from_secs(5), || informer.len() == 2).await;
        assert_eq!((informer.stats().lists, informer.stats().watches), (1, 1));
        // It goes on for hours, from watch to watch, without another list.
        sim.pass(Duration::from_secs(3 * 3600)).await;
        assert_eq!(informer.stats().lists, 1);
        assert!(informer.stats().watches > 15);
    });
}

struct Picky(u64);

impl Extract for Picky {
    fn extract(object: Value) -> Self {
        Picky(object.str_at(&["data", "value"]).parse().expect("a number"))
    }
}

#[test]
fn panics_of_readers_are_survived() {
    simulate(1, async |sim| {
        let tester = sim.tester().resource("", "v1", "configmaps").namespace("default");
        let mut bad = map("bad", 0);
        bad.set(&["data", "value"], "many");
        tester.create(&bad).await.expect("it is made");
        tester.create(&map("good", 1)).await.expect("it is made");
        let informer = Informer::<Picky>::start(sim.client("watcher").resource("", "v1", "configmaps"), "", "");
        informer.subscribe(|change| assert!(change.object().0 != 2, "told to panic"));
        informer.synced().await;
        assert_eq!(informer.list().iter().map(|object| object.0).collect::<Vec<_>>(), [1]);
        for value in [2, 3] {
            tester.patch("good", &Patch::Merge(&map("good", value))).await.expect("it is changed");
        }
        sim.wait_for("3 is seen", Duration::from_secs(5), || informer.list()[0].0 == 3).await;
        assert_eq!(informer.stats().panics, 2);
    });
}

#[test]
fn readers_share_one_cache_and_late_ones_see_all() {
    simulate(1, async |sim| {
        let tester = sim.tester().resource("", "v1", "configmaps").namespace("default");
        for name in ["a", "b"] {
            tester.create(&map(name, 1)).await.expect("it is made");
        }
        let informers = Informers::new(sim.client("watcher"));
        let first = informers.of::<Value>("", "v1", "configmaps");
        let second = informers.of::<Value>("", "v1", "configmaps");
        let other = informers.of::<()>("", "v1", "configmaps");
        informers.synced().await;
        assert!(informers.have_synced());
        assert_eq!((first.len(), second.len(), other.len()), (2, 2, 2));
        let watches = sim.trace.text().lines().filter(|line| line.contains("watch=true")).count();
        assert_eq!(watches, 2, "one for each form");
        let seen = Arc::new(Mutex::new(Vec::new()));
        second.subscribe({
            let seen = Arc::clone(&seen);
            move |change: &Change<Value>| seen.lock().push(format!("{change:?}"))
        });
        assert_eq!(*seen.lock(), ["+default/a@2", "+default/b@3"]);
        let by_value = first.index(|map| vec![map.str_at(&["data", "value"]).into()]);
        tester.patch("b", &Patch::Merge(&map("b", 9))).await.expect("it is changed");
        sim.wait_for("it is seen", Duration::from_secs(5), || seen.lock().len() == 3).await;
        assert_eq!(by_value.get("9")[0].key(), Key::new("default", "b"));
        // When the last reader goes, nobody asks any more.
        drop((first, second, other, informers, by_value));
        let before = sim.server.requests();
        sim.pass(Duration::from_secs(3600)).await;
        assert_eq!(sim.server.requests(), before);
    });
}
