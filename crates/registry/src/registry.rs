//! The registry: all resources over one store, fed by one stream of its changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api_schema::{SmolStr, Value};
use api_semantics::status::Status;
use arc_swap::ArcSwap;
use bytes::Bytes;
use store::{
    Batch, LeaseId, RangeRequest, Revision, SharedLeases, SharedStore, StoreError, Subscription, WatchRequest,
    WatchSink,
};
use tokio::sync::oneshot;
use watch_cache::{History, Progress, ResourceCache};
use world::{Clock, World};

use crate::codec;
use crate::hooks::Hooks;
use crate::ownership::Resets;
use crate::storage::{KindRef, SchemaRef, Served, Storage, StoredAs};

/// Events are kept this long unless told otherwise (upstream's --event-ttl).
const EVENT_TTL_MS: u64 = 3_600_000;

/// The key prefix of everything in the store.
pub const ROOT: &str = "/registry/";

/// Events can be watched for this long, as in the store.
const HISTORY_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// Or up to this many bytes of them, of all resources together, whichever is less.
const HISTORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Events go with those that come later anyway. If none come, they go in portions of this length.
const HISTORY_SLACK: Duration = Duration::from_secs(15);
/// A store may let go of history while a start reads it. It is then read anew, at most so often.
const START_ATTEMPTS_MAX: usize = 10;

/// All resources, and the ways to read and change their objects.
pub struct Registry {
    pub(crate) store: SharedStore,
    pub(crate) world: World,
    pub(crate) progress: Arc<Progress>,
    history: Arc<History>,
    pub(crate) leases: SharedLeases,
    /// How long Events are kept, in milliseconds.
    event_ttl: AtomicU64,
    pub(crate) admission: Arc<admission::Admission>,
    pub(crate) hooks: Hooks,
    tables: Arc<ArcSwap<Tables>>,
    /// Lets go of old history.
    _trimming: Task,
    /// Dropped last: ends the stream of changes.
    _subscription: Subscription,
}

/// A task that ends when this is dropped.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets go of history that is too old, though nothing new comes.
async fn trim(history: Arc<History>, progress: Arc<Progress>, clock: Arc<dyn Clock>) {
    loop {
        match history.next_due() {
            Some(due) => {
                world::timer::sleep_until(&*clock, due.saturating_add(HISTORY_SLACK)).await;
                history.trim();
            }
            None => progress.reached(progress.revision() + 1).await,
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Is told of every change of a resource's objects as it becomes visible: the key behind the prefix and the object,
/// decoded in its stored version, or none if it was deleted. Called for all present objects at the start.
pub type Observer = Arc<dyn Fn(&str, Option<&Value>) + Send + Sync>;

/// Observers by group and resource.
pub type Observers = Vec<((&'static str, &'static str), Observer)>;

/// Which resources there are. Replaced as a whole when one is registered.
#[derive(Default, Clone)]
struct Tables {
    served: HashMap<(SmolStr, SmolStr, SmolStr), Arc<Served>>,
    by_prefix: HashMap<SmolStr, Arc<Storage>>,
    by_name: HashMap<(SmolStr, SmolStr), Arc<Storage>>,
}

impl Tables {
    /// The storage whose prefix a key (without the root) starts with, and what follows it.
    fn find<'a>(&self, key: &'a str) -> Option<(&Arc<Storage>, &'a str)> {
        let first = key.find('/')? + 1;
        if let Some(second) = key[first..].find('/').map(|at| first + at + 1)
            && let Some(storage) = self.by_prefix.get(&key[..second])
        {
            return Some((storage, &key[second..]));
        }
        self.by_prefix.get(&key[..first]).map(|storage| (storage, &key[first..]))
    }
}

/// Feeds the caches from the store's one stream of changes.
struct Feed {
    tables: Arc<ArcSwap<Tables>>,
    progress: Arc<Progress>,
    observers: Observers,
    /// Is told why the stream ended, while there is somebody to ask.
    ended: Option<oneshot::Sender<StoreError>>,
}

/// The observer of a storage.
fn observer_of<'a>(observers: &'a Observers, storage: &Storage) -> Option<&'a Observer> {
    let own = &storage.group_resource;
    observers.iter().find(|((group, resource), _)| own.group == *group && own.resource == *resource).map(|(_, o)| o)
}

