//! Between stored bytes, trees and what clients read: the storage's and the version's types applied to the codecs.

pub use api_codec::list::ListMeta;
use api_codec::meta::Stamp;
use api_codec::{json, list, meta, proto, transcode, watch, yaml};
use api_schema::{SmolStr, StructId, Value, format_smolstr};
use api_semantics::status::Status;
use bytes::Bytes;
use watch_cache::{Index, Indexer};
use world::Timestamp;

use crate::body::Expected;
use crate::storage::{KindRef, SchemaRef, Served, Storage, StoredAs};
use crate::write::Context;

fn unreadable(storage: &Storage, why: impl std::fmt::Display) -> Status {
    Status::internal(format!("unable to decode a stored {}: {why}", storage.kind_name))
}

/// Decodes stored bytes as a tree in the stored version, with their revision as resourceVersion.
///
/// # Errors
/// 500 if the bytes are no object of the type.
pub fn decode_stored(storage: &Storage, bytes: &[u8], revision: u64) -> Result<Value, Status> {
    let mut value = match storage.stored_as {
        StoredAs::Protobuf => proto::decode_object(storage.codec(), bytes).map_err(|e| unreadable(storage, e))?,
        StoredAs::Json => {
            json::decode(Some(storage.codec()), bytes, json::Options::default())
                .map_err(|e| unreadable(storage, e))?
                .value
        }
    };
    if let Some(complete) = storage.kind.on_read() {
        complete(&mut value);
    }
    set_version(&mut value, revision);
    Ok(value)
}

/// Decodes stored bytes in the version that is served.
///
/// # Errors
/// 500 if the bytes are no object of the type.
pub fn decode_served(served: &Served, bytes: &[u8], revision: u64) -> Result<Value, Status> {
    to_served(served, decode_stored(&served.storage, bytes, revision)?)
}

/// Encodes a tree in the stored version as it is stored: without a resourceVersion.
///
/// # Errors
/// 500 if the tree does not fit its type, which decoding by the type rules out.
pub fn encode_stored(storage: &Storage, value: &Value) -> Result<Bytes, Status> {
    let stripped;
    let value = if value.at(&["metadata", "resourceVersion"]).is_some() {
        let mut copy = value.clone();
        copy.remove(&["metadata", "resourceVersion"]);
        stripped = copy;
        &stripped
    } else {
        value
    };
    match storage.stored_as {
        StoredAs::Protobuf => proto::encode_object(storage.codec(), value)
            .map(Bytes::from)
            .map_err(|error| Status::internal(format!("unable to encode a {}: {error}", storage.kind_name))),
        StoredAs::Json => {
            let mut out = Vec::with_capacity(1024);
            json::encode(Some(storage.codec()), value, &mut out);
            Ok(out.into())
        }
    }
}

/// Sets metadata.resourceVersion.
pub fn set_version(value: &mut Value, revision: u64) {
    value.set(&["metadata", "resourceVersion"], format_smolstr!("{revision}"));
}

/// A time as metadata has it.
pub fn time(at: Timestamp) -> SmolStr {
    api_semantics::time::Timestamp { seconds: at.seconds, nanos: 0 }.to_time()
}

/// Group and version of an apiVersion.
fn split(api_version: &str) -> (&str, &str) {
    api_version.rsplit_once('/').unwrap_or(("", api_version))
}

/// Puts a tree of the served version into the stored one.
///
/// # Errors
/// 500 if there is no such conversion.
pub fn to_stored(served: &Served, value: Value) -> Result<Value, Status> {
    if !served.converts() {
        return Ok(value);
    }
    let (from, to) = (split(&served.api_version), split(&served.storage.api_version));
    Ok(kinds::convert::convert(from, to, &served.info.kind, value))
}

/// Puts a tree of the stored version into the served one.
///
/// # Errors
/// 500 if there is no such conversion.
pub fn to_served(served: &Served, value: Value) -> Result<Value, Status> {
    if !served.converts() {
        return Ok(value);
    }
    let (from, to) = (split(&served.storage.api_version), split(&served.api_version));
    Ok(kinds::convert::convert(from, to, &served.info.kind, value))
}

/// What a body for this version shall be.
pub fn expected(served: &Served) -> Expected<'_> {
    Expected { ty: Some(served.codec()), api_version: &served.api_version, kind: &served.info.kind }
}

/// Brings a changed tree of the served version back into the normal form of its type.
///
/// # Errors
/// 422 where a value does not fit its field.
pub fn retype(served: &Served, value: &Value, cx: &mut Context) -> Result<Value, Status> {
    crate::patch::retype(served.codec(), value, cx)
}

