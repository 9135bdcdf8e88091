//! Puts lists together from the bytes of their items, which are copied as they are.

use crate::json::text;
use crate::proto::envelope;
use crate::proto::wire::{put_delimited, put_varint, varint_len};

/// The metadata of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListMeta<'a> {
    /// The revision that the list shows.
    pub resource_version: &'a str,
    /// Where the next page goes on; empty on the last one.
    pub continue_token: &'a str,
    /// How many items the following pages have, if that is known.
    pub remaining_item_count: Option<i64>,
}

/// How JSON orders the members of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As Go declares them: kind first. Built-in types.
    Declared,
    /// By name, and with an empty `continue` shown. Custom resources.
    Sorted,
}

/// Appends a whole list as JSON, without a newline at the end (upstream's compact answers have one).
pub fn json<'a>(
    order: Order,
    api_version: &str,
    kind: &str,
    meta: ListMeta<'_>,
    items: impl IntoIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) {
    json_head(order, api_version, kind, meta, out);
    let mut separator: &[u8] = b"";
    for item in items {
        out.extend_from_slice(separator);
        out.extend_from_slice(item);
        separator = b",";
    }
    json_tail(order, kind, meta, out);
}

/// Appends what comes before the items, which are then written with commas between them.
pub fn json_head(order: Order, api_version: &str, kind: &str, meta: ListMeta<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    match order {
        Order::Declared => {
            member("kind", kind, out);
            member("apiVersion", api_version, out);
            out.extend_from_slice(b"\"metadata\":");
            json_meta(order, meta, out);
            out.extend_from_slice(b",\"items\":[");
        }
        Order::Sorted => {
            member("apiVersion", api_version, out);
            out.extend_from_slice(b"\"items\":[");
        }
    }
}

/// Appends what comes after the items.
pub fn json_tail(order: Order, kind: &str, meta: ListMeta<'_>, out: &mut Vec<u8>) {
    out.push(b']');
    if order == Order::Sorted {
        out.push(b',');
        member("kind", kind, out);
        out.extend_from_slice(b"\"metadata\":");
        json_meta(order, meta, out);
    }
    out.push(b'}');
}

fn member(name: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        text::string(name.as_bytes(), out);
        out.push(b':');
        text::string(value.as_bytes(), out);
        out.push(b',');
    }
}

fn json_meta(order: Order, meta: ListMeta<'_>, out: &mut Vec<u8>) {
    let remaining = |out: &mut Vec<u8>| {
        if let Some(count) = meta.remaining_item_count {
            out.extend_from_slice(b"\"remainingItemCount\":");
            text::int(count, out);
            out.push(b',');
        }
    };
    out.push(b'{');
    match order {
        Order::Declared => {
            member("resourceVersion", meta.resource_version, out);
            member("continue", meta.continue_token, out);
            remaining(out);
        }
        Order::Sorted => {
            out.extend_from_slice(b"\"continue\":");
            text::string(meta.continue_token.as_bytes(), out);
            out.push(b',');
            remaining(out);
            out.extend_from_slice(b"\"resourceVersion\":");
            text::string(meta.resource_version.as_bytes(), out);
            out.push(b',');
        }
    }
    crate::json::encode::close(b'}', out);
}

/// Appends a whole list as an enveloped protobuf message; items are messages without envelope.
pub fn proto<'a, I>(api_version: &str, kind: &str, meta: ListMeta<'_>, items: I, out: &mut Vec<u8>)
where
    I: IntoIterator<Item = &'a [u8]> + Clone,
{
    let items_len = items.clone().into_iter().map(|item| proto_item_len(item.len())).sum::<usize>();
    out.reserve(items_len + api_version.len() + kind.len() + 96);
    proto_head(api_version, kind, meta, items_len, out);
    for item in items {
        put_delimited(ITEMS, item, out);
    }
    proto_tail(out);
}

/// The field of the items.
const ITEMS: u32 = 2;

/// The bytes that an item of a length takes in a protobuf list.
pub fn proto_item_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Appends what comes before the items; `items_len` is the sum of their [`proto_item_len`]s.
pub fn proto_head(api_version: &str, kind: &str, meta: ListMeta<'_>, items_len: usize, out: &mut Vec<u8>) {
    let mut list_meta = Vec::with_capacity(64);
    put_delimited(1, b"", &mut list_meta);
    put_delimited(2, meta.resource_version.as_bytes(), &mut list_meta);
    put_delimited(3, meta.continue_token.as_bytes(), &mut list_meta);
    if let Some(count) = meta.remaining_item_count {
        put_varint(4 << 3, &mut list_meta);
        put_varint(count as u64, &mut list_meta);
    }
    envelope::head(api_version, kind, proto_item_len(list_meta.len()) + items_len, out);
    put_delimited(1, &list_meta, out);
}

/// Appends what comes before an item of a length: the message itself goes after it.
pub fn proto_item_head(length: usize, out: &mut Vec<u8>) {
    put_varint(u64::from(ITEMS) << 3 | 2, out);
    put_varint(length as u64, out);
}

/// Appends what comes after the items.
pub fn proto_tail(out: &mut Vec<u8>) {
    envelope::tail(out);
}
