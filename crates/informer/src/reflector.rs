//! Keeps a cache like the server: a list, then a watch, again and again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::{Api, Error, Event, ListOptions, SmolStr, Value, VersionMatch, Watch, WatchOptions};
use world::World;

use crate::backoff::Backoff;
use crate::informer::Shared;
use crate::object::{Extract, Key, Object};

/// The server ends each watch after this long, up to twice as long by chance (client-go's figure).
const WATCH_MIN: Duration = Duration::from_secs(5 * 60);
/// A watch that is not ended by then is given up.
const WATCH_GRACE: Duration = Duration::from_secs(30);
/// A watch that ends sooner, without an event, is a failure (client-go's figure).
const WATCH_SHORTEST: Duration = Duration::from_secs(1);
/// Objects on a page where all are listed in pages (client-go's figure).
const PAGE_OBJECTS: u32 = 500;
/// Pauses after failures. The first is shorter than client-go's 800 ms: a server on the same machine is back in less.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
const BACKOFF_RESET: Duration = Duration::from_secs(120);

pub(crate) struct Reflector<T> {
    api: Api,
    world: World,
    label_selector: SmolStr,
    field_selector: SmolStr,
    shared: Arc<Shared<T>>,
    /// Where to go on; empty before the first list.
    resource_version: SmolStr,
    /// The server no longer, or not yet, knows that state: the next list asks for the newest.
    version_is_unusable: bool,
    /// The server can show what is there within a watch.
    lists_by_watch: bool,
}

/// How a watch ended.
enum End {
    /// In good order: go on from where it was.
    Done,
    /// What has changed since is no longer known: list.
    Expired,
}

impl<T: Extract> Reflector<T> {
    pub(crate) fn new(api: Api, label_selector: &str, field_selector: &str, shared: Arc<Shared<T>>) -> Self {
        Self {
            world: api.client().world().clone(),
            api,
            label_selector: label_selector.into(),
            field_selector: field_selector.into(),
            shared,
            resource_version: SmolStr::default(),
            version_is_unusable: false,
            lists_by_watch: true,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX, BACKOFF_RESET);
        loop {
            // Each round begins with a whole state, then follows it for as long as the server knows what changes.
            match self.list().await {
                Ok(watch) => self.follow(watch, &mut backoff).await,
                Err(error) => self.failed("list", &error),
            }
            backoff.wait(&self.world).await;
        }
    }

    /// Watches until all must be listed again; at first by the watch that has shown the whole state, if one has.
    async fn follow(&mut self, mut watch: Option<Watch>, backoff: &mut Backoff) {
        loop {
            let ended = match watch.take() {
                Some(watch) => self.apply(watch).await,
                None => self.watch().await,
            };
            match ended {
                Ok(End::Done) => {}
                Ok(End::Expired) => return,
                Err(error) => {
                    self.failed("watch", &error);
                    backoff.wait(&self.world).await;
                }
            }
        }
    }

