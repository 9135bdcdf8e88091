//! The parameters of requests.

use api_schema::{Schema, Type, Value};
use api_types::schema;
use openapi_docs::Descriptions;

use crate::schemas::Version;

/// One parameter of a path or a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// In the path, and so required; otherwise in the query.
    pub(crate) in_path: bool,
    pub(crate) ty: &'static str,
    pub(crate) description: String,
    /// The key under which a v2 document shares it; empty if it is written where it is used.
    pub(crate) shared: String,
}

/// Query parameters of lists and watches.
pub(crate) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
];
/// Query parameters of a create or update.
pub(crate) const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
/// Query parameters of a patch.
pub(crate) const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
/// Query parameters of a deletion.
pub(crate) const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];

/// Name, type and meaning of what the option types of meta/v1 and the paths have in common.
const COMMON: &[(&str, &str, &str)] = &[
    ("allowWatchBookmarks", "boolean", "Whether a watch may send BOOKMARK events."),
    ("continue", "string", "The token from the previous page of a list; the other parameters must stay the same."),
    (
        "dryRun",
        "string",
        "With \"All\", the request passes every stage, but nothing is stored. No other value is valid.",
    ),
    ("fieldManager", "string", "Who makes the change, for field ownership. Required for apply requests."),
    ("fieldSelector", "string", "Restricts the objects by their fields. Defaults to everything."),
    (
        "fieldValidation",
        "string",
        "What happens to unknown and duplicate fields of the body: Ignore drops them, Warn (the default) also sends a \
         warning for each, Strict refuses the request.",
    ),
    ("force", "boolean", "Whether an apply request takes over fields that others own. Only for apply requests."),
    (
        "gracePeriodSeconds",
        "integer",
        "Seconds until the object is deleted; zero deletes at once. Defaults to the object's or its kind's own period.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Whether an object that cannot be read from storage is deleted without its finalizers and preconditions. \
         This may break the cluster. Defaults to false.",
    ),
    ("labelSelector", "string", "Restricts the objects by their labels. Defaults to everything."),
    ("limit", "integer", "The most objects that a list answers with; the rest follows with the `continue` token."),
    (
        "orphanDependents",
        "boolean",
        "Deprecated, use propagationPolicy: whether dependents stay when their owner is deleted.",
    ),
    ("pretty", "string", "With 'true', the answer is indented."),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: 'Orphan' keeps them, 'Background' deletes them afterwards, 'Foreground' before.",
    ),
    ("resourceVersion", "string", "Which resource versions may serve the request. Defaults to unset."),
    ("resourceVersionMatch", "string", "How resourceVersion applies to a list. Defaults to unset."),
    (
        "sendInitialEvents",
        "boolean",
        "Whether a watch first sends the objects that exist, followed by a bookmark that is annotated with \
         k8s.io/initial-events-end. Requires resourceVersionMatch.",
    ),
    ("shardSelector", "string", "Restricts a list or watch to a range of hashed UIDs. Alpha."),
    ("timeoutSeconds", "integer", "The time limit of a list or watch, however active it is."),
    ("watch", "boolean", "Whether changes to the objects are streamed instead of a list."),
];

/// One of the parameters that requests of all resources share.
pub(crate) fn common(name: &str) -> Parameter {
    let (ty, description) = COMMON
        .iter()
        .find(|(known, ..)| *known == name)
        .map_or(("string", ""), |(_, ty, description)| (*ty, *description));
    Parameter { name: name.into(), in_path: false, ty, description: description.into(), shared: name.into() }
}

/// The name of an object of a kind.
pub(crate) fn object_name(kind: &str) -> Parameter {
    Parameter {
        name: "name".into(),
        in_path: true,
        ty: "string",
        description: format!("name of the {kind}"),
        shared: String::new(),
    }
}

/// A part of the path that is the same for all kinds.
pub(crate) fn in_path(name: &str, description: &str) -> Parameter {
    Parameter {
        name: name.into(),
        in_path: true,
        ty: "string",
        description: description.into(),
        shared: format!("{name}-in-path"),
    }
}

/// The query parameters that an options type such as PodExecOptions stands for.
pub(crate) fn of_options(kind: &str, descriptions: &Descriptions) -> Vec<Parameter> {
    let type_name = api_types::type_name("", "v1", kind);
    let schema: &Schema = schema();
    let Some(id) = schema.find(&type_name) else { return Vec::new() };
    schema
        .json_fields(id)
        .into_iter()
        // Upstream does not list times (sinceTime), although it reads them.
        .filter(|field| field.json != "kind" && field.json != "apiVersion" && !matches!(field.ty, Type::Time))
        .map(|field| Parameter {
            name: field.json.to_string(),
            in_path: false,
            ty: query_type(&field.ty),
            description: descriptions.get(&type_name, &field.json).unwrap_or_default(),
            shared: format!("{}-{kind}", field.json),
        })
        .collect()
}

fn query_type(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "boolean",
        Type::Int32 | Type::Int64 => "integer",
        Type::List(item) => query_type(item),
        _ => "string",
    }
}

impl Parameter {
    /// The parameter as the document writes it where it is defined.
    pub(crate) fn value(&self, version: Version) -> Value {
        let mut value = Value::from([
            ("name", Value::from(self.name.as_str())),
            ("in", Value::from(if self.in_path { "path" } else { "query" })),
        ]);
        if !self.description.is_empty() {
            value.set(&["description"], self.description.as_str());
        }
        if self.in_path {
            value.set(&["required"], true);
        }
        match version {
            Version::V2 => {
                value.set(&["type"], self.ty);
                value.set(&["uniqueItems"], true);
            }
            Version::V3 => {
                value.set(&["schema"], Value::from([("type", Value::from(self.ty)), ("uniqueItems", true.into())]));
            }
        }
        value
    }
}
