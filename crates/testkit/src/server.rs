//! An API server in memory, with faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_codec::{json, meta, proto};
use api_patch::json_patch::JsonPatch;
use api_patch::{merge_patch, strategic};
use api_schema::{SmolStr, Value};
use api_semantics::status::{GroupResource, Status};
use api_semantics::time::Timestamp as ApiTime;
use bytes::Bytes;
use client::{Body, Reply, Transport, TransportError};
use http::{Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use tokio::sync::Notify;
use world::World;

use crate::path::{Filter, Query, Target};
use crate::simulation::Trace;
use crate::watcher;

/// How often, of a thousand times, something goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nobody listens.
    pub refused: u64,
    /// The connection breaks before the server has seen the request.
    pub lost_request: u64,
    /// The server does as asked, but its answer is lost.
    pub lost_answer: u64,
    /// 500.
    pub internal_error: u64,
    /// 429, come back in a second.
    pub too_many_requests: u64,
    /// A watch is refused as if what has changed since were no longer known.
    pub expired_watch: u64,
    /// A watch breaks before an event.
    pub broken_watch: u64,
    /// A watch ends in good order before an event.
    pub ended_watch: u64,
    /// An event is sent twice.
    pub doubled_event: u64,
    /// Watches cannot show what is there (an old server).
    pub no_initial_events: bool,
    /// Requests and events take up to this long.
    pub delay_max: Duration,
}

impl Faults {
    /// All goes well, at once.
    pub fn none() -> Self {
        Self::default()
    }

    /// Much goes wrong.
    pub fn rough() -> Self {
        Self {
            refused: 30,
            lost_request: 30,
            lost_answer: 30,
            internal_error: 30,
            too_many_requests: 20,
            expired_watch: 200,
            broken_watch: 60,
            ended_watch: 30,
            doubled_event: 30,
            no_initial_events: false,
            delay_max: Duration::from_millis(300),
        }
    }
}

/// A change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) resource: &'static str,
    /// Before; none if it was made.
    pub(crate) old: Option<Arc<Value>>,
    /// After; none if it was deleted.
    pub(crate) new: Option<Arc<Value>>,
    /// As a watch shows the deletion.
    pub(crate) last: Arc<Value>,
}

type Objects = BTreeMap<(SmolStr, SmolStr), Arc<Value>>;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    pub(crate) objects: BTreeMap<&'static str, Objects>,
    pub(crate) log: Vec<Change>,
    /// Watches of a former life end.
    pub(crate) life: u64,
    down: bool,
}

/// An API server that keeps objects in memory. It checks little: names, resourceVersions, preconditions, finalizers.
#[derive(Debug)]
pub struct FakeServer {
    pub(crate) inner: Arc<Inner>,
    faulty: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) world: World,
    pub(crate) trace: Trace,
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Notify,
    faults: Mutex<Faults>,
    requests: AtomicU64,
}

impl FakeServer {
    /// An empty server.
    pub fn new(world: World, trace: Trace) -> Self {
        let state =
            State { revision: 1, compacted: 0, objects: BTreeMap::new(), log: Vec::new(), life: 0, down: false };
        let inner = Inner {
            world,
            trace,
            state: Mutex::new(state),
            changed: Notify::new(),
            faults: Mutex::default(),
            requests: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner), faulty: true }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.inner.faults.lock() = faults;
    }

    /// The same server for one who never meets a fault.
    pub fn without_faults(&self) -> Arc<dyn Transport> {
        Arc::new(Self { inner: Arc::clone(&self.inner), faulty: false })
    }

    /// Forgets all changes so far: watches from before begin anew.
    pub fn compact(&self) {
        let mut state = self.inner.state.lock();
        state.compacted = state.revision;
        state.log.clear();
        self.inner.trace.note(format!("server compacted to {}", state.revision));
    }

    /// Goes down: all watches break, nobody listens.
    pub fn stop(&self) {
        let mut state = self.inner.state.lock();
        state.down = true;
        state.life += 1;
        drop(state);
        self.inner.trace.note("server stopped");
        self.inner.changed.notify_waiters();
    }

    /// Comes up again, with all its objects.
    pub fn start(&self) {
        self.inner.state.lock().down = false;
        self.inner.trace.note("server started");
    }

    /// All objects of a resource, by namespace and name: the truth, without a request.
    ///
    /// # Panics
    /// If there is no such resource.
    pub fn objects(&self, group: &str, version: &str, plural: &str) -> Vec<Arc<Value>> {
        let resource = api_types::resource(group, version, plural).expect("it is a built-in resource");
        let state = self.inner.state.lock();
        state.objects.get(key_of(resource)).into_iter().flat_map(Objects::values).cloned().collect()
    }

    /// How many requests there were.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }
}

