//! The envelope of every protobuf object: `k8s\0`, then a runtime.Unknown that says what the message is.

use super::DecodeError;
use super::wire::{Reader, Wire, put_delimited, put_varint, varint_len};
use crate::json::text;

/// What every protobuf object of Kubernetes begins with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// The parts of an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`.
    pub api_version: std::borrow::Cow<'a, str>,
    /// `Deployment`.
    pub kind: std::borrow::Cow<'a, str>,
    /// The message.
    pub raw: &'a [u8],
    /// How `raw` is compressed; empty.
    pub content_encoding: std::borrow::Cow<'a, str>,
    /// What `raw` is; empty for protobuf.
    pub content_type: std::borrow::Cow<'a, str>,
}

/// Whether bytes begin as an envelope does.
pub fn is_enveloped(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Takes an envelope apart. Errors are upstream's.
pub fn split(bytes: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::EmptyData);
    }
    let Some(unknown) = bytes.strip_prefix(MAGIC) else { return Err(DecodeError::NoMagic) };
    if unknown.is_empty() {
        return Err(DecodeError::EmptyBody);
    }
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(unknown);
    while !reader.at_end() {
        let (tag, wire) = reader.tag()?;
        match (tag, wire) {
            (1, Wire::Bytes) => {
                let mut meta = Reader::new(reader.delimited()?);
                while !meta.at_end() {
                    match meta.tag()? {
                        (1, Wire::Bytes) => envelope.api_version = text::utf8(meta.delimited()?),
                        (2, Wire::Bytes) => envelope.kind = text::utf8(meta.delimited()?),
                        (_, wire) => meta.skip(wire)?,
                    }
                }
            }
            (2, Wire::Bytes) => envelope.raw = reader.delimited()?,
            (3, Wire::Bytes) => envelope.content_encoding = text::utf8(reader.delimited()?),
            (4, Wire::Bytes) => envelope.content_type = text::utf8(reader.delimited()?),
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(envelope)
}

/// Puts a message into an envelope.
pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + api_version.len() + kind.len() + 32);
    head(api_version, kind, raw.len(), &mut out);
    out.extend_from_slice(raw);
    tail(&mut out);
    out
}

/// What comes before a message of a known length; [`tail`] goes after it.
pub fn head(api_version: &str, kind: &str, raw_length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    let field = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
    put_varint(1 << 3 | 2, out);
    put_varint((field(api_version) + field(kind)) as u64, out);
    put_delimited(1, api_version.as_bytes(), out);
    put_delimited(2, kind.as_bytes(), out);
    put_varint(2 << 3 | 2, out);
    put_varint(raw_length as u64, out);
}

/// What comes after the message: content encoding and type, always empty, always there.
pub fn tail(out: &mut Vec<u8>) {
    out.extend_from_slice(&[3 << 3 | 2, 0, 4 << 3 | 2, 0]);
}
