//! Paths and queries of the API, read.

use std::collections::BTreeMap;

use api_schema::{SmolStr, Value};
use api_semantics::selector::{FieldSelector, Selector};

/// What a request is about.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) resource: &'static api_types::Resource,
    pub(crate) namespace: SmolStr,
    pub(crate) name: SmolStr,
    pub(crate) subresource: SmolStr,
}

impl Target {
    /// Reads a path; none if no built-in resource is there.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match *parts.as_slice() {
            ["api", version, ref rest @ ..] => ("", version, rest),
            ["apis", group, version, ref rest @ ..] => (group, version, rest),
            _ => return None,
        };
        let (namespace, rest) = match *rest {
            ["namespaces", namespace, ref rest @ ..]
                if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) =>
            {
                (namespace, rest)
            }
            ref rest => ("", rest),
        };
        let (plural, name, subresource) = match *rest {
            [plural] => (plural, "", ""),
            [plural, name] => (plural, name, ""),
            [plural, name, subresource] => (plural, name, subresource),
            _ => return None,
        };
        let resource = api_types::resource(group, version, plural)?;
        Some(Self { resource, namespace: namespace.into(), name: name.into(), subresource: subresource.into() })
    }
}

/// A decoded query.
#[derive(Debug, Default)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), unescape(value))).collect())
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(crate) fn is(&self, key: &str) -> bool {
        self.get(key) == "true"
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        self.get(key).parse().unwrap_or(0)
    }
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                out.extend(u8::from_str_radix(&hex, 16).ok());
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Which objects of a resource are meant.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    namespace: SmolStr,
    labels: Selector,
    fields: FieldSelector,
}

impl Filter {
    pub(crate) fn new(target: &Target, query: &Query) -> Result<Self, String> {
        Ok(Self {
            namespace: target.namespace.clone(),
            labels: Selector::parse(query.get("labelSelector")).map_err(|error| error.to_string())?,
            fields: FieldSelector::parse(query.get("fieldSelector")).map_err(|error| error.to_string())?,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let field = |path: &str| SmolStr::new(object.str_at(&path.split('.').collect::<Vec<_>>()));
        (self.namespace.is_empty() || self.namespace == object.str_at(&["metadata", "namespace"]))
            && self.labels.matches_object(object)
            && self.fields.matches(field)
    }
}
