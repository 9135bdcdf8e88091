//! Values with their types, seen as server-side apply sees them: which are one value, which are made of parts that
//! have owners of their own.

use api_schema::{Field, ListKind, Map, Schema, SmolStr, StructId, Type, Value};

use crate::field_set::PathElement;
use crate::json;

mod compare;
mod merge;
mod reconcile;
mod remove;
mod set;
mod validate;

pub use compare::Comparison;
pub use validate::{ValidationError, ValidationErrors};

pub(crate) use compare::{compare, compare_objects, equal};
pub(crate) use merge::merge;
pub(crate) use reconcile::reconcile;
pub(crate) use remove::{ensure_named, remove};
pub(crate) use set::fields_of;
pub(crate) use validate::validate;

/// The type of an object: a struct of a schema, or nothing known (a custom resource without a schema).
#[derive(Clone, Copy, Debug)]
pub enum ObjectType<'s> {
    /// The struct of a schema.
    Struct(&'s Schema, StructId),
    /// Nothing is known: maps are granular, lists are one value.
    Unknown,
}

impl<'s> ObjectType<'s> {
    pub(crate) fn ty(self) -> Ty<'s> {
        match self {
            Self::Struct(schema, id) => Ty::Struct { schema, id, atomic: false },
            Self::Unknown => Ty::Deduced,
        }
    }
}

/// The type of a value.
#[derive(Clone, Copy)]
pub(crate) enum Ty<'s> {
    /// A struct.
    Struct { schema: &'s Schema, id: StructId, atomic: bool },
    /// A type of the schema other than a struct, and how it merges.
    Of { schema: &'s Schema, ty: &'s Type, list: &'s ListKind },
    /// Whatever is found: maps are granular, lists are one value.
    Deduced,
    /// Whatever is found, as one value.
    Untyped,
}

/// What a type is made of, once it is clear what sort of value it holds.
pub(crate) enum Atom<'s> {
    Scalar(Scalar),
    List(ListAtom<'s>),
    Map(MapAtom<'s>),
}

/// Which scalars are allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    String,
    Numeric,
    Boolean,
    Untyped,
}

/// A list type.
pub(crate) struct ListAtom<'s> {
    pub(crate) relation: Relation<'s>,
    pub(crate) item: Ty<'s>,
}

/// How the items of a list are told apart.
#[derive(Clone, Copy)]
pub(crate) enum Relation<'s> {
    /// They are not: the list is one value.
    Atomic,
    /// By their value.
    Set,
    /// By these fields of them.
    Keyed(&'s [SmolStr]),
}

/// A struct or map type.
pub(crate) struct MapAtom<'s> {
    pub(crate) atomic: bool,
    entries: Entries<'s>,
}

enum Entries<'s> {
    Fields(&'s Schema, StructId),
    All(Ty<'s>),
}

/// What stands under a key of a map.
pub(crate) struct Entry<'s> {
    /// Its type; `None` if the schema forbids the key.
    pub(crate) ty: Option<Ty<'s>>,
    /// The field of the struct; `None` for entries of maps and for unknown fields.
    pub(crate) field: Option<&'s Field>,
}

const ATOMIC: &ListKind = &ListKind::Atomic;

impl<'s> Ty<'s> {
    fn new(schema: &'s Schema, ty: &'s Type, list: &'s ListKind) -> Self {
        match ty {
            Type::Struct(id) => {
                let atomic = match list {
                    ListKind::Atomic => true,
                    ListKind::Granular => false,
                    _ => schema.get(*id).atomic,
                };
                Self::Struct { schema, id: *id, atomic }
            }
            Type::RawExtension => Self::Untyped,
            Type::Any
            | Type::Json
            | Type::FieldsV1
            | Type::SchemaOrArray(_)
            | Type::SchemaOrBool(_)
            | Type::SchemaOrStrings(_) => Self::Deduced,
            _ => Self::Of { schema, ty, list },
        }
    }

    /// The type of the items of a list or map.
    fn item(schema: &'s Schema, ty: &'s Type) -> Self {
        Self::new(schema, ty, &ListKind::Unset)
    }

