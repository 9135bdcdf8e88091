//! Writes trees as messages, from the last byte to the first: the length of a message is known once it is written.

use api_schema::{Map, SmolStr, UNKNOWN, Value, format_smolstr};

use super::wire::Backward;
use crate::TypeCodec;
use crate::codec::{Codec, FieldPlan, Kind, MemberPart, StructPlan};
use crate::json::encode::place;
use crate::scalar::{bytes, duration, time};

/// A tree does not have the shape of its type. Trees that have come through a reader of this crate have it; one that a
/// patch has made is brought into it by [`crate::json::retype`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field:?} of {owner} holds a value that is no {expected}")]
pub struct EncodeError {
    /// The JSON name of the field.
    pub field: SmolStr,
    /// The full name of the type that has the field.
    pub owner: SmolStr,
    /// What it should be.
    pub expected: &'static str,
}

type Written = Result<(), EncodeError>;

pub(crate) fn message(ty: TypeCodec<'_>, value: &Value) -> Result<Backward, EncodeError> {
    let mut writer = Writer { codec: ty.codec, slots: Vec::with_capacity(64), out: Backward::with_capacity(1024) };
    match writer.structure(ty.plan, value) {
        Ok(()) => Ok(writer.out),
        Err(error) if error.owner.is_empty() => Err(EncodeError { owner: ty.plan.name.clone(), ..error }),
        Err(error) => Err(error),
    }
}

/// The error of the value at hand; [`Writer::field`] says which field it is in.
fn misfit(expected: &'static str) -> Written {
    Err(EncodeError { field: SmolStr::default(), owner: SmolStr::default(), expected })
}

struct Writer<'a> {
    codec: &'a Codec,
    /// The values of the fields of the structs being written, innermost last.
    slots: Vec<Option<&'a Value>>,
    out: Backward,
}

impl<'a> Writer<'a> {
    /// Writes the fields of a struct; the caller adds length and tag.
    fn structure(&mut self, plan: &'a StructPlan, value: &'a Value) -> Written {
        let base = self.slots.len();
        match value {
            Value::Map(map) => place(plan, map, &mut self.slots),
            Value::Null => self.slots.resize(base + plan.fields.len(), None),
            _ => return misfit("object"),
        }
        let unknown = value.as_map().filter(|map| map.keys().next().is_some_and(|key| key.starts_with(UNKNOWN)));
        self.members(plan, base, unknown, UNKNOWN)?;
        self.slots.truncate(base);
        Ok(())
    }

