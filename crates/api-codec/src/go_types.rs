//! What Go's reflection calls the types of fields, for the messages about values that do not fit.
//!
//! Most names follow from the schema; `tables/go-types.tsv` lists those that do not: named strings and named maps. A
//! test makes the table again from the facts and compares.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::codec::{Codec, FieldPlan, Kind};

/// Owner and JSON name to the Go type.
static NAMED: LazyLock<HashMap<(&'static str, &'static str), &'static str>> = LazyLock::new(|| {
    include_str!("../tables/go-types.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some(((columns.next()?, columns.next()?), columns.next()?))
        })
        .collect()
});

/// The type of a struct: `v1.PodSpec`.
pub(crate) fn of_struct(full_name: &str) -> String {
    let mut parts = full_name.rsplit('.');
    match (parts.next(), parts.next()) {
        (Some(name), Some(package)) => format!("{package}.{name}"),
        _ => full_name.into(),
    }
}

/// The type of the values `depth` lists or maps inside of a field; `kind` is what the schema says of them.
pub(crate) fn of_field(codec: Option<&Codec>, field: &FieldPlan, depth: usize, kind: &Kind) -> String {
    let Some(mut name) = NAMED.get(&(&*field.owner, &*field.name)).copied() else { return of_kind(codec, kind) };
    for _ in 0..depth {
        let item = name.strip_prefix("[]").or_else(|| name.split_once(']').map(|(_, item)| item));
        match item {
            Some(item) => name = item,
            None => return of_kind(codec, kind),
        }
    }
    name.into()
}

/// The type that a kind has where the schema says all.
pub(crate) fn of_kind(codec: Option<&Codec>, kind: &Kind) -> String {
    let of = |inner: &Kind| of_kind(codec, inner);
    match kind {
        Kind::String => "string".into(),
        Kind::Bool => "bool".into(),
        Kind::Int32 => "int32".into(),
        Kind::Int64 => "int64".into(),
        Kind::Double => "float64".into(),
        Kind::Bytes => "[]uint8".into(),
        Kind::Time => "v1.Time".into(),
        Kind::MicroTime => "v1.MicroTime".into(),
        Kind::Duration => "v1.Duration".into(),
        Kind::Quantity => "resource.Quantity".into(),
        Kind::IntOrString => "intstr.IntOrString".into(),
        Kind::FieldsV1 => "v1.FieldsV1".into(),
        Kind::RawExtension => "runtime.RawExtension".into(),
        Kind::Json => "v1.JSON".into(),
        Kind::SchemaOrArray(_) => "v1.JSONSchemaPropsOrArray".into(),
        Kind::SchemaOrBool(_) => "v1.JSONSchemaPropsOrBool".into(),
        Kind::SchemaOrStrings(_) => "v1.JSONSchemaPropsOrStringArray".into(),
        Kind::Any => "interface {}".into(),
        Kind::Struct(at) => codec.map(|codec| of_struct(&codec.plan(*at).name)).unwrap_or_default(),
        Kind::Wrapped(_) => "v1.ExtraValue".into(),
        Kind::List(item) => format!("[]{}", of(item)),
        Kind::Map(item) => format!("map[string]{}", of(item)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's name of a type as its source writes it in a package.
    fn reflected(source: &str, package: &str) -> String {
        let source = source.trim_start_matches('*');
        if let Some(item) = source.strip_prefix("[]") {
            return format!("[]{}", reflected(item, package));
        }
        if let Some((key, item)) = source.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            return format!("map[{}]{}", reflected(key, package), reflected(item, package));
        }
        match source.split_once('.') {
            // Packages are imported under names such as `corev1`.
            Some((import, name)) if import.ends_with("v1") => format!("v1.{name}"),
            Some(_) => source.into(),
            None => match source {
                "byte" => "uint8".into(),
                "interface{}" => "interface {}".into(),
                "string" | "bool" | "int32" | "int64" | "float64" => source.into(),
                name => format!("{package}.{name}"),
            },
        }
    }

    #[test]
    fn the_table_is_what_the_facts_say() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/api/fields-1.36.tsv");
        let facts = std::fs::read_to_string(root).expect("the facts beside the repository");
        let codec = crate::builtin();
        let mut table = String::from("# type	JSON name	Go type, where the schema does not say it\n");
        for line in facts.lines().skip(1) {
            let columns: Vec<&str> = line.split('\t').collect();
            let (owner, json, source) = (columns[0], columns[1], columns[2]);
            let Some(ty) = codec.find(owner).filter(|_| !json.is_empty()) else { continue };
            let Some(at) = ty.plan.field_named(json) else { continue };
            let field = &ty.plan.fields[usize::from(at)];
            let package = owner.rsplit('.').nth(1).unwrap_or_default();
            let name = reflected(source, package);
            if field.owner == owner && name != of_kind(Some(codec), &field.kind) {
                table.push_str(&format!("{owner}\t{json}\t{name}\n"));
            }
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tables/go-types.tsv");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, &table).expect("write the table");
        }
        assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), table, "run with UPDATE=1");
    }
}