/// Brings a tree that we made into the normal form of the stored type.
///
/// # Errors
/// 500 where a value does not fit its field.
pub fn normalize(storage: &Storage, value: Value) -> Result<Value, Status> {
    json::retype(storage.codec(), &value, json::Options::default())
        .map(|decoded| decoded.value)
        .map_err(|error| unreadable(storage, error))
}

/// Empties `status` as a new object has it.
pub(crate) fn clear_status(storage: &Storage, value: &mut Value) {
    match storage.codec().zero().get("status") {
        Some(zero) => value.set(&["status"], zero.clone()),
        None => drop(value.remove(&["status"])),
    }
}

/// What reads the cache's index out of stored bytes.
pub(crate) fn indexer(schema: SchemaRef, type_id: StructId, kind: KindRef, stored_as: StoredAs) -> Indexer {
    Box::new(move |bytes: &Bytes| {
        let labels_of = |labels: Vec<(SmolStr, SmolStr)>| {
            let mut labels = labels;
            labels.sort();
            labels.into_boxed_slice()
        };
        let (view, stamp) = match stored_as {
            StoredAs::Protobuf => (meta::scan(proto::envelope::split(bytes).ok()?.raw).ok()?, Stamp::of(bytes).ok()?),
            StoredAs::Json => (meta::scan_json(bytes).ok()?, Stamp::default()),
        };
        let selectable = kind.selectable_fields();
        let fields = if selectable.is_empty() {
            Box::default()
        } else {
            let value = match stored_as {
                StoredAs::Protobuf => proto::decode_object(schema.codec(type_id), bytes).ok()?,
                StoredAs::Json => {
                    json::decode(Some(schema.codec(type_id)), bytes, json::Options::default()).ok()?.value
                }
            };
            selectable.iter().map(|label| kind.selectable_field(&value, label)).collect()
        };
        Some(Index {
            namespace: view.namespace.as_ref().into(),
            name: view.name.as_ref().into(),
            labels: labels_of(view.labels.iter().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v))).collect()),
            fields,
            stamp,
        })
    })
}

/// Stored bytes as JSON, with apiVersion and kind. The cache has a stamp of its objects, the store has none.
///
/// # Errors
/// 500 if the bytes are no object of the type.
pub fn stored_to_json(
    storage: &Storage,
    bytes: &[u8],
    revision: u64,
    stamp: Option<&Stamp>,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    if storage.kind.on_read().is_some() {
        let value = decode_stored(storage, bytes, revision)?;
        json::encode(Some(storage.codec()), &value, out);
        return Ok(());
    }
    match storage.stored_as {
        StoredAs::Protobuf => {
            let envelope = proto::envelope::split(bytes).map_err(|e| unreadable(storage, e))?;
            let (api_version, kind) = (&envelope.api_version, &envelope.kind);
            transcode::stored_to_json(storage.codec(), api_version, kind, envelope.raw, revision, stamp, out)
                .map_err(|e| unreadable(storage, e))
        }
        StoredAs::Json => {
            let spliced = meta::splice_resource_version_json(bytes, revision).map_err(|e| unreadable(storage, e))?;
            out.extend_from_slice(&spliced);
            Ok(())
        }
    }
}

/// Stored bytes as a JSON list item: without apiVersion and kind for built-ins.
///
/// # Errors
/// 500 if the bytes are no object of the type.
pub fn stored_item_to_json(
    storage: &Storage,
    bytes: &[u8],
    revision: u64,
    stamp: Option<&Stamp>,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    if storage.kind.on_read().is_some() && storage.stored_as == StoredAs::Protobuf {
        let mut value = decode_stored(storage, bytes, revision)?;
        for field in ["apiVersion", "kind"] {
            value.remove(&[field]);
        }
        json::encode(Some(storage.codec()), &value, out);
        return Ok(());
    }
    match storage.stored_as {
        StoredAs::Protobuf => {
            let envelope = proto::envelope::split(bytes).map_err(|e| unreadable(storage, e))?;
            transcode::stored_to_json(storage.codec(), "", "", envelope.raw, revision, stamp, out)
                .map_err(|e| unreadable(storage, e))
        }
        StoredAs::Json => stored_to_json(storage, bytes, revision, None, out),
    }
}

