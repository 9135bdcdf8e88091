//! Reads and changes the metadata of stored objects without reading the rest.
//!
//! A watch cache keeps objects as bytes; what it needs to find them by (names, labels, owners) is read here, and the
//! resourceVersion, which the store only knows once the object is written, is put in here. Both come in two kinds: for
//! protobuf (built-ins) and for JSON (custom resources).

use std::borrow::Cow;

use crate::json::{DecodeError as JsonError, SyntaxError, scan, text};
use crate::proto::DecodeError;
use crate::proto::decode::{first_bytes, timestamp};
use crate::proto::envelope;
use crate::proto::wire::{Reader, Wire, put_delimited, put_varint, varint_len};
use crate::scalar::time::{RFC3339, Time};

/// A key and its value.
pub type Entry<'a> = (Cow<'a, str>, Cow<'a, str>);

/// ObjectMeta, as far as lists, watches and garbage collection look into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaView<'a> {
    /// The name.
    pub name: Cow<'a, str>,
    /// The namespace; empty for cluster-wide objects.
    pub namespace: Cow<'a, str>,
    /// The uid.
    pub uid: Cow<'a, str>,
    /// The resourceVersion as it is written; empty in the store.
    pub resource_version: Cow<'a, str>,
    /// How often the desired state has changed.
    pub generation: i64,
    /// Unix seconds.
    pub creation_timestamp: Option<i64>,
    /// Unix seconds.
    pub deletion_timestamp: Option<i64>,
    /// How long a deletion may take.
    pub deletion_grace_period_seconds: Option<i64>,
    /// The labels, in the order of the object.
    pub labels: Vec<Entry<'a>>,
    /// The annotations, in the order of the object.
    pub annotations: Vec<Entry<'a>>,
    /// The finalizers.
    pub finalizers: Vec<Cow<'a, str>>,
    /// The owners.
    pub owner_references: Vec<OwnerView<'a>>,
}

/// One owner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnerView<'a> {
    /// Its apiVersion.
    pub api_version: Cow<'a, str>,
    /// Its kind.
    pub kind: Cow<'a, str>,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its uid.
    pub uid: Cow<'a, str>,
    /// Whether it is the managing controller.
    pub controller: bool,
    /// Whether its foreground deletion waits for this object.
    pub block_owner_deletion: bool,
}

impl MetaView<'_> {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == key).map(|(_, value)| &**value)
    }
}

/// The numbers of fields in protobuf.
mod tag {
    pub(super) const METADATA: u32 = 1;
    pub(super) const RESOURCE_VERSION: u32 = 6;
    pub(super) const MANAGED_FIELDS: u32 = 17;
    /// Of an entry of managedFields.
    pub(super) const FIELDS_V1: u32 = 7;
}

