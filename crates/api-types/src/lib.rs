//! The built-in Kubernetes API as tables, parsed once when first used.
//!
//! The tables are made by `cargo xtask codegen`; a test compares them with the facts they come from.

use std::collections::HashMap;
use std::sync::LazyLock;

use api_schema::{Schema, StructId};
use smol_str::SmolStr;

mod resource;

pub use resource::{Resource, Scope, Stability, Subresource, resource, resources};

/// The API version level that the tables describe.
pub const KUBERNETES_VERSION: (u32, u32) = (1, 36);

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../tables/types.tsv")).expect("the generated types.tsv is well-formed")
});

static ENUMS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    rows(include_str!("../tables/enums.tsv"))
        .map(|row| (row[0], row.get(1).map(|values| values.split(',').collect()).unwrap_or_default()))
        .collect()
});

static COLUMNS: LazyLock<HashMap<&'static str, Vec<Column>>> = LazyLock::new(|| {
    let mut columns: HashMap<&'static str, Vec<Column>> = HashMap::new();
    for row in rows(include_str!("../tables/columns.tsv")) {
        columns.entry(row[0]).or_default().push(Column {
            name: row[1],
            ty: row[2],
            format: row[3],
            priority: row[4].parse().unwrap_or(0),
        });
    }
    columns
});

/// One column of a table answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The header.
    pub name: &'static str,
    /// The OpenAPI type of the cells.
    pub ty: &'static str,
    /// The OpenAPI format, empty if none; `name` marks the column with the object's name.
    pub format: &'static str,
    /// 0 shows always, above 0 only with `-o wide`.
    pub priority: i32,
}

/// The schema of every built-in type, meta types included.
pub fn schema() -> &'static Schema {
    &SCHEMA
}

/// The struct of a built-in or meta type by its full name.
///
/// # Panics
/// If the tables have no such type, which only a misspelling in our own code can cause.
pub fn struct_id(name: &str) -> StructId {
    SCHEMA.find(name).unwrap_or_else(|| panic!("no built-in type {name}"))
}

/// The struct of a type of meta/v1, such as `ObjectMeta`.
pub fn meta(name: &str) -> StructId {
    struct_id(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"))
}

/// The values that an enumeration allows, if it is known.
pub fn enum_values(name: &str) -> Option<&'static [&'static str]> {
    ENUMS.get(name).map(Vec::as_slice)
}

/// The table columns of a kind; `None` if it has no printer of its own.
pub fn columns(kind: &str) -> Option<&'static [Column]> {
    COLUMNS.get(kind).map(Vec::as_slice)
}

/// The full type name of a kind of a group and version: `("apps", "v1", "Deployment")` is
/// `io.k8s.api.apps.v1.Deployment`.
pub fn type_name(group: &str, version: &str, kind: &str) -> SmolStr {
    let package = match group {
        "" => "io.k8s.api.core",
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration",
        "meta.k8s.io" => "io.k8s.apimachinery.pkg.apis.meta",
        "internal.apiserver.k8s.io" => "io.k8s.api.apiserverinternal",
        _ => {
            let package = group.split('.').next().unwrap_or(group);
            return api_schema::format_smolstr!("io.k8s.api.{package}.{version}.{kind}");
        }
    };
    api_schema::format_smolstr!("{package}.{version}.{kind}")
}

fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| line.split('\t').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_its_type() {
        for resource in resources() {
            assert!(schema().find(&resource.type_name).is_some(), "{}", resource.type_name);
        }
    }

    #[test]
    fn every_enumeration_named_by_a_field_is_listed() {
        for (_, ty) in schema().structs() {
            for field in ty.fields.iter().filter(|field| !field.enumeration.is_empty()) {
                assert!(enum_values(&field.enumeration).is_some(), "{}.{}", ty.name, field.json);
            }
        }
    }
}
