//! Tables: what `kubectl get` shows, made by the server.

use api_schema::{Map, Value};

use crate::storage::Storage;

/// What of an object a table row carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the `includeObject` parameter; `None` for text that is none of upstream's values.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The column definitions of a storage's tables.
pub fn columns(storage: &Storage) -> Value {
    columns_of(&storage.kind_name)
}

/// The column definitions of a kind.
pub fn columns_of(kind: &str) -> Value {
    let column = |name: &str, ty: &str, format: &str, priority: i64, description: String| {
        Value::Map(Map::from_iter([
            ("name", Value::from(name)),
            ("type", Value::from(ty)),
            ("format", Value::from(format)),
            ("description", Value::from(description)),
            ("priority", Value::from(priority)),
        ]))
    };
    let describe = |name: &str| format!("{name} of the {}, as the server prints it.", kind);
    let columns: Vec<Value> = match api_types::columns(kind) {
        Some(columns) => {
            columns.iter().map(|c| column(c.name, c.ty, c.format, c.priority.into(), describe(c.name))).collect()
        }
        None => vec![
            column("Name", "string", "name", 0, describe("Name")),
            column("Created At", "date", "", 0, describe("Creation time")),
        ],
    };
    Value::List(columns)
}

/// One row. `object` is in the stored version; `shown` is what the row carries of it.
pub fn row(storage: &Storage, object: &Value, shown: Option<Value>, now: i64) -> Value {
    let cells = storage.kind.cells(object, now).unwrap_or_else(|| {
        vec![
            Value::from(object.str_at(&["metadata", "name"])),
            Value::from(object.str_at(&["metadata", "creationTimestamp"])),
        ]
    });
    let mut row = Map::with_capacity(3);
    row.insert("cells", Value::List(cells));
    let conditions = storage.kind.row_conditions(object);
    if !conditions.is_empty() {
        row.insert("conditions", Value::List(conditions));
    }
    row.insert("object", shown.unwrap_or_default());
    row.into()
}

/// A whole table.
pub fn table(columns: Option<Value>, rows: Vec<Value>, metadata: Map, beta: bool) -> Value {
    let mut table = Map::with_capacity(5);
    table.insert("apiVersion", if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" });
    table.insert("kind", "Table");
    table.insert("metadata", metadata);
    table.insert("columnDefinitions", columns.unwrap_or_default());
    table.insert("rows", Value::List(rows));
    table.into()
}

/// The metadata of an object as an object of its own.
pub fn partial(object: &Value, beta: bool) -> Value {
    let mut partial = Map::with_capacity(3);
    partial.insert("apiVersion", if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" });
    partial.insert("kind", "PartialObjectMetadata");
    partial.insert("metadata", object.get("metadata").cloned().unwrap_or_else(|| Map::new().into()));
    partial.into()
}
