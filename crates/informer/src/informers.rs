//! One cache for each resource, selection and form, shared by all readers in the process.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use client::{ApiResource, Client, SmolStr};
use parking_lot::Mutex;

use crate::informer::Informer;
use crate::object::Extract;

/// Which objects to follow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// Of which resource.
    pub resource: ApiResource,
    /// In which namespace; empty is all.
    pub namespace: SmolStr,
    /// With which labels; empty is any.
    pub label_selector: SmolStr,
    /// With which fields; empty is any.
    pub field_selector: SmolStr,
}

impl Selection {
    /// All objects of a resource.
    pub fn all(resource: ApiResource) -> Self {
        Self {
            resource,
            namespace: SmolStr::default(),
            label_selector: SmolStr::default(),
            field_selector: SmolStr::default(),
        }
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An informer, whatever its form.
struct Entry {
    informer: Box<dyn Any + Send>,
    synced: Box<dyn Fn() -> Waiting + Send>,
    has_synced: Box<dyn Fn() -> bool + Send>,
}

/// The informers of a process. Clones share them.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    entries: Arc<Mutex<BTreeMap<(Selection, TypeId), Entry>>>,
}

impl std::fmt::Debug for Informers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.entries.lock();
        f.debug_set().entries(entries.keys().map(|(selection, _)| &selection.resource.plural)).finish()
    }
}

impl Informers {
    /// No informers yet. Each asks through this client.
    pub fn new(client: Client) -> Self {
        Self { client, entries: Arc::default() }
    }

    /// The client that the informers ask through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All objects of a built-in resource, in a form. It begins to follow when first asked for; must be called within a
    /// tokio runtime.
    ///
    /// # Panics
    /// If there is no such resource, which only a misspelling in our own code can cause.
    pub fn of<T: Extract>(&self, group: &str, version: &str, plural: &str) -> Informer<T> {
        let resource = ApiResource::builtin(group, version, plural);
        let resource = resource.unwrap_or_else(|| panic!("no built-in resource {group}/{version} {plural}"));
        self.select(Selection::all(resource))
    }

    /// The objects of a selection, in a form. As [`Informers::of`].
    pub fn select<T: Extract>(&self, selection: Selection) -> Informer<T> {
        let mut entries = self.entries.lock();
        let key = (selection, TypeId::of::<T>());
        if let Some(informer) = entries.get(&key).and_then(|entry| entry.informer.downcast_ref::<Informer<T>>()) {
            return informer.clone();
        }
        let selection = &key.0;
        let api = self.client.api(selection.resource.clone()).namespace(&selection.namespace);
        let informer = Informer::start(api, &selection.label_selector, &selection.field_selector);
        let (waits, asked) = (informer.clone(), informer.clone());
        let entry = Entry {
            informer: Box::new(informer.clone()),
            synced: Box::new(move || {
                let informer = waits.clone();
                Box::pin(async move { informer.synced().await })
            }),
            has_synced: Box::new(move || asked.has_synced()),
        };
        entries.insert(key, entry);
        informer
    }

    /// Waits until all informers that have been asked for so far have synced.
    pub async fn synced(&self) {
        let waiting: Vec<Waiting> = self.entries.lock().values().map(|entry| (entry.synced)()).collect();
        for informer in waiting {
            informer.await;
        }
    }

    /// Whether all informers that have been asked for have synced.
    pub fn have_synced(&self) -> bool {
        self.entries.lock().values().all(|entry| (entry.has_synced)())
    }
}
