//! A running watch: frames to events.

use std::sync::Arc;

use api_codec::{TypeCodec, json};
use api_schema::{SmolStr, Value};
use bytes::{Buf as _, Bytes, BytesMut};

use crate::error::Error;
use crate::transport::{Body, BoxError, TransportError};
use crate::wire;

/// Frames larger than this are refused; objects are a few megabytes at most.
const FRAME_BYTES_MAX: usize = 32 << 20;

/// What happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It came to be, or began to match; or it was there when the watch began.
    Added(Value),
    /// It changed.
    Modified(Value),
    /// It is gone, or no longer matches. This is its last state, with the resourceVersion of the change.
    Deleted(Value),
    /// Nothing, up to this resourceVersion: a watch may go on from it.
    Bookmark {
        /// Where to go on.
        resource_version: SmolStr,
        /// Whether all objects that were there when the watch began have been shown (WatchList).
        initial_events_end: bool,
    },
}

/// A running watch. Drop it to end it.
#[derive(Debug)]
pub struct Watch {
    request: Arc<str>,
    body: Body,
    buffer: BytesMut,
    protobuf: bool,
    codec: Option<TypeCodec<'static>>,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(request: String, body: Body, content_type: &str, codec: Option<TypeCodec<'static>>) -> Self {
        let protobuf = content_type.starts_with(wire::PROTOBUF);
        Self { request: request.into(), body, buffer: BytesMut::new(), protobuf, codec, ended: false }
    }

    /// The next event; `None` when the server ended the watch in good order, which it does every few minutes. After an
    /// error there is nothing more. No event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        if self.ended {
            return None;
        }
        let result = self.advance().await.transpose();
        self.ended = !matches!(result, Some(Ok(_)));
        result
    }

    async fn advance(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(frame) = self.frame().map_err(|source| self.unreadable(source))? {
                let (kind, object) = self.read(&frame).map_err(|source| self.unreadable(source))?;
                return match kind.as_str() {
                    "ADDED" => Ok(Some(Event::Added(object))),
                    "MODIFIED" => Ok(Some(Event::Modified(object))),
                    "DELETED" => Ok(Some(Event::Deleted(object))),
                    "BOOKMARK" => Ok(Some(bookmark(&object))),
                    "ERROR" => Err(wire::status_of(&object).into()),
                    other => Err(self.unreadable(format!("an event of the unknown type {other:?}").into())),
                };
            }
            match self.body.chunk().await.map_err(TransportError::Lost)? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(TransportError::Lost("the watch ended within an event".into()).into()),
            }
        }
    }

    fn unreadable(&self, source: BoxError) -> Error {
        Error::Answer { request: self.request.to_string(), source }
    }

    /// Takes a whole frame out of the buffer, if there is one.
    fn frame(&mut self) -> Result<Option<Bytes>, BoxError> {
        let length = if self.protobuf {
            let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
            let length = u32::from_be_bytes(*head) as usize;
            if length <= FRAME_BYTES_MAX && self.buffer.len() < 4 + length {
                return Ok(None);
            }
            self.buffer.advance(4);
            length
        } else {
            let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
                return if self.buffer.len() > FRAME_BYTES_MAX { Err(too_large()) } else { Ok(None) };
            };
            end + 1
        };
        if length > FRAME_BYTES_MAX { Err(too_large()) } else { Ok(Some(self.buffer.split_to(length).freeze())) }
    }

    /// The type and the object of an event.
    fn read(&self, frame: &[u8]) -> Result<(SmolStr, Value), BoxError> {
        if self.protobuf {
            let (kind, object) = split_event(frame).ok_or("a malformed event")?;
            return Ok((kind.into(), wire::decode_protobuf(object, self.codec)?));
        }
        let mut event = json::decode(None, frame, json::Options::default())?.value;
        let object = event.remove(&["object"]).unwrap_or_default();
        let codec = wire::find(object.str_at(&["apiVersion"]), object.str_at(&["kind"]), self.codec);
        let object = match codec {
            Some(codec) => json::retype(codec, &object, json::Options::default())?.value,
            None => object,
        };
        Ok((event.str_at(&["type"]).into(), object))
    }
}

fn too_large() -> BoxError {
    format!("an event is larger than {FRAME_BYTES_MAX} bytes").into()
}

fn bookmark(object: &Value) -> Event {
    Event::Bookmark {
        resource_version: object.str_at(&["metadata", "resourceVersion"]).into(),
        initial_events_end: object.str_at(&["metadata", "annotations", "k8s.io/initial-events-end"]) == "true",
    }
}

