//! Answers requests for documents.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use api_types::Resource;
use openapi_docs::Descriptions;
use parking_lot::Mutex;

use crate::document::{v2, v2_proto, v3, v3_paths, v3_proto};
use crate::json;

/// How many bytes of compressed documents are kept; what does not fit is built again when asked for.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// How long a document that is asked for by its hash stays valid.
const YEAR_SECONDS: i64 = 365 * 24 * 60 * 60;

const JSON: &str = "application/json";
const V2_PROTO: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The spelling that client-go sends; the answer has the other one.
const V2_PROTO_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V3_PROTO: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V3_PROTO_OLD: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
const V3_ROOT: &str = "/openapi/v3";

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The path of the URL.
    pub path: &'a str,
    /// The query parameter `hash`.
    pub hash: Option<&'a str>,
    /// The header Accept; empty if absent.
    pub accept: &'a str,
    /// The header If-None-Match.
    pub if_none_match: Option<&'a str>,
    /// The time, for Expires.
    pub now_unix_seconds: i64,
}

/// What to send back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The documents of what a server serves, built when they are first asked for.
#[derive(Debug)]
pub struct OpenApi {
    served: Vec<Arc<Resource>>,
    known: Mutex<Known>,
}

/// What is remembered of documents that were built.
#[derive(Debug, Default)]
struct Known {
    /// The hash of each document's JSON, by its key.
    hashes: BTreeMap<String, String>,
    /// Compressed documents, by key.
    packed: BTreeMap<String, Arc<[u8]>>,
    packed_bytes: usize,
}

impl OpenApi {
    /// For a server of these resources.
    pub fn new(served: Vec<Arc<Resource>>) -> Self {
        Self { served, known: Mutex::default() }
    }

    /// Answers `/openapi/v3` (the index) and all below it.
    pub fn respond_v3(&self, request: &Request<'_>) -> Reply {
        let path = request.path.strip_prefix(V3_ROOT).unwrap_or(request.path).trim_matches('/');
        if path.is_empty() {
            let index = self.v3_index();
            let etag = sha512(&index);
            return found(index, JSON, &etag, request);
        }
        if !v3_paths(self.resources()).contains(path) {
            return Reply { status: 404, headers: Vec::new(), body: Vec::new() };
        }
        let Some(media) = accepted(request.accept, &[JSON, V3_PROTO, V3_PROTO_OLD]) else {
            return not_acceptable(&[JSON, V3_PROTO]);
        };
        let media = if media == JSON { JSON } else { V3_PROTO };
        let build = || v3(path, self.resources(), &Descriptions::unpack());
        let hash = self.hash(path, build);
        match request.hash {
            Some(asked) if asked != hash => Reply {
                status: 301,
                headers: vec![
                    ("location", url(path, &hash)),
                    ("vary", "Accept".into()),
                    ("content-type", media.into()),
                    ("etag", format!("\"{hash}\"")),
                ],
                body: Vec::new(),
            },
            asked => {
                let mut reply = found(Vec::new(), media, &hash, request);
                if asked.is_some() {
                    reply.headers.push(("cache-control", "public, immutable".into()));
                    reply.headers.push(("expires", http_date(request.now_unix_seconds + YEAR_SECONDS)));
                }
                if reply.status == 200 {
                    reply.body = match media {
                        JSON => self.document(path, build),
                        _ => self.document(&format!("{path}.proto"), || {
                            v3_proto(path, self.resources(), &Descriptions::unpack())
                        }),
                    };
                }
                reply
            }
        }
    }

    /// Answers `/openapi/v2`.
    pub fn respond_v2(&self, request: &Request<'_>) -> Reply {
        let Some(media) = accepted(request.accept, &[JSON, V2_PROTO, V2_PROTO_OLD]) else {
            return not_acceptable(&[JSON, V2_PROTO]);
        };
        let as_json = || v2(self.resources(), &Descriptions::unpack());
        // One ETag for both encodings, told apart by Vary.
        let hash = self.hash("v2", as_json);
        let (media, key) = if media == JSON { (JSON, "v2") } else { (V2_PROTO, "v2.proto") };
        let mut reply = found(Vec::new(), media, &hash, request);
        if reply.status == 200 {
            reply.body = match media {
                JSON => self.document(key, as_json),
                _ => self.document(key, || v2_proto(self.resources(), &Descriptions::unpack())),
            };
        }
        reply
    }

