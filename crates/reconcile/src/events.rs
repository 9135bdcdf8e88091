//! Events: what a component tells people about an object.

use std::sync::Arc;
use std::time::Duration;

use api_semantics::time::Timestamp as ApiTime;
use client::{Api, ApiResource, Client, Error, Patch, SmolStr, TransportError, Value};
use informer::Object;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use world::{Monotonic, Timestamp, World};

use crate::controller::chain;
use crate::correlate::{Correlator, Record};
use crate::lru::Lru;

/// So many events may wait to be written; more are dropped (client-go's figures, here and below).
const QUEUED_MAX: usize = 1000;
/// Where the server cannot be reached, an event is tried so often, with this pause.
const TRIES_MAX: u32 = 12;
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// A series ends when it has not been observed for this long; until then it is written again this often.
const SERIES_FINISH: Duration = Duration::from_secs(6 * 60);
const SERIES_REFRESH: Duration = Duration::from_secs(30 * 60);
const SERIES_MAX: usize = 4096;

/// Whether an event is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Something that somebody may have to look at.
    Warning,
}

impl EventType {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Which object an event is about (ObjectReference).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `apps/v1`.
    pub api_version: SmolStr,
    /// `Deployment`.
    pub kind: SmolStr,
    /// Its namespace; empty for cluster-wide objects.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
    /// Its uid.
    pub uid: SmolStr,
    /// Its state.
    pub resource_version: SmolStr,
    /// A part of it: `spec.containers{web}`; may be empty.
    pub field_path: SmolStr,
}

impl Reference {
    /// A reference to an object that says its `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Self {
        let text = |path: &[&str]| SmolStr::new(object.str_at(path));
        Self {
            api_version: text(&["apiVersion"]),
            kind: text(&["kind"]),
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"]),
            uid: text(&["metadata", "uid"]),
            resource_version: text(&["metadata", "resourceVersion"]),
            field_path: SmolStr::default(),
        }
    }

    /// A reference to an object in a cache.
    pub fn to<T>(resource: &ApiResource, object: &Object<T>) -> Self {
        Self {
            api_version: resource.api_version(),
            kind: resource.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            resource_version: object.resource_version.clone(),
            field_path: SmolStr::default(),
        }
    }

    /// The same, of a part of the object.
    #[must_use]
    pub fn field(self, path: impl Into<SmolStr>) -> Self {
        Self { field_path: path.into(), ..self }
    }

    fn to_value(&self) -> Value {
        let fields = [
            ("apiVersion", &self.api_version),
            ("kind", &self.kind),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
            ("fieldPath", &self.field_path),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        Value::Map(fields.map(|(name, value)| (name, value.clone())).collect())
    }

    /// Where events about the object live.
    fn events_namespace(&self) -> SmolStr {
        if self.namespace.is_empty() { SmolStr::new_static("default") } else { self.namespace.clone() }
    }
}

/// Something to tell.
struct News {
    regarding: Reference,
    ty: EventType,
    reason: SmolStr,
    message: String,
    at: Timestamp,
    /// For events of events.k8s.io: what was done, and with what else.
    action: Option<(SmolStr, Option<Reference>)>,
}

/// Records events of one component. It never waits: events are written in the background, combined as client-go does it,
/// and dropped where too many wait. Clones share the background task, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Recorder {
    news: mpsc::Sender<News>,
    world: World,
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Recorder {
    /// Records as `component` (`replicaset-controller`), on `host` (a node's name; empty for controllers). Must be called
    /// within a tokio runtime.
    pub fn start(client: &Client, component: &str, host: &str) -> Self {
        let (news, received) = mpsc::channel(QUEUED_MAX);
        let writer = Writer {
            events: client.resource("", "v1", "events"),
            new_events: client.resource("events.k8s.io", "v1", "events"),
            world: client.world().clone(),
            component: component.into(),
            host: host.into(),
            correlator: Correlator::new(),
            series: Lru::new(SERIES_MAX),
            series_count: 0,
            last_name: 0,
        };
        let task = tokio::spawn(writer.run(received)).abort_handle();
        Self { news, world: client.world().clone(), _task: Arc::new(Task(task)) }
    }

    /// Tells good news about an object: `reason` is one word in CamelCase, `message` a sentence.
    pub fn normal(&self, regarding: &Reference, reason: &str, message: impl Into<String>) {
        self.event(regarding, EventType::Normal, reason, message);
    }

    /// Tells bad news about an object.
    pub fn warning(&self, regarding: &Reference, reason: &str, message: impl Into<String>) {
        self.event(regarding, EventType::Warning, reason, message);
    }

    /// Tells news about an object, as an event of the core group.
    pub fn event(&self, regarding: &Reference, ty: EventType, reason: &str, message: impl Into<String>) {
        self.tell(regarding, ty, reason, message.into(), None);
    }

    /// Tells news about an object, as an event of `events.k8s.io`, which the scheduler uses: with the action that was
    /// taken (`Binding`) and perhaps another object that it is about.
    pub fn action(
        &self,
        regarding: &Reference,
        related: Option<&Reference>,
        ty: EventType,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.tell(regarding, ty, reason, note.into(), Some((action.into(), related.cloned())));
    }

    fn tell(
        &self,
        regarding: &Reference,
        ty: EventType,
        reason: &str,
        message: String,
        action: Option<(SmolStr, Option<Reference>)>,
    ) {
        let at = self.world.clock.now();
        let news = News { regarding: regarding.clone(), ty, reason: reason.into(), message, at, action };
        if self.news.try_send(news).is_err() {
            tracing::warn!(object = %regarding.name, reason, "too many events wait to be written: one was dropped");
        }
    }
}

