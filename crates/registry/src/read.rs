//! Get, list and watch.

use std::sync::Arc;

use api_schema::{SmolStr, Value};
use api_semantics::selector::{FieldSelector, Selector};
use api_semantics::status::Status;
use bytes::Bytes;
use store::{KeyRange, RangeRequest, Revision};
use watch_cache::{FieldTest, Object, Selection, Snapshot, Watcher};

use crate::codec;
use crate::continuation::Continuation;
use crate::options::{ListOptions, VersionMatch};
use crate::registry::{Registry, store_status};
use crate::storage::{Served, Storage};

/// How long a read waits for a resourceVersion that is not there yet.
const FRESH_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// One object as it is stored.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// Its bytes, without a resourceVersion.
    pub bytes: Bytes,
    /// Its revision, which is its resourceVersion.
    pub revision: u64,
}

/// A page of a list.
#[derive(Debug)]
pub struct ListAnswer {
    /// The objects.
    pub objects: Vec<Arc<Object>>,
    /// The list's resourceVersion.
    pub revision: u64,
    /// The token of the next page; empty at the end.
    pub continue_token: String,
    /// How many objects follow, if that is known.
    pub remaining: Option<usize>,
}

/// A watch, ready to run.
#[derive(Debug)]
pub struct WatchAnswer {
    /// The objects to show first as ADDED, if the watch starts with the present state.
    pub initial: Option<Snapshot>,
    /// The changes that follow.
    pub watcher: Watcher,
    /// The revision at which the initial state ends, or where the watch starts.
    pub revision: u64,
    /// Whether the end of the initial state is marked by a bookmark.
    pub marks_initial_end: bool,
}

impl Registry {
    /// Reads one object. An empty resourceVersion asks for the newest, any other for one not older.
    ///
    /// # Errors
    /// 404, 400 for a malformed resourceVersion, 504 for one that is not there yet.
    pub async fn get(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
        resource_version: &str,
    ) -> Result<StoredObject, Status> {
        let wanted = parse_version(resource_version).map_err(Status::plain)?;
        if wanted > 0 {
            self.wait_for(wanted).await?;
        }
        let storage = &served.storage;
        let key = storage.key(namespace, name);
        let response = self.store.get(key.as_bytes(), None).await.map_err(|e| store_status(&e))?;
        match response.record {
            Some(record) => Ok(StoredObject { bytes: record.value.clone(), revision: record.mod_revision.0 }),
            None => Err(Status::not_found(&storage.group_resource, name)),
        }
    }

    /// Waits until the caches have reached a revision that a client has seen.
    async fn wait_for(&self, wanted: u64) -> Result<(), Status> {
        if self.progress.revision() >= wanted {
            return Ok(());
        }
        self.store.request_progress();
        if tokio::time::timeout(FRESH_WAIT, self.progress.reached(wanted)).await.is_err() {
            return Err(Status::too_large_resource_version(wanted, self.progress.revision()));
        }
        Ok(())
    }

