//! What fields an object has, in one form for built-ins and custom resources.

use std::collections::HashMap;

use smol_str::SmolStr;

/// A set of struct types that refer to each other.
#[derive(Debug, Default)]
pub struct Schema {
    structs: Vec<StructType>,
    by_name: HashMap<SmolStr, StructId>,
}

/// Which struct of a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructId(u32);

/// One struct: its fields in declared order.
#[derive(Debug, Default)]
pub struct StructType {
    /// The full name, as OpenAPI gives it: `io.k8s.api.core.v1.Pod`.
    pub name: SmolStr,
    /// The fields in declared order, which is the order of JSON output.
    pub fields: Vec<Field>,
    /// Whether server-side apply treats the whole struct as one value (`mapType=atomic`).
    pub atomic: bool,
    /// Whether fields that are not listed are kept (custom resources only).
    pub preserve_unknown: bool,
    /// JSON name to field, those of flattened structs included; sorted by name.
    by_json: Vec<(SmolStr, FieldRef)>,
    /// Protobuf tag to the index in `fields`; sorted by tag.
    by_tag: Vec<(u32, u16)>,
}

/// Where a JSON name leads: a field of the struct itself, or of a struct flattened into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRef {
    /// The struct that declares the field.
    pub owner: StructId,
    /// The index in its `fields`.
    pub index: u16,
}

/// One field of a struct.
#[derive(Debug)]
pub struct Field {
    /// The JSON name; of a flattened struct it is empty.
    pub json: SmolStr,
    /// The protobuf field number; 0 if it is not in protobuf.
    pub tag: u32,
    /// What it holds.
    pub ty: Type,
    /// Go's pointer: absence differs from the zero value.
    pub pointer: bool,
    /// Go's `omitempty`: a zero value is left out of JSON.
    pub omitempty: bool,
    /// Nested in protobuf, flattened into the parent in JSON.
    pub inline: bool,
    /// OpenAPI's `required`.
    pub required: bool,
    /// How server-side apply merges a list or map.
    pub list: ListKind,
    /// How a strategic merge patch treats it.
    pub patch: PatchStrategy,
    /// The default that the schema states, as JSON text; empty if none.
    pub default: SmolStr,
    /// The name of its set of allowed values; empty if it is open.
    pub enumeration: SmolStr,
}

/// How a list (or map, or struct) merges in server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Not stated: a list is atomic, a map or struct granular.
    #[default]
    Unset,
    /// One value, owned as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// A list of structs keyed by these fields.
    Map(Vec<SmolStr>),
    /// A map or struct whose fields are owned one by one.
    Granular,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists merge by [`PatchStrategy::merge_key`] (or as sets) instead of being replaced.
    pub merge: bool,
    /// Only the keys that the patch names stay (`retainKeys`).
    pub retain_keys: bool,
    /// Replace even where maps would merge.
    pub replace: bool,
    /// The key that list items merge by; empty if none.
    pub merge_key: SmolStr,
}

/// What a value is, on the wire and in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A string.
    String,
    /// A boolean.
    Bool,
    /// A 32-bit whole number.
    Int32,
    /// A 64-bit whole number, a plain number in JSON.
    Int64,
    /// A floating point number.
    Double,
    /// Bytes: base64 in JSON.
    Bytes,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// A Go duration such as `1m30s`.
    Duration,
    /// A resource quantity.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// The field set of managedFields: opaque JSON.
    FieldsV1,
    /// Any JSON object, embedded as its text ([`crate::Value::Raw`]).
    RawExtension,
    /// Any JSON value of an OpenAPI schema, embedded as its text.
    Json,
    /// OpenAPI: a schema or a list of schemas.
    SchemaOrArray(StructId),
    /// OpenAPI: a schema or a boolean.
    SchemaOrBool(StructId),
    /// OpenAPI: a schema or a list of strings.
    SchemaOrStrings(StructId),
    /// Any JSON, kept as a tree.
    Any,
    /// Another struct.
    Struct(StructId),
    /// A list.
    List(Box<Type>),
    /// A list that protobuf wraps in a message of its own (ExtraValue).
    Wrapped(Box<Type>),
    /// A map with string keys.
    Map(Box<Type>),
}

/// Why a table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl std::fmt::Display for SchemaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}
impl std::error::Error for SchemaError {}

