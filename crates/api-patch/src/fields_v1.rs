//! FieldsV1, the JSON form of a field set in `metadata.managedFields`.
//!
//! Each key is a letter, a colon and what the letter says: `f:` a name, `k:` the JSON of an item's key fields, `v:`
//! the JSON of a set's item, `i:` an index. The key `.` stands for the field itself; `{}` is a field alone.

use std::borrow::Cow;
use std::fmt::Write as _;

use api_schema::{SmolStr, Value};

use crate::field_set::{FieldSet, Node, PathElement};
use crate::json::{self, Reader};

/// How deep a set may nest.
const DEPTH_MAX: usize = 1_000;

/// Text that is no FieldsV1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldsV1Error;

impl std::fmt::Display for FieldsV1Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the text is no FieldsV1")
    }
}
impl std::error::Error for FieldsV1Error {}

impl FieldSet {
    /// Reads FieldsV1 text. Elements of unknown sorts are dropped, as upstream does.
    pub fn parse(text: &str) -> Result<Self, FieldsV1Error> {
        let mut reader = Reader::new(text);
        let (set, _) = read_set(&mut reader, 0).ok_or(FieldsV1Error)?;
        if reader.is_at_end() { Ok(set) } else { Err(FieldsV1Error) }
    }

    /// Writes FieldsV1 text: compact, in upstream's order.
    pub fn to_text(&self) -> String {
        let mut out = String::with_capacity(256);
        out.push('{');
        write_nodes(&self.nodes, false, &mut out);
        out.push('}');
        out
    }
}

/// The set that an object describes, and whether the field that it stands for is itself a member.
fn read_set(reader: &mut Reader<'_>, depth: usize) -> Option<(FieldSet, bool)> {
    if depth > DEPTH_MAX {
        return None;
    }
    if reader.peek()? == b'n' {
        // Null is the empty object.
        reader.skip()?;
        return Some((FieldSet::new(), true));
    }
    if !reader.take(b'{') {
        return None;
    }
    let mut set = FieldSet::new();
    let mut is_member = false;
    if !reader.take(b'}') {
        loop {
            reader.peek()?;
            let key = reader.string()?;
            if !reader.take(b':') {
                return None;
            }
            if key == "." {
                is_member = true;
                reader.skip()?;
            } else {
                match read_element(key)? {
                    Some(element) => {
                        let (children, member) = read_set(reader, depth + 1)?;
                        set.attach(|| element, member, children);
                    }
                    None => reader.skip()?,
                }
            }
            if reader.take(b'}') {
                break;
            }
            if !reader.take(b',') {
                return None;
            }
        }
    }
    let is_member = is_member || set.is_empty();
    Some((set, is_member))
}

/// The element of a key; `Some(None)` if its sort is unknown.
fn read_element(key: Cow<'_, str>) -> Option<Option<PathElement>> {
    let (sort, text) = (key.as_bytes().first()?, key.get(2..)?);
    if key.as_bytes()[1] != b':' {
        return None;
    }
    Some(Some(match sort {
        b'f' => PathElement::Name(SmolStr::new(text)),
        b'v' => PathElement::Value(json::parse(text)?),
        b'i' => PathElement::Index(text.parse().ok()?),
        b'k' => {
            let Value::Map(fields) = json::parse(text)? else { return None };
            PathElement::Key(fields.into_iter().collect())
        }
        _ => return Some(None),
    }))
}

fn write_nodes(nodes: &[Node], with_self: bool, out: &mut String) {
    if with_self {
        out.push_str("\".\":{}");
    }
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 || with_self {
            out.push(',');
        }
        out.push('"');
        write_element(&node.element, out);
        out.push_str("\":{");
        write_nodes(&node.children.nodes, node.member && !node.children.is_empty(), out);
        out.push('}');
    }
}

/// The key of an element, escaped for the inside of a JSON string.
fn write_element(element: &PathElement, out: &mut String) {
    match element {
        PathElement::Name(name) => {
            out.push_str("f:");
            json::write_escaped(name, false, out);
        }
        PathElement::Key(fields) => {
            let mut inner = String::with_capacity(64);
            inner.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    inner.push(',');
                }
                json::write_string(name, false, &mut inner);
                inner.push(':');
                json::write(value, &mut inner);
            }
            inner.push('}');
            out.push_str("k:");
            json::write_escaped(&inner, false, out);
        }
        PathElement::Value(value) => {
            let mut inner = String::with_capacity(32);
            json::write(value, &mut inner);
            out.push_str("v:");
            json::write_escaped(&inner, false, out);
        }
        PathElement::Index(index) => {
            let _ = write!(out, "i:{index}");
        }
    }
}
