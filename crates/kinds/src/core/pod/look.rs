//! Short ways to read and fill an object's tree, with Go's idea of absence: a missing string is empty, a missing
//! list or map has no entries.

use api_schema::{Map, Value};

static EMPTY: Map = Map::new();

/// Reading one field.
pub(crate) trait Look {
    /// The string field; empty where absent.
    fn text(&self, key: &str) -> &str;
    /// The string field, if it is present (even empty): Go's `*string`.
    fn text_if(&self, key: &str) -> Option<&str>;
    /// The number field, if it is present.
    fn int(&self, key: &str) -> Option<i64>;
    /// The boolean field, if it is present.
    fn flag(&self, key: &str) -> Option<bool>;
    /// Whether the boolean field is present and true.
    fn is_true(&self, key: &str) -> bool;
    /// The items of the list field; none where absent.
    fn items(&self, key: &str) -> &[Value];
    /// The entries of the map field; none where absent.
    fn entries(&self, key: &str) -> &Map;
    /// Whether the field is present: a pointer that is not nil.
    fn has(&self, key: &str) -> bool;
    /// The items of a list of strings.
    fn texts<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str>;
}

impl Look for Value {
    fn text(&self, key: &str) -> &str {
        self.text_if(key).unwrap_or_default()
    }

    fn text_if(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    fn int(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(Value::as_int)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }

    fn is_true(&self, key: &str) -> bool {
        self.flag(key) == Some(true)
    }

    fn items(&self, key: &str) -> &[Value] {
        self.get(key).and_then(Value::as_list).unwrap_or_default()
    }

    fn entries(&self, key: &str) -> &Map {
        self.get(key).and_then(Value::as_map).unwrap_or(&EMPTY)
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn texts<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.items(key).iter().filter_map(Value::as_str)
    }
}

/// Filling what is absent.
pub(crate) trait Fill {
    /// Sets a field that is absent (a nil pointer).
    fn fill(&mut self, key: &str, value: impl Into<Value>);
    /// Sets a field that is absent or has its zero value.
    fn fill_zero(&mut self, key: &str, value: impl Into<Value>);
    /// Runs over the items of a list field.
    fn each(&mut self, key: &str, change: impl FnMut(&mut Value));
    /// Runs on a field if it is present.
    fn with(&mut self, key: &str, change: impl FnOnce(&mut Value));
}

impl Fill for Value {
    fn fill(&mut self, key: &str, value: impl Into<Value>) {
        if !self.has(key) {
            self.set(&[key], value);
        }
    }

    fn fill_zero(&mut self, key: &str, value: impl Into<Value>) {
        if self.get(key).is_none_or(Value::is_zero) {
            self.set(&[key], value);
        }
    }

    fn each(&mut self, key: &str, change: impl FnMut(&mut Value)) {
        if let Some(items) = self.at_mut(&[key]).and_then(Value::as_list_mut) {
            items.iter_mut().for_each(change);
        }
    }

    fn with(&mut self, key: &str, change: impl FnOnce(&mut Value)) {
        if let Some(value) = self.at_mut(&[key]).filter(|value| !value.is_null()) {
            change(value);
        }
    }
}

/// The lists of containers in a pod spec, in the order in which upstream visits them.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod spec: the list's name, the index in it, the container.
pub(crate) fn all_containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    CONTAINER_LISTS.into_iter().flat_map(move |list| {
        spec.items(list).iter().enumerate().map(move |(index, container)| (list, index, container))
    })
}

/// Whether an init container runs beside the pod's containers (a sidecar).
pub(crate) fn is_sidecar(container: &Value) -> bool {
    container.text("restartPolicy") == "Always"
}
