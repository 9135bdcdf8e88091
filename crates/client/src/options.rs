//! What requests can be told, and how that is written.

use std::time::Duration;

use api_schema::{Map, SmolStr, Value};

use crate::resource::add_query;

/// How a list relates to its resourceVersion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMatch {
    /// Not said.
    #[default]
    Unset,
    /// At least that new.
    NotOlderThan,
    /// Exactly that one.
    Exact,
}

/// Which objects to list, and how fresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `app=web,tier in (a,b)`; empty is everything.
    pub label_selector: SmolStr,
    /// `spec.nodeName=n1`; empty is everything.
    pub field_selector: SmolStr,
    /// Empty: the newest state. `0`: whatever the server has at hand. Else see `version_match`.
    pub resource_version: SmolStr,
    /// How the list relates to `resource_version`.
    pub version_match: VersionMatch,
    /// At most so many objects on a page; 0 is all.
    pub limit: u32,
    /// Where the page before ended.
    pub continue_token: SmolStr,
}

impl ListOptions {
    pub(crate) fn add_to(&self, path: &mut String) {
        let version_match = match self.version_match {
            VersionMatch::Unset => "",
            VersionMatch::NotOlderThan => "NotOlderThan",
            VersionMatch::Exact => "Exact",
        };
        for (key, value) in [
            ("labelSelector", &*self.label_selector),
            ("fieldSelector", &*self.field_selector),
            ("resourceVersion", &*self.resource_version),
            ("resourceVersionMatch", version_match),
            ("continue", &*self.continue_token),
        ] {
            add_unless_empty(path, key, value);
        }
        if self.limit > 0 {
            add_query(path, "limit", &self.limit.to_string());
        }
    }
}

/// Which changes to watch, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// `app=web,tier in (a,b)`; empty is everything.
    pub label_selector: SmolStr,
    /// `spec.nodeName=n1`; empty is everything.
    pub field_selector: SmolStr,
    /// Changes after this one. Empty: from now, all objects first.
    pub resource_version: SmolStr,
    /// Objects first, as `Added`, then a bookmark that ends them (WatchList).
    pub send_initial_events: bool,
    /// Bookmarks, so that one can go on from a recent resourceVersion.
    pub bookmarks: bool,
    /// When the server shall end the watch.
    pub timeout: Option<Duration>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            label_selector: SmolStr::default(),
            field_selector: SmolStr::default(),
            resource_version: SmolStr::default(),
            send_initial_events: false,
            bookmarks: true,
            timeout: None,
        }
    }
}

impl WatchOptions {
    pub(crate) fn add_to(&self, path: &mut String) {
        add_query(path, "watch", "true");
        for (key, value) in [
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("resourceVersion", &self.resource_version),
        ] {
            add_unless_empty(path, key, value);
        }
        if self.bookmarks {
            add_query(path, "allowWatchBookmarks", "true");
        }
        if self.send_initial_events {
            add_query(path, "sendInitialEvents", "true");
            add_query(path, "resourceVersionMatch", "NotOlderThan");
        }
        if let Some(timeout) = self.timeout {
            add_query(path, "timeoutSeconds", &timeout.as_secs().max(1).to_string());
        }
    }
}

/// What the server does about fields that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Nothing.
    Ignore,
    /// It warns.
    Warn,
    /// It refuses the request.
    Strict,
}

/// How to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Do all but store it.
    pub dry_run: bool,
    /// Who owns the written fields, if not the client's own field manager.
    pub field_manager: Option<SmolStr>,
    /// What to do about unknown fields; the server's default (Warn) if not said.
    pub field_validation: Option<FieldValidation>,
}

impl WriteOptions {
    pub(crate) fn add_to(&self, path: &mut String, field_manager: &str) {
        if self.dry_run {
            add_query(path, "dryRun", "All");
        }
        add_unless_empty(path, "fieldManager", self.field_manager.as_deref().unwrap_or(field_manager));
        match self.field_validation {
            None => {}
            Some(FieldValidation::Ignore) => add_query(path, "fieldValidation", "Ignore"),
            Some(FieldValidation::Warn) => add_query(path, "fieldValidation", "Warn"),
            Some(FieldValidation::Strict) => add_query(path, "fieldValidation", "Strict"),
        }
    }
}

/// A change to an object.
#[derive(Clone, Copy, Debug)]
pub enum Patch<'a> {
    /// JSON patch: a list of operations (RFC 6902).
    Json(&'a Value),
    /// JSON merge patch: what is given replaces, null deletes (RFC 7396).
    Merge(&'a Value),
    /// Strategic merge patch: as merge, but lists merge by their keys. Built-in kinds only.
    Strategic(&'a Value),
    /// Server-side apply: the fields that this manager wants, all of them.
    Apply {
        /// The wanted fields, with `apiVersion`, `kind` and `metadata.name`.
        object: &'a Value,
        /// Take fields over from other managers.
        force: bool,
    },
}

impl<'a> Patch<'a> {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json(_) => "application/json-patch+json",
            Self::Merge(_) => "application/merge-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            Self::Apply { .. } => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn body(self) -> &'a Value {
        match self {
            Self::Json(value) | Self::Merge(value) | Self::Strategic(value) | Self::Apply { object: value, .. } => {
                value
            }
        }
    }
}

/// What becomes of what the object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// It stays, without an owner.
    Orphan,
    /// It is deleted afterwards.
    Background,
    /// It is deleted before.
    Foreground,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How long the object has to end; the kind's own default if not said. 0 is at once.
    pub grace_period_seconds: Option<i64>,
    /// What becomes of what it owns; the kind's own default if not said.
    pub propagation: Option<Propagation>,
    /// Only the object with this uid.
    pub uid: Option<SmolStr>,
    /// Only in this state.
    pub resource_version: Option<SmolStr>,
    /// Do all but delete it.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// The DeleteOptions object; `None` if nothing is said.
    pub(crate) fn to_value(&self) -> Option<Value> {
        if *self == Self::default() {
            return None;
        }
        let mut options = Value::from([("apiVersion", "v1"), ("kind", "DeleteOptions")]);
        if let Some(seconds) = self.grace_period_seconds {
            options.set(&["gracePeriodSeconds"], seconds);
        }
        if let Some(propagation) = self.propagation {
            let name = match propagation {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            };
            options.set(&["propagationPolicy"], name);
        }
        let mut preconditions = Map::new();
        for (key, value) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(value) = value {
                preconditions.insert(key, value.clone());
            }
        }
        if !preconditions.is_empty() {
            options.set(&["preconditions"], preconditions);
        }
        if self.dry_run {
            options.set(&["dryRun"], vec![Value::from("All")]);
        }
        Some(options)
    }
}

/// Which lines of a container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Which container; may be left out if there is only one.
    pub container: SmolStr,
    /// Go on as lines are written.
    pub follow: bool,
    /// The log of the instance before this one.
    pub previous: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

impl LogOptions {
    pub(crate) fn add_to(&self, path: &mut String) {
        add_unless_empty(path, "container", &self.container);
        for (key, flag) in [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)] {
            if flag {
                add_query(path, key, "true");
            }
        }
        for (key, number) in
            [("tailLines", self.tail_lines), ("sinceSeconds", self.since_seconds), ("limitBytes", self.limit_bytes)]
        {
            if let Some(number) = number {
                add_query(path, key, &number.to_string());
            }
        }
    }
}

fn add_unless_empty(path: &mut String, key: &str, value: &str) {
    if !value.is_empty() {
        add_query(path, key, value);
    }
}