impl Inner {
    /// Whether something goes wrong that does so often, of a thousand times.
    pub(crate) fn happens(&self, often: impl Fn(&Faults) -> u64) -> bool {
        let often = often(&self.faults.lock());
        often > 0 && self.world.random.u64() % 1000 < often
    }

    pub(crate) async fn delay(&self) {
        let max = self.faults.lock().delay_max;
        if !max.is_zero() {
            let nanos = self.world.random.u64() % (max.as_nanos() as u64);
            world::timer::sleep(&*self.world.clock, Duration::from_nanos(nanos)).await;
        }
    }
}

/// One name for a resource: events of both groups are the same objects.
pub(crate) fn key_of(resource: &'static api_types::Resource) -> &'static str {
    &resource.type_name
}

impl Transport for FakeServer {
    fn send(&self, request: Request<Bytes>) -> Reply<'_> {
        Box::pin(async move {
            let name = format!("{} {}", request.method(), request.uri());
            let answer = self.answer(&request).await;
            let told = match &answer {
                Ok(response) => response.status().as_u16().to_string(),
                Err(error) => error.to_string(),
            };
            self.inner.trace.note(format!("{name} -> {told}"));
            answer
        })
    }
}

fn refused() -> TransportError {
    TransportError::Connect { server: "the simulated server".into(), source: "connection refused".into() }
}

fn broken() -> TransportError {
    TransportError::Lost("connection reset by peer".into())
}

impl FakeServer {
    async fn answer(&self, request: &Request<Bytes>) -> Result<Response<Body>, TransportError> {
        let inner = &self.inner;
        inner.requests.fetch_add(1, Ordering::Relaxed);
        if self.faulty {
            inner.delay().await;
            if inner.state.lock().down || inner.happens(|faults| faults.refused) {
                return Err(refused());
            }
            if inner.happens(|faults| faults.lost_request) {
                return Err(broken());
            }
            if inner.happens(|faults| faults.internal_error) {
                return Ok(refusal(&Status::internal("simulated")));
            }
            if inner.happens(|faults| faults.too_many_requests) {
                return Ok(refusal(&Status::too_many_requests("simulated", 1)));
            }
        }
        let response = self.handle(request).unwrap_or_else(|status| refusal(&status));
        if self.faulty && inner.happens(|faults| faults.lost_answer) {
            return Err(broken());
        }
        Ok(response)
    }

    fn handle(&self, request: &Request<Bytes>) -> Result<Response<Body>, Status> {
        let target = Target::parse(request.uri().path()).ok_or_else(Status::path_not_found)?;
        let query = Query::parse(request.uri().query().unwrap_or_default());
        match (request.method(), target.name.is_empty()) {
            (&Method::GET, true) if query.is("watch") => self.watch(&target, &query),
            (&Method::GET, true) => self.list(&target, &query),
            (&Method::GET, false) => Ok(object(StatusCode::OK, &*self.get(&target)?)),
            (&Method::POST, true) => self.create(&target, read(request)?),
            (&Method::POST, false) => self.create_sub(&target, &read(request)?),
            (&Method::PUT, false) => self.update(&target, read(request)?),
            (&Method::PATCH, false) => self.patch(&target, request),
            (&Method::DELETE, false) => self.delete(&target, request),
            _ => Err(Status::method_not_supported(&group_resource(&target), request.method().as_str())),
        }
    }

    // === reading ===

    fn get(&self, target: &Target) -> Result<Arc<Value>, Status> {
        let state = self.inner.state.lock();
        let found = state.objects.get(key_of(target.resource)).and_then(|all| all.get(&identity(target)));
        found.cloned().ok_or_else(|| Status::not_found(&group_resource(target), &target.name))
    }

