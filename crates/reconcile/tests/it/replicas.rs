//! A small ReplicaSet controller, made of all the machinery, in a world where everything goes wrong.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteOptions, Patch, SmolStr, Value};
use informer::{Change, Extract, Index, Informer, Informers, Key};
use reconcile::{BoxError, Controller, Expectations, Outcome, Owner, Queue, Reconciler, Recorder, Reference};
use testkit::{Faults, Simulation, simulate};

/// What the controller needs of a pod.
struct Owned {
    set: SmolStr,
}

impl Extract for Owned {
    fn extract(pod: Value) -> Self {
        let owners = pod.list_at(&["metadata", "ownerReferences"]);
        Owned { set: owners.first().map(|owner| owner.str_at(&["name"]).into()).unwrap_or_default() }
    }
}

struct Replicas {
    client: Client,
    sets: Informer<Value>,
    by_controller: Index<Owned>,
    expectations: Arc<Expectations<Key>>,
    recorder: Recorder,
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Create(usize),
    Delete(Vec<(SmolStr, SmolStr)>),
}

fn plan(wanted: usize, owned: &[Arc<informer::Object<Owned>>]) -> Plan {
    if owned.len() < wanted {
        return Plan::Create(wanted - owned.len());
    }
    let surplus: Vec<_> = owned[wanted..].iter().map(|pod| (pod.name.clone(), pod.uid.clone())).collect();
    if surplus.is_empty() { Plan::Nothing } else { Plan::Delete(surplus) }
}

impl Reconciler<Key> for Replicas {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, BoxError> {
        let Some(set) = self.sets.get_key(key) else {
            self.expectations.forget(key);
            return Ok(Outcome::Done);
        };
        if !self.expectations.satisfied(key) {
            return Ok(Outcome::Again(Duration::from_secs(60)));
        }
        let owned: Vec<_> = self.by_controller.get(&set.uid).into_iter().filter(|pod| !pod.deleting).collect();
        let wanted = usize::try_from(set.int_at(&["spec", "replicas"]).unwrap_or(1)).unwrap_or(0);
        self.act(key, &set.content, plan(wanted, &owned)).await?;
        let count = i64::try_from(owned.len())?;
        if set.int_at(&["status", "replicas"]) != Some(count) {
            let mut set = set.content.clone();
            set.set(&["status", "replicas"], count);
            self.client.resource("apps", "v1", "replicasets").update_status(&set).await?;
        }
        Ok(Outcome::Done)
    }
}

