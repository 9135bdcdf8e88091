//! The objects that Pods refer to: each followed by a watch of its own for as long as a Pod of this node names it. A node
//! may not list the Secrets of a namespace (the Node authorizer sees to that), and need not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use api_schema::Value;
use client::{Client, Error};
use informer::{Extract, Informer};
use parking_lot::{Mutex, RwLock};
use smol_str::SmolStr;

use crate::env::Lookups;
use crate::pod::{Pod, Uid};
use crate::ports::{Sources, Task};

/// How long a worker waits for an object to be seen for the first time; then it goes on without and tries again.
const FIRST_SIGHT: Duration = Duration::from_secs(10);

/// A whole object, cheap to hand on.
#[derive(Debug)]
struct Whole(Arc<Value>);

impl Extract for Whole {
    fn extract(object: Value) -> Self {
        Whole(Arc::new(object))
    }
}

/// What can be referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Kind::ConfigMap => "configmaps",
            Kind::Secret => "secrets",
        }
    }
}

/// An object by kind, namespace and name.
type Reference = (Kind, SmolStr, SmolStr);

/// Tells a Pod's worker to look again.
type Wake = Box<dyn Fn(&Uid) + Send + Sync>;

/// An object that is followed, and the Pods that name it.
struct Followed {
    informer: Informer<Whole>,
    pods: Arc<RwLock<BTreeSet<Uid>>>,
}

/// The objects of the API that this node's Pods refer to.
pub struct ObjectCache {
    client: Client,
    services: Informer<Whole>,
    followed: Mutex<BTreeMap<Reference, Followed>>,
    by_pod: Mutex<HashMap<Uid, BTreeSet<Reference>>>,
    claims: Mutex<HashMap<Uid, Claims>>,
    /// The handlers of RuntimeClasses that were asked for.
    handlers: Mutex<HashMap<SmolStr, String>>,
    wake: Arc<Wake>,
}

/// The bound claims of a Pod and their volumes: what is bound stays so.
type Claims = BTreeMap<SmolStr, (Arc<Value>, Option<Arc<Value>>)>;

impl ObjectCache {
    /// A cache that calls `wake` for each Pod that names an object which changed.
    pub fn new(client: Client, wake: impl Fn(&Uid) + Send + Sync + 'static) -> Arc<ObjectCache> {
        let services = Informer::start(client.resource("", "v1", "services"), "", "");
        Arc::new(ObjectCache {
            client,
            services,
            followed: Mutex::default(),
            by_pod: Mutex::default(),
            claims: Mutex::default(),
            handlers: Mutex::default(),
            wake: Arc::new(Box::new(wake)),
        })
    }

    /// Follows what the Pod names, and nothing else for it any more.
    fn follow(&self, pod: &Pod) -> Vec<Informer<Whole>> {
        let wanted = references(pod);
        let before = self.by_pod.lock().insert(pod.uid().clone(), wanted.clone()).unwrap_or_default();
        let mut followed = self.followed.lock();
        for gone in before.difference(&wanted) {
            leave(&mut followed, gone, pod.uid());
        }
        let follow_one = |reference: &Reference| {
            let entry = followed.entry(reference.clone()).or_insert_with(|| self.start(reference));
            entry.pods.write().insert(pod.uid().clone());
            entry.informer.clone()
        };
        wanted.iter().map(follow_one).collect()
    }

    fn start(&self, (kind, namespace, name): &Reference) -> Followed {
        let api = self.client.resource("", "v1", kind.plural()).namespace(namespace);
        let informer = Informer::start(api, "", &format!("metadata.name={name}"));
        let pods = Arc::new(RwLock::new(BTreeSet::new()));
        let (wake, readers) = (self.wake.clone(), pods.clone());
        informer.subscribe(move |_| {
            let readers: Vec<Uid> = readers.read().iter().cloned().collect();
            readers.iter().for_each(|uid| wake(uid));
        });
        Followed { informer, pods }
    }

    /// Forgets a Pod.
    pub fn forget(&self, pod: &Uid) {
        self.claims.lock().remove(pod);
        let references = self.by_pod.lock().remove(pod).unwrap_or_default();
        let mut followed = self.followed.lock();
        for reference in &references {
            leave(&mut followed, reference, pod);
        }
    }

    /// Asks for the handler of the Pod's RuntimeClass; a class never changes its handler, but may come later.
    async fn runtime_handler(&self, pod: &Pod) -> Result<Result<String, String>, Error> {
        let name = pod.spec_str("runtimeClassName");
        if name.is_empty() {
            return Ok(Ok(String::new()));
        }
        if let Some(handler) = self.handlers.lock().get(name) {
            return Ok(Ok(handler.clone()));
        }
        let class = self.client.resource("node.k8s.io", "v1", "runtimeclasses").get_if_exists(name).await?;
        let Some(class) = class else {
            return Ok(Err(format!("failed to get sandbox runtime: runtimeclass.node.k8s.io {name:?} not found")));
        };
        let handler = class.str_at(&["handler"]).to_owned();
        self.handlers.lock().insert(name.into(), handler.clone());
        Ok(Ok(handler))
    }

    /// Asks for the claims of the Pod that are not known to be bound, and for their volumes.
    async fn claims(&self, pod: &Pod) -> Result<Claims, Error> {
        let mut claims = self.claims.lock().get(pod.uid()).cloned().unwrap_or_default();
        let volumes = pod.spec(&["volumes"]).and_then(Value::as_list).unwrap_or_default();
        let names = volumes.iter().map(|volume| volume.str_at(&["persistentVolumeClaim", "claimName"]));
        for name in names.filter(|name| !name.is_empty()) {
            if claims.get(name).is_some_and(|(_, volume)| volume.is_some()) {
                continue;
            }
            let api = self.client.resource("", "v1", "persistentvolumeclaims").namespace(&pod.key().namespace);
            let Some(claim) = api.get_if_exists(name).await? else { continue };
            let volume_name = claim.str_at(&["spec", "volumeName"]);
            let volume = match volume_name {
                "" => None,
                name => self.client.resource("", "v1", "persistentvolumes").get_if_exists(name).await?,
            };
            claims.insert(name.into(), (Arc::new(claim), volume.map(Arc::new)));
        }
        self.claims.lock().insert(pod.uid().clone(), claims.clone());
        Ok(claims)
    }
}

