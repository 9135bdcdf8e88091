//! A small cluster, and one request against the plugins at a time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use admission::{Admission, Attributes, BoxFuture, Operation, View};
use admission_plugins::Config;
use api_schema::{Map, Value};
use api_semantics::status::{GroupResource, Status};
use authn::UserInfo;
use authz::Rbac;
use world::SeededRandom;

/// An object tree from JSON text.
pub(crate) fn json(text: &str) -> Value {
    let parsed: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    tree(&parsed)
}

fn tree(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Int(number.as_i64().expect("a whole number")),
        serde_json::Value::String(text) => Value::str(text),
        serde_json::Value::Array(items) => Value::List(items.iter().map(tree).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.as_str(), tree(value))).collect::<Map>())
        }
    }
}

/// Objects by group and resource: what caches show, and what only the store has yet.
#[derive(Default)]
pub(crate) struct Cluster {
    cached: Mutex<HashMap<String, Vec<Value>>>,
    fresh: Mutex<HashMap<String, Vec<Value>>>,
    now: AtomicI64,
}

impl Cluster {
    /// Adds an object of a resource (`pods`, `leases.coordination.k8s.io`) that everybody sees.
    pub(crate) fn add(&self, resource: &str, object: &str) {
        self.cached.lock().expect("sane").entry(resource.into()).or_default().push(json(object));
        self.add_fresh(resource, object);
    }

    /// Adds an object that no cache shows yet.
    pub(crate) fn add_fresh(&self, resource: &str, object: &str) {
        self.fresh.lock().expect("sane").entry(resource.into()).or_default().insert(0, json(object));
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }
}

fn find(objects: &HashMap<String, Vec<Value>>, resource: &GroupResource, namespace: &str, name: &str) -> Option<Value> {
    let all = objects.get(&resource.to_string()).map(Vec::as_slice).unwrap_or_default();
    let is_it = |object: &&Value| {
        object.str_at(&["metadata", "name"]) == name && object.str_at(&["metadata", "namespace"]) == namespace
    };
    all.iter().find(is_it).cloned()
}

impl View for Cluster {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        find(&self.cached.lock().expect("sane"), &GroupResource::new(group, resource), namespace, name)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        let cached = self.cached.lock().expect("sane");
        let all = cached.get(&GroupResource::new(group, resource).to_string()).map(Vec::as_slice).unwrap_or_default();
        let is_in = |object: &&Value| namespace.is_empty() || object.str_at(&["metadata", "namespace"]) == namespace;
        all.iter().filter(is_in).cloned().collect()
    }

    fn list_where(&self, group: &str, resource: &str, namespace: &str, field: &str, value: &str) -> Vec<Value> {
        let path: Vec<&str> = field.split('.').collect();
        self.list(group, resource, namespace).into_iter().filter(|object| object.str_at(&path) == value).collect()
    }

    fn get_fresh<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Value>> {
        let resource = GroupResource::new(group, resource);
        let found = find(&self.fresh.lock().expect("sane"), &resource, namespace, name);
        Box::pin(std::future::ready(found))
    }

    fn change_status<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
        change: &'a mut (dyn FnMut(&Value) -> Result<Option<Value>, Status> + Send),
    ) -> BoxFuture<'a, Result<(), Status>> {
        let resource = GroupResource::new(group, resource);
        let mut done = || {
            let mut fresh = self.fresh.lock().expect("sane");
            let all = fresh.entry(resource.to_string()).or_default();
            let is_it = |object: &&mut Value| {
                object.str_at(&["metadata", "name"]) == name && object.str_at(&["metadata", "namespace"]) == namespace
            };
            let Some(object) = all.iter_mut().find(is_it) else { return Err(Status::not_found(&resource, name)) };
            let Some(new) = change(object)? else { return Ok(()) };
            *object = new.clone();
            let mut cached = self.cached.lock().expect("sane");
            let shown = cached.entry(resource.to_string()).or_default().iter_mut().find(is_it);
            *shown.expect("what the store has is cached") = new;
            Ok(())
        };
        Box::pin(std::future::ready(done()))
    }

    fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }
}

/// Settings with nothing but the plugins that are on by default.
pub(crate) fn config() -> Config {
    let rbac = Arc::new(Rbac::new());
    Config {
        enable: Vec::new(),
        disable: Vec::new(),
        not_ready_toleration_seconds: 300,
        unreachable_toleration_seconds: 300,
        random: Arc::new(SeededRandom::new(1)),
        authorizer: rbac.clone(),
        rbac: Some(rbac),
    }
}

/// A chain of one plugin.
pub(crate) fn only(name: &str) -> Admission {
    only_of(name, config())
}

/// A chain of one plugin with these settings.
pub(crate) fn only_of(name: &str, mut config: Config) -> Admission {
    if !admission_plugins::default_names().any(|one| one == name) && name != "RbacEscalation" {
        config.enable.push(name.into());
    }
    let plugins = admission_plugins::all(&config).expect("known names");
    Admission::new(plugins.into_iter().filter(|plugin| plugin.name() == name).collect())
}

/// One request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// `create pods/eviction dev/x`; namespace and name as in paths, `-` for none.
    pub(crate) what: String,
    pub(crate) user: UserInfo,
    pub(crate) object: Option<Value>,
    pub(crate) old: Option<Value>,
}

impl Request {
    pub(crate) fn new(what: &str) -> Self {
        Self { what: what.into(), user: UserInfo::new("jane", &[]), ..Self::default() }
    }

    pub(crate) fn by(mut self, name: &str, groups: &[&str]) -> Self {
        self.user = UserInfo::new(name, groups);
        self
    }

    pub(crate) fn object(mut self, object: &str) -> Self {
        self.object = Some(json(object));
        self
    }

    pub(crate) fn old(mut self, old: &str) -> Self {
        self.old = Some(json(old));
        self
    }

    /// Runs the request through a chain: the object as it became.
    pub(crate) fn run(mut self, chain: &Admission, view: &dyn View) -> Result<Value, Status> {
        let parts: Vec<&str> = self.what.split(' ').collect();
        let operation = match parts[0] {
            "create" => Operation::Create,
            "update" => Operation::Update,
            "delete" => Operation::Delete,
            _ => Operation::Connect,
        };
        let (resource, subresource) = parts[1].split_once('/').unwrap_or((parts[1], ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let resource = GroupResource::new(group, resource);
        let (namespace, name) = parts.get(2).and_then(|at| at.split_once('/')).unwrap_or_default();
        let mut attributes = Attributes {
            operation,
            resource: &resource,
            kind: "",
            subresource,
            namespace,
            name,
            user: &self.user,
            dry_run: false,
            object: self.object.as_mut(),
            old: self.old.as_ref(),
            warnings: Vec::new(),
        };
        done(chain.admit(&mut attributes, view))?;
        done(chain.validate(&attributes, view))?;
        Ok(self.object.unwrap_or_default())
    }

    /// Runs the request and says what came of it: `ok`, or code and message.
    pub(crate) fn verdict(self, chain: &Admission, view: &dyn View) -> String {
        match self.run(chain, view) {
            Ok(_) => "ok".into(),
            Err(status) => format!("{} {}", status.code, status.message),
        }
    }
}

/// The answer of a future that never waits.
fn done<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("nothing here waits"),
    }
}