impl Replicas {
    async fn act(&self, key: &Key, set: &Value, plan: Plan) -> Result<(), BoxError> {
        let pods = self.client.resource("", "v1", "pods").namespace(&key.namespace);
        match plan {
            Plan::Nothing => {}
            Plan::Create(count) => {
                self.expectations.expect_creations(key, count);
                for done in 0..count {
                    let mut pod = Value::default();
                    pod.set(&["metadata", "generateName"], format!("{}-", key.name));
                    pod.set(&["metadata", "ownerReferences"], vec![Owner::of(set).reference()]);
                    if let Err(error) = pods.create(&pod).await {
                        self.expectations.creations_skipped(key, count - done);
                        return Err(error.into());
                    }
                }
                self.recorder.normal(&Reference::of(set), "SuccessfulCreate", format!("Created {count} pods"));
            }
            Plan::Delete(surplus) => {
                self.expectations.expect_deletions(key, surplus.iter().map(|(_, uid)| uid.clone()));
                for (name, uid) in surplus {
                    let options = DeleteOptions { uid: Some(uid.clone()), ..DeleteOptions::default() };
                    if let Err(error) = pods.delete(&name, &options).await {
                        self.expectations.deletion_seen(key, &uid);
                        if !error.is_not_found() && !error.is_conflict() {
                            return Err(error.into());
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn start(sim: &Simulation) -> (reconcile::Running, Queue<Key>) {
    let client = sim.client("replicas");
    let informers = Informers::new(client.clone());
    let sets = informers.of::<Value>("apps", "v1", "replicasets");
    let pods = informers.of::<Owned>("", "v1", "pods");
    let queue = Queue::new(&sim.world);
    let expectations = Arc::new(Expectations::new(&sim.world));
    sets.subscribe({
        let queue = queue.clone();
        move |change: &Change<Value>| queue.add(change.key())
    });
    pods.subscribe({
        let (queue, expectations) = (queue.clone(), Arc::clone(&expectations));
        move |change: &Change<Owned>| {
            let pod = change.object();
            let key = Key::new(pod.namespace.clone(), pod.set.clone());
            match change {
                Change::Added { .. } => expectations.creation_seen(&key),
                Change::Deleted { object, .. } => expectations.deletion_seen(&key, &object.uid),
                Change::Updated { .. } => {}
            }
            queue.add(key);
        }
    });
    let recorder = Recorder::start(&client, "replicas", "");
    let by_controller = pods.index_controller();
    let controller = Replicas { client, sets, by_controller, expectations, recorder };
    let ready = async move { informers.synced().await };
    (Controller::new("replicas", queue.clone()).workers(3).spawn(ready, controller), queue)
}

fn set(name: &str, replicas: u64) -> Value {
    let mut set = Value::default();
    set.set(&["metadata", "namespace"], "default");
    set.set(&["metadata", "name"], name);
    set.set(&["spec", "replicas"], i64::try_from(replicas).expect("a small number"));
    set
}

/// Whether each set has as many pods as it wants, and says so.
fn is_settled(sim: &Simulation) -> bool {
    let pods = sim.server.objects("", "v1", "pods");
    sim.server.objects("apps", "v1", "replicasets").iter().all(|set| {
        let name = set.str_at(&["metadata", "name"]);
        let owns = |pod: &&Arc<Value>| pod.list_at(&["metadata", "ownerReferences"])[0].str_at(&["name"]) == name;
        let owned = i64::try_from(pods.iter().filter(owns).count()).ok();
        owned == set.int_at(&["spec", "replicas"]) && owned == set.int_at(&["status", "replicas"])
    })
}

/// Sets are scaled, pods killed, the server and the controller restarted while everything goes wrong that can.
async fn story(sim: &Simulation) {
    let tester = sim.tester();
    let sets = tester.resource("apps", "v1", "replicasets").namespace("default");
    let pods = tester.resource("", "v1", "pods").namespace("default");
    let names = ["web", "api", "db"];
    for name in names {
        sets.create(&set(name, sim.below(4))).await.expect("it is made");
    }
    sim.server.set_faults(Faults::rough());
    let mut running = Some(start(sim));
    for _ in 0..60 {
        match sim.below(10) {
            0..4 => {
                let scaled = set("", sim.below(6));
                let spec = Value::from([("spec", scaled.get("spec").cloned().unwrap_or_default())]);
                let name = *sim.one_of(&names);
                sets.patch(name, &Patch::Merge(&spec)).await.expect("it is scaled");
            }
            4..7 => {
                let all = sim.server.objects("", "v1", "pods");
                if !all.is_empty() {
                    let name = sim.one_of(&all).str_at(&["metadata", "name"]);
                    pods.delete(name, &DeleteOptions::default()).await.expect("it is killed");
                }
            }
            7 => sim.server.compact(),
            8 => {
                sim.server.stop();
                sim.pass(Duration::from_millis(sim.below(20_000))).await;
                sim.server.start();
            }
            _ => {
                sim.trace.note("controller restarted");
                drop(running.take());
                running = Some(start(sim));
            }
        }
        sim.pass(Duration::from_millis(sim.below(3_000))).await;
    }
    sim.server.set_faults(Faults::none());
    sim.wait_for("all is as it should be", Duration::from_secs(1_800), || is_settled(sim)).await;
    // And it stays so, in peace.
    let (running, queue) = running.expect("it runs");
    sim.wait_for("the queue is empty", Duration::from_secs(1_800), || queue.is_idle()).await;
    // The last changes have yet to come back.
    sim.pass(Duration::from_secs(60)).await;
    let runs = running.counts().runs;
    let changes = sim.trace.text().lines().filter(|line| !line.contains("GET")).count();
    sim.pass(Duration::from_secs(3_600)).await;
    let later = sim.trace.text().lines().filter(|line| !line.contains("GET")).count();
    assert_eq!((running.counts().runs, later), (runs, changes), "nobody writes where nothing changes");
    assert!(is_settled(sim));
    assert_eq!(running.counts().panics, 0);
    running.stop().await;
}

#[test]
fn a_controller_settles_whatever_went_wrong() {
    for seed in 0..25 {
        simulate(seed, story);
    }
}

#[test]
fn one_seed_gives_one_trace() {
    let (first, second) = (simulate(3, story).1, simulate(3, story).1);
    assert!(first.lines().count() > 150, "much has happened");
    let differs = first.lines().zip(second.lines()).find(|(first, second)| first != second);
    assert_eq!(differs, None);
    assert_eq!(first.lines().count(), second.lines().count());
    assert_ne!(first, simulate(4, story).1, "another seed is another story");
}

#[test]
fn a_controller_in_a_good_world_writes_no_more_than_it_must() {
    let ((), trace) = simulate(1, async |sim| {
        let tester = sim.tester();
        tester.resource("apps", "v1", "replicasets").create(&set("web", 5)).await.expect("it is made");
        let (running, _) = start(sim);
        sim.wait_for("it has its pods", Duration::from_secs(5), || is_settled(sim)).await;
        sim.pass(Duration::from_secs(60)).await;
        drop(running);
    });
    let writes = |what: &str| trace.lines().filter(|line| line.contains(what)).count();
    assert_eq!((writes("POST /api/v1/namespaces/default/pods"), writes("DELETE")), (5, 0), "never one pod too many");
    assert_eq!(writes("/events"), 1);
}
