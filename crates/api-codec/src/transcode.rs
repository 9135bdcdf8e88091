//! Protobuf straight to JSON text, without a tree between them.
//!
//! A message is read twice: once to note where each field is, once to write the fields in the order of JSON. What is
//! unusual (a field that comes twice, keys out of order, broken bytes) is left to the way through the tree, which knows
//! all cases and has the words for errors; so both ways always say the same.

use crate::TypeCodec;
use crate::codec::{Codec, FieldPlan, Kind, Part, Slot, StructPlan};
use crate::json::encode::{boolean, close};
use crate::json::{TREE_DEPTH_MAX, scan, text};
use crate::meta::Stamp;
use crate::proto::decode::{first_bytes, int_or_string, timestamp};
use crate::proto::wire::{Reader, Wire};
use crate::proto::{self, DecodeError, envelope};
use crate::scalar::bytes::append_base64;
use crate::scalar::time::{Text, Time};

/// Appends the JSON of a message (without envelope) of a type, with `kind` and `apiVersion` before its fields unless
/// they are empty (as for the items of a list).
pub fn proto_to_json(
    ty: TypeCodec<'_>,
    api_version: &str,
    kind: &str,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    write(ty, api_version, kind, message, None, false, out)
}

/// [`proto_to_json`] of a stored object, which shows its revision as its resourceVersion. What is known of the object
/// from before saves looking again.
pub fn stored_to_json(
    ty: TypeCodec<'_>,
    api_version: &str,
    kind: &str,
    message: &[u8],
    resource_version: u64,
    stamp: Option<&Stamp>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut digits = itoa::Buffer::new();
    let plain_field_sets = stamp.is_some_and(Stamp::has_plain_field_sets);
    write(ty, api_version, kind, message, Some(digits.format(resource_version)), plain_field_sets, out)
}

fn write(
    ty: TypeCodec<'_>,
    api_version: &str,
    kind: &str,
    message: &[u8],
    resource_version: Option<&str>,
    plain_field_sets: bool,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let start = out.len();
    out.reserve(message.len() * 2 + 64);
    let mut writer = Writer { codec: ty.codec, offsets: vec![0; 192], resource_version, plain_field_sets, out };
    // Not every type that could be asked for has metadata.
    let written = writer.object(ty.plan, api_version, kind, message);
    if written.is_some() && writer.resource_version.is_none() {
        return Ok(());
    }
    out.truncate(start);
    let mut value = proto::decode(ty, message)?;
    for (name, text) in [("apiVersion", api_version), ("kind", kind)] {
        if !text.is_empty() {
            value.make_map().insert(name, text);
        }
    }
    if let Some(version) = resource_version {
        value.set(&["metadata", "resourceVersion"], version);
    }
    crate::json::encode(Some(ty), &value, out);
    Ok(())
}

/// Appends the JSON of an enveloped object.
pub fn object_to_json(ty: TypeCodec<'_>, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let envelope = envelope::split(bytes)?;
    proto_to_json(ty, &envelope.api_version, &envelope.kind, envelope.raw, out)
}

/// Writes what is as upstream writes it. `None` anywhere gives up on the whole message.
struct Writer<'a, 'o> {
    codec: &'a Codec,
    /// For each part of the messages being written, innermost last, where its value begins, if it has one. It grows and
    /// never shrinks: which of them mean something is in bits beside it.
    offsets: Vec<u32>,
    /// What is written as the resourceVersion of the first metadata, which in every type is the object's own.
    resource_version: Option<&'a str>,
    /// Whether the sets of fields in the first metadata are known to need no look.
    plain_field_sets: bool,
    out: &'o mut Vec<u8>,
}