impl WatchSink for Feed {
    fn batch(&mut self, batch: &Arc<Batch>) {
        let tables = self.tables.load();
        let mut touched: Vec<&Arc<Storage>> = Vec::with_capacity(1);
        for event in &batch.events {
            let Some(key) = std::str::from_utf8(&event.record.key).ok().and_then(|key| key.strip_prefix(ROOT)) else {
                continue;
            };
            let Some((storage, suffix)) = tables.find(key) else { continue };
            let value = matches!(event.kind, store::EventKind::Put).then(|| event.record.value.clone());
            if let Some(observer) = observer_of(&self.observers, storage) {
                let object = value.as_ref().and_then(|v| codec::decode_stored(storage, v, batch.revision.0).ok());
                observer(suffix, object.as_ref());
            }
            storage.cache.apply(suffix, batch.revision.0, value);
            if !touched.iter().any(|other| Arc::ptr_eq(other, storage)) {
                touched.push(storage);
            }
        }
        self.progress.advance(batch.revision.0);
        for storage in touched {
            storage.cache.publish();
        }
    }

    fn progress(&mut self, revision: Revision) {
        self.progress.advance(revision.0);
    }

    fn end(&mut self, error: StoreError) {
        // The caches would serve old states as new from here on: nobody may take them for the truth.
        match self.ended.take().map(|ended| ended.send(error.clone())) {
            Some(Ok(())) => {}
            _ => tracing::error!(%error, "the store's stream of changes ended; the caches stand still"),
        }
    }
}

/// Why the registry could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read.
    #[error("read the store")]
    Read(#[source] StoreError),
}

/// A resource to serve: its versions share one storage.
pub struct Registration {
    /// The apiVersion that is stored, and its type.
    pub stored: (SmolStr, api_schema::StructId),
    /// The versions served, each with its names and verbs and its type; the preferred one first.
    pub versions: Vec<(Arc<api_types::Resource>, api_schema::StructId)>,
    /// The types.
    pub schema: SchemaRef,
    /// The behaviour.
    pub kind: KindRef,
    /// How objects are stored.
    pub stored_as: StoredAs,
    /// The key prefix below [`ROOT`], without slashes at its ends.
    pub prefix: SmolStr,
}

impl Registry {
    /// Serves the built-in resources for which `served` says so, over a store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn start(
        store: SharedStore,
        world: World,
        admission: Arc<admission::Admission>,
        hooks: Hooks,
        observers: Observers,
        served: impl Fn(&api_types::Resource) -> bool,
    ) -> Result<Arc<Self>, StartError> {
        let mut attempts = 1;
        let Followed { tables, progress, history, subscription } = loop {
            // Watches may go on from before a restart as long as the store knows what came since; if it forgets too
            // fast to be read, they start anew.
            let revision = match attempts {
                START_ATTEMPTS_MAX => store.current_revision().await.map_err(StartError::Read)?,
                _ => oldest_readable(&store).await?,
            };
            match follow(&store, &world, &observers, &served, revision).await {
                Err(StartError::Read(StoreError::Compacted { .. })) if attempts < START_ATTEMPTS_MAX => attempts += 1,
                result => break result?,
            }
        };
        let leases = SharedLeases::new(Arc::clone(&store), Arc::clone(&world.clock));
        let trimming = Task(tokio::spawn(trim(Arc::clone(&history), Arc::clone(&progress), Arc::clone(&world.clock))));
        let registry = Arc::new_cyclic(|this: &Weak<Self>| {
            hooks.attach(this.clone());
            Self {
                store,
                world,
                progress,
                history,
                leases,
                event_ttl: AtomicU64::new(EVENT_TTL_MS),
                admission,
                hooks,
                tables,
                _trimming: trimming,
                _subscription: subscription,
            }
        });
        Ok(registry)
    }

    /// Keeps Events written from now on for so long (an hour unless set); for ever if that is zero.
    pub fn set_event_ttl(&self, ttl: Duration) {
        self.event_ttl.store(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A lease for an Event, unless Events are kept for ever.
    pub(crate) async fn event_lease(&self) -> store::Result<Option<LeaseId>> {
        match self.event_ttl.load(Ordering::Relaxed) {
            0 => Ok(None),
            millis => self.leases.lease(Duration::from_millis(millis)).await.map(Some),
        }
    }

    /// Serves one more resource. Its objects are read from the store first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn register(&self, registration: Registration) -> Result<(), StartError> {
        let mut fresh = Tables::default();
        register(&mut fresh, registration, &self.progress, &self.history);
        // Changes that come while the snapshot is read are not lost: nothing is served before the table is swapped,
        // and what came between the snapshot and the swap is read again.
        for storage in fresh.by_prefix.values() {
            load(&self.store, storage, self.store.current_revision().await.map_err(StartError::Read)?).await?;
        }
        self.tables.rcu(|tables| {
            let mut tables = Tables::clone(tables);
            tables.served.extend(fresh.served.clone());
            tables.by_prefix.extend(fresh.by_prefix.clone());
            tables.by_name.extend(fresh.by_name.clone());
            tables
        });
        for storage in fresh.by_prefix.values() {
            load(&self.store, storage, self.store.current_revision().await.map_err(StartError::Read)?).await?;
        }
        Ok(())
    }

    /// A resource as served in a version.
    pub fn served(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Served>> {
        self.tables.load().served.get(&(group.into(), version.into(), resource.into())).cloned()
    }

    /// All served resources.
    pub fn all_served(&self) -> Vec<Arc<Served>> {
        self.tables.load().served.values().cloned().collect()
    }

    /// The storage of a resource, whatever its version.
    pub fn storage(&self, group: &str, resource: &str) -> Option<Arc<Storage>> {
        self.tables.load().by_name.get(&(group.into(), resource.into())).cloned()
    }

    /// Addresses and ports of Services.
    pub fn services(&self) -> &crate::services::Services {
        &self.hooks.services
    }

    /// How far the caches are.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The clock and the dice.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The newest state of an object in the cache, decoded, in its stored version.
    pub fn cached(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let storage = self.storage(group, resource)?;
        let object = storage.cache.get(&storage.suffix(namespace, name))?;
        codec::decode_stored(&storage, &object.bytes, object.revision).ok()
    }

    /// The newest states of all objects of a resource in the cache (of one namespace, or of all), decoded.
    pub fn cached_list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        let Some(storage) = self.storage(group, resource) else { return Vec::new() };
        let selection = watch_cache::Selection { namespace: namespace.into(), ..Default::default() };
        let snapshot = storage.cache.list(&selection, None, 0);
        let decode =
            |object: &Arc<watch_cache::Object>| codec::decode_stored(&storage, &object.bytes, object.revision).ok();
        snapshot.objects.iter().filter_map(decode).collect()
    }

    /// The current revision of the store, once every cache has reached it: what a consistent read needs.
    pub(crate) async fn freshen(&self) -> Result<u64, Status> {
        let revision = self.store.current_revision().await.map_err(|e| store_status(&e))?;
        if self.progress.revision() < revision.0 {
            self.store.request_progress();
            self.progress.reached(revision.0).await;
        }
        Ok(revision.0)
    }
}