    /// Writes the members of a message whose fields are in the slots from `base` on; `unknown` is the struct's map if
    /// it keeps fields that the schema does not know, those of this message under `key`.
    fn members(&mut self, own: &'a StructPlan, base: usize, unknown: Option<&'a Map>, key: &str) -> Written {
        if let Some(Value::Bytes(bytes)) = unknown.and_then(|map| map.get(key)) {
            self.out.put(bytes);
        }
        for member in own.members.iter().rev() {
            match member.part {
                MemberPart::Field(at) => {
                    let field = &own.fields[usize::from(at)];
                    let value = self.slots[base + usize::from(at)].filter(|value| !value.is_null());
                    self.field(field, value, member.tag)?;
                }
                MemberPart::Inline { plan, first } => {
                    let before = self.out.len();
                    let inner_key = match unknown {
                        Some(_) => format_smolstr!("{key}{}", member.tag),
                        None => SmolStr::default(),
                    };
                    self.members(self.codec.plan(plan), base + usize::from(first), unknown, &inner_key)?;
                    self.out.message(member.tag, before);
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'a FieldPlan, value: Option<&'a Value>, tag: u32) -> Written {
        let written = match (&field.kind, value) {
            (Kind::List(item), Some(Value::List(items))) => {
                items.iter().rev().try_for_each(|value| self.value(item, value, tag))
            }
            (Kind::Map(item), Some(Value::Map(entries))) => entries.iter().rev().try_for_each(|(key, value)| {
                let before = self.out.len();
                // Go leaves out nil bytes only.
                if !(value.is_null() && matches!(**item, Kind::Bytes)) {
                    self.value(item, value, 2)?;
                }
                self.out.delimited(1, key.as_bytes());
                self.out.message(tag, before);
                Ok(())
            }),
            (Kind::List(_) | Kind::Map(_) | Kind::Bytes, None) => Ok(()),
            (Kind::List(_), _) => misfit("list"),
            (Kind::Map(_), _) => misfit("map"),
            (_, None) if field.pointer => Ok(()),
            (kind, None) => self.value(kind, &Value::Null, tag),
            (kind, Some(value)) => self.value(kind, value, tag),
        };
        written.map_err(|error| match error.owner.is_empty() {
            true => EncodeError { field: field.name.clone(), owner: field.owner.clone(), ..error },
            false => error,
        })
    }

    /// Writes a value with its tag; null is Go's zero value.
    fn value(&mut self, kind: &'a Kind, value: &'a Value, tag: u32) -> Written {
        let out = &mut self.out;
        match (kind, value) {
            (Kind::String, Value::Str(text)) => out.delimited(tag, text.as_bytes()),
            (Kind::String | Kind::Bytes, Value::Null) => out.delimited(tag, b""),
            (Kind::Bool, Value::Bool(flag)) => varint(out, (*flag).into(), tag),
            (Kind::Int32 | Kind::Int64, Value::Int(number)) => varint(out, *number as u64, tag),
            (Kind::Bool | Kind::Int32 | Kind::Int64, Value::Null) => varint(out, 0, tag),
            (Kind::Double, Value::Float(number)) => double(out, *number, tag),
            (Kind::Double, Value::Int(number)) => double(out, *number as f64, tag),
            (Kind::Double, Value::Null) => double(out, 0.0, tag),
            (Kind::Bytes, Value::Str(text)) => match bytes::from_base64(text) {
                Some(data) => out.delimited(tag, &data),
                None => return misfit("base64"),
            },
            (Kind::Struct(plan), _) => {
                let before = out.len();
                self.structure(self.codec.plan(*plan), value)?;
                self.out.message(tag, before);
            }
            (Kind::List(_) | Kind::Map(_) | Kind::Any, _) => return misfit("value that protobuf can nest"),
            _ => {
                let before = out.len();
                self.special(kind, value)?;
                self.out.message(tag, before);
            }
        }
        Ok(())
    }

    /// Writes the message of a kind that has a form of its own in JSON; the caller adds length and tag.
    fn special(&mut self, kind: &'a Kind, value: &'a Value) -> Written {
        let out = &mut self.out;
        match (kind, value) {
            (Kind::String, _) => return misfit("string"),
            (Kind::Bool, _) => return misfit("boolean"),
            (Kind::Int32 | Kind::Int64, _) => return misfit("whole number"),
            (Kind::Double, _) => return misfit("number"),
            (Kind::Bytes, _) => return misfit("base64"),
            (Kind::Time | Kind::MicroTime, Value::Null) => {}
            (Kind::Time, Value::Str(text)) => match time::Time::of_tree(text, time::RFC3339) {
                Ok(time) => timestamp(out, time::Time { nanos: 0, ..time }),
                Err(_) => return misfit("time"),
            },
            (Kind::MicroTime, Value::Str(text)) => match time::Time::of_tree(text, time::RFC3339_MICRO) {
                Ok(time) => timestamp(out, time),
                Err(_) => return misfit("time"),
            },
            (Kind::Duration, Value::Null) => varint(out, 0, 1),
            (Kind::Duration, Value::Str(text)) => match duration::parse(text) {
                Ok(nanos) => varint(out, nanos as u64, 1),
                Err(_) => return misfit("duration"),
            },
            (Kind::Quantity, Value::Null) => out.delimited(1, b"0"),
            (Kind::Quantity, Value::Str(text)) => match api_semantics::quantity::canonical(text) {
                Some(canonical) => out.delimited(1, canonical.as_bytes()),
                None => return misfit("quantity"),
            },
            (Kind::IntOrString, Value::Null) => int_or_string(out, 0, 0, ""),
            (Kind::IntOrString, Value::Int(number)) => int_or_string(out, 0, *number, ""),
            (Kind::IntOrString, Value::Str(text)) => int_or_string(out, 1, 0, text),
            (Kind::FieldsV1 | Kind::RawExtension | Kind::Json, Value::Null) => {}
            (Kind::FieldsV1 | Kind::RawExtension | Kind::Json, Value::Raw(text)) => out.delimited(1, text.as_bytes()),
            (Kind::FieldsV1 | Kind::RawExtension | Kind::Json, tree) => {
                let mut text = Vec::new();
                crate::json::encode::any(tree, &mut text);
                out.delimited(1, &text);
            }
            (Kind::Wrapped(_), Value::Null) => {}
            (Kind::Wrapped(item), Value::List(items)) => {
                for value in items.iter().rev() {
                    self.value(item, value, 1)?;
                }
            }
            (Kind::SchemaOrArray(_) | Kind::SchemaOrStrings(_), Value::Null) => {}
            (Kind::SchemaOrArray(plan) | Kind::SchemaOrStrings(plan), Value::Map(_)) => self.nested(*plan, value, 1)?,
            (Kind::SchemaOrArray(plan), Value::List(schemas)) => {
                for schema in schemas.iter().rev() {
                    self.nested(*plan, schema, 2)?;
                }
            }
            (Kind::SchemaOrStrings(_), Value::List(strings)) => {
                for string in strings.iter().rev() {
                    out.delimited(2, string.as_str().unwrap_or_default().as_bytes());
                }
            }
            (Kind::SchemaOrBool(_), Value::Bool(allows)) => varint(out, (*allows).into(), 1),
            (Kind::SchemaOrBool(_), Value::Null) => varint(out, 0, 1),
            (Kind::SchemaOrBool(plan), Value::Map(_)) => {
                self.nested(*plan, value, 2)?;
                varint(&mut self.out, 1, 1);
            }
            (Kind::Time | Kind::MicroTime, _) => return misfit("time"),
            (Kind::Duration, _) => return misfit("duration"),
            (Kind::Quantity, _) => return misfit("quantity"),
            (Kind::IntOrString, _) => return misfit("whole number or string"),
            (Kind::Wrapped(_), _) => return misfit("list"),
            _ => return misfit("schema"),
        }
        Ok(())
    }

    fn nested(&mut self, plan: u32, value: &'a Value, tag: u32) -> Written {
        let before = self.out.len();
        self.structure(self.codec.plan(plan), value)?;
        self.out.message(tag, before);
        Ok(())
    }
}

fn varint(out: &mut Backward, number: u64, tag: u32) {
    out.varint(number);
    out.tag(tag, 0);
}

fn double(out: &mut Backward, number: f64, tag: u32) {
    out.put(&number.to_bits().to_le_bytes());
    out.tag(tag, 1);
}

fn timestamp(out: &mut Backward, time: time::Time) {
    if !time.is_zero() {
        varint(out, (time.nanos / 1000 * 1000).into(), 2);
        varint(out, time.seconds as u64, 1);
    }
}

fn int_or_string(out: &mut Backward, kind: u64, number: i64, text: &str) {
    out.delimited(3, text.as_bytes());
    varint(out, number as u64, 2);
    varint(out, kind, 1);
}