impl<'a> Writer<'a, '_> {
    fn object(&mut self, plan: &'a StructPlan, api_version: &str, kind: &str, message: &[u8]) -> Option<()> {
        self.out.push(b'{');
        if plan.has_type_meta {
            for (key, value) in [("\"kind\":", kind), ("\"apiVersion\":", api_version)] {
                if !value.is_empty() {
                    self.out.extend_from_slice(key.as_bytes());
                    text::string(value.as_bytes(), self.out);
                    self.out.push(b',');
                }
            }
        }
        self.fields(plan, message, 0, 0)?;
        close(b'}', self.out);
        Some(())
    }

    fn structure(&mut self, plan: &'a StructPlan, message: &[u8], base: usize, depth: usize) -> Option<()> {
        self.out.push(b'{');
        self.fields(plan, message, base, depth)?;
        close(b'}', self.out);
        Some(())
    }

    /// Writes the fields of a message, each with a comma after it. `base` is where its offsets begin.
    fn fields(&mut self, plan: &'a StructPlan, message: &[u8], base: usize, depth: usize) -> Option<()> {
        if depth >= TREE_DEPTH_MAX || plan.preserve_unknown {
            return None;
        }
        let present = self.find(plan, message, base)?;
        let mut visit = present | plan.always;
        if self.resource_version.is_some() {
            visit |= plan.version;
        }
        let inner = base + plan.parts.len();
        while visit != 0 {
            let place = visit.trailing_zeros() as usize;
            visit &= visit - 1;
            let bit = 1 << place;
            match plan.parts[place] {
                Part::Field { at, .. } if plan.version & bit != 0 && self.resource_version.is_some() => {
                    self.out.extend_from_slice(plan.fields[usize::from(at)].key_of_string.as_bytes());
                    self.out.extend_from_slice(self.resource_version.take()?.as_bytes());
                    self.out.extend_from_slice(b"\",");
                }
                Part::Field { at, key } => {
                    let field = &plan.fields[usize::from(at)];
                    if present & bit == 0 {
                        self.out.extend_from_slice(field.absent.as_bytes());
                        continue;
                    }
                    let reader = Reader { bytes: message, at: self.offsets[base + place] as usize };
                    self.field(field, key, reader, inner, depth)?;
                }
                Part::Inline { plan: flattened } => {
                    let nested = match present & bit {
                        0 => &[],
                        _ => Reader { bytes: message, at: self.offsets[base + place] as usize }.quick_delimited()?,
                    };
                    self.fields(self.codec.plan(flattened), nested, inner, depth)?;
                }
            }
        }
        if plan.version != 0 {
            self.plain_field_sets = false;
        }
        Some(())
    }

    /// Notes where each part is; answers which there are.
    #[inline]
    fn find(&mut self, plan: &StructPlan, message: &[u8], base: usize) -> Option<u64> {
        // A type with too many parts has no slots, and so goes through the tree.
        if plan.slots.len() < plan.by_tag.len() {
            return None;
        }
        let end = base + plan.parts.len();
        if self.offsets.len() < end {
            self.offsets.resize(end + 64, 0);
        }
        let offsets = &mut self.offsets[base..end];
        u32::try_from(message.len()).ok()?;
        let mut present = 0;
        let mut last = 0;
        let mut reader = Reader::new(message);
        while !reader.at_end() {
            let start = reader.at;
            let key = reader.quick_varint()?;
            let slot = match plan.slots.get((key >> 3) as usize) {
                Some(slot) if u64::from(slot.key) == key => slot,
                Some(Slot { key: 1.., .. }) => return None,
                _ => {
                    reader.at = start;
                    let (_, wire) = reader.tag().ok()?;
                    reader.skip(wire).ok()?;
                    last = 0;
                    continue;
                }
            };
            let bit = 1 << slot.place;
            if present & bit == 0 {
                present |= bit;
                offsets[usize::from(slot.place)] = reader.at as u32;
            } else if !(slot.repeats && last == bit) {
                return None;
            }
            last = bit;
            match key & 7 {
                0 => {
                    reader.quick_varint()?;
                }
                2 => {
                    reader.quick_delimited()?;
                }
                _ => reader.skip(Wire::Fixed64).ok()?,
            }
        }
        Some(present)
    }

    /// Writes a field that is present; `reader` stands at its value.
    fn field(
        &mut self,
        field: &'a FieldPlan,
        key: u32,
        mut reader: Reader<'_>,
        base: usize,
        depth: usize,
    ) -> Option<()> {
        let drop_zero = field.omit_zero && !field.pointer;
        let name = field.key.as_bytes();
        match &field.kind {
            Kind::String => {
                let value = reader.quick_delimited()?;
                if drop_zero && value.is_empty() {
                    return Some(());
                }
                self.out.extend_from_slice(field.key_of_string.as_bytes());
                if !text::string_content(value, self.out) {
                    return None;
                }
                self.out.extend_from_slice(b"\",");
                return Some(());
            }
            Kind::Int32 => {
                let value = reader.quick_varint()? as i32;
                if drop_zero && value == 0 {
                    return Some(());
                }
                self.out.extend_from_slice(name);
                text::int(value.into(), self.out);
            }
            Kind::Int64 => {
                let value = reader.quick_varint()? as i64;
                if drop_zero && value == 0 {
                    return Some(());
                }
                self.out.extend_from_slice(name);
                text::int(value, self.out);
            }
            Kind::Bool => {
                let value = reader.quick_varint()? != 0;
                if drop_zero && !value {
                    return Some(());
                }
                self.out.extend_from_slice(name);
                boolean(value, self.out);
            }
            Kind::Time | Kind::MicroTime => {
                let time = timestamp(reader.quick_delimited()?).ok()?;
                let micro = matches!(field.kind, Kind::MicroTime);
                let time = time.map(|time| if micro { time } else { Time { nanos: 0, ..time } });
                let time = time.filter(|time| !time.is_zero());
                if field.omit_zero && time.is_none() {
                    return Some(());
                }
                self.out.extend_from_slice(name);
                self.time(time, micro);
            }
            Kind::List(item) => {
                self.out.extend_from_slice(name);
                self.out.push(b'[');
                loop {
                    self.value(item, &mut reader, base, depth)?;
                    self.out.push(b',');
                    if reader.at_end() || reader.quick_varint()? != u64::from(key) {
                        break;
                    }
                }
                close(b']', self.out);
            }
            Kind::Map(item) => {
                self.out.extend_from_slice(name);
                self.map(item, key, reader, base, depth)?;
            }
            kind => {
                let before = self.out.len();
                self.out.extend_from_slice(name);
                let value = self.out.len();
                self.value(kind, &mut reader, base, depth)?;
                // Unset embedded text and unions are null; empty bytes are no bytes.
                let written = &self.out[value..];
                let zero = match kind {
                    Kind::Bytes | Kind::Double => drop_zero && matches!(written, b"\"\"" | b"0" | b"-0"),
                    _ => field.omit_zero && written == b"null",
                };
                if zero {
                    self.out.truncate(before);
                    return Some(());
                }
            }
        }
        self.out.push(b',');
        Some(())
    }

    #[inline]
    fn string(&mut self, value: &[u8]) -> Option<()> {
        text::string(value, self.out).then_some(())
    }

    fn time(&mut self, time: Option<Time>, micro: bool) {
        let Some(time) = time else { return self.out.extend_from_slice(b"null") };
        let mut text = Text::default();
        if micro {
            time.write_micro(&mut text)
        } else {
            time.write(&mut text)
        }
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    /// Writes a map, whose keys must rise.
    fn map(&mut self, item: &'a Kind, key: u32, mut reader: Reader<'_>, base: usize, depth: usize) -> Option<()> {
        self.out.push(b'{');
        let mut previous: Option<&[u8]> = None;
        loop {
            let mut entry = Reader::new(reader.quick_delimited()?);
            if entry.quick_varint()? != 1 << 3 | 2 {
                return None;
            }
            let name = entry.quick_delimited()?;
            if previous.is_some_and(|previous| previous >= name) {
                return None;
            }
            previous = Some(name);
            self.string(name)?;
            self.out.push(b':');
            if entry.quick_varint()? != u64::from(2 << 3 | item.wire_type()) {
                return None;
            }
            self.value(item, &mut entry, base, depth)?;
            if !entry.at_end() {
                return None;
            }
            self.out.push(b',');
            if reader.at_end() || reader.quick_varint()? != u64::from(key) {
                break;
            }
        }
        close(b'}', self.out);
        Some(())
    }

    fn value(&mut self, kind: &'a Kind, reader: &mut Reader<'_>, base: usize, depth: usize) -> Option<()> {
        match kind {
            Kind::String => self.string(reader.quick_delimited()?)?,
            Kind::Struct(plan) => {
                self.structure(self.codec.plan(*plan), reader.quick_delimited()?, base, depth + 1)?;
            }
            Kind::Bool => boolean(reader.quick_varint()? != 0, self.out),
            Kind::Int32 => text::int((reader.quick_varint()? as i32).into(), self.out),
            Kind::Int64 => text::int(reader.quick_varint()? as i64, self.out),
            Kind::Double => text::float(f64::from_bits(reader.fixed64().ok()?), self.out),
            Kind::Bytes => {
                self.out.push(b'"');
                append_base64(reader.quick_delimited()?, self.out);
                self.out.push(b'"');
            }
            Kind::Time | Kind::MicroTime => {
                let micro = matches!(kind, Kind::MicroTime);
                let time = timestamp(reader.quick_delimited()?).ok()?;
                let time = time.map(|time| if micro { time } else { Time { nanos: 0, ..time } });
                self.time(time.filter(|time| !time.is_zero()), micro);
            }
            Kind::Quantity => {
                let value = first_bytes(reader.quick_delimited()?).ok()?.unwrap_or(b"0");
                self.out.push(b'"');
                if is_plain_quantity(value) {
                    self.out.extend_from_slice(value);
                } else {
                    let canonical = api_semantics::quantity::canonical(std::str::from_utf8(value).ok()?)?;
                    self.out.extend_from_slice(canonical.as_bytes());
                }
                self.out.push(b'"');
            }
            Kind::IntOrString => match int_or_string(reader.quick_delimited()?).ok()? {
                Ok(number) => text::int(number.into(), self.out),
                Err(string) => self.string(string)?,
            },
            Kind::FieldsV1 | Kind::RawExtension | Kind::Json => {
                match first_bytes(reader.quick_delimited()?).ok()?.unwrap_or_default() {
                    b"" => self.out.extend_from_slice(b"null"),
                    raw if self.plain_field_sets && matches!(kind, Kind::FieldsV1) => self.out.extend_from_slice(raw),
                    raw if scan::is_plain_field_set(raw) => self.out.extend_from_slice(raw),
                    raw => self.embedded(raw)?,
                }
            }
            Kind::Wrapped(item) => {
                let mut items = Reader::new(reader.quick_delimited()?);
                if items.at_end() {
                    self.out.extend_from_slice(b"null");
                    return Some(());
                }
                self.out.push(b'[');
                while !items.at_end() {
                    if items.quick_varint()? != u64::from(1 << 3 | item.wire_type()) {
                        return None;
                    }
                    self.value(item, &mut items, base, depth)?;
                    self.out.push(b',');
                }
                close(b']', self.out);
            }
            Kind::SchemaOrArray(plan) | Kind::SchemaOrBool(plan) | Kind::SchemaOrStrings(plan) => {
                self.schema_or(kind, self.codec.plan(*plan), reader.quick_delimited()?, base, depth)?;
            }
            Kind::Duration | Kind::Any | Kind::List(_) | Kind::Map(_) => return None,
        }
        Some(())
    }

    fn embedded(&mut self, raw: &[u8]) -> Option<()> {
        // An enveloped object is no JSON, and goes through the tree; so does text whose escapes may not be Go's.
        scan::check(raw).ok()?;
        if text::has_unicode_escapes(raw) {
            return None;
        }
        std::str::from_utf8(raw).ok()?;
        text::compact_valid(raw, self.out);
        Some(())
    }

    /// Writes the unions of OpenAPI schemas in the forms in which Go writes them.
    fn schema_or(
        &mut self,
        kind: &Kind,
        plan: &'a StructPlan,
        message: &[u8],
        base: usize,
        depth: usize,
    ) -> Option<()> {
        let mut reader = Reader::new(message);
        if let Kind::SchemaOrBool(_) = kind {
            if reader.tag().ok()? != (1, Wire::Varint) {
                return None;
            }
            let allows = reader.quick_varint()? != 0;
            if reader.at_end() {
                boolean(allows, self.out);
                return Some(());
            }
            if reader.tag().ok()? != (2, Wire::Bytes) {
                return None;
            }
            self.structure(plan, reader.quick_delimited()?, base, depth + 1)?;
            return reader.at_end().then_some(());
        }
        if reader.at_end() {
            self.out.extend_from_slice(b"null");
            return Some(());
        }
        match reader.tag().ok()? {
            (1, Wire::Bytes) => {
                self.structure(plan, reader.quick_delimited()?, base, depth + 1)?;
                // A list beside the schema would hide it.
                reader.at_end().then_some(())
            }
            (2, Wire::Bytes) => {
                self.out.push(b'[');
                loop {
                    let item = reader.quick_delimited()?;
                    match kind {
                        Kind::SchemaOrArray(_) => self.structure(plan, item, base, depth + 1)?,
                        _ => self.string(item)?,
                    }
                    self.out.push(b',');
                    if reader.at_end() {
                        break;
                    }
                    if reader.tag().ok()? != (2, Wire::Bytes) {
                        return None;
                    }
                }
                close(b']', self.out);
                Some(())
            }
            _ => None,
        }
    }
}

