//! Which objects a list or a watch wants.

use std::fmt;
use std::sync::Arc;

use api_schema::SmolStr;

use crate::object::{Event, EventType, Object};

/// A test of one selectable field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTest {
    /// The position in [`crate::Index::fields`].
    pub field: usize,
    /// The value it is compared with.
    pub value: SmolStr,
    /// Equal (or, if false, unequal).
    pub equal: bool,
}

/// A test of an object's labels.
pub type LabelTest = Arc<dyn Fn(&Object) -> bool + Send + Sync>;

/// Namespace, name and selectors together.
#[derive(Clone, Default)]
pub struct Selection {
    /// Only this namespace; empty for all.
    pub namespace: SmolStr,
    /// Only this name (`metadata.name=`); empty for all.
    pub name: SmolStr,
    /// Not these names (`metadata.name!=`).
    pub not_names: Vec<SmolStr>,
    /// Not these namespaces (`metadata.namespace!=`).
    pub not_namespaces: Vec<SmolStr>,
    /// Tests of selectable fields; all must hold.
    pub fields: Vec<FieldTest>,
    /// The label selector, if any.
    pub labels: Option<LabelTest>,
    /// Selects nothing (contradicting selectors).
    pub nothing: bool,
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selection")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("fields", &self.fields)
            .field("labels", &self.labels.is_some())
            .finish_non_exhaustive()
    }
}

impl Selection {
    /// Whether selectors beyond the namespace are at work: lists then do not say how many items remain.
    pub fn is_selective(&self) -> bool {
        self.nothing
            || !self.name.is_empty()
            || !self.not_names.is_empty()
            || !self.not_namespaces.is_empty()
            || !self.fields.is_empty()
            || self.labels.is_some()
    }

    /// Whether an object is wanted.
    pub fn matches(&self, object: &Object) -> bool {
        let index = &object.index;
        !self.nothing
            && (self.namespace.is_empty() || self.namespace == index.namespace)
            && (self.name.is_empty() || self.name == index.name)
            && !self.not_names.contains(&index.name)
            && !self.not_namespaces.contains(&index.namespace)
            && self.fields.iter().all(|test| {
                (index.fields.get(test.field).map(SmolStr::as_str).unwrap_or_default() == test.value) == test.equal
            })
            && self.labels.as_ref().is_none_or(|labels| labels(object))
    }

    /// What an event is to this selection: an object that stops matching is deleted, one that starts is added.
    pub fn view(&self, event: &Event) -> Option<EventType> {
        let before = event.previous.as_ref().is_some_and(|object| self.matches(object));
        let after = event.object.as_ref().is_some_and(|object| self.matches(object));
        match (before, after) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }
}