/// The built-in resources, grouped by storage.
fn builtin(served: &impl Fn(&api_types::Resource) -> bool) -> Vec<Registration> {
    let mut order: Vec<(SmolStr, SmolStr)> = Vec::new();
    let mut versions: HashMap<(SmolStr, SmolStr), Vec<&'static api_types::Resource>> = HashMap::new();
    for info in api_types::resources().iter().filter(|info| served(info)) {
        let key = home(info);
        versions.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        let key = home(info);
        if let Some(list) = versions.get_mut(&key) {
            list.push(info);
        }
    }
    order
        .iter()
        .filter_map(|key| {
            let mut infos = versions.remove(key)?;
            let (group, version) = kinds::convert::storage_version(&key.0, &key.1)?;
            let kind = infos.first()?.kind.clone();
            let stored_type = api_types::struct_id(&api_types::type_name(group, version, &kind));
            let stored = (kinds::convert::api_version((group, version)), stored_type);
            // Names, verbs and subresources are those of the stored group (Events are in two).
            infos.sort_by_key(|info| (info.group != group, info.version != version));
            let kind = match kinds::all::find(&key.0, &key.1) {
                Some(kind) => KindRef::Builtin(kind),
                None => KindRef::Custom(Arc::new(kinds::Plain { group: key.0.clone(), resource: key.1.clone() })),
            };
            Some(Registration {
                stored,
                versions: infos
                    .into_iter()
                    .map(|info| (Arc::new(info.clone()), api_types::struct_id(&info.type_name)))
                    .collect(),
                schema: SchemaRef::Builtin,
                kind,
                stored_as: StoredAs::Protobuf,
                prefix: kinds::convert::storage_prefix(&key.0, &key.1)
                    .trim_start_matches(ROOT)
                    .trim_matches('/')
                    .into(),
            })
        })
        .collect()
}

/// Where a resource is stored: Events of both groups are one.
fn home(info: &api_types::Resource) -> (SmolStr, SmolStr) {
    match (&*info.group, &*info.resource) {
        ("events.k8s.io", "events") => (SmolStr::default(), "events".into()),
        _ => (info.group.clone(), info.resource.clone()),
    }
}

