//! The reader's handle: the cache, and the changes to it.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api_semantics::selector::Selector;
use client::{Api, SmolStr};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::cache::{Cache, Index};
use crate::flag::Flag;
use crate::object::{Extract, Key, Object};
use crate::reflector::Reflector;

/// What happened to an object.
pub enum Change<T> {
    /// It came to be, or began to match.
    Added {
        /// The object.
        object: Arc<Object<T>>,
        /// Whether it was there before the informer (or this handler) began to look.
        initial: bool,
    },
    /// It changed; it is the same object by uid.
    Updated {
        /// As it was.
        old: Arc<Object<T>>,
        /// As it is.
        new: Arc<Object<T>>,
    },
    /// It is gone, or no longer matches.
    Deleted {
        /// As it was last seen.
        object: Arc<Object<T>>,
        /// Whether its end was missed, and `object` may be older than its last state (client-go's
        /// DeletedFinalStateUnknown).
        missed: bool,
    },
}

impl<T> Change<T> {
    /// The newest state there is of the object.
    pub fn object(&self) -> &Arc<Object<T>> {
        match self {
            Self::Added { object, .. } | Self::Deleted { object, .. } => object,
            Self::Updated { new, .. } => new,
        }
    }

    /// Namespace and name.
    pub fn key(&self) -> Key {
        self.object().key()
    }
}

impl<T> std::fmt::Debug for Change<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, object) = match self {
            Self::Added { object, .. } => ('+', object),
            Self::Updated { new, .. } => ('~', new),
            Self::Deleted { object, missed: false } => ('-', object),
            Self::Deleted { object, missed: true } => ('?', object),
        };
        write!(f, "{sign}{}@{}", object.key(), object.resource_version)
    }
}

type Handler<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;

/// What an informer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Whole states taken from the server, by list or by watch.
    pub lists: u64,
    /// Watches begun.
    pub watches: u64,
    /// Changes shown to handlers.
    pub changes: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Panics of handlers and extractors, which were survived.
    pub panics: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lists: AtomicU64,
    pub(crate) watches: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) panics: AtomicU64,
}

/// The cache and those who listen to it.
pub(crate) struct Shared<T> {
    pub(crate) cache: Arc<Cache<T>>,
    /// Held while a change is made and shown, so that handlers see changes one by one and a new handler misses none.
    handlers: Mutex<Vec<Handler<T>>>,
    pub(crate) synced: Flag,
    pub(crate) resource_version: Mutex<SmolStr>,
    pub(crate) counters: Counters,
}

impl<T: Extract> Shared<T> {
    fn show(&self, handlers: &[Handler<T>], change: &Change<T>) {
        self.counters.changes.fetch_add(1, Ordering::Relaxed);
        for handler in handlers {
            self.call(handler, change);
        }
    }

    fn call(&self, handler: &Handler<T>, change: &Change<T>) {
        if catch_unwind(AssertUnwindSafe(|| handler(change))).is_err() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(?change, "a handler panicked");
        }
    }

    /// Puts in a state that was seen; older states than the one that is there are passed over.
    pub(crate) fn put(&self, object: Object<T>, initial: bool) {
        let handlers = self.handlers.lock();
        self.put_locked(&handlers, Arc::new(object), initial);
    }

    fn put_locked(&self, handlers: &[Handler<T>], object: Arc<Object<T>>, initial: bool) {
        let known = self.cache.get(&object.key());
        match known {
            Some(old) if old.uid == object.uid => {
                if is_newer(&object.resource_version, &old.resource_version) {
                    self.cache.insert(Arc::clone(&object));
                    self.show(handlers, &Change::Updated { old, new: object });
                }
            }
            Some(old) => {
                self.cache.remove(&old.key());
                self.show(handlers, &Change::Deleted { object: old, missed: true });
                self.cache.insert(Arc::clone(&object));
                self.show(handlers, &Change::Added { object, initial });
            }
            None => {
                self.cache.insert(Arc::clone(&object));
                self.show(handlers, &Change::Added { object, initial });
            }
        }
    }

    /// Takes out an object that was seen to go; `object` is its last state.
    pub(crate) fn delete(&self, object: Object<T>) {
        let handlers = self.handlers.lock();
        let key = object.key();
        // An older object of the name may be meant, whose successor is here already.
        let known = self.cache.get(&key);
        if known.is_some_and(|old| old.uid == object.uid || is_newer(&object.resource_version, &old.resource_version)) {
            self.cache.remove(&key);
            self.show(&handlers, &Change::Deleted { object: Arc::new(object), missed: false });
        }
    }

    /// Makes the cache show exactly these.
    pub(crate) fn replace(&self, objects: Vec<Object<T>>) {
        let handlers = self.handlers.lock();
        let initial = !self.synced.is_raised();
        let there: BTreeSet<Key> = objects.iter().map(Object::key).collect();
        for key in self.cache.keys() {
            if !there.contains(&key)
                && let Some(object) = self.cache.remove(&key)
            {
                self.show(&handlers, &Change::Deleted { object, missed: true });
            }
        }
        for object in objects {
            self.put_locked(&handlers, Arc::new(object), initial);
        }
        self.synced.raise();
    }
}