/// What makes an event of events.k8s.io one of a series.
#[derive(Clone, PartialEq, Eq, Hash)]
struct SeriesKey {
    regarding: Reference,
    related: Option<Reference>,
    ty: EventType,
    reason: SmolStr,
    action: SmolStr,
}

struct Series {
    /// The event as it was first written.
    event: Value,
    count: i64,
    seen: Monotonic,
    seen_at: Timestamp,
    refreshed: Monotonic,
}

struct Writer {
    events: Api,
    new_events: Api,
    world: World,
    component: SmolStr,
    host: SmolStr,
    correlator: Correlator,
    series: Lru<SeriesKey, Series>,
    series_count: usize,
    /// The time in the last event's name, in nanoseconds.
    last_name: i128,
}

fn time(at: Timestamp) -> SmolStr {
    ApiTime { seconds: at.seconds, nanos: at.nanos }.to_time()
}

fn micro_time(at: Timestamp) -> SmolStr {
    ApiTime { seconds: at.seconds, nanos: at.nanos }.to_micro_time()
}

impl Writer {
    async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let clock = Arc::clone(&self.world.clock);
        loop {
            // Only where there are series must somebody look after them.
            let received = if self.series_count == 0 {
                news.recv().await
            } else {
                match world::timer::timeout(&*clock, SERIES_FINISH, news.recv()).await {
                    Some(received) => received,
                    None => {
                        self.look_after_series().await;
                        continue;
                    }
                }
            };
            match received {
                None => return,
                Some(News { action: None, regarding, ty, reason, message, at }) => {
                    let record = Record {
                        name: self.event_name(&regarding.name, at),
                        regarding,
                        ty,
                        reason,
                        message,
                        first: at,
                        last: at,
                        count: 1,
                    };
                    if let Some(record) = self.correlator.correlate(record, clock.monotonic()) {
                        self.write(&record).await;
                    }
                }
                Some(News { action: Some((action, related)), regarding, ty, reason, message, at }) => {
                    let key = SeriesKey { regarding, related, ty, reason, action };
                    self.take_action(key, message, at).await;
                }
            }
        }
    }

    /// An event's name: that of the object, and the time, a nanosecond later where two have the same.
    fn event_name(&mut self, object: &str, at: Timestamp) -> String {
        let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
        self.last_name = nanos.max(self.last_name + 1);
        format!("{object}.{:x}", self.last_name)
    }

    // === events of the core group ===

    async fn write(&self, record: &Record) {
        let api = self.events.namespace(&record.regarding.events_namespace());
        let event = self.event(record);
        let mut patch = Value::default();
        for field in ["count", "lastTimestamp", "message"] {
            patch.set(&[field], event.get(field).cloned().unwrap_or_default());
        }
        let patch = (record.count > 1).then_some(patch);
        self.send(&api, &event, patch.as_ref()).await;
    }

    fn event(&self, record: &Record) -> Value {
        let mut event = Value::from([("apiVersion", "v1"), ("kind", "Event"), ("type", record.ty.name())]);
        event.set(&["metadata", "name"], record.name.as_str());
        event.set(&["metadata", "namespace"], record.regarding.events_namespace());
        event.set(&["involvedObject"], record.regarding.to_value());
        event.set(&["reason"], record.reason.clone());
        event.set(&["message"], record.message.as_str());
        event.set(&["source", "component"], self.component.clone());
        if !self.host.is_empty() {
            event.set(&["source", "host"], self.host.clone());
        }
        event.set(&["firstTimestamp"], time(record.first));
        event.set(&["lastTimestamp"], time(record.last));
        event.set(&["count"], record.count);
        event.set(&["reportingComponent"], self.component.clone());
        event.set(&["reportingInstance"], self.host.clone());
        event
    }

    // === events of events.k8s.io ===

    async fn take_action(&mut self, key: SeriesKey, note: String, at: Timestamp) {
        let now = self.world.clock.monotonic();
        if let Some(series) = self.series.get(&key) {
            series.count += 1;
            (series.seen, series.seen_at) = (now, at);
            // The first repetition is written at once, the others when the series is looked after.
            if series.count == 2 {
                let (event, patch) = series.written(now);
                let api = self.new_events.namespace(event.str_at(&["metadata", "namespace"]));
                self.send(&api, &event, Some(&patch)).await;
            }
            return;
        }
        let instance = if self.host.is_empty() { self.component.clone() } else { self.host.clone() };
        let mut event = Value::from([("apiVersion", "events.k8s.io/v1"), ("kind", "Event"), ("type", key.ty.name())]);
        event.set(&["metadata", "name"], self.event_name(&key.regarding.name, at));
        event.set(&["metadata", "namespace"], key.regarding.events_namespace());
        event.set(&["eventTime"], micro_time(at));
        event.set(&["reportingController"], self.component.clone());
        event.set(&["reportingInstance"], instance);
        event.set(&["action"], key.action.clone());
        event.set(&["reason"], key.reason.clone());
        event.set(&["regarding"], key.regarding.to_value());
        if let Some(related) = &key.related {
            event.set(&["related"], related.to_value());
        }
        event.set(&["note"], note);
        let api = self.new_events.namespace(&key.regarding.events_namespace());
        self.send(&api, &event, None).await;
        self.series.insert(key, Series { event, count: 1, seen: now, seen_at: at, refreshed: now });
        self.series_count += 1;
    }

    /// Writes the counts of series that have ended, and of those that go on for long.
    async fn look_after_series(&mut self) {
        let now = self.world.clock.monotonic();
        let mut due = Vec::new();
        let mut left = 0;
        self.series.retain(|_, series| {
            let ended = now.saturating_since(series.seen) >= SERIES_FINISH;
            let stale = now.saturating_since(series.refreshed) >= SERIES_REFRESH;
            if series.count > 1 && (ended || stale) {
                due.push(series.written(now));
            }
            left += usize::from(!ended);
            !ended
        });
        self.series_count = left;
        for (event, patch) in due {
            let api = self.new_events.namespace(event.str_at(&["metadata", "namespace"]));
            self.send(&api, &event, Some(&patch)).await;
        }
    }

    // === writing ===

    /// Creates an event, or patches the one of its name and creates it if that is gone; as long as nobody is reached.
    async fn send(&self, api: &Api, event: &Value, patch: Option<&Value>) {
        let name = event.str_at(&["metadata", "name"]);
        for tries in 0..TRIES_MAX {
            if tries > 0 {
                // The first pause is by chance, so that not all ask again at the same time.
                let nanos = RETRY_PAUSE.as_nanos() as u64;
                let less = if tries == 1 { self.world.random.u64() % nanos } else { 0 };
                world::timer::sleep(&*self.world.clock, RETRY_PAUSE - Duration::from_nanos(less)).await;
            }
            let patched = match patch {
                Some(patch) => api.patch(name, &Patch::Strategic(patch)).await.map(|_| true),
                None => Ok(false),
            };
            let result = match patched {
                Ok(true) => Ok(()),
                Err(error) if !error.is_not_found() => Err(error),
                Ok(false) | Err(_) => api.create(event).await.map(drop),
            };
            match result {
                Ok(()) => return,
                Err(error @ (Error::Transport(TransportError::Credentials(_)) | Error::Request { .. })) => {
                    return tracing::error!(%name, error = %chain(&error), "an event cannot be written");
                }
                Err(Error::Status(status)) => {
                    if status.reason != "AlreadyExists" && !Error::from(*status.clone()).is_namespace_terminating() {
                        tracing::warn!(%name, error = %status, "the server refused an event");
                    }
                    return;
                }
                Err(error) => tracing::debug!(%name, error = %chain(&error), "an event could not be written yet"),
            }
        }
        tracing::warn!(%name, "an event was given up, for the server could not be reached");
    }
}

impl Series {
    /// The event with its count, and the patch that makes it so.
    fn written(&mut self, now: Monotonic) -> (Value, Value) {
        self.refreshed = now;
        let mut series = Value::default();
        series.set(&["series", "count"], self.count);
        series.set(&["series", "lastObservedTime"], micro_time(self.seen_at));
        let mut event = self.event.clone();
        event.set(&["series"], series.get("series").cloned().unwrap_or_default());
        (event, series)
    }
}
