//! How far back watches and lists can start: five minutes, over restarts too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api_schema::{Value, format_smolstr};
use registry::{Hooks, ListOptions, Registry, Served, Services, WatchAnswer};
use store::{SharedStore, Txn};
use store_embedded::EmbeddedStore;
use world::{ManualClock, SeededRandom, SimDisk, Timestamp, World};

struct Fixture {
    clock: Arc<ManualClock>,
    world: World,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000_000)));
        let world = World {
            clock: Arc::clone(&clock) as _,
            random: Arc::new(SeededRandom::new(1)),
            disk: SimDisk::new(1).attach(),
        };
        Self { clock, world }
    }

    async fn open(&self) -> Opened {
        let store = EmbeddedStore::open(&self.world, Path::new("/data"), Default::default()).expect("a store");
        let store: SharedStore = Arc::new(store);
        let hooks = Hooks::new(Services::new(Vec::new(), 30_000..=32_767));
        let all = |resource: &api_types::Resource| resource.resource == "configmaps";
        let (store_of_registry, world) = (Arc::clone(&store), self.world.clone());
        let registry = Registry::start(store_of_registry, world, Default::default(), hooks, Vec::new(), all)
            .await
            .expect("started");
        let served = registry.served("", "v1", "configmaps").expect("served");
        Opened { store, registry, served }
    }
}

struct Opened {
    store: SharedStore,
    registry: Arc<Registry>,
    served: Arc<Served>,
}

impl Opened {
    /// Writes a ConfigMap and answers its revision.
    async fn put(&self, name: &str) -> u64 {
        let mut object = Value::from([("apiVersion", "v1"), ("kind", "ConfigMap")]);
        object.set(&["metadata", "name"], name);
        let bytes = registry::codec::encode_stored(&self.served.storage, &object).expect("encoded");
        let key = self.served.storage.key("default", name);
        self.store.txn(Txn::put(key, bytes)).await.expect("written").revision().0
    }

    async fn watch(&self, revision: u64) -> Result<WatchAnswer, api_semantics::status::Status> {
        let resource_version = format_smolstr!("{revision}");
        let options = ListOptions { watch: true, resource_version, ..ListOptions::default() };
        self.registry.watch(&self.served, "", &options).await.expect("good options")
    }

    /// The names that a watch from a revision has to show by now.
    async fn seen_since(&self, revision: u64) -> String {
        let mut watcher = match self.watch(revision).await {
            Ok(answer) => answer.watcher,
            Err(status) => return status.reason.to_string(),
        };
        let batch = watcher.try_next().expect("it keeps up");
        let name = |event: &watch_cache::Event| event.object.as_ref().map(|object| object.index.name.clone());
        batch.iter().filter_map(|(_, event)| name(event)).collect::<Vec<_>>().join(" ")
    }

    /// Lists at exactly a revision.
    async fn list_at(&self, revision: u64) -> Result<usize, api_semantics::status::Status> {
        let resource_version = format_smolstr!("{revision}");
        let options =
            ListOptions { resource_version, version_match: "Exact".into(), limit: 500, ..ListOptions::default() };
        self.registry.list(&self.served, "", &options).await.map(|answer| answer.objects.len())
    }
}

#[tokio::test]
async fn five_minutes_back_and_no_further() {
    let fixture = Fixture::new();
    let opened = fixture.open().await;
    let before = opened.put("a").await;
    let first = opened.put("b").await;
    fixture.clock.advance(Duration::from_secs(200));
    opened.put("c").await;
    fixture.clock.advance(Duration::from_secs(99));
    assert_eq!(opened.seen_since(before).await, "b c");
    assert_eq!(opened.list_at(before).await.expect("not too old"), 1);
    // Nothing is written any more: what is too old goes by itself, in portions.
    fixture.clock.advance(Duration::from_secs(17));
    while opened.watch(before).await.is_ok() || opened.list_at(before).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(opened.seen_since(before).await, "Expired");
    assert_eq!(opened.list_at(before).await.expect_err("too old").code, 410);
    assert_eq!(opened.seen_since(first).await, "c");
    assert_eq!(opened.list_at(first).await.expect("not too old"), 2);
}

#[tokio::test]
async fn watches_go_on_after_a_restart() {
    let fixture = Fixture::new();
    let opened = fixture.open().await;
    let first = opened.put("a").await;
    let second = opened.put("b").await;
    opened.put("c").await;
    drop(opened);
    let opened = fixture.open().await;
    assert_eq!(opened.seen_since(first).await, "b c");
    opened.put("d").await;
    assert_eq!(opened.seen_since(second).await, "c d");
    assert_eq!(opened.list_at(second).await.expect("the store has it"), 2);
    drop(opened);
    fixture.clock.advance(Duration::from_secs(400));
    let opened = fixture.open().await;
    // How much of what is too old the store still has at once does not matter: what it shows is whole.
    let seen = opened.seen_since(second).await;
    assert!(seen == "c d" || seen == "Expired", "{seen}");
}
