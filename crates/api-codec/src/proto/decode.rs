//! Reads messages into trees.

use api_schema::{SmolStr, UNKNOWN, Value, format_smolstr};

use super::wire::{Reader, Wire};
use crate::TypeCodec;
use crate::codec::{Codec, Gathered, Kind, MemberPart, Merges, StructPlan, zero_of};
use crate::json::{TREE_DEPTH_MAX, text};
use crate::scalar::bytes::to_base64;
use crate::scalar::duration;
use crate::scalar::time::Time;

/// Why bytes are no message of a type, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing.
    #[error("empty data")]
    EmptyData,
    /// There is nothing after the magic number.
    #[error("empty body")]
    EmptyBody,
    /// The magic number is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// The bytes end within a value.
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// A number has too many bytes.
    #[error("proto: integer overflow")]
    Overflow,
    /// A length is beyond all bounds.
    #[error("proto: negative length found during unmarshaling")]
    InvalidLength,
    /// A value is written in no known way.
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u8),
    /// A field has an impossible number.
    #[error("proto: illegal tag {0}")]
    IllegalTag(i32),
    /// A group ends that has not begun.
    #[error("proto: wiretype end group for non-group")]
    EndOfNoGroup,
    /// A value is not written as its field wants.
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongWireType {
        /// How it is written.
        wire: u8,
        /// The JSON name of the field.
        field: SmolStr,
    },
    /// Messages are nested beyond what a tree may hold.
    #[error("proto: message nested too deeply")]
    TooDeep,
    /// A quantity is malformed.
    #[error("{0}")]
    Quantity(api_semantics::quantity::QuantityError),
    /// Embedded JSON is none.
    #[error("{0}")]
    Json(crate::json::SyntaxError),
    /// An embedded object is of a type that we do not have.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// The apiVersion of its envelope.
        api_version: String,
        /// The kind of its envelope.
        kind: String,
    },
}

type Read<T> = Result<T, DecodeError>;

pub(crate) fn message(ty: TypeCodec<'_>, bytes: &[u8]) -> Read<Value> {
    Decoder { codec: ty.codec, merges: Merges::default(), envelopes: 0 }.message(ty.plan, bytes, Value::Null, 0)
}

/// How many enveloped objects may be embedded in one another. Nobody embeds a second.
const ENVELOPES_MAX: usize = 4;

struct Decoder<'a> {
    codec: &'a Codec,
    merges: Merges,
    /// How many enveloped objects this one is embedded in.
    envelopes: usize,
}

/// A struct being read.
struct Message<'a> {
    plan: &'a StructPlan,
    fields: Gathered<'a>,
    /// Fields that the schema does not know, by the key under which the tree keeps them.
    unknown: Vec<(SmolStr, Vec<u8>)>,
    depth: usize,
}

impl<'a> Decoder<'a> {
    /// Reads a message; `before` is what an earlier occurrence of it held, for both are one.
    fn message(&self, plan: &'a StructPlan, bytes: &[u8], mut before: Value, depth: usize) -> Read<Value> {
        if depth >= TREE_DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let unknown = take_unknown(&mut before);
        let mut message = Message { plan, fields: Gathered::new(plan, before), unknown, depth };
        self.members(&mut message, plan, 0, UNKNOWN, bytes)?;
        let unknown = message.unknown.into_iter().map(|(key, bytes)| (key, Value::Bytes(bytes.into())));
        Ok(message.fields.finish(unknown.collect()))
    }

    /// Reads the fields of a message: of the struct itself, or of one (`own`) that is flattened into it, whose fields
    /// begin at `first` there and whose unknown ones go under `key`.
    fn members(&self, message: &mut Message<'a>, own: &'a StructPlan, first: u16, key: &str, bytes: &[u8]) -> Read<()> {
        let mut reader = Reader::new(bytes);
        while !reader.at_end() {
            let start = reader.at;
            let (tag, wire) = reader.tag()?;
            match own.member(tag) {
                Some((_, MemberPart::Field(at))) => self.field(message, first + at, tag, wire, &mut reader)?,
                Some((_, MemberPart::Inline { plan, first: inner })) => {
                    let key = format_smolstr!("{key}{tag}");
                    self.members(
                        message,
                        self.codec.plan(plan),
                        first + inner,
                        &key,
                        delimited(&mut reader, wire, "")?,
                    )?;
                }
                None => {
                    reader.skip(wire)?;
                    add_unknown(&mut message.unknown, key, &bytes[start..reader.at]);
                }
            }
        }
        Ok(())
    }

