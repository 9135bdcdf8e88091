//! What the caches hold: an object's identity, and what its readers need of it.

use std::fmt;
use std::ops::Deref;

use client::{Map, SmolStr, Value};

/// Namespace and name; the namespace of cluster-wide objects is empty. Shown as `namespace/name`, as client-go does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace; may be empty.
    pub namespace: SmolStr,
    /// The name.
    pub name: SmolStr,
}

impl Key {
    /// A key of its parts.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of(object: &Value) -> Self {
        Self::new(object.str_at(&["metadata", "namespace"]), object.str_at(&["metadata", "name"]))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What a reader keeps of an object.
pub trait Extract: Sized + Send + Sync + 'static {
    /// Takes out of a whole object what is needed.
    fn extract(object: Value) -> Self;
}

/// All of it.
impl Extract for Value {
    fn extract(object: Value) -> Self {
        object
    }
}

/// Only that it is there.
impl Extract for () {
    fn extract(_: Value) {}
}

/// Labels, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(SmolStr, SmolStr)]>);

impl Labels {
    fn of(map: Option<&Map>) -> Self {
        let entries = map.into_iter().flat_map(Map::iter);
        Self(entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.into()))).collect())
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// All labels by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SmolStr, &SmolStr)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

/// An object in a cache. It reads like its content.
#[derive(Debug)]
pub struct Object<T = Value> {
    /// The namespace; empty for cluster-wide objects.
    pub namespace: SmolStr,
    /// The name.
    pub name: SmolStr,
    /// Tells it from earlier objects of its name.
    pub uid: SmolStr,
    /// Its state.
    pub resource_version: SmolStr,
    /// Its labels.
    pub labels: Labels,
    /// The uid of its controller, by its owner references; empty if it has none.
    pub controller_uid: SmolStr,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What its readers need of it.
    pub content: T,
}

impl<T> Object<T> {
    /// Namespace and name.
    pub fn key(&self) -> Key {
        Key { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl<T: Extract> Object<T> {
    /// An object from its tree.
    pub fn new(object: Value) -> Self {
        let text = |field: &str| SmolStr::new(object.str_at(&["metadata", field]));
        let owners = object.list_at(&["metadata", "ownerReferences"]);
        let controller = owners.iter().find(|owner| owner.bool_at(&["controller"]) == Some(true));
        Self {
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            labels: Labels::of(object.map_at(&["metadata", "labels"])),
            controller_uid: controller.map(|owner| owner.str_at(&["uid"]).into()).unwrap_or_default(),
            deleting: object.at(&["metadata", "deletionTimestamp"]).is_some(),
            content: T::extract(object),
        }
    }
}

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}