    fn list(&self, target: &Target, query: &Query) -> Result<Response<Body>, Status> {
        let filter = Filter::new(target, query).map_err(Status::bad_request)?;
        let state = self.inner.state.lock();
        let wanted = query.number("resourceVersion");
        if wanted > state.revision {
            return Err(Status::too_large_resource_version(wanted, state.revision));
        }
        let all = state.objects.get(key_of(target.resource)).into_iter().flat_map(Objects::values);
        let items: Vec<Value> =
            all.filter(|object| filter.matches(object)).map(|object| Value::clone(object)).collect();
        let kind = api_schema::format_smolstr!("{}List", target.resource.kind);
        let mut list = Value::from([("apiVersion", target.resource.api_version()), ("kind", kind)]);
        list.set(&["metadata", "resourceVersion"], state.revision.to_string());
        list.set(&["items"], items);
        Ok(object(StatusCode::OK, &list))
    }

    fn watch(&self, target: &Target, query: &Query) -> Result<Response<Body>, Status> {
        let filter = Filter::new(target, query).map_err(Status::bad_request)?;
        let from = query.number("resourceVersion");
        let expired = || Status::expired(format!("too old resource version: {from}"));
        if self.faulty && from > 0 && self.inner.happens(|faults| faults.expired_watch) {
            return Err(expired());
        }
        if query.is("sendInitialEvents") && self.inner.faults.lock().no_initial_events {
            let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            return Err(Status::generic(422, "Invalid", why));
        }
        let shows_all = query.is("sendInitialEvents") || from == 0;
        {
            let state = self.inner.state.lock();
            if from > state.revision {
                return Err(Status::too_large_resource_version(from, state.revision));
            }
            if !shows_all && from < state.compacted {
                return Err(expired());
            }
        }
        let plan = watcher::Plan {
            resource: target.resource,
            filter,
            from,
            shows_all,
            marks_end: query.is("sendInitialEvents"),
            timeout: Duration::from_secs(query.number("timeoutSeconds").max(1)),
            faulty: self.faulty,
        };
        let body = watcher::start(Arc::clone(&self.inner), plan);
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        Ok(response)
    }

    // === writing ===

    fn create(&self, target: &Target, mut new: Value) -> Result<Response<Body>, Status> {
        let mut state = self.inner.state.lock();
        let mut target = Target { name: new.str_at(&["metadata", "name"]).into(), ..clone(target) };
        if target.name.is_empty() {
            let prefix = new.str_at(&["metadata", "generateName"]);
            if prefix.is_empty() {
                return Err(Status::bad_request("name or generateName is required"));
            }
            target.name = format!("{prefix}{}", self.inner.world.random.name_suffix()).into();
        }
        if state.objects.get(key_of(target.resource)).is_some_and(|all| all.contains_key(&identity(&target))) {
            return Err(Status::already_exists(&group_resource(&target), &target.name));
        }
        let now = self.inner.world.clock.now();
        new.set(&["metadata", "name"], target.name.clone());
        if target.resource.namespaced() {
            new.set(&["metadata", "namespace"], target.namespace.clone());
        }
        new.set(&["metadata", "uid"], self.inner.world.random.uuid_v4());
        new.set(&["metadata", "creationTimestamp"], ApiTime { seconds: now.seconds, nanos: 0 }.to_time());
        let made = self.store(&mut state, &target, Some(new));
        Ok(object(StatusCode::CREATED, &made))
    }

    fn create_sub(&self, target: &Target, body: &Value) -> Result<Response<Body>, Status> {
        match target.subresource.as_str() {
            "binding" => {
                let node = body.str_at(&["target", "name"]);
                let bound = self.change(target, |object| {
                    if !object.str_at(&["spec", "nodeName"]).is_empty() {
                        return Err(Status::conflict(&group_resource(target), &target.name, "it is bound already"));
                    }
                    object.set(&["spec", "nodeName"], node);
                    Ok(())
                });
                bound.map(|_| success())
            }
            "eviction" => self.remove(target, &Value::Null).map(|_| success()),
            _ => Err(Status::path_not_found()),
        }
    }