    /// Reads the value of a field, or all that stand together if it is a list.
    fn field(&self, message: &mut Message<'a>, at: u16, tag: u32, wire: Wire, reader: &mut Reader<'_>) -> Read<()> {
        let field = &message.plan.fields[usize::from(at)];
        if let Kind::Map(item) = &field.kind {
            let entry = self.entry(item, &field.name, delimited(reader, wire, &field.name)?, message.depth)?;
            message.fields.entries(field.rank).push(entry);
            return Ok(());
        }
        let mut before = message.fields.take(field.rank);
        let value = if let Kind::List(item) = &field.kind {
            self.list(item, tag, wire, &field.name, reader, before, message.depth)
        } else {
            self.merges.limit(&mut before);
            self.value(&field.kind, wire, &field.name, reader, before, message.depth)
        }?;
        if !(field.omit_zero && crate::json::encode::hidden(&field.kind, field.pointer, &value)) {
            message.fields.put(field.rank, value);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one field")]
    fn list(
        &self,
        item: &'a Kind,
        tag: u32,
        mut wire: Wire,
        name: &SmolStr,
        reader: &mut Reader<'_>,
        before: Value,
        depth: usize,
    ) -> Read<Value> {
        let mut items = match before {
            Value::List(items) => items,
            _ => Vec::new(),
        };
        loop {
            let packable = matches!(item, Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Double);
            if packable && wire == Wire::Bytes {
                let mut packed = Reader::new(reader.delimited()?);
                let wire = if matches!(item, Kind::Double) { Wire::Fixed64 } else { Wire::Varint };
                while !packed.at_end() {
                    items.push(self.value(item, wire, name, &mut packed, Value::Null, depth)?);
                }
            } else {
                items.push(self.value(item, wire, name, reader, Value::Null, depth)?);
            }
            match next_of(reader, tag) {
                Some((after, next_wire)) => (*reader, wire) = (after, next_wire),
                None => return Ok(Value::List(items)),
            }
        }
    }

    /// Reads the entry of a map.
    #[inline(never)]
    fn entry(&self, item: &'a Kind, name: &SmolStr, bytes: &[u8], depth: usize) -> Read<(SmolStr, Value)> {
        let mut reader = Reader::new(bytes);
        let (mut key, mut value) = (SmolStr::default(), None);
        while !reader.at_end() {
            match reader.tag()? {
                (1, Wire::Bytes) => key = SmolStr::new(text::utf8(reader.delimited()?)),
                (2, wire) => value = Some(self.value(item, wire, name, &mut reader, Value::Null, depth)?),
                (_, wire) => reader.skip(wire)?,
            }
        }
        let zero = || match item {
            // Generated Go code makes no bytes of it, rather than none.
            Kind::Bytes => Value::str(""),
            item => zero_of(&self.codec.structs, item),
        };
        Ok((key, value.unwrap_or_else(zero)))
    }

    /// Reads a value. What recurses is kept apart from what does not, for the sake of the stack.
    fn value(
        &self,
        kind: &'a Kind,
        wire: Wire,
        name: &SmolStr,
        reader: &mut Reader<'_>,
        before: Value,
        depth: usize,
    ) -> Read<Value> {
        match kind {
            Kind::Struct(plan) => {
                self.message(self.codec.plan(*plan), delimited(reader, wire, name)?, before, depth + 1)
            }
            Kind::SchemaOrArray(plan) | Kind::SchemaOrBool(plan) | Kind::SchemaOrStrings(plan) => {
                self.schema_or(kind, self.codec.plan(*plan), delimited(reader, wire, name)?, depth + 1)
            }
            _ => self.scalar(kind, wire, name, reader),
        }
    }

    #[inline(never)]
    fn scalar(&self, kind: &'a Kind, wire: Wire, name: &SmolStr, reader: &mut Reader<'_>) -> Read<Value> {
        match (kind, wire) {
            (Kind::Bool, Wire::Varint) => Ok(Value::Bool(reader.varint()? != 0)),
            (Kind::Int32, Wire::Varint) => Ok(Value::Int((reader.varint()? as i32).into())),
            (Kind::Int64, Wire::Varint) => Ok(Value::Int(reader.varint()? as i64)),
            (Kind::Double, Wire::Fixed64) => Ok(Value::Float(f64::from_bits(reader.fixed64()?))),
            (Kind::Bool | Kind::Int32 | Kind::Int64 | Kind::Double, _) | (_, Wire::Varint | Wire::Fixed64) => {
                Err(wrong(wire, name))
            }
            (Kind::String, _) => Ok(Value::Str(SmolStr::new(text::utf8(delimited(reader, wire, name)?)))),
            _ => self.special(kind, delimited(reader, wire, name)?),
        }
    }

    /// Reads the message of a kind that has a form of its own in JSON.
    fn special(&self, kind: &'a Kind, bytes: &[u8]) -> Read<Value> {
        match kind {
            Kind::Bytes => Ok(Value::Str(to_base64(bytes))),
            Kind::Time => Ok(timestamp(bytes)?.map_or(Value::Null, |time| Time { nanos: 0, ..time }.to_value())),
            Kind::MicroTime => Ok(timestamp(bytes)?.map_or(Value::Null, Time::to_micro_value)),
            Kind::Duration => Ok(Value::Str(duration::format(first_varint(bytes)? as i64))),
            Kind::Quantity => {
                let text = text::utf8(first_bytes(bytes)?.unwrap_or(b"0"));
                match api_semantics::quantity::canonical(&text) {
                    Some(canonical) => Ok(Value::Str(canonical)),
                    None => match api_semantics::quantity::Quantity::parse(&text) {
                        Ok(quantity) => Ok(Value::Str(quantity.canonical())),
                        Err(error) => Err(DecodeError::Quantity(error)),
                    },
                }
            }
            Kind::IntOrString => int_or_string(bytes).map(|value| match value {
                Ok(number) => Value::Int(number.into()),
                Err(bytes) => Value::Str(SmolStr::new(text::utf8(bytes))),
            }),
            Kind::FieldsV1 | Kind::RawExtension | Kind::Json => match first_bytes(bytes)? {
                None | Some(b"") => Ok(Value::Null),
                Some(raw) => self.embedded(raw),
            },
            Kind::Wrapped(item) => {
                let mut items = Vec::new();
                let mut reader = Reader::new(bytes);
                while !reader.at_end() {
                    match reader.tag()? {
                        (1, wire) => items.push(self.scalar(item, wire, &SmolStr::default(), &mut reader)?),
                        (_, wire) => reader.skip(wire)?,
                    }
                }
                Ok(if items.is_empty() { Value::Null } else { Value::List(items) })
            }
            _ => Ok(zero_of(&self.codec.structs, kind)),
        }
    }

    /// Reads embedded JSON: as text, or as an enveloped object of its own.
    #[inline(never)]
    fn embedded(&self, raw: &[u8]) -> Read<Value> {
        if !super::envelope::is_enveloped(raw) {
            let text = text::utf8(raw);
            crate::json::scan::check(text.as_bytes()).map_err(DecodeError::Json)?;
            return Ok(Value::Raw(text::stripped(&text)));
        }
        if self.envelopes == ENVELOPES_MAX {
            return Err(DecodeError::TooDeep);
        }
        let envelope = super::envelope::split(raw)?;
        let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", &envelope.api_version));
        let name = api_types::type_name(group, version, &envelope.kind);
        let ty = crate::builtin().find(&name).ok_or_else(|| DecodeError::UnknownKind {
            api_version: envelope.api_version.to_string(),
            kind: envelope.kind.to_string(),
        })?;
        let decoder = Decoder { codec: ty.codec, merges: Merges::default(), envelopes: self.envelopes + 1 };
        let value = super::with_type(decoder.message(ty.plan, envelope.raw, Value::Null, 0)?, &envelope);
        let mut json = Vec::new();
        crate::json::encode(Some(ty), &value, &mut json);
        Ok(Value::Raw(text::stripped(&text::utf8(&json))))
    }

    /// Reads the unions of OpenAPI schemas.
    fn schema_or(&self, kind: &Kind, plan: &'a StructPlan, bytes: &[u8], depth: usize) -> Read<Value> {
        let union = Union::read(kind, bytes)?;
        if union.items.is_empty() {
            return match union.schema {
                Some(schema) => self.message(plan, schema, Value::Null, depth),
                None if matches!(kind, Kind::SchemaOrBool(_)) => Ok(Value::Bool(union.allows)),
                None => Ok(Value::Null),
            };
        }
        let items = union.items.into_iter().map(|item| match kind {
            Kind::SchemaOrArray(_) => self.message(plan, item, Value::Null, depth),
            _ => Ok(Value::Str(SmolStr::new(text::utf8(item)))),
        });
        items.collect::<Read<Vec<_>>>().map(Value::List)
    }
}

/// The parts of a union of OpenAPI.
#[derive(Default)]
struct Union<'b> {
    schema: Option<&'b [u8]>,
    items: Vec<&'b [u8]>,
    allows: bool,
}

impl<'b> Union<'b> {
    fn read(kind: &Kind, bytes: &'b [u8]) -> Read<Self> {
        let schema_tag = if matches!(kind, Kind::SchemaOrBool(_)) { 2 } else { 1 };
        let mut union = Self::default();
        let mut reader = Reader::new(bytes);
        while !reader.at_end() {
            match reader.tag()? {
                (tag, Wire::Bytes) if tag == schema_tag => union.schema = Some(reader.delimited()?),
                (1, Wire::Varint) => union.allows = reader.varint()? != 0,
                (2, Wire::Bytes) => union.items.push(reader.delimited()?),
                (_, wire) => reader.skip(wire)?,
            }
        }
        Ok(union)
    }
}

/// Where the next field goes on if it has the same tag: items of a list mostly stand together.
#[inline]
fn next_of<'a>(reader: &Reader<'a>, tag: u32) -> Option<(Reader<'a>, Wire)> {
    let mut next = *reader;
    if next.at_end() {
        return None;
    }
    match next.tag() {
        Ok((found, wire)) if found == tag => Some((next, wire)),
        _ => None,
    }
}

