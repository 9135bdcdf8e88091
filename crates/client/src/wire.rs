//! Objects, lists and statuses as bytes: protobuf for built-in kinds, JSON for all others.

use api_codec::{TypeCodec, json, meta, proto};
use api_schema::{SmolStr, Value};
use api_semantics::status::{Cause, Failure, Status};
use bytes::Bytes;

use crate::resource::codec_of;
use crate::transport::BoxError;

/// Kubernetes' protobuf.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// JSON.
pub(crate) const JSON: &str = "application/json";
/// What answers about built-in kinds may be.
pub(crate) const ACCEPT: &str = "application/vnd.kubernetes.protobuf, application/json";

/// An object as a request's body, and its media type.
pub(crate) fn encode(object: &Value, codec: Option<TypeCodec<'_>>) -> Result<(&'static str, Bytes), BoxError> {
    match codec {
        Some(codec) => Ok((PROTOBUF, proto::encode_object(codec, object)?.into())),
        None => Ok((JSON, encode_json(object))),
    }
}

/// Any tree as JSON.
pub(crate) fn encode_json(value: &Value) -> Bytes {
    let mut text = Vec::with_capacity(512);
    json::encode(None, value, &mut text);
    text.into()
}

/// The object in an answer. `expected` is tried where the answer does not say what it is.
pub(crate) fn decode(
    content_type: &str,
    bytes: &[u8],
    expected: Option<TypeCodec<'static>>,
) -> Result<Value, BoxError> {
    if content_type.starts_with(PROTOBUF) {
        return decode_protobuf(bytes, expected);
    }
    if !content_type.starts_with(JSON) {
        return Err(format!("the answer is {content_type:?}, not an object").into());
    }
    let head = meta::type_meta(bytes)?;
    let codec = find(&head.api_version, &head.kind, expected);
    Ok(json::decode(codec, bytes, json::Options::default())?.value)
}

/// The object in an envelope.
pub(crate) fn decode_protobuf(bytes: &[u8], expected: Option<TypeCodec<'static>>) -> Result<Value, BoxError> {
    let envelope = proto::envelope::split(bytes)?;
    let codec = find(&envelope.api_version, &envelope.kind, expected)
        .ok_or_else(|| format!("no kind {:?} of {:?} is known", envelope.kind, envelope.api_version))?;
    let mut value = proto::decode(codec, envelope.raw)?;
    set_type(&mut value, &envelope.api_version, &envelope.kind);
    Ok(value)
}

/// Sets `apiVersion` and `kind`.
pub(crate) fn set_type(value: &mut Value, api_version: &str, kind: &str) {
    let map = value.make_map();
    map.insert("apiVersion", SmolStr::new(api_version));
    map.insert("kind", SmolStr::new(kind));
}

/// The codec of a kind: mostly it is the one that is expected.
pub(crate) fn find(api_version: &str, kind: &str, expected: Option<TypeCodec<'static>>) -> Option<TypeCodec<'static>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(expected) = expected {
        let mut parts = expected.name().rsplit('.');
        if parts.next() == Some(kind) && parts.next() == Some(version) && kind != "Status" {
            return Some(expected);
        }
    }
    codec_of(group, version, kind)
}

/// The refusal in an answer. Where it is none that we can read, as when a proxy on the way answers, the code speaks.
pub(crate) fn decode_status(code: u16, content_type: &str, bytes: &[u8]) -> Status {
    match decode(content_type, bytes, None) {
        Ok(value) if value.str_at(&["kind"]) == "Status" => {
            let mut status = status_of(&value);
            status.code = code;
            status
        }
        _ => generic(code, &String::from_utf8_lossy(bytes)),
    }
}

/// Reads a Status object.
pub(crate) fn status_of(value: &Value) -> Status {
    let text = |path: &[&str]| SmolStr::new(value.str_at(path));
    let number = |path: &[&str]| value.int_at(path).unwrap_or_default();
    Failure {
        code: u16::try_from(number(&["code"])).unwrap_or(500),
        reason: text(&["reason"]),
        message: value.str_at(&["message"]).to_owned(),
        name: text(&["details", "name"]),
        group: text(&["details", "group"]),
        kind: text(&["details", "kind"]),
        uid: text(&["details", "uid"]),
        causes: value.list_at(&["details", "causes"]).iter().map(cause_of).collect(),
        retry_after_seconds: u32::try_from(number(&["details", "retryAfterSeconds"])).unwrap_or(0),
        continue_token: text(&["metadata", "continue"]),
        generic: false,
    }
    .into()
}

fn cause_of(cause: &Value) -> Cause {
    Cause {
        reason: cause.str_at(&["reason"]).into(),
        message: cause.str_at(&["message"]).into(),
        field: cause.str_at(&["field"]).into(),
    }
}

/// A Status for a code alone, with the reason that upstream's clients give it (NewGenericServerResponse).
fn generic(code: u16, text: &str) -> Status {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "Conflict",
        410 => "Gone",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let said: String = text.trim().chars().take(200).collect();
    let message = if said.is_empty() { format!("the server answered with code {code}") } else { said };
    Status::generic(code, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_all_that_the_server_said() {
        let mut status = Status::too_many_requests("later", 7);
        status.causes.push(Cause { reason: "DisruptionBudget".into(), message: "m".into(), field: "f".into() });
        status.name = "web".into();
        let codec = codec_of("", "v1", "Status");
        let (content_type, bytes) = encode(&status.to_value(), codec).expect("a Status has a message");
        assert_eq!(decode_status(429, content_type, &bytes), status);
        assert_eq!(decode_status(429, JSON, &encode_json(&status.to_value())), status);
    }

    #[test]
    fn an_answer_that_is_no_status_is_read_by_its_code() {
        for (code, content_type, text, reason, message) in [
            (502, "text/html", "bad gateway", "Unknown", "bad gateway"),
            (404, "text/plain; charset=utf-8", "404 page not found\n", "NotFound", "404 page not found"),
            (503, JSON, "{", "ServiceUnavailable", "{"),
            (401, "", "", "Unauthorized", "the server answered with code 401"),
        ] {
            let status = decode_status(code, content_type, text.as_bytes());
            assert_eq!((status.code, &*status.reason, &*status.message), (code, reason, message));
        }
    }
}