fn register(tables: &mut Tables, registration: Registration, progress: &Arc<Progress>, history: &Arc<History>) {
    let Registration { stored: (api_version, type_id), versions, schema, kind, stored_as, prefix } = registration;
    let Some((first, _)) = versions.first().cloned() else { return };
    let index = codec::indexer(schema.clone(), type_id, kind.clone(), stored_as);
    let storage = Arc::new(Storage {
        group_resource: api_semantics::status::GroupResource::new(first.group.clone(), first.resource.clone()),
        kind_name: first.kind.clone(),
        api_version,
        kind,
        schema,
        type_id,
        stored_as,
        namespaced: first.namespaced(),
        has_status: first.subresource("status").is_some(),
        resets: Resets::new(first.subresource("status").is_some()),
        prefix: api_schema::format_smolstr!("{ROOT}{prefix}/"),
        cache: Arc::new(ResourceCache::new(index, Arc::clone(progress), Arc::clone(history))),
    });
    tables.by_prefix.insert(api_schema::format_smolstr!("{prefix}/"), Arc::clone(&storage));
    for (info, type_id) in versions {
        let key = (info.group.clone(), info.version.clone(), info.resource.clone());
        tables.by_name.insert((info.group.clone(), info.resource.clone()), Arc::clone(&storage));
        let api_version = info.api_version();
        let rules = kinds::all::find(&info.group, &info.resource).filter(|kind| kind.group() != storage.kind.group());
        let served = Served { info, api_version, type_id, rules, storage: Arc::clone(&storage) };
        tables.served.insert(key, Arc::new(served));
    }
}

/// Caches that follow a store.
struct Followed {
    tables: Arc<ArcSwap<Tables>>,
    progress: Arc<Progress>,
    history: Arc<History>,
    subscription: Subscription,
}

/// Loads the caches as of a revision and lets them follow the store from there, up to the present.
async fn follow(
    store: &SharedStore,
    world: &World,
    observers: &Observers,
    served: &impl Fn(&api_types::Resource) -> bool,
    revision: Revision,
) -> Result<Followed, StartError> {
    let progress = Arc::new(Progress::default());
    let history = Arc::new(History::new(Arc::clone(&world.clock), HISTORY_AGE_MAX, HISTORY_BYTES_MAX));
    let mut tables = Tables::default();
    for registration in builtin(served) {
        register(&mut tables, registration, &progress, &history);
    }
    for storage in tables.by_prefix.values() {
        load(store, storage, revision).await?;
    }
    tell(observers, &tables, true);
    progress.advance(revision.0);
    let tables = Arc::new(ArcSwap::from_pointee(tables));
    let (ended, end) = oneshot::channel();
    let feed = Feed {
        tables: Arc::clone(&tables),
        progress: Arc::clone(&progress),
        observers: observers.clone(),
        ended: Some(ended),
    };
    let subscription = store.subscribe(WatchRequest::prefix_after(ROOT.as_bytes(), revision), Box::new(feed));
    let newest = store.current_revision().await.map_err(StartError::Read)?;
    store.request_progress();
    tokio::select! {
        biased;
        Ok(error) = end => {
            drop(subscription);
            tell(observers, &tables.load(), false);
            Err(StartError::Read(error))
        }
        () = progress.reached(newest.0) => Ok(Followed { tables, progress, history, subscription }),
    }
}

/// Tells the observers of all objects in the caches, that they are there or that they are not.
fn tell(observers: &Observers, tables: &Tables, present: bool) {
    for storage in tables.by_prefix.values() {
        let Some(observer) = observer_of(observers, storage) else { continue };
        for object in storage.cache.list(&watch_cache::Selection::default(), None, 0).objects {
            let key = storage.suffix(&object.index.namespace, &object.index.name);
            let value = codec::decode_stored(storage, &object.bytes, object.revision).ok().filter(|_| present);
            observer(&key, value.as_ref());
        }
    }
}

/// The oldest revision that the store can show.
async fn oldest_readable(store: &SharedStore) -> Result<Revision, StartError> {
    match store.get(ROOT.as_bytes(), Some(Revision::FIRST)).await {
        Ok(_) => Ok(Revision::FIRST),
        Err(StoreError::Compacted { compacted, .. }) => Ok(compacted),
        Err(error) => Err(StartError::Read(error)),
    }
}

/// Fills a storage's cache with its objects at a revision.
async fn load(store: &SharedStore, storage: &Storage, revision: Revision) -> Result<(), StartError> {
    let request = RangeRequest::prefix(storage.prefix.as_bytes()).at(revision);
    let response = store.range(request).await.map_err(StartError::Read)?;
    let objects = response.records.iter().filter_map(|record| {
        let key = std::str::from_utf8(&record.key).ok()?.strip_prefix(&*storage.prefix)?;
        Some((SmolStr::new(key), record.mod_revision.0, Bytes::clone(&record.value)))
    });
    storage.cache.load(objects, revision.0);
    Ok(())
}

/// What a failure of the store is to a client.
pub(crate) fn store_status(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StoreError::FutureRevision { requested, current } => Status::too_large_resource_version(requested.0, current.0),
        StoreError::TooLarge { .. } => Status::request_entity_too_large(store::TXN_BYTES_MAX),
        StoreError::Overloaded => {
            Status::too_many_requests("the store has too many writes waiting, please try again later", 1)
        }
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Status::internal(text)
        }
    }
}