fn wrong(wire: Wire, field: &str) -> DecodeError {
    let wire = match wire {
        Wire::Varint => 0,
        Wire::Fixed64 => 1,
        Wire::Bytes => 2,
        Wire::StartGroup => 3,
        Wire::EndGroup => 4,
        Wire::Fixed32 => 5,
    };
    DecodeError::WrongWireType { wire, field: field.into() }
}

#[inline]
fn delimited<'b>(reader: &mut Reader<'b>, wire: Wire, name: &str) -> Read<&'b [u8]> {
    match wire {
        Wire::Bytes => reader.delimited(),
        other => Err(wrong(other, name)),
    }
}

/// The time of a meta/v1 Timestamp message; none if it is empty.
pub(crate) fn timestamp(bytes: &[u8]) -> Read<Option<Time>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while !reader.at_end() {
        match reader.tag()? {
            (1, Wire::Varint) => seconds = reader.varint()? as i64,
            (2, Wire::Varint) => nanos = reader.varint()? as i32,
            (_, wire) => reader.skip(wire)?,
        }
    }
    // Microseconds are all that JSON shows; negative or excessive nanos, which no writer makes, spill over as in Go.
    let nanos = i64::from(nanos) / 1000 * 1000;
    let seconds = seconds.saturating_add(nanos.div_euclid(1_000_000_000));
    // Beyond this Go's own calendar wraps around.
    let seconds = seconds.clamp(-62_167_219_200 * 1000, 253_402_300_799 * 1000);
    Ok(Some(Time { seconds, nanos: nanos.rem_euclid(1_000_000_000) as u32 }))
}