/// Reads the metadata of a message (without envelope) whose first field is ObjectMeta, as in all API objects.
pub fn scan(message: &[u8]) -> Result<MetaView<'_>, DecodeError> {
    let mut view = MetaView::default();
    let mut reader = Reader::new(message);
    while !reader.at_end() {
        match reader.tag()? {
            (tag::METADATA, Wire::Bytes) => read_meta(reader.delimited()?, &mut view)?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(view)
}

fn read_meta<'a>(message: &'a [u8], view: &mut MetaView<'a>) -> Result<(), DecodeError> {
    let mut reader = Reader::new(message);
    while !reader.at_end() {
        match reader.tag()? {
            (1, Wire::Bytes) => view.name = text::utf8(reader.delimited()?),
            (3, Wire::Bytes) => view.namespace = text::utf8(reader.delimited()?),
            (5, Wire::Bytes) => view.uid = text::utf8(reader.delimited()?),
            (tag::RESOURCE_VERSION, Wire::Bytes) => view.resource_version = text::utf8(reader.delimited()?),
            (7, Wire::Varint) => view.generation = reader.varint()? as i64,
            (8, Wire::Bytes) => view.creation_timestamp = seconds(reader.delimited()?)?,
            (9, Wire::Bytes) => view.deletion_timestamp = seconds(reader.delimited()?)?,
            (10, Wire::Varint) => view.deletion_grace_period_seconds = Some(reader.varint()? as i64),
            (11, Wire::Bytes) => view.labels.push(read_entry(reader.delimited()?)?),
            (12, Wire::Bytes) => view.annotations.push(read_entry(reader.delimited()?)?),
            (13, Wire::Bytes) => view.owner_references.push(read_owner(reader.delimited()?)?),
            (14, Wire::Bytes) => view.finalizers.push(text::utf8(reader.delimited()?)),
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(())
}

fn seconds(message: &[u8]) -> Result<Option<i64>, DecodeError> {
    let time = timestamp(message)?.map(|time| Time { nanos: 0, ..time });
    Ok(time.filter(|time| !time.is_zero()).map(|time| time.seconds))
}

fn read_entry(message: &[u8]) -> Result<Entry<'_>, DecodeError> {
    let mut entry = (Cow::default(), Cow::default());
    let mut reader = Reader::new(message);
    while !reader.at_end() {
        match reader.tag()? {
            (1, Wire::Bytes) => entry.0 = text::utf8(reader.delimited()?),
            (2, Wire::Bytes) => entry.1 = text::utf8(reader.delimited()?),
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(entry)
}

fn read_owner(message: &[u8]) -> Result<OwnerView<'_>, DecodeError> {
    let mut owner = OwnerView::default();
    let mut reader = Reader::new(message);
    while !reader.at_end() {
        match reader.tag()? {
            (1, Wire::Bytes) => owner.kind = text::utf8(reader.delimited()?),
            (3, Wire::Bytes) => owner.name = text::utf8(reader.delimited()?),
            (4, Wire::Bytes) => owner.uid = text::utf8(reader.delimited()?),
            (5, Wire::Bytes) => owner.api_version = text::utf8(reader.delimited()?),
            (6, Wire::Varint) => owner.controller = reader.varint()? != 0,
            (7, Wire::Varint) => owner.block_owner_deletion = reader.varint()? != 0,
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(owner)
}

/// The enveloped object with another resourceVersion. All else stays as it is, byte for byte.
pub fn splice_resource_version(enveloped: &[u8], resource_version: u64) -> Result<Vec<u8>, DecodeError> {
    let envelope = envelope::split(enveloped)?;
    let stamp = Stamp::of_message(envelope.raw)?;
    let mut out = Vec::with_capacity(enveloped.len() + 32);
    envelope::head(&envelope.api_version, &envelope.kind, stamp.message_len(resource_version), &mut out);
    stamp.put_message(envelope.raw, resource_version, &mut out);
    put_delimited(3, envelope.content_encoding.as_bytes(), &mut out);
    put_delimited(4, envelope.content_type.as_bytes(), &mut out);
    Ok(out)
}

/// [`splice_resource_version`] for a message without envelope.
pub fn splice_message(message: &[u8], resource_version: u64) -> Result<Vec<u8>, DecodeError> {
    let stamp = Stamp::of_message(message)?;
    let mut out = Vec::with_capacity(stamp.message_len(resource_version));
    stamp.put_message(message, resource_version, &mut out);
    Ok(out)
}

/// Where an object takes its resourceVersion: found once, used whenever it is written out. What it says is only true of
/// the bytes that it was made from. All places are counted from their beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The message without its envelope.
    start: u32,
    end: u32,
    /// Where the metadata's field begins, and what it holds.
    field: u32,
    content: u32,
    content_end: u32,
    /// What the resourceVersion takes the place of.
    from: u32,
    to: u32,
    /// Whether the sets of fields in managedFields can be copied into JSON as they are.
    plain_field_sets: bool,
}

impl Stamp {
    /// Looks through an enveloped object.
    pub fn of(enveloped: &[u8]) -> Result<Self, DecodeError> {
        let raw = envelope::split(enveloped)?.raw;
        if raw.is_empty() {
            // Nowhere in the envelope, and the same everywhere.
            return Self::of_message(raw);
        }
        // The message is a part of the envelope's own bytes.
        let start = raw.as_ptr().addr() - enveloped.as_ptr().addr();
        Self::of_message(raw)?.moved(start)
    }

    /// Looks through a message without envelope.
    pub fn of_message(message: &[u8]) -> Result<Self, DecodeError> {
        // The last of several wins, though there is never more than one.
        let mut found = None;
        let mut reader = Reader::new(message);
        while !reader.at_end() {
            let start = reader.at;
            match reader.tag()? {
                (tag::METADATA, Wire::Bytes) => found = Some((start, reader.delimited()?, reader.at)),
                (_, wire) => reader.skip(wire)?,
            }
        }
        let (field, meta, end) = found.unwrap_or((0, &[], 0));
        let (from, to) = resource_version_in(meta)?;
        // All places are below the message's length.
        u32::try_from(message.len()).map_err(|_| DecodeError::InvalidLength)?;
        let content = end - meta.len();
        Ok(Self {
            start: 0,
            end: message.len() as u32,
            field: field as u32,
            content: content as u32,
            content_end: end as u32,
            from: (content + from) as u32,
            to: (content + to) as u32,
            plain_field_sets: has_plain_field_sets(meta)?,
        })
    }

    /// Whether the sets of fields in the object's managedFields can be copied into JSON as they are.
    pub(crate) fn has_plain_field_sets(&self) -> bool {
        self.plain_field_sets
    }

    fn moved(self, by: usize) -> Result<Self, DecodeError> {
        let moved =
            |place: u32| u32::try_from(by).ok().and_then(|by| place.checked_add(by)).ok_or(DecodeError::InvalidLength);
        Ok(Self {
            start: moved(self.start)?,
            end: moved(self.end)?,
            field: moved(self.field)?,
            content: moved(self.content)?,
            content_end: moved(self.content_end)?,
            from: moved(self.from)?,
            to: moved(self.to)?,
            ..self
        })
    }

    /// The length of the message (without envelope) with a resourceVersion in it.
    pub fn message_len(&self, resource_version: u64) -> usize {
        let content = self.content_len(resource_version);
        let old_field = self.content_end - self.field;
        (self.end - self.start - old_field) as usize + 1 + varint_len(content as u64) + content
    }

    /// The length of the metadata with a resourceVersion, whose tag and length take a byte each.
    fn content_len(&self, resource_version: u64) -> usize {
        (self.content_end - self.content - (self.to - self.from)) as usize + 2 + decimal_len(resource_version)
    }

    /// Appends the message (without envelope) with a resourceVersion in it.
    pub fn put_message(&self, bytes: &[u8], resource_version: u64, out: &mut Vec<u8>) {
        let piece = |from: u32, to: u32| &bytes[from as usize..to as usize];
        out.extend_from_slice(piece(self.start, self.field));
        put_varint(u64::from(tag::METADATA) << 3 | 2, out);
        put_varint(self.content_len(resource_version) as u64, out);
        out.extend_from_slice(piece(self.content, self.from));
        put_delimited(tag::RESOURCE_VERSION, itoa::Buffer::new().format(resource_version).as_bytes(), out);
        // The rest of the metadata, and all that comes after it.
        out.extend_from_slice(piece(self.to, self.end));
    }
}

/// Whether all sets of fields in ObjectMeta's managedFields are as they are mostly written.
fn has_plain_field_sets(meta: &[u8]) -> Result<bool, DecodeError> {
    let mut plain = true;
    let mut reader = Reader::new(meta);
    while !reader.at_end() {
        match reader.tag()? {
            (tag::MANAGED_FIELDS, Wire::Bytes) => {
                let mut entry = Reader::new(reader.delimited()?);
                while !entry.at_end() {
                    match entry.tag()? {
                        (tag::FIELDS_V1, Wire::Bytes) => {
                            let set = first_bytes(entry.delimited()?)?.unwrap_or_default();
                            plain &= set.is_empty() || scan::is_plain_field_set(set);
                        }
                        (_, wire) => entry.skip(wire)?,
                    }
                }
            }
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(plain)
}

/// How many digits a number has.
fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

/// Where the resourceVersion is in ObjectMeta, tag and length included; where it belongs if there is none.
fn resource_version_in(meta: &[u8]) -> Result<(usize, usize), DecodeError> {
    let mut reader = Reader::new(meta);
    let mut place = None;
    while !reader.at_end() {
        let start = reader.at;
        let (tag, wire) = reader.tag()?;
        reader.skip(wire)?;
        if tag == tag::RESOURCE_VERSION {
            return Ok((start, reader.at));
        }
        if tag > tag::RESOURCE_VERSION && place.is_none() {
            place = Some(start);
        }
    }
    let place = place.unwrap_or(meta.len());
    Ok((place, place))
}

// === JSON ===

/// Reads over the members of a JSON object, text that may have come from outside.
struct Members<'a> {
    text: &'a [u8],
    /// Behind the opening bracket, or a comma.
    at: usize,
    done: bool,
}

/// A member of an object: the key, where the key begins, and where the value is.
struct JsonMember<'a> {
    key: Cow<'a, str>,
    start: usize,
    value: std::ops::Range<usize>,
}

fn broken(text: &[u8]) -> SyntaxError {
    scan::check(text).err().unwrap_or_else(|| scan::invalid(text, text.len(), ""))
}

impl<'a> Members<'a> {
    /// The members of the object that begins at a position; none if something else does.
    fn at(text: &'a [u8], at: usize) -> Option<Self> {
        let inside = scan::skip_space(text, at + 1);
        (text.get(at) == Some(&b'{')).then(|| Self { text, at: inside, done: text.get(inside) == Some(&b'}') })
    }

    fn next(&mut self) -> Result<Option<JsonMember<'a>>, SyntaxError> {
        if self.done {
            return Ok(None);
        }
        let start = self.at;
        if self.text.get(start) != Some(&b'"') {
            return Err(broken(self.text));
        }
        let key_end = scan::string(self.text, start)?;
        let colon = scan::skip_space(self.text, key_end);
        if self.text.get(colon) != Some(&b':') {
            return Err(broken(self.text));
        }
        let value = scan::skip_space(self.text, colon + 1);
        let end = scan::value(self.text, value, 1)?;
        let after = scan::skip_space(self.text, end);
        match self.text.get(after) {
            Some(b',') => self.at = scan::skip_space(self.text, after + 1),
            Some(b'}') => self.done = true,
            _ => return Err(broken(self.text)),
        }
        Ok(Some(JsonMember { key: string_at(self.text, start..key_end), start, value: value..end }))
    }
}

/// The text of a string literal.
fn string_at(text: &[u8], range: std::ops::Range<usize>) -> Cow<'_, str> {
    match text::utf8(&text[range.start + 1..range.end - 1]) {
        Cow::Borrowed(literal) => text::unescaped(literal),
        Cow::Owned(literal) => Cow::Owned(text::unescaped(&literal).into_owned()),
    }
}

/// Reads the metadata of a JSON object. What has the wrong type counts as absent.
pub fn scan_json(text: &[u8]) -> Result<MetaView<'_>, SyntaxError> {
    let mut view = MetaView::default();
    let Some(mut members) = Members::at(text, scan::skip_space(text, 0)) else { return Ok(view) };
    while let Some(member) = members.next()? {
        if member.key == "metadata"
            && let Some(mut meta) = Members::at(text, member.value.start)
        {
            while let Some(field) = meta.next()? {
                read_json_meta(text, field, &mut view)?;
            }
        }
    }
    Ok(view)
}