fn leave(followed: &mut BTreeMap<Reference, Followed>, reference: &Reference, pod: &Uid) {
    let Some(entry) = followed.get(reference) else { return };
    let mut pods = entry.pods.write();
    pods.remove(pod);
    let is_unused = pods.is_empty();
    drop(pods);
    if is_unused {
        followed.remove(reference);
    }
}

/// The ConfigMaps and Secrets that a Pod names: in its environment, its volumes and for its images.
fn references(pod: &Pod) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            found.insert((kind, pod.key().namespace.clone(), SmolStr::new(name)));
        }
    };
    for container in pod.all_containers() {
        for source in container.value().list_at(&["envFrom"]) {
            add(Kind::ConfigMap, source.str_at(&["configMapRef", "name"]));
            add(Kind::Secret, source.str_at(&["secretRef", "name"]));
        }
        for variable in container.value().list_at(&["env"]) {
            add(Kind::ConfigMap, variable.str_at(&["valueFrom", "configMapKeyRef", "name"]));
            add(Kind::Secret, variable.str_at(&["valueFrom", "secretKeyRef", "name"]));
        }
    }
    for volume in pod.spec(&["volumes"]).and_then(Value::as_list).unwrap_or_default() {
        add(Kind::ConfigMap, volume.str_at(&["configMap", "name"]));
        add(Kind::Secret, volume.str_at(&["secret", "secretName"]));
        for source in volume.list_at(&["projected", "sources"]) {
            add(Kind::ConfigMap, source.str_at(&["configMap", "name"]));
            add(Kind::Secret, source.str_at(&["secret", "name"]));
        }
    }
    for secret in pod.spec(&["imagePullSecrets"]).and_then(Value::as_list).unwrap_or_default() {
        add(Kind::Secret, secret.str_at(&["name"]));
    }
    found
}

impl Sources for ObjectCache {
    fn lookups<'a>(&'a self, pod: &'a Pod) -> Task<'a, Result<Arc<dyn Lookups>, String>> {
        Box::pin(async move {
            let informers = self.follow(pod);
            let all = async {
                self.services.synced().await;
                for informer in &informers {
                    informer.synced().await;
                }
            };
            if tokio::time::timeout(FIRST_SIGHT, all).await.is_err() {
                return Err("timed out waiting for the objects that the pod refers to".to_owned());
            }
            let claims = self.claims(pod).await.map_err(|error| error.to_string())?;
            let handler = self.runtime_handler(pod).await.map_err(|error| error.to_string())?;
            let mut objects = HashMap::new();
            let followed = self.followed.lock();
            for reference in references(pod) {
                let (_, namespace, name) = &reference;
                let entry = followed.get(&reference).and_then(|entry| entry.informer.get(namespace, name));
                if let Some(object) = entry {
                    objects.insert((reference.0, reference.2), object.content.0.clone());
                }
            }
            drop(followed);
            let namespace = pod.key().namespace.clone();
            let version = version(&objects);
            let found = Found { namespace, objects, claims, services: self.services.clone(), version, handler };
            Ok(Arc::new(found) as Arc<dyn Lookups>)
        })
    }
}

/// What was found for one Pod.
struct Found {
    namespace: SmolStr,
    objects: HashMap<(Kind, SmolStr), Arc<Value>>,
    claims: Claims,
    services: Informer<Whole>,
    version: u64,
    handler: Result<String, String>,
}

/// A number for this set of objects in these versions.
fn version(objects: &HashMap<(Kind, SmolStr), Arc<Value>>) -> u64 {
    let mut all: Vec<(&(Kind, SmolStr), &str)> =
        objects.iter().map(|(key, object)| (key, object.str_at(&["metadata", "resourceVersion"]))).collect();
    all.sort_unstable();
    let mut hasher = DefaultHasher::new();
    all.hash(&mut hasher);
    hasher.finish()
}

impl Found {
    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Value>> {
        self.objects.get(&(kind, SmolStr::new(name))).cloned()
    }
}

impl Lookups for Found {
    fn version(&self) -> u64 {
        self.version
    }

    fn runtime_handler(&self) -> Result<String, String> {
        self.handler.clone()
    }

    fn config_map(&self, name: &str) -> Option<Arc<Value>> {
        self.get(Kind::ConfigMap, name)
    }

    fn secret(&self, name: &str) -> Option<Arc<Value>> {
        self.get(Kind::Secret, name)
    }

    fn services(&self) -> Vec<Arc<Value>> {
        let mut services: Vec<_> = self.services.list_in(&self.namespace);
        services.extend(self.services.get("default", "kubernetes").filter(|_| self.namespace != "default"));
        services.iter().map(|service| service.content.0.clone()).collect()
    }

    fn claim(&self, name: &str) -> Option<Arc<Value>> {
        self.claims.get(name).map(|(claim, _)| claim.clone())
    }

    fn persistent_volume(&self, name: &str) -> Option<Arc<Value>> {
        let volumes = self.claims.values().filter_map(|(_, volume)| volume.as_ref());
        volumes.into_iter().find(|volume| volume.str_at(&["metadata", "name"]) == name).cloned()
    }
}