    fn failed(&self, what: &str, error: &Error) {
        self.shared.counters.failures.fetch_add(1, Ordering::Relaxed);
        let mut causes = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            causes = format!("{causes}: {cause}");
            source = cause.source();
        }
        tracing::warn!(resource = %self.api.resource().plural, error = %causes, "{what} failed");
    }

    // === the whole state ===

    async fn list(&mut self) -> Result<Option<Watch>, Error> {
        let listed =
            if self.lists_by_watch { self.list_by_watch().await.map(Some) } else { self.list_by_pages().await };
        let result = match listed {
            // An old server, or one that has it switched off.
            Err(error) if self.lists_by_watch && (error.is_invalid() || error.is_bad_request()) => {
                tracing::info!(resource = %self.api.resource().plural, "the server shows no initial events, so we list");
                self.lists_by_watch = false;
                self.list_by_pages().await
            }
            result => result,
        };
        match &result {
            Ok(_) => self.version_is_unusable = false,
            Err(error) if error.is_expired() || error.is_too_large_resource_version() => {
                self.version_is_unusable = true;
            }
            Err(_) => {}
        }
        result
    }

    /// At least as new as what has been seen, for a cache must not go back in time.
    fn least_version(&self) -> SmolStr {
        if self.version_is_unusable { SmolStr::default() } else { self.resource_version.clone() }
    }

    /// The watch that shows what is there goes on with what changes.
    async fn list_by_watch(&mut self) -> Result<Watch, Error> {
        let options =
            WatchOptions { resource_version: self.least_version(), send_initial_events: true, ..self.watch_options() };
        let mut watch = self.api.watch(&options).await?;
        let mut objects = BTreeMap::new();
        loop {
            let next = world::timer::timeout(&*self.world.clock, WATCH_GRACE, watch.next()).await;
            match next.unwrap_or(Some(Err(Error::Timeout(WATCH_GRACE)))) {
                Some(Ok(Event::Added(object) | Event::Modified(object))) => {
                    objects.extend(self.extract(object).map(|object| (object.key(), object)));
                }
                Some(Ok(Event::Deleted(object))) => drop(objects.remove(&Key::of(&object))),
                Some(Ok(Event::Bookmark { resource_version, initial_events_end: true })) => {
                    self.replace(objects.into_values().collect(), resource_version);
                    return Ok(watch);
                }
                Some(Ok(Event::Bookmark { .. })) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Error::Timeout(WATCH_GRACE)),
            }
        }
    }

    async fn list_by_pages(&mut self) -> Result<Option<Watch>, Error> {
        // The first list may come from what the server has at hand.
        let resource_version = match self.least_version() {
            version if version.is_empty() && !self.version_is_unusable => SmolStr::new_static("0"),
            version => version,
        };
        let mut page = ListOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            version_match: if matches!(&*resource_version, "" | "0") {
                VersionMatch::Unset
            } else {
                VersionMatch::NotOlderThan
            },
            limit: if matches!(&*resource_version, "" | "0") { PAGE_OBJECTS } else { 0 },
            resource_version,
            ..ListOptions::default()
        };
        let mut objects = Vec::new();
        loop {
            let list = match self.api.list(&page).await {
                Err(error) if error.is_expired() && !page.continue_token.is_empty() => {
                    // The first page is too old to go on from: all at once.
                    objects.clear();
                    (page.continue_token, page.limit) = (SmolStr::default(), 0);
                    self.api.list(&page).await?
                }
                result => result?,
            };
            objects.extend(list.items.into_iter().filter_map(|object| self.extract(object)));
            page.continue_token = list.continue_token;
            (page.resource_version, page.version_match) = (SmolStr::default(), VersionMatch::Unset);
            if page.continue_token.is_empty() {
                self.replace(objects, list.resource_version);
                return Ok(None);
            }
        }
    }

    fn replace(&mut self, objects: Vec<Object<T>>, resource_version: SmolStr) {
        self.shared.counters.lists.fetch_add(1, Ordering::Relaxed);
        self.seen(resource_version);
        self.shared.replace(objects);
    }

    /// What readers need of an object; none if the extractor cannot cope with it.
    fn extract(&self, object: Value) -> Option<Object<T>> {
        let key = Key::of(&object);
        let extracted = catch_unwind(AssertUnwindSafe(|| Object::new(object)));
        if extracted.is_err() {
            self.shared.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%key, resource = %self.api.resource().plural, "the extractor panicked; the object is left out");
        }
        extracted.ok()
    }

    fn seen(&mut self, resource_version: SmolStr) {
        if !resource_version.is_empty() {
            self.shared.resource_version.lock().clone_from(&resource_version);
            self.resource_version = resource_version;
        }
    }

    // === changes ===

    fn watch_options(&self) -> WatchOptions {
        let more = Duration::from_nanos(self.world.random.u64() % (WATCH_MIN.as_nanos() as u64));
        WatchOptions {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            timeout: Some(WATCH_MIN + more),
            ..WatchOptions::default()
        }
    }

    async fn watch(&mut self) -> Result<End, Error> {
        let options = WatchOptions { resource_version: self.resource_version.clone(), ..self.watch_options() };
        match self.api.watch(&options).await {
            Ok(watch) => self.apply(watch).await,
            Err(error) => judge(error),
        }
    }

    /// Makes the cache follow a watch to its end.
    async fn apply(&mut self, mut watch: Watch) -> Result<End, Error> {
        self.shared.counters.watches.fetch_add(1, Ordering::Relaxed);
        let clock = Arc::clone(&self.world.clock);
        let began = clock.monotonic();
        let deadline = began.saturating_add(2 * WATCH_MIN + WATCH_GRACE);
        let mut events = 0;
        loop {
            let left = deadline.saturating_since(clock.monotonic());
            match world::timer::timeout(&*clock, left, watch.next()).await {
                Some(Some(Ok(event))) => self.take(event),
                Some(Some(Err(error))) => return judge(error),
                Some(None) => {
                    let lasted = clock.monotonic().saturating_since(began);
                    // A server that ends every watch at once would be asked without end.
                    let too_short = events == 0 && lasted < WATCH_SHORTEST;
                    return if too_short { Err(Error::Timeout(lasted)) } else { Ok(End::Done) };
                }
                // The server should have ended it; something on the way swallows what comes.
                None => return Ok(End::Done),
            }
            events += 1;
        }
    }

    fn take(&mut self, event: Event) {
        let version = |object: &Value| SmolStr::new(object.str_at(&["metadata", "resourceVersion"]));
        let resource_version = match event {
            Event::Added(object) | Event::Modified(object) => {
                let version = version(&object);
                if let Some(object) = self.extract(object) {
                    self.shared.put(object, false);
                }
                version
            }
            Event::Deleted(object) => {
                let version = version(&object);
                if let Some(object) = self.extract(object) {
                    self.shared.delete(object);
                }
                version
            }
            Event::Bookmark { resource_version, .. } => resource_version,
        };
        self.seen(resource_version);
    }
}

/// Whether to list again, or to go on.
fn judge(error: Error) -> Result<End, Error> {
    if error.is_expired() { Ok(End::Expired) } else { Err(error) }
}
