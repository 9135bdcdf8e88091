//! Writes a tree as compact JSON.

use std::io::Write;

use api_schema::Value;

/// Appends a value.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::Bytes(_) => out.extend_from_slice(b"null"),
        Value::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Int(number) => write!(out, "{number}").expect("a vector takes all writes"),
        Value::Float(number) => write!(out, "{number}").expect("a vector takes all writes"),
        Value::Str(text) => string(text, out),
        Value::Raw(text) => out.extend_from_slice(text.as_bytes()),
        Value::List(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Map(map) => object(map.iter().map(|(key, value)| (key.as_str(), value)), out, write),
    }
}

/// Appends an object whose values are written by `each`.
pub(crate) fn object<'a, V>(
    entries: impl Iterator<Item = (&'a str, V)>,
    out: &mut Vec<u8>,
    mut each: impl FnMut(V, &mut Vec<u8>),
) {
    out.push(b'{');
    for (at, (key, value)) in entries.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string(key, out);
        out.push(b':');
        each(value, out);
    }
    out.push(b'}');
}

/// Appends a quoted string.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 => write!(out, "\\u{byte:04x}").expect("a vector takes all writes"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