fn read_json_meta<'a>(text: &'a [u8], field: JsonMember<'a>, view: &mut MetaView<'a>) -> Result<(), SyntaxError> {
    let value = field.value;
    let string = || if text[value.start] == b'"' { string_at(text, value.clone()) } else { Cow::default() };
    let number = || std::str::from_utf8(&text[value.clone()]).ok().and_then(|number| number.parse::<i64>().ok());
    let time = || Time::parse(&string(), RFC3339).ok().filter(|time| !time.is_zero()).map(|time| time.seconds);
    match &*field.key {
        "name" => view.name = string(),
        "namespace" => view.namespace = string(),
        "uid" => view.uid = string(),
        "resourceVersion" => view.resource_version = string(),
        "generation" => view.generation = number().unwrap_or_default(),
        "creationTimestamp" => view.creation_timestamp = time(),
        "deletionTimestamp" => view.deletion_timestamp = time(),
        "deletionGracePeriodSeconds" => view.deletion_grace_period_seconds = number(),
        "labels" => view.labels = json_entries(text, value.start)?,
        "annotations" => view.annotations = json_entries(text, value.start)?,
        "finalizers" => {
            view.finalizers = json_items(text, value.start)?
                .into_iter()
                .map(|item| if text[item.start] == b'"' { string_at(text, item) } else { Cow::default() })
                .collect()
        }
        "ownerReferences" => {
            view.owner_references = json_items(text, value.start)?
                .into_iter()
                .map(|item| read_json_owner(text, item.start))
                .collect::<Result<_, _>>()?;
        }
        _ => {}
    }
    Ok(())
}

