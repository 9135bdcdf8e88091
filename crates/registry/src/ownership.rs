//! Who owns which field: managedFields on every write, and server-side apply.

use api_codec::json;
use api_schema::Value;
use api_semantics::status::Status;
use world::Timestamp;

use crate::storage::Served;
use crate::write::Context;

pub(crate) fn on_create(_served: &Served, _cx: &Context, _object: &mut Value, _now: Timestamp) -> Result<(), Status> {
    Ok(())
}

pub(crate) fn on_update(
    _served: &Served,
    _cx: &Context,
    _old: &Value,
    _new: &mut Value,
    _subresource: &str,
    _now: Timestamp,
) -> Result<(), Status> {
    Ok(())
}

pub(crate) fn after_admission(
    _served: &Served,
    _cx: &Context,
    _before: &Value,
    _object: &mut Value,
    _now: Timestamp,
) -> Result<(), Status> {
    Ok(())
}

pub(crate) fn decode_applied(_served: &Served, body: &[u8], _cx: &mut Context) -> Result<Value, Status> {
    json::decode(None, body, json::Options::default()).map(|d| d.value).map_err(|e| Status::bad_request(e.to_string()))
}

pub(crate) fn apply(
    _served: &Served,
    _cx: &Context,
    _live: Option<&Value>,
    applied: &Value,
    _subresource: &str,
    _now: Timestamp,
) -> Result<Value, Status> {
    Ok(applied.clone())
}

pub(crate) fn mark_applied(_object: &mut Value) {}