    /// `{"paths": {"apis/apps/v1": {"serverRelativeURL": ...}}}`. The first time builds every document for its hash.
    pub fn v3_index(&self) -> Vec<u8> {
        let paths = v3_paths(self.resources());
        let mut descriptions = None;
        let urls: Vec<(String, String)> = paths
            .into_iter()
            .map(|path| {
                let hash = self
                    .hash(&path, || v3(&path, self.resources(), descriptions.get_or_insert_with(Descriptions::unpack)));
                let url = url(&path, &hash);
                (path, url)
            })
            .collect();
        let mut out = b"{\"paths\":".to_vec();
        json::object(urls.iter().map(|(path, url)| (path.as_str(), url)), &mut out, |url, out| {
            out.extend_from_slice(b"{\"serverRelativeURL\":");
            json::string(url, out);
            out.push(b'}');
        });
        out.push(b'}');
        out
    }

    fn resources(&self) -> impl Iterator<Item = &Resource> + Clone {
        self.served.iter().map(AsRef::as_ref)
    }

    /// The hash of a document, which is built if it never was.
    fn hash(&self, key: &str, build: impl FnOnce() -> Vec<u8>) -> String {
        if let Some(hash) = self.known.lock().hashes.get(key) {
            return hash.clone();
        }
        let hash = sha512(&build());
        self.known.lock().hashes.insert(key.into(), hash.clone());
        hash
    }

    /// A document from what is kept, or built and then kept if there is room.
    fn document(&self, key: &str, build: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
        let packed = self.known.lock().packed.get(key).cloned();
        if let Some(text) = packed.and_then(|packed| unpack(&packed)) {
            return text;
        }
        let text = build();
        if let Some(packed) = pack(&text) {
            let mut known = self.known.lock();
            if known.packed_bytes + packed.len() <= KEPT_BYTES_MAX && !known.packed.contains_key(key) {
                known.packed_bytes += packed.len();
                known.packed.insert(key.into(), packed.into());
            }
        }
        text
    }
}

fn url(path: &str, hash: &str) -> String {
    format!("{V3_ROOT}/{path}?hash={hash}")
}

fn pack(text: &[u8]) -> Option<Vec<u8>> {
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).ok()?;
    packer.finish().ok()
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::DeflateDecoder::new(packed).read_to_end(&mut text).ok()?;
    Some(text)
}

/// 200, or 304 if the client has it already.
fn found(body: Vec<u8>, media: &str, hash: &str, request: &Request<'_>) -> Reply {
    let etag = format!("\"{hash}\"");
    let has = request.if_none_match.is_some_and(|tags| {
        tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    });
    let mut headers = vec![("etag", etag), ("vary", "Accept".into())];
    if has {
        return Reply { status: 304, headers, body: Vec::new() };
    }
    headers.push(("content-type", media.into()));
    Reply { status: 200, headers, body }
}

fn not_acceptable(offered: &[&str]) -> Reply {
    let body = format!("only the following media types are accepted: {}\n", offered.join(", ")).into_bytes();
    Reply { status: 406, headers: vec![("content-type", "text/plain; charset=utf-8".into())], body }
}

/// The best of the offered media types: highest `q`, then first in the header, then first offered.
fn accepted(accept: &str, offered: &[&'static str]) -> Option<&'static str> {
    if accept.trim().is_empty() {
        return offered.first().copied();
    }
    let mut best: Option<(f32, &'static str)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        let fits = offered.iter().find(|offer| match media.strip_suffix('*') {
            Some("*/") => true,
            Some(class) => offer.starts_with(class),
            None => media.eq_ignore_ascii_case(offer),
        });
        if let Some(offer) = fits
            && weight > best.map_or(0.0, |(weight, _)| weight)
        {
            best = Some((weight, offer));
        }
    }
    best.map(|(_, offer)| offer)
}

fn sha512(bytes: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA512, bytes).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn http_date(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds)
        .map(|time| time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .unwrap_or_default()
}