/// String members of an object.
fn json_entries(text: &[u8], at: usize) -> Result<Vec<Entry<'_>>, SyntaxError> {
    let mut entries = Vec::new();
    let Some(mut members) = Members::at(text, at) else { return Ok(entries) };
    while let Some(member) = members.next()? {
        if text[member.value.start] == b'"' {
            entries.push((member.key, string_at(text, member.value)));
        }
    }
    Ok(entries)
}

/// Where the items of an array are.
fn json_items(text: &[u8], at: usize) -> Result<Vec<std::ops::Range<usize>>, SyntaxError> {
    let mut items = Vec::new();
    if text.get(at) != Some(&b'[') {
        return Ok(items);
    }
    let mut start = scan::skip_space(text, at + 1);
    while text.get(start) != Some(&b']') {
        let end = scan::value(text, start, 2)?;
        items.push(start..end);
        let after = scan::skip_space(text, end);
        match text.get(after) {
            Some(b',') => start = scan::skip_space(text, after + 1),
            Some(b']') => break,
            _ => return Err(broken(text)),
        }
    }
    Ok(items)
}

fn read_json_owner(text: &[u8], at: usize) -> Result<OwnerView<'_>, SyntaxError> {
    let mut owner = OwnerView::default();
    let Some(mut members) = Members::at(text, at) else { return Ok(owner) };
    while let Some(member) = members.next()? {
        let value = member.value;
        let is_true = text[value.clone()] == *b"true";
        let string = if text[value.start] == b'"' { string_at(text, value) } else { Cow::default() };
        match &*member.key {
            "apiVersion" => owner.api_version = string,
            "kind" => owner.kind = string,
            "name" => owner.name = string,
            "uid" => owner.uid = string,
            "controller" => owner.controller = is_true,
            "blockOwnerDeletion" => owner.block_owner_deletion = is_true,
            _ => {}
        }
    }
    Ok(owner)
}

