//! Writes trees as JSON.

use api_schema::{Map, Value};

use super::text;
use crate::TypeCodec;
use crate::codec::{Codec, FieldPlan, Kind, StructPlan};

/// Writes a tree of a type: fields in declared order, what Go leaves out left out, what it fills in filled in.
pub(crate) fn object(ty: TypeCodec<'_>, value: &Value, out: &mut Vec<u8>) {
    let mut writer = Writer { codec: ty.codec, slots: Vec::with_capacity(64) };
    writer.structure(ty.plan, value, out);
}

/// Writes a tree without a type.
pub(crate) fn any(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::Bytes(_) => out.extend_from_slice(b"null"),
        Value::Raw(raw) if raw.is_empty() => out.extend_from_slice(b"null"),
        Value::Bool(flag) => boolean(*flag, out),
        Value::Int(number) => text::int(*number, out),
        Value::Float(number) => text::float(*number, out),
        Value::Str(string) => {
            text::string(string.as_bytes(), out);
        }
        Value::List(items) => list(items, out, any),
        Value::Map(entries) => map(entries, out, any),
        Value::Raw(raw) => text::compact_valid(raw.as_bytes(), out),
    }
}

pub(crate) fn boolean(flag: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

fn list(items: &[Value], out: &mut Vec<u8>, mut put: impl FnMut(&Value, &mut Vec<u8>)) {
    out.push(b'[');
    for item in items {
        put(item, out);
        out.push(b',');
    }
    close(b']', out);
}

fn map(entries: &Map, out: &mut Vec<u8>, mut put: impl FnMut(&Value, &mut Vec<u8>)) {
    out.push(b'{');
    for (key, value) in entries.iter() {
        text::string(key.as_bytes(), out);
        out.push(b':');
        put(value, out);
        out.push(b',');
    }
    close(b'}', out);
}

/// Ends a list or object after its last comma, or after the opening bracket. A comma can only be one of ours: values
/// end with quotes, brackets, digits or letters.
#[inline]
pub(crate) fn close(bracket: u8, out: &mut Vec<u8>) {
    match out.last_mut() {
        Some(last @ b',') => *last = bracket,
        _ => out.push(bracket),
    }
}

struct Writer<'a> {
    codec: &'a Codec,
    /// The values of the fields of the structs being written, innermost last.
    slots: Vec<Option<&'a Value>>,
}

impl<'a> Writer<'a> {
    fn structure(&mut self, plan: &'a StructPlan, value: &'a Value, out: &mut Vec<u8>) {
        let Value::Map(map) = value else {
            // An absent struct shows its zero value; anything else is not ours to hide.
            return if value.is_null() { any(&plan.zero, out) } else { any(value, out) };
        };
        let base = self.slots.len();
        place(plan, map, &mut self.slots);
        out.push(b'{');
        for (at, field) in plan.fields.iter().enumerate() {
            let value = self.slots[base + at];
            match value {
                Some(value) if !(field.omit_zero && hidden(&field.kind, field.pointer, value)) => {
                    out.extend_from_slice(field.key.as_bytes());
                    match field.pointer && value.is_null() {
                        true => out.extend_from_slice(b"null"),
                        false => self.value(&field.kind, value, out),
                    }
                    out.push(b',');
                }
                _ => out.extend_from_slice(field.absent.as_bytes()),
            }
        }
        self.slots.truncate(base);
        if plan.preserve_unknown {
            for (key, value) in map.iter().filter(|(key, _)| plan.field_named(key).is_none()) {
                text::string(key.as_bytes(), out);
                out.push(b':');
                any(value, out);
                out.push(b',');
            }
        }
        close(b'}', out);
    }

    fn value(&mut self, kind: &'a Kind, value: &'a Value, out: &mut Vec<u8>) {
        match (kind, value) {
            (Kind::Struct(plan), _) => self.structure(self.codec.plan(*plan), value, out),
            (Kind::SchemaOrArray(plan) | Kind::SchemaOrBool(plan) | Kind::SchemaOrStrings(plan), Value::Map(_)) => {
                self.structure(self.codec.plan(*plan), value, out);
            }
            (Kind::SchemaOrArray(plan), Value::List(items)) => {
                self.items(items, out, |writer, item, out| writer.structure(writer.codec.plan(*plan), item, out));
            }
            (Kind::List(item_kind), Value::List(items)) => {
                self.items(items, out, |writer, item, out| writer.value(item_kind, item, out));
            }
            (Kind::Map(item_kind), Value::Map(entries)) => {
                out.push(b'{');
                for (key, value) in entries.iter() {
                    text::string(key.as_bytes(), out);
                    out.push(b':');
                    self.value(item_kind, value, out);
                    out.push(b',');
                }
                close(b'}', out);
            }
            (_, Value::Null) => zero_text(&self.codec.structs, kind, out),
            _ => any(value, out),
        }
    }

    fn items(
        &mut self,
        items: &'a [Value],
        out: &mut Vec<u8>,
        mut put: impl FnMut(&mut Self, &'a Value, &mut Vec<u8>),
    ) {
        out.push(b'[');
        for item in items {
            put(self, item, out);
            out.push(b',');
        }
        close(b']', out);
    }
}

/// Finds the values of a struct's fields by walking both sorted lists of names; adds one slot per field.
pub(crate) fn place<'a>(plan: &StructPlan, map: &'a Map, slots: &mut Vec<Option<&'a Value>>) {
    let base = slots.len();
    slots.resize(base + plan.fields.len(), None);
    let mut rank = 0;
    for (key, value) in map.iter() {
        while let Some((name, at)) = plan.sorted.get(rank) {
            match name.as_str().cmp(key) {
                std::cmp::Ordering::Less => rank += 1,
                std::cmp::Ordering::Equal => {
                    slots[base + usize::from(*at)] = Some(value);
                    rank += 1;
                    break;
                }
                std::cmp::Ordering::Greater => break,
            }
        }
    }
}

/// Whether `omitempty` drops the value.
pub(crate) fn hidden(kind: &Kind, pointer: bool, value: &Value) -> bool {
    match (kind, value) {
        (_, Value::Null) => true,
        _ if pointer => false,
        // An interface drops only nil.
        (Kind::Any | Kind::Time, _) => false,
        _ => value.is_zero(),
    }
}

/// Writes a field that is not set, with its comma.
pub(crate) fn zero_field(structs: &[StructPlan], field: &FieldPlan, out: &mut Vec<u8>) {
    out.extend_from_slice(field.key.as_bytes());
    zero_text(structs, if field.pointer { &Kind::Any } else { &field.kind }, out);
    out.push(b',');
}

/// Writes Go's zero value of a kind.
pub(crate) fn zero_text(structs: &[StructPlan], kind: &Kind, out: &mut Vec<u8>) {
    match kind {
        // Not by the tree: its maps are sorted by name, the text follows the declaration.
        Kind::Struct(at) => {
            out.push(b'{');
            for field in structs[*at as usize].fields.iter().filter(|field| !field.omit_zero) {
                zero_field(structs, field, out);
            }
            close(b'}', out);
        }
        _ => any(&crate::codec::zero_of(structs, kind), out),
    }
}