/// The first field of a message as bytes: quantities and embedded JSON.
pub(crate) fn first_bytes(bytes: &[u8]) -> Read<Option<&[u8]>> {
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while !reader.at_end() {
        match reader.tag()? {
            (1, Wire::Bytes) => found = Some(reader.delimited()?),
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(found)
}

pub(crate) fn first_varint(bytes: &[u8]) -> Read<u64> {
    let mut found = 0;
    let mut reader = Reader::new(bytes);
    while !reader.at_end() {
        match reader.tag()? {
            (1, Wire::Varint) => found = reader.varint()?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(found)
}

/// The number or (as error) the string of an IntOrString message.
pub(crate) fn int_or_string(bytes: &[u8]) -> Read<Result<i32, &[u8]>> {
    let (mut is_string, mut number, mut string): (bool, i32, &[u8]) = (false, 0, &[]);
    let mut reader = Reader::new(bytes);
    while !reader.at_end() {
        match reader.tag()? {
            (1, Wire::Varint) => is_string = reader.varint()? == 1,
            (2, Wire::Varint) => number = reader.varint()? as i32,
            (3, Wire::Bytes) => string = reader.delimited()?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(if is_string { Err(string) } else { Ok(number) })
}

fn take_unknown(before: &mut Value) -> Vec<(SmolStr, Vec<u8>)> {
    let Value::Map(map) = before else { return Vec::new() };
    let keys: Vec<SmolStr> = map.keys().take_while(|key| key.starts_with(UNKNOWN)).cloned().collect();
    let bytes_of = |key: SmolStr| match map.remove(&key) {
        Some(Value::Bytes(bytes)) => Some((key, bytes.into_vec())),
        _ => None,
    };
    keys.into_iter().filter_map(bytes_of).collect()
}

fn add_unknown(unknown: &mut Vec<(SmolStr, Vec<u8>)>, key: &str, field: &[u8]) {
    match unknown.iter_mut().find(|(known, _)| known == key) {
        Some((_, bytes)) => bytes.extend_from_slice(field),
        None => unknown.push((key.into(), field.to_vec())),
    }
}