/// The JSON object with another resourceVersion, all else as it is. Where there is none it is put in by the order of
/// names, in which custom resources are written.
pub fn splice_resource_version_json(text: &[u8], resource_version: u64) -> Result<Vec<u8>, SyntaxError> {
    let version = format!("\"{resource_version}\"");
    let root = scan::skip_space(text, 0);
    let (range, insert) = match json_place(text, root, "metadata")? {
        Err(place) => {
            (place..place, place_text(text, place, root, "metadata", &format!("{{\"resourceVersion\":{version}}}")))
        }
        Ok(meta) if text.get(meta.start) != Some(&b'{') => (meta, format!("{{\"resourceVersion\":{version}}}")),
        Ok(meta) => match json_place(text, meta.start, "resourceVersion")? {
            Ok(range) => (range, version),
            Err(place) => (place..place, place_text(text, place, meta.start, "resourceVersion", &version)),
        },
    };
    let mut out = Vec::with_capacity(text.len() + insert.len());
    out.extend_from_slice(&text[..range.start]);
    out.extend_from_slice(insert.as_bytes());
    out.extend_from_slice(&text[range.end..]);
    Ok(out)
}

/// The range of a member's value; where the member belongs if there is none.
fn json_place(text: &[u8], object: usize, key: &str) -> Result<Result<std::ops::Range<usize>, usize>, SyntaxError> {
    let Some(mut members) = Members::at(text, object) else { return Err(broken(text)) };
    let (mut found, mut place, mut end) = (None, None, scan::skip_space(text, object + 1));
    while let Some(member) = members.next()? {
        if member.key == key {
            found = Some(member.value.clone());
        } else if *member.key > *key && place.is_none() {
            place = Some(member.start);
        }
        end = member.value.end;
    }
    Ok(found.ok_or(place.unwrap_or(end)))
}