    /// The atom for a value. Where the type leaves it open, null counts as a map.
    pub(crate) fn atom(self, value: &Value) -> Atom<'s> {
        match self {
            Self::Struct { schema, id, atomic } => Atom::Map(MapAtom { atomic, entries: Entries::Fields(schema, id) }),
            Self::Of { schema, ty, list } => match ty {
                Type::List(item) | Type::Wrapped(item) => {
                    let relation = match list {
                        ListKind::Set => Relation::Set,
                        ListKind::Map(keys) => Relation::Keyed(keys),
                        ListKind::Unset | ListKind::Atomic | ListKind::Granular => Relation::Atomic,
                    };
                    Atom::List(ListAtom { relation, item: Self::item(schema, item) })
                }
                Type::Map(item) => {
                    let entries = Entries::All(Self::item(schema, item));
                    Atom::Map(MapAtom { atomic: list == ATOMIC, entries })
                }
                Type::String | Type::Bytes | Type::Duration => Atom::Scalar(Scalar::String),
                Type::Bool => Atom::Scalar(Scalar::Boolean),
                Type::Int32 | Type::Int64 | Type::Double => Atom::Scalar(Scalar::Numeric),
                _ => Atom::Scalar(Scalar::Untyped),
            },
            Self::Deduced | Self::Untyped => {
                let atomic = matches!(self, Self::Untyped);
                match value {
                    Value::List(_) => Atom::List(ListAtom { relation: Relation::Atomic, item: Self::Untyped }),
                    Value::Map(_) | Value::Null => Atom::Map(MapAtom { atomic, entries: Entries::All(self) }),
                    _ => Atom::Scalar(Scalar::Untyped),
                }
            }
        }
    }

    /// The schema and struct, if this is one.
    fn as_struct(self) -> Option<(&'s Schema, StructId)> {
        match self {
            Self::Struct { schema, id, .. } => Some((schema, id)),
            _ => None,
        }
    }

    /// What stands under a name, if this is a struct or map.
    pub(crate) fn entry(self, key: &str) -> Option<Entry<'s>> {
        match self.atom(&Value::Null) {
            Atom::Map(map) => Some(map.entry(key)),
            _ => None,
        }
    }

    /// The type of the items, if this is a list.
    pub(crate) fn list_item(self) -> Option<Ty<'s>> {
        match self.atom(&Value::Null) {
            Atom::List(list) => Some(list.item),
            Atom::Map(_) if matches!(self, Self::Deduced | Self::Untyped) => Some(Self::Untyped),
            _ => None,
        }
    }
}

impl<'s> MapAtom<'s> {
    /// What stands under a key.
    pub(crate) fn entry(&self, key: &str) -> Entry<'s> {
        match self.entries {
            Entries::All(ty) => Entry { ty: Some(ty), field: None },
            Entries::Fields(schema, id) => match schema.json_field(id, key) {
                Some(field) => Entry { ty: Some(Ty::new(schema, &field.ty, &field.list)), field: Some(field) },
                None => Entry { ty: schema.get(id).preserve_unknown.then_some(Ty::Deduced), field: None },
            },
        }
    }
}

impl Entry<'_> {
    /// What Go has in a field that the tree leaves out; `None` if that is nothing. Go shows every struct that is
    /// not behind a pointer, and every other field without `omitempty`.
    pub(crate) fn zero(&self) -> Option<&'static Value> {
        static NULL: Value = Value::Null;
        static EMPTY: Value = Value::Map(Map::new());
        static ZERO: Value = Value::Int(0);
        static FALSE: Value = Value::Bool(false);
        static TEXT: Value = Value::Str(SmolStr::new_static(""));
        static QUANTITY: Value = Value::Str(SmolStr::new_static("0"));
        let field = self.field.filter(|field| !field.pointer)?;
        match field.ty {
            Type::Struct(_) => Some(&EMPTY),
            // A struct to Go, too, but null in JSON.
            Type::Time | Type::MicroTime => Some(&NULL),
            _ if field.omitempty => None,
            Type::String | Type::Duration => Some(&TEXT),
            Type::Bool => Some(&FALSE),
            Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Some(&ZERO),
            Type::Quantity => Some(&QUANTITY),
            _ => Some(&NULL),
        }
    }
}

impl<'s> ListAtom<'s> {
    /// How an item of this list is told apart, or why it cannot be.
    pub(crate) fn element(&self, item: &Value) -> Result<PathElement, String> {
        match self.relation {
            Relation::Atomic => Err("invalid indexing of non-associative list".into()),
            Relation::Keyed(keys) => self.keyed_element(keys, item),
            Relation::Set => match item {
                Value::Map(_) | Value::Raw(_) => {
                    Err("associative list without keys has an element that's a map type".into())
                }
                Value::List(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null | Value::Bytes(_) => {
                    Err("associative list without keys has an element that's an explicit null".into())
                }
                scalar => Ok(PathElement::Value(scalar.clone())),
            },
        }
    }

    fn keyed_element(&self, keys: &[SmolStr], item: &Value) -> Result<PathElement, String> {
        let map = match item {
            Value::Map(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let mut fields: Vec<(SmolStr, Value)> = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(value) = map.get(key).cloned().or_else(|| self.key_default(key)) {
                fields.push((key.clone(), value));
            }
        }
        if fields.is_empty() && !keys.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| api_semantics::field::quoted(key)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                keys.join(" ")
            ));
        }
        fields.sort_by(|l, r| l.0.as_str().cmp(r.0.as_str()));
        Ok(PathElement::Key(fields))
    }

    /// The value of a key field that an item leaves out: its default, as OpenAPI states it.
    fn key_default(&self, key: &str) -> Option<Value> {
        let (schema, id) = self.item.as_struct()?;
        let field = schema.json_field(id, key)?;
        if !field.default.is_empty() {
            return json::parse(&field.default);
        }
        // OpenAPI gives the zero value as default of every scalar that Go always writes.
        Entry { ty: None, field: Some(field) }.zero().filter(|zero| !zero.is_null()).cloned()
    }
}
