//! Objects written as short text, and a view of them.

use std::collections::HashMap;
use std::sync::Mutex;

use admission::{BoxFuture, View};
use api_schema::{Map, Value};
use api_semantics::status::{GroupResource, Status};
use authn::UserInfo;
use authz::{Attributes, Authorizer, Decision};

/// An object tree from JSON text.
pub(crate) fn json(text: &str) -> Value {
    let parsed: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    tree(&parsed)
}

fn tree(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => Value::Int(number.as_i64().expect("a whole number")),
        serde_json::Value::String(text) => Value::str(text),
        serde_json::Value::Array(items) => Value::List(items.iter().map(tree).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.iter().map(|(key, value)| (key.as_str(), tree(value))).collect::<Map>())
        }
    }
}

/// A user of `name group,group`.
pub(crate) fn user(text: &str) -> UserInfo {
    let (name, groups) = text.split_once(' ').unwrap_or((text, ""));
    UserInfo::new(name, &groups.split(',').filter(|group| !group.is_empty()).collect::<Vec<_>>())
}

/// Asks about `VERB [GROUP/]RESOURCE[/SUBRESOURCE] [NAMESPACE/NAME] [FIELDSELECTOR]` or `VERB /PATH`; `-` is nothing, a
/// group is told from a resource by its dot or by `apps`.
pub(crate) fn ask(authorizer: &dyn Authorizer, user: &UserInfo, request: &str) -> Decision {
    let parts: Vec<&str> = request.split(' ').collect();
    let mut attributes = Attributes {
        user,
        verb: parts[0],
        is_resource: !parts[1].starts_with('/'),
        group: "",
        version: "v1",
        resource: "",
        subresource: "",
        namespace: "",
        name: "",
        path: "",
        field_selector: parts.get(3).copied().unwrap_or_default(),
    };
    if attributes.is_resource {
        let mut rest = parts[1];
        if let Some((group, resource)) =
            rest.split_once('/').filter(|(group, _)| group.contains('.') || *group == "apps")
        {
            (attributes.group, rest) = (group, resource);
        }
        (attributes.resource, attributes.subresource) = rest.split_once('/').unwrap_or((rest, ""));
        (attributes.namespace, attributes.name) = parts.get(2).and_then(|at| at.split_once('/')).unwrap_or_default();
    } else {
        attributes.path = parts[1];
    }
    authorizer.authorize(&attributes)
}

/// The decision in one line.
pub(crate) fn shown(decision: &Decision) -> String {
    match decision {
        Decision::Allow(reason) => format!("yes {reason}"),
        Decision::Deny(reason) => format!("never {reason}"),
        Decision::NoOpinion(reason) => format!("no {reason}"),
    }
    .trim_end()
    .to_string()
}

/// A cluster of a few objects.
#[derive(Default)]
pub(crate) struct Cluster {
    objects: Mutex<HashMap<(String, String), Vec<Value>>>,
}

impl Cluster {
    /// Adds an object of a group and resource.
    pub(crate) fn add(&self, group: &str, resource: &str, object: &str) {
        let mut objects = self.objects.lock().expect("nobody panicked");
        objects.entry((group.into(), resource.into())).or_default().push(json(object));
    }
}

impl View for Cluster {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let is_it = |object: &Value| object.str_at(&["metadata", "name"]) == name;
        self.list(group, resource, namespace).into_iter().find(is_it)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        let objects = self.objects.lock().expect("nobody panicked");
        let all = objects.get(&(group.into(), resource.into())).map(Vec::as_slice).unwrap_or_default();
        let is_in = |object: &&Value| namespace.is_empty() || object.str_at(&["metadata", "namespace"]) == namespace;
        all.iter().filter(is_in).cloned().collect()
    }

    fn list_where(&self, group: &str, resource: &str, namespace: &str, field: &str, value: &str) -> Vec<Value> {
        let path: Vec<&str> = field.split('.').collect();
        self.list(group, resource, namespace).into_iter().filter(|object| object.str_at(&path) == value).collect()
    }

    fn get_fresh<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Value>> {
        Box::pin(std::future::ready(self.get(group, resource, namespace, name)))
    }

    fn change_status<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        _: &'a str,
        name: &'a str,
        _: &'a mut (dyn FnMut(&Value) -> Result<Option<Value>, Status> + Send),
    ) -> BoxFuture<'a, Result<(), Status>> {
        let status = Status::not_found(&GroupResource::new(group, resource), name);
        Box::pin(std::future::ready(Err(status)))
    }

    fn now(&self) -> i64 {
        0
    }
}