    /// Lists objects, by the rules of resourceVersion and resourceVersionMatch.
    ///
    /// # Errors
    /// 400 and 422 for bad options, 410 for a version that is gone, 504 for one that is not there yet.
    pub async fn list(&self, served: &Served, namespace: &str, options: &ListOptions) -> Result<ListAnswer, Status> {
        options.validate()?;
        let storage = &served.storage;
        let selection = self.selection(served, namespace, options)?;
        let limit = usize::try_from(options.limit).unwrap_or(0);
        // Tokens name keys below what the request lists.
        let scope = if storage.namespaced { namespace_prefix(namespace) } else { String::new() };
        if !options.continue_token.is_empty() {
            let token = Continuation::decode(&options.continue_token)?;
            if !matches!(&*options.resource_version, "" | "0") {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            return self.list_page(storage, &scope, &selection, &token, limit).await;
        }
        let wanted = parse_version(&options.resource_version)
            .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
        let exact = match options.matching() {
            VersionMatch::Exact => true,
            VersionMatch::NotOlderThan => false,
            // Before resourceVersionMatch, a limit with a version meant exactly that version.
            VersionMatch::Unset => limit > 0 && wanted > 0,
        };
        if exact {
            let snapshot = self.list_at(storage, &selection, None, wanted, limit).await?;
            return Ok(answer(snapshot, &selection, &scope));
        }
        match (&*options.resource_version, wanted) {
            ("", _) => drop(self.freshen().await?),
            (_, 0) => {}
            (_, wanted) => self.wait_for(wanted).await?,
        }
        // Upstream's cache ignores the limit when any version will do.
        let limit = if options.resource_version == "0" { 0 } else { limit };
        Ok(answer(cached(storage, &selection, None, limit), &selection, &scope))
    }

    async fn list_page(
        &self,
        storage: &Storage,
        scope: &str,
        selection: &Selection,
        token: &Continuation,
        limit: usize,
    ) -> Result<ListAnswer, Status> {
        let after = &*format!("{scope}{}", token.last_key());
        match token.revision {
            None => {
                self.freshen().await?;
                let snapshot = cached(storage, selection, Some(after), limit);
                Ok(answer(snapshot, selection, scope))
            }
            Some(revision) => match self.list_at(storage, selection, Some(after), revision, limit).await {
                Ok(snapshot) => Ok(answer(snapshot, selection, scope)),
                Err(mut status) if status.reason == "Expired" => {
                    // The client may go on at the newest version, at the price of an inconsistent list.
                    status.message = "The provided continue parameter is too old to display a consistent list result. \
                        You can start a new list without the continue parameter, or use the continue token in this \
                        response to retrieve the remainder of the results. Continuing with the provided token results \
                        in an inconsistent list - objects that were created, modified, or deleted between the time \
                        the first chunk was returned and now may show up in the list."
                        .into();
                    status.continue_token = Continuation { revision: None, ..token.clone() }.encode().into();
                    Err(status)
                }
                Err(status) => Err(status),
            },
        }
    }

    /// Lists at exactly one revision, from the store's history.
    async fn list_at(
        &self,
        storage: &Storage,
        selection: &Selection,
        after: Option<&str>,
        revision: u64,
        limit: usize,
    ) -> Result<Snapshot, Status> {
        let prefix = format!("{}{}", storage.prefix, namespace_prefix(&selection.namespace));
        let mut keys = KeyRange::prefix(prefix.as_bytes());
        if let Some(after) = after {
            keys = keys.starting_at(format!("{}{after}\0", storage.prefix).as_bytes());
        }
        let mut snapshot = Snapshot { revision, ..Snapshot::default() };
        let mut last_key: Option<SmolStr> = None;
        loop {
            let request = RangeRequest::new(keys.clone()).at(Revision(revision)).limit(limit);
            let response = self.store.range(request).await.map_err(|e| store_status(&e))?;
            let count = response.records.len();
            for (at, record) in response.records.iter().enumerate() {
                let Some(key) = suffix(storage, &record.key) else { continue };
                if limit > 0 && snapshot.objects.len() == limit {
                    snapshot.continue_after = last_key;
                    snapshot.remaining = response.remaining + count - at;
                    return Ok(snapshot);
                }
                let index = storage.cache.index(&record.value);
                let Some(index) = index else { continue };
                let object = Object { revision: record.mod_revision.0, bytes: record.value.clone(), index };
                last_key = Some(key.into());
                if selection.matches(&object) {
                    snapshot.objects.push(Arc::new(object));
                }
            }
            match (&last_key, response.remaining) {
                (Some(last), remaining) if remaining > 0 => {
                    if limit > 0 && snapshot.objects.len() == limit {
                        snapshot.remaining = remaining;
                        snapshot.continue_after = last_key;
                        return Ok(snapshot);
                    }
                    keys = keys.starting_at(format!("{}{last}\0", storage.prefix).as_bytes());
                }
                _ => return Ok(snapshot),
            }
        }
    }

    /// Starts a watch.
    ///
    /// # Errors
    /// 400 and 422 for bad options. A version that is gone is an `Expired` status, which the watch sends as its
    /// first event.
    pub async fn watch(
        &self,
        served: &Served,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Result<WatchAnswer, Status>, Status> {
        let mut options = options.clone();
        options.default_watch();
        options.validate()?;
        let cache = &served.storage.cache;
        let selection = self.selection(served, namespace, &options)?;
        let wanted = parse_version(&options.resource_version).map_err(Status::plain)?;
        if options.send_initial_events == Some(true) {
            match (&*options.resource_version, wanted) {
                ("", _) => drop(self.freshen().await?),
                (_, 0) => {}
                (_, wanted) => self.wait_for(wanted).await?,
            }
            let (snapshot, watcher) = cache.watch_with_snapshot(selection);
            let revision = snapshot.revision;
            return Ok(Ok(WatchAnswer {
                initial: Some(snapshot),
                watcher,
                revision,
                marks_initial_end: options.allow_bookmarks,
            }));
        }
        let revision = match (options.resource_version.as_str(), wanted) {
            ("", _) => self.freshen().await?,
            (_, 0) => self.progress.revision(),
            (_, wanted) => wanted,
        };
        Ok(match cache.watch_from(selection, revision) {
            Ok(watcher) => Ok(WatchAnswer { initial: None, watcher, revision, marks_initial_end: false }),
            Err(_) => {
                Err(Status::expired(format!("too old resource version: {revision} ({})", self.progress.revision())))
            }
        })
    }

    /// What a list's or watch's selectors select.
    ///
    /// # Errors
    /// 400 for malformed selectors and unknown field labels.
    pub fn selection(&self, served: &Served, namespace: &str, options: &ListOptions) -> Result<Selection, Status> {
        let storage = &served.storage;
        let mut selection = Selection { namespace: namespace.into(), ..Selection::default() };
        if !options.label_selector.is_empty() {
            let labels = Selector::parse(&options.label_selector).map_err(|e| Status::bad_request(e.to_string()))?;
            if !labels.is_everything() {
                selection.labels = Some(Arc::new(move |object: &Object| labels.matches(|key| object.label(key))));
            }
        }
        if options.field_selector.is_empty() {
            return Ok(selection);
        }
        let fields = FieldSelector::parse(&options.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        let known = storage.kind.selectable_fields();
        for requirement in &fields.terms {
            let label = field_label(&served.info.group, &served.info.resource, &requirement.field);
            let (equal, value) = (requirement.equal, requirement.value.clone());
            match &*label {
                "metadata.name" if equal => pin(&mut selection.name, value, &mut selection.nothing),
                "metadata.name" => selection.not_names.push(value),
                "metadata.namespace" if !storage.namespaced => {
                    // Cluster-scoped objects have the empty namespace.
                    selection.nothing |= value.is_empty() != equal;
                }
                "metadata.namespace" if equal => pin(&mut selection.namespace, value, &mut selection.nothing),
                "metadata.namespace" => selection.not_namespaces.push(value),
                label => match known.iter().position(|k| *k == label) {
                    Some(field) => selection.fields.push(FieldTest { field, value, equal }),
                    None => return Err(unknown_field(&requirement.field, known)),
                },
            }
        }
        Ok(selection)
    }

    /// An object decoded in the version that is served.
    ///
    /// # Errors
    /// 500 if the stored bytes are no object.
    pub fn decode(&self, served: &Served, object: &StoredObject) -> Result<Value, Status> {
        codec::decode_served(served, &object.bytes, object.revision)
    }
}

/// A field label of a served version in the words of the stored one.
fn field_label(group: &str, resource: &str, label: &str) -> SmolStr {
    match (group, resource, label) {
        ("", "pods", "spec.host") => "spec.nodeName".into(),
        ("events.k8s.io", "events", "reportingController") => "reportingComponent".into(),
        ("events.k8s.io", "events", _) => match label.strip_prefix("regarding.") {
            Some(rest) => api_schema::format_smolstr!("involvedObject.{rest}"),
            None => label.into(),
        },
        _ => label.into(),
    }
}

fn pin(slot: &mut SmolStr, value: SmolStr, nothing: &mut bool) {
    if value.is_empty() || (!slot.is_empty() && *slot != value) {
        *nothing = true;
    }
    *slot = value;
}

fn unknown_field(label: &str, known: &[&str]) -> Status {
    if known.is_empty() {
        Status::bad_request(format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            api_semantics::field::quoted(label)
        ))
    } else {
        Status::bad_request(format!("field label not supported: {label}"))
    }
}

/// A page from the cache. A page that is full goes on if any object follows, be it selected or not: only the next page
/// looks at those.
fn cached(storage: &Storage, selection: &Selection, after: Option<&str>, limit: usize) -> Snapshot {
    let mut page = storage.cache.list(selection, after, limit);
    let full = limit > 0 && page.objects.len() == limit;
    // A selected name is looked up, not searched for.
    if full && page.continue_after.is_none() && selection.is_selective() && selection.name.is_empty() {
        let last = page.objects.last().map(|last| {
            let index = &last.index;
            let namespace = if storage.namespaced { namespace_prefix(&index.namespace) } else { String::new() };
            SmolStr::from(format!("{namespace}{}", index.name))
        });
        let everything = Selection { namespace: selection.namespace.clone(), ..Selection::default() };
        if last.as_deref().is_some_and(|last| !storage.cache.list(&everything, Some(last), 1).objects.is_empty()) {
            page.continue_after = last;
        }
    }
    page
}

/// A page; `scope` is the start of all keys that the request lists.
fn answer(snapshot: Snapshot, selection: &Selection, scope: &str) -> ListAnswer {
    let Snapshot { objects, revision, continue_after, remaining } = snapshot;
    let selective = selection.is_selective();
    let continues = continue_after.is_some();
    ListAnswer {
        objects,
        revision,
        continue_token: continue_after
            .map(|last| Continuation::after(last.strip_prefix(scope).unwrap_or(&last), Some(revision)).encode())
            .unwrap_or_default(),
        // With selectors nobody knows how many of those behind match.
        remaining: (continues && !selective).then_some(remaining),
    }
}

fn namespace_prefix(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!("{namespace}/") }
}

fn suffix<'a>(storage: &Storage, key: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(key).ok()?.strip_prefix(&*storage.prefix)
}

/// A resourceVersion as a number; empty and `0` are 0.
///
/// # Errors
/// Upstream's words about text that is none; which status they become depends on the request.
pub fn parse_version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|error: std::num::ParseIntError| {
        let problem = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let quoted = api_semantics::field::quoted(text);
        format!("resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: {problem}")
    })
}