/// Whether a state is newer than another of the same object. Revisions are numbers that rise (KEP-5504); where a server
/// has others, a different one is taken for newer.
fn is_newer(this: &str, that: &str) -> bool {
    match (this.parse::<u64>(), that.parse::<u64>()) {
        (Ok(this), Ok(that)) => this > that,
        _ => this != that,
    }
}

/// Follows a selection of objects. Clones and indexes share one cache; when the last is dropped, it stops following.
pub struct Informer<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    shared: Arc<Shared<T>>,
    api: Api,
    task: AbortHandle,
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> std::fmt::Debug for Informer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Informer({}, {} objects)", self.inner.api.resource().plural, self.inner.shared.cache.len())
    }
}

impl<T: Extract> Informer<T> {
    /// Begins to follow the objects of an [`Api`] that match selectors (empty: all). Readers in one process rather share
    /// through [`crate::Informers`]. Must be called within a tokio runtime.
    pub fn start(api: Api, label_selector: &str, field_selector: &str) -> Self {
        let shared = Arc::new(Shared {
            cache: Arc::default(),
            handlers: Mutex::default(),
            synced: Flag::default(),
            resource_version: Mutex::default(),
            counters: Counters::default(),
        });
        let reflector = Reflector::new(api.clone(), label_selector, field_selector, Arc::clone(&shared));
        let task = tokio::spawn(reflector.run()).abort_handle();
        Self { inner: Arc::new(Inner { shared, api, task }) }
    }

    /// Has a handler called for every change, in order, and first for all that is in the cache, as added. It must be
    /// quick, and may read the cache, but not subscribe. A handler that holds this informer or an index of it has it
    /// follow for ever.
    pub fn subscribe(&self, handler: impl Fn(&Change<T>) + Send + Sync + 'static) {
        let shared = &self.inner.shared;
        let mut handlers = shared.handlers.lock();
        let handler: Handler<T> = Box::new(handler);
        for object in shared.cache.list("", |_| true) {
            shared.call(&handler, &Change::Added { object, initial: true });
        }
        handlers.push(handler);
    }

    /// Finds objects by values of their content, now and from now on. The function must give the same values for the
    /// same object each time.
    pub fn index(&self, values: impl Fn(&Object<T>) -> Vec<SmolStr> + Send + Sync + 'static) -> Index<T> {
        let alive = Arc::clone(&self.inner) as Arc<dyn Any + Send + Sync>;
        Index::new(alive, &self.inner.shared.cache, Box::new(values))
    }

    /// Finds objects by the value of a label.
    pub fn index_label(&self, label: &'static str) -> Index<T> {
        self.index(move |object| object.labels.get(label).map(SmolStr::new).into_iter().collect())
    }

    /// Finds objects by the uid of their controller.
    pub fn index_controller(&self) -> Index<T> {
        self.index(|object| Some(object.controller_uid.clone()).filter(|uid| !uid.is_empty()).into_iter().collect())
    }

    /// The object of a namespace (empty: cluster-wide) and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object<T>>> {
        self.inner.shared.cache.get(&Key::new(namespace, name))
    }

    /// The object of a key.
    pub fn get_key(&self, key: &Key) -> Option<Arc<Object<T>>> {
        self.inner.shared.cache.get(key)
    }

    /// All objects, by key.
    pub fn list(&self) -> Vec<Arc<Object<T>>> {
        self.inner.shared.cache.list("", |_| true)
    }

    /// The objects of a namespace, by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<Object<T>>> {
        self.inner.shared.cache.list(namespace, |_| true)
    }

    /// The objects of a namespace (empty: all) that a selector matches, by key.
    pub fn select(&self, namespace: &str, selector: &Selector) -> Vec<Arc<Object<T>>> {
        self.inner.shared.cache.list(namespace, |object| selector.matches(|label| object.labels.get(label)))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.shared.cache.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all that was there in the beginning has been seen by all handlers.
    pub fn has_synced(&self) -> bool {
        self.inner.shared.synced.is_raised()
    }

    /// Waits until [`Informer::has_synced`].
    pub async fn synced(&self) {
        self.inner.shared.synced.wait().await;
    }

    /// The resourceVersion up to which the cache has followed; empty before the first list.
    pub fn resource_version(&self) -> SmolStr {
        self.inner.shared.resource_version.lock().clone()
    }

    /// The requests about the objects that this follows.
    pub fn api(&self) -> &Api {
        &self.inner.api
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.inner.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            lists: get(&counters.lists),
            watches: get(&counters.watches),
            changes: get(&counters.changes),
            failures: get(&counters.failures),
            panics: get(&counters.panics),
        }
    }
}