    fn update(&self, target: &Target, new: Value) -> Result<Response<Body>, Status> {
        let version = new.str_at(&["metadata", "resourceVersion"]).to_owned();
        let changed = self.change(target, |object| {
            check_version(target, object, &version)?;
            let merged = merged(target, object, new);
            *object = merged;
            Ok(())
        })?;
        Ok(object(StatusCode::OK, &changed))
    }

    fn patch(&self, target: &Target, request: &Request<Bytes>) -> Result<Response<Body>, Status> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let patch = json::decode(None, request.body(), json::Options::default());
        let patch = patch.map_err(|error| Status::bad_request(error.to_string()))?.value;
        let refuse = |error: api_patch::PatchError| Status::bad_request(error.to_string());
        let changed = self.change(target, |object| {
            let version = patch.str_at(&["metadata", "resourceVersion"]);
            check_version(target, object, version)?;
            let uid = patch.str_at(&["metadata", "uid"]);
            if !uid.is_empty() && uid != object.str_at(&["metadata", "uid"]) {
                return Err(Status::conflict(&group_resource(target), &target.name, "it is another object"));
            }
            let mut new = object.clone();
            match kind {
                "application/json-patch+json" => {
                    JsonPatch::decode(&patch, false).and_then(|patch| patch.apply(&mut new)).map_err(refuse)?;
                }
                "application/strategic-merge-patch+json" => {
                    let ty = api_types::struct_id(&target.resource.type_name);
                    new = strategic::apply(api_types::schema(), ty, new, &patch).map_err(refuse)?;
                }
                "application/merge-patch+json" => merge_patch::apply(&mut new, &patch, false).map_err(refuse)?,
                other => return Err(Status::unsupported_media_type(&[other])),
            }
            let merged = merged(target, object, new);
            *object = merged;
            Ok(())
        })?;
        Ok(object(StatusCode::OK, &changed))
    }

    fn delete(&self, target: &Target, request: &Request<Bytes>) -> Result<Response<Body>, Status> {
        let options = if request.body().is_empty() { Value::Null } else { read(request)? };
        let left = self.remove(target, &options)?;
        Ok(left.map_or_else(success, |left| object(StatusCode::OK, &left)))
    }

    /// Deletes, or marks as being deleted.
    fn remove(&self, target: &Target, options: &Value) -> Result<Option<Arc<Value>>, Status> {
        let old = self.get(target)?;
        for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let wanted = options.str_at(&["preconditions", field]);
            if !wanted.is_empty() && wanted != old.str_at(&["metadata", field]) {
                let why = format!("Precondition failed: {what} in precondition: {wanted}");
                return Err(Status::conflict(&group_resource(target), &target.name, why));
            }
        }
        if !old.list_at(&["metadata", "finalizers"]).is_empty() {
            let now = self.inner.world.clock.now();
            let marked = self.change(target, |object| {
                if object.at(&["metadata", "deletionTimestamp"]).is_none() {
                    let now = ApiTime { seconds: now.seconds, nanos: 0 }.to_time();
                    object.set(&["metadata", "deletionTimestamp"], now);
                }
                Ok(())
            })?;
            return Ok(Some(marked));
        }
        self.store(&mut self.inner.state.lock(), target, None);
        Ok(None)
    }

    /// Changes an object; what is being deleted and has no finalizer any more goes.
    fn change(
        &self,
        target: &Target,
        change: impl FnOnce(&mut Value) -> Result<(), Status>,
    ) -> Result<Arc<Value>, Status> {
        let mut state = self.inner.state.lock();
        let found = state.objects.get(key_of(target.resource)).and_then(|all| all.get(&identity(target)));
        let old = found.cloned().ok_or_else(|| Status::not_found(&group_resource(target), &target.name))?;
        let mut new = Value::clone(&old);
        change(&mut new)?;
        if new == *old {
            return Ok(old);
        }
        let finished =
            new.at(&["metadata", "deletionTimestamp"]).is_some() && new.list_at(&["metadata", "finalizers"]).is_empty();
        if finished {
            return Ok(self.store(&mut state, target, None));
        }
        Ok(self.store(&mut state, target, Some(new)))
    }

    /// Makes a change known; none deletes. Gives the object as it is, or was last.
    fn store(&self, state: &mut State, target: &Target, new: Option<Value>) -> Arc<Value> {
        state.revision += 1;
        let version = SmolStr::from(state.revision.to_string());
        let resource = key_of(target.resource);
        let new = new.map(|mut new| {
            new.set(&["apiVersion"], target.resource.api_version());
            new.set(&["kind"], target.resource.kind.clone());
            new.set(&["metadata", "resourceVersion"], version.clone());
            Arc::new(new)
        });
        let all = state.objects.entry(resource).or_default();
        let old = match &new {
            Some(new) => all.insert(identity(target), Arc::clone(new)),
            None => all.remove(&identity(target)),
        };
        let last = new.clone().unwrap_or_else(|| {
            let mut last = old.as_deref().cloned().unwrap_or_default();
            last.set(&["metadata", "resourceVersion"], version);
            Arc::new(last)
        });
        state.log.push(Change { revision: state.revision, resource, old, new, last: Arc::clone(&last) });
        self.inner.changed.notify_waiters();
        last
    }
}