/// Whether a quantity is canonical at a glance: `0`, `250m`, `4`, `512Mi`.
fn is_plain_quantity(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match (digits, &text[digits..]) {
        (1, b"") => true,
        (1..=3, b"" | b"m" | b"k" | b"M" | b"G" | b"Ki" | b"Mi" | b"Gi" | b"Ti") => text[0] != b'0',
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a message is written without a tree, and as with one.
    fn check(ty: &str, text: &str, directly: bool) {
        let ty = crate::builtin().find(ty).expect("a type");
        let value = crate::json::decode(Some(ty), text.as_bytes(), crate::json::Options::STRICT).expect("JSON").value;
        let mut message = Vec::new();
        proto::encode(ty, &value, &mut message).expect("a message");
        let mut out = Vec::new();
        let mut writer = Writer {
            codec: ty.codec,
            offsets: Vec::new(),
            resource_version: None,
            plain_field_sets: false,
            out: &mut out,
        };
        assert_eq!(writer.object(ty.plan, "", "", &message).is_some(), directly, "{text}");
        out.clear();
        proto_to_json(ty, "", "", &message, &mut out).expect("JSON");
        let mut through_tree = Vec::new();
        let value = proto::decode(ty, &message).expect("a tree");
        crate::json::encode(Some(ty), &value, &mut through_tree);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&through_tree));
    }

    #[test]
    fn what_is_usual_needs_no_tree() {
        check("io.k8s.api.core.v1.Pod", include_str!("../examples/pod.json"), true);
        check("io.k8s.api.core.v1.Pod", "{}", true);
        check("io.k8s.api.core.v1.Secret", r#"{"data":{"a":"aGk=","b":""}}"#, true);
        check("io.k8s.api.authorization.v1.SubjectAccessReview", r#"{"spec":{"extra":{"a":["b"],"c":null}}}"#, true);
        check("io.k8s.api.apps.v1.ControllerRevision", r#"{"data":{"a":"< \u00e9"}}"#, false);
        check(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
            r#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{
                "default":{"a":1},"enum":[1,null],"maximum":1.5,"items":[{"type":"x"}],"additionalItems":true,
                "additionalProperties":{"items":{"type":"y"}},"dependencies":{"a":["b"],"c":{"not":{}}}}}}]}}"#,
            true,
        );
    }
}
