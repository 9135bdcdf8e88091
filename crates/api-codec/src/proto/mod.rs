//! Kubernetes' protobuf: messages as Go's generated code writes them, byte for byte.
//!
//! Fields come by rising tag; what is no pointer in Go is written even when it is zero; maps are written by rising
//! key. Fields that the schema does not know are kept under [`api_schema::UNKNOWN`] and written again.

use api_schema::{SmolStr, Value};

use crate::TypeCodec;

pub(crate) mod decode;
pub(crate) mod encode;
pub mod envelope;
pub(crate) mod wire;

pub use decode::DecodeError;
pub use encode::EncodeError;

/// Reads a message (without envelope) as a tree. `apiVersion` and `kind` are not in messages.
pub fn decode(ty: TypeCodec<'_>, message: &[u8]) -> Result<Value, DecodeError> {
    decode::message(ty, message)
}

/// Appends a tree as a message (without envelope).
pub fn encode(ty: TypeCodec<'_>, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode::message(ty, value).map(|message| out.extend_from_slice(message.bytes()))
}

/// Reads the message of an envelope, and sets `apiVersion` and `kind` as the envelope has them.
pub fn decode_object(ty: TypeCodec<'_>, bytes: &[u8]) -> Result<Value, DecodeError> {
    let envelope = envelope::split(bytes)?;
    Ok(with_type(decode(ty, envelope.raw)?, &envelope))
}

/// The object with `apiVersion` and `kind` of its envelope.
fn with_type(mut value: Value, envelope: &envelope::Envelope<'_>) -> Value {
    let map = value.make_map();
    for (name, text) in [("apiVersion", &envelope.api_version), ("kind", &envelope.kind)] {
        if !text.is_empty() {
            map.insert(name, SmolStr::new(text));
        }
    }
    value
}

/// Writes an object with its envelope; `apiVersion` and `kind` of the tree go there.
pub fn encode_object(ty: TypeCodec<'_>, value: &Value) -> Result<Vec<u8>, EncodeError> {
    let message = encode::message(ty, value)?;
    Ok(envelope::wrap(value.str_at(&["apiVersion"]), value.str_at(&["kind"]), message.bytes()))
}