fn clone(target: &Target) -> Target {
    Target {
        resource: target.resource,
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        subresource: target.subresource.clone(),
    }
}

fn identity(target: &Target) -> (SmolStr, SmolStr) {
    (target.namespace.clone(), target.name.clone())
}

fn group_resource(target: &Target) -> GroupResource {
    GroupResource::new(target.resource.group.clone(), target.resource.resource.clone())
}

fn check_version(target: &Target, object: &Value, version: &str) -> Result<(), Status> {
    if !version.is_empty() && version != object.str_at(&["metadata", "resourceVersion"]) {
        return Err(Status::modified(&group_resource(target), &target.name));
    }
    Ok(())
}

/// The new object where only its status, or all but that, may be written; the server's own fields stay.
fn merged(target: &Target, old: &Value, new: Value) -> Value {
    let mut merged = match target.subresource.as_str() {
        "" => new,
        part => {
            let mut merged = old.clone();
            if let (Some(map), Some(value)) = (merged.as_map_mut(), new.get(part)) {
                map.insert(part, value.clone());
            }
            merged
        }
    };
    if target.subresource.is_empty() && target.resource.subresource("status").is_some() {
        match (old.get("status"), merged.as_map_mut()) {
            (Some(status), Some(map)) => drop(map.insert("status", status.clone())),
            (None, Some(map)) => drop(map.remove("status")),
            _ => {}
        }
    }
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "resourceVersion", "name", "namespace"] {
        match old.at(&["metadata", field]) {
            Some(value) => merged.set(&["metadata", field], value.clone()),
            None => drop(merged.remove(&["metadata", field])),
        }
    }
    merged
}

/// The object in a request's body.
fn read(request: &Request<Bytes>) -> Result<Value, Status> {
    let bytes = request.body();
    let codec = api_codec::builtin();
    let find = |api_version: &str, kind: &str| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let name = api_types::type_name(group, version, kind);
        let meta = api_schema::format_smolstr!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}");
        codec.find(&name).or_else(|| codec.find(&meta))
    };
    let refuse = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
    if proto::envelope::is_enveloped(bytes) {
        let envelope = proto::envelope::split(bytes).map_err(|error| refuse(&error))?;
        let codec = find(&envelope.api_version, &envelope.kind).ok_or_else(|| refuse(&"an unknown kind"))?;
        return proto::decode_object(codec, bytes).map_err(|error| refuse(&error));
    }
    let head = meta::type_meta(bytes).map_err(|error| refuse(&error))?;
    let decoded = json::decode(find(&head.api_version, &head.kind), bytes, json::Options::default());
    decoded.map(|decoded| decoded.value).map_err(|error| refuse(&error))
}

fn object(code: StatusCode, value: &Value) -> Response<Body> {
    let mut text = Vec::new();
    json::encode(None, value, &mut text);
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn success() -> Response<Body> {
    object(StatusCode::OK, &Value::from([("apiVersion", "v1"), ("kind", "Status"), ("status", "Success")]))
}

fn refusal(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = object(code, &status.to_value());
    if status.retry_after_seconds > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, status.retry_after_seconds.into());
    }
    response
}