/// The type and the enveloped object of a WatchEvent message: `{1: type, 2: {1: object}}`.
fn split_event(message: &[u8]) -> Option<(&str, &[u8])> {
    let (mut kind, mut object) = ("", &[][..]);
    let mut rest = message;
    while let Some((tag, value)) = field(&mut rest)? {
        match tag {
            1 => kind = std::str::from_utf8(value).ok()?,
            2 => {
                let mut inner = value;
                while let Some((tag, value)) = field(&mut inner)? {
                    if tag == 1 {
                        object = value;
                    }
                }
            }
            _ => {}
        }
    }
    Some((kind, object))
}

/// The next field of a message whose fields all have a length; `None` outside if it is malformed, inside at its end.
fn field<'a>(rest: &mut &'a [u8]) -> Option<Option<(u64, &'a [u8])>> {
    if rest.is_empty() {
        return Some(None);
    }
    let key = varint(rest)?;
    if key & 7 != 2 {
        return None;
    }
    let length = usize::try_from(varint(rest)?).ok()?;
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Some((key >> 3, value)))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::ApiResource;

    /// A watch whose answer comes in pieces of `size` bytes.
    fn watch(answer: &[u8], size: usize, content_type: &str) -> Watch {
        struct Pieces(std::collections::VecDeque<Bytes>);
        impl http_body::Body for Pieces {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
                std::task::Poll::Ready(self.0.pop_front().map(|piece| Ok(http_body::Frame::data(piece))))
            }
        }
        let codec = ApiResource::builtin("", "v1", "configmaps").and_then(|maps| maps.codec());
        let pieces = Pieces(answer.chunks(size).map(Bytes::copy_from_slice).collect());
        Watch::new("GET /x".into(), Body::new(pieces), content_type, codec)
    }

    fn frames(protobuf: bool) -> Vec<u8> {
        let mut map = Value::default();
        wire::set_type(&mut map, "v1", "ConfigMap");
        map.set(&["metadata", "name"], "a");
        map.set(&["metadata", "resourceVersion"], "7");
        let mut end = map.clone();
        end.set(&["metadata", "annotations"], [("k8s.io/initial-events-end", "true")]);
        let status = api_semantics::status::Status::expired("too old").to_value();
        let mut out = Vec::new();
        for (kind, object) in [("ADDED", &map), ("BOOKMARK", &end), ("DELETED", &map), ("ERROR", &status)] {
            if protobuf {
                let codec = wire::find("v1", object.str_at(&["kind"]), None);
                let (_, bytes) = wire::encode(object, codec).expect("it has a message");
                api_codec::watch::proto_frame(kind, &bytes, &mut out);
            } else {
                api_codec::watch::json_frame(kind, &wire::encode_json(object), &mut out);
            }
        }
        out
    }

    async fn seen(mut watch: Watch) -> String {
        let mut seen = String::new();
        while let Some(event) = watch.next().await {
            seen += &match event {
                Ok(Event::Added(object)) => format!("+{}", object.str_at(&["metadata", "name"])),
                Ok(Event::Modified(object)) => format!("~{}", object.str_at(&["metadata", "name"])),
                Ok(Event::Deleted(object)) => format!("-{}", object.str_at(&["metadata", "name"])),
                Ok(Event::Bookmark { resource_version, initial_events_end }) => {
                    format!("={resource_version}{}", if initial_events_end { "!" } else { "" })
                }
                Err(error) => format!("[{}{error}]", error.reason()),
            };
            seen.push(' ');
        }
        seen
    }

    #[tokio::test]
    async fn events_come_out_whole_however_the_answer_is_cut() {
        for size in [1, 3, 7, 64, 100_000] {
            for (protobuf, content_type) in [(true, wire::PROTOBUF), (false, wire::JSON)] {
                let watch = watch(&frames(protobuf), size, content_type);
                assert_eq!(seen(watch).await, "+a =7! -a [Expiredtoo old] ", "{content_type} by {size}");
            }
        }
    }

    #[tokio::test]
    async fn a_watch_that_breaks_off_within_an_event_is_an_error() {
        for (protobuf, content_type) in [(true, wire::PROTOBUF), (false, wire::JSON)] {
            let frames = frames(protobuf);
            let watch = watch(&frames[..20], 20, content_type);
            assert_eq!(seen(watch).await, "[the connection was lost] ");
        }
    }

    #[tokio::test]
    async fn malformed_frames_are_errors() {
        for (content_type, bytes) in [
            (wire::PROTOBUF, &[0, 0, 0, 2, 0xff, 0xff][..]),
            (wire::PROTOBUF, &[0xff, 0xff, 0xff, 0xff][..]),
            (wire::PROTOBUF, &[0, 0, 0, 3, 0x0a, 0x7f, b'A'][..]),
            (wire::JSON, b"{]\n"),
            (wire::JSON, b"{\"type\":\"ODD\",\"object\":{}}\n"),
        ] {
            let seen = seen(watch(bytes, 100, content_type)).await;
            assert_eq!(seen, "[read the answer of GET /x] ", "{bytes:?}");
        }
    }
}