/// A new member with the comma that its place needs: after it before another member, before it behind the last.
fn place_text(text: &[u8], place: usize, object: usize, key: &str, value: &str) -> String {
    let first = scan::skip_space(text, object + 1);
    match text.get(place) {
        Some(b'"') => format!("\"{key}\":{value},"),
        _ if place == first => format!("\"{key}\":{value}"),
        _ => format!(",\"{key}\":{value}"),
    }
}

/// `apiVersion` and `kind` of a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    /// `apps/v1`; empty if absent.
    pub api_version: String,
    /// `Deployment`; empty if absent.
    pub kind: String,
}

/// Reads `apiVersion` and `kind` of a JSON text, which must be whole and well-formed. As upstream does it with Go's
/// own reader, names match in any case. Upstream puts `couldn't get version/kind; json parse error: ` before errors.
pub fn type_meta(text: &[u8]) -> Result<TypeMeta, JsonError> {
    scan::check(text).map_err(JsonError::Syntax)?;
    let mut meta = TypeMeta::default();
    let root = scan::skip_space(text, 0);
    let Some(mut members) = Members::at(text, root) else {
        return match found(text[root]) {
            "null" => Ok(meta),
            found => Err(JsonError::Type(format!(
                "json: cannot unmarshal {found} into Go value of type struct {{ \
                 APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
            ))),
        };
    };
    let mut error = None;
    while let Some(member) = members.next().map_err(JsonError::Syntax)? {
        let (field, slot) = if member.key.eq_ignore_ascii_case("apiVersion") {
            ("apiVersion", &mut meta.api_version)
        } else if member.key.eq_ignore_ascii_case("kind") {
            ("kind", &mut meta.kind)
        } else {
            continue;
        };
        match found(text[member.value.start]) {
            "string" => *slot = string_at(text, member.value).into_owned(),
            "null" => {}
            found if error.is_none() => {
                error = Some(format!("json: cannot unmarshal {found} into Go struct field .{field} of type string"));
            }
            _ => {}
        }
    }
    error.map_or(Ok(meta), |error| Err(JsonError::Type(error)))
}

/// What Go calls a value by its first byte.
fn found(first: u8) -> &'static str {
    match first {
        b'"' => "string",
        b'{' => "object",
        b'[' => "array",
        b't' | b'f' => "bool",
        b'n' => "null",
        _ => "number",
    }
}