/// Stored bytes as enveloped protobuf.
///
/// # Errors
/// 500 if the bytes are no protobuf.
pub fn stored_to_protobuf(storage: &Storage, bytes: &[u8], revision: u64, out: &mut Vec<u8>) -> Result<(), Status> {
    out.extend_from_slice(&meta::splice_resource_version(bytes, revision).map_err(|e| unreadable(storage, e))?);
    Ok(())
}

/// A tree of the served version as JSON.
pub fn write_json(served: &Served, value: &Value, out: &mut Vec<u8>) {
    json::encode(Some(served.codec()), value, out);
}

/// A tree of the served version as enveloped protobuf.
pub fn write_protobuf(served: &Served, value: &Value, out: &mut Vec<u8>) {
    if let Ok(bytes) = proto::encode_object(served.codec(), value) {
        out.extend_from_slice(&bytes);
    }
}

/// A tree of the served version as a bare protobuf message.
pub fn write_message(served: &Served, value: &Value, out: &mut Vec<u8>) {
    let _ = proto::encode(served.codec(), value, out);
}

/// The codec of the built-in type that a tree says it is; Status and the meta kinds are found in any version.
fn type_of(value: &Value) -> Option<api_codec::TypeCodec<'static>> {
    let (api_version, kind) = (value.str_at(&["apiVersion"]), value.str_at(&["kind"]));
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let own = api_types::type_name(group, version, kind);
    let meta = format_smolstr!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}");
    api_codec::builtin().find(&own).or_else(|| api_codec::builtin().find(&meta))
}

/// A tree of any built-in type as JSON.
pub fn write_typed_json(value: &Value, out: &mut Vec<u8>) {
    json::encode(type_of(value), value, out);
}

/// A tree of any built-in type as enveloped protobuf.
pub fn write_typed_protobuf(value: &Value, out: &mut Vec<u8>) {
    if let Some(Ok(bytes)) = type_of(value).map(|ty| proto::encode_object(ty, value)) {
        out.extend_from_slice(&bytes);
    }
}

/// Indents compact JSON.
pub fn pretty_json(compact: &[u8], out: &mut Vec<u8>) {
    json::pretty(compact, out);
}

/// JSON as YAML.
pub fn json_to_yaml(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    yaml::from_json(text, &mut out);
    out
}

/// How JSON orders the members of a list of a resource.
fn order(served: &Served) -> list::Order {
    match served.storage.stored_as {
        StoredAs::Protobuf => list::Order::Declared,
        StoredAs::Json => list::Order::Sorted,
    }
}

/// The beginning of a list as JSON; its items follow, with commas between them.
pub fn list_json_head(served: &Served, kind: &str, metadata: ListMeta<'_>, out: &mut Vec<u8>) {
    list::json_head(order(served), &served.api_version, kind, metadata, out);
}

/// The end of a list as JSON.
pub fn list_json_tail(served: &Served, kind: &str, metadata: ListMeta<'_>, out: &mut Vec<u8>) {
    list::json_tail(order(served), kind, metadata, out);
}

/// The beginning of a list as enveloped protobuf, whose items are messages of these lengths. [`list_protobuf_item_head`]
/// and the message follow for each, and then [`list_protobuf_tail`].
pub fn list_protobuf_head(
    served: &Served,
    kind: &str,
    metadata: ListMeta<'_>,
    lengths: impl Iterator<Item = usize>,
    out: &mut Vec<u8>,
) {
    list::proto_head(&served.api_version, kind, metadata, lengths.map(list::proto_item_len).sum(), out);
}

/// The bytes that an item takes whose message has this length.
pub fn list_protobuf_item_len(length: usize) -> usize {
    list::proto_item_len(length)
}

/// What comes before an item's message.
pub fn list_protobuf_item_head(length: usize, out: &mut Vec<u8>) {
    list::proto_item_head(length, out);
}

/// The end of a list as enveloped protobuf.
pub fn list_protobuf_tail(out: &mut Vec<u8>) {
    list::proto_tail(out);
}

/// One protobuf watch frame: its length, then a WatchEvent around the enveloped object.
pub fn watch_frame_protobuf(ty: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 32);
    watch::proto_frame(ty, object, &mut out);
    out
}

/// One JSON watch frame.
pub fn watch_frame_json(ty: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + 40);
    watch::json_frame(ty, object, &mut out);
    out
}

/// Brings a tree that we made into the normal form of the served type.
///
/// # Errors
/// 500 where a value does not fit its field.
pub fn normalize_served(served: &Served, value: Value) -> Result<Value, Status> {
    json::retype(served.codec(), &value, json::Options::default())
        .map(|decoded| decoded.value)
        .map_err(|error| unreadable(&served.storage, error))
}