impl Schema {
    /// Reads the text form (see the head of `api-types/tables/types.tsv`).
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let mut schema = Self::default();
        let lines = || text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        for (_, line) in lines().filter(|(_, line)| !line.starts_with('\t')) {
            let (name, flags) = line.split_once('\t').unwrap_or((line, ""));
            let id = StructId(schema.structs.len() as u32);
            schema.by_name.insert(name.into(), id);
            schema.structs.push(StructType { name: name.into(), atomic: flags == "atomic", ..StructType::default() });
        }
        let mut current = None;
        for (at, line) in lines() {
            match line.strip_prefix('\t') {
                None => current = Some(current.map_or(0, |at: usize| at + 1)),
                Some(row) => {
                    let field = schema.parse_field(row).map_err(|problem| SchemaError { line: at + 1, problem })?;
                    let Some(owner) = current else {
                        return Err(SchemaError { line: at + 1, problem: "a field before any struct".into() });
                    };
                    schema.structs[owner].fields.push(field);
                }
            }
        }
        schema.index();
        Ok(schema)
    }

    fn parse_field(&self, row: &str) -> Result<Field, String> {
        let mut columns = row.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (json, tag, ty, flags) = (next(), next(), next(), next());
        let (list, keys, strategy, merge_key) = (next(), next(), next(), next());
        Ok(Field {
            json: json.into(),
            tag: tag.parse().map_err(|_| format!("tag {tag:?} is no number"))?,
            ty: self.parse_type(ty)?,
            pointer: flags.contains('p'),
            omitempty: flags.contains('o'),
            inline: flags.contains('i'),
            required: flags.contains('r'),
            list: match list {
                "" => ListKind::Unset,
                "atomic" => ListKind::Atomic,
                "set" => ListKind::Set,
                "granular" => ListKind::Granular,
                "map" => ListKind::Map(keys.split(',').map(SmolStr::new).collect()),
                other => return Err(format!("no list type {other:?}")),
            },
            patch: PatchStrategy {
                merge: strategy.split(',').any(|s| s == "merge"),
                retain_keys: strategy.split(',').any(|s| s == "retainKeys"),
                replace: strategy.split(',').any(|s| s == "replace"),
                merge_key: merge_key.into(),
            },
            default: next().into(),
            enumeration: next().into(),
        })
    }

    fn parse_type(&self, text: &str) -> Result<Type, String> {
        let named = |name: &str| self.by_name.get(name).copied().ok_or_else(|| format!("no struct {name:?}"));
        const SCHEMA_PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        Ok(match text {
            "string" => Type::String,
            "bool" => Type::Bool,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "time" => Type::Time,
            "microTime" => Type::MicroTime,
            "duration" => Type::Duration,
            "quantity" => Type::Quantity,
            "intOrString" => Type::IntOrString,
            "fieldsV1" => Type::FieldsV1,
            "raw" => Type::RawExtension,
            "json" => Type::Json,
            "any" => Type::Any,
            "orArray" => Type::SchemaOrArray(named(SCHEMA_PROPS)?),
            "orBool" => Type::SchemaOrBool(named(SCHEMA_PROPS)?),
            "orStrings" => Type::SchemaOrStrings(named(SCHEMA_PROPS)?),
            _ => {
                if let Some(name) = text.strip_prefix('@') {
                    Type::Struct(named(name)?)
                } else if let Some(item) = text.strip_prefix("[]") {
                    Type::List(Box::new(self.parse_type(item)?))
                } else if let Some(item) = text.strip_prefix("map:") {
                    Type::Map(Box::new(self.parse_type(item)?))
                } else if let Some(item) = text.strip_prefix("wrap:") {
                    Type::Wrapped(Box::new(self.parse_type(item)?))
                } else {
                    return Err(format!("no type {text:?}"));
                }
            }
        })
    }

    /// Fills the look-up tables of every struct.
    fn index(&mut self) {
        for at in 0..self.structs.len() {
            let mut by_json = Vec::new();
            self.collect_json(StructId(at as u32), &mut by_json);
            by_json.sort_by(|a, b| a.0.cmp(&b.0));
            let mut by_tag: Vec<(u32, u16)> = self.structs[at]
                .fields
                .iter()
                .enumerate()
                .filter(|(_, field)| field.tag != 0)
                .map(|(index, field)| (field.tag, index as u16))
                .collect();
            by_tag.sort_unstable();
            self.structs[at].by_json = by_json;
            self.structs[at].by_tag = by_tag;
        }
    }

    fn collect_json(&self, id: StructId, names: &mut Vec<(SmolStr, FieldRef)>) {
        for (index, field) in self.get(id).fields.iter().enumerate() {
            match field.ty {
                Type::Struct(inner) if field.inline => self.collect_json(inner, names),
                _ => names.push((field.json.clone(), FieldRef { owner: id, index: index as u16 })),
            }
        }
    }

    /// The struct of an id that this schema gave.
    pub fn get(&self, id: StructId) -> &StructType {
        &self.structs[id.0 as usize]
    }

    /// The field that a reference leads to.
    pub fn field(&self, at: FieldRef) -> &Field {
        &self.get(at.owner).fields[usize::from(at.index)]
    }

    /// The struct of a full name.
    pub fn find(&self, name: &str) -> Option<StructId> {
        self.by_name.get(name).copied()
    }

    /// The field with a JSON name, flattened structs included.
    pub fn json_field(&self, id: StructId, json: &str) -> Option<&Field> {
        self.get(id).json_ref(json).map(|at| self.field(at))
    }

    /// All structs.
    pub fn structs(&self) -> impl Iterator<Item = (StructId, &StructType)> {
        self.structs.iter().enumerate().map(|(at, ty)| (StructId(at as u32), ty))
    }

    /// All JSON fields of a struct in output order, those of flattened structs in their place.
    pub fn json_fields(&self, id: StructId) -> Vec<&Field> {
        let mut fields = Vec::new();
        for field in &self.get(id).fields {
            match field.ty {
                Type::Struct(inner) if field.inline => fields.extend(self.json_fields(inner)),
                _ => fields.push(field),
            }
        }
        fields
    }
}

impl StructType {
    /// Where a JSON name leads.
    pub fn json_ref(&self, json: &str) -> Option<FieldRef> {
        self.by_json.binary_search_by(|(name, _)| name.as_str().cmp(json)).ok().map(|at| self.by_json[at].1)
    }

    /// The JSON names of the struct, sorted, with where they lead.
    pub fn json_names(&self) -> &[(SmolStr, FieldRef)] {
        &self.by_json
    }

    /// The field with a protobuf tag.
    pub fn tag(&self, tag: u32) -> Option<&Field> {
        self.by_tag.binary_search_by_key(&tag, |(t, _)| *t).ok().map(|at| &self.fields[usize::from(self.by_tag[at].1)])
    }

    /// The fields that are in protobuf, by rising tag, which is the order upstream writes them in.
    pub fn proto_fields(&self) -> impl DoubleEndedIterator<Item = &Field> {
        self.by_tag.iter().map(|(_, index)| &self.fields[usize::from(*index)])
    }
}
