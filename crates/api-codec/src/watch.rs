//! The frames of a watch stream.

use crate::json::text;
use crate::proto::wire::{put_delimited, put_varint, varint_len};

/// Appends an event as a line of JSON: `{"type":"ADDED","object":{...}}` and a newline.
pub fn json_frame(event_type: &str, object: &[u8], out: &mut Vec<u8>) {
    out.reserve(object.len() + event_type.len() + 32);
    out.extend_from_slice(b"{\"type\":");
    text::string(event_type.as_bytes(), out);
    out.extend_from_slice(b",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

/// Appends an event as a protobuf frame: its length in four bytes, then a bare WatchEvent that holds the enveloped
/// object.
pub fn proto_frame(event_type: &str, enveloped: &[u8], out: &mut Vec<u8>) {
    let field = |length: usize| 1 + varint_len(length as u64) + length;
    let raw = field(enveloped.len());
    let length = field(event_type.len()) + field(raw);
    out.reserve(length + 4);
    // Objects are megabytes at most.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    put_delimited(1, event_type.as_bytes(), out);
    put_varint(2 << 3 | 2, out);
    put_varint(raw as u64, out);
    put_delimited(1, enveloped, out);
}
