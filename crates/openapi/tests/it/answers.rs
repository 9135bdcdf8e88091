//! How requests are answered.

use std::sync::Arc;

use openapi::{OpenApi, Reply, Request};

use crate::documents::served;

const OLD_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

fn server() -> OpenApi {
    OpenApi::new(served().filter(|r| r.group.is_empty() || r.group == "apps").cloned().map(Arc::new).collect())
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}

#[test]
fn the_index_leads_to_documents_by_their_hash() {
    let server = server();
    let index = server.respond_v3(&Request { path: "/openapi/v3", ..Request::default() });
    let index: serde_json::Value = serde_json::from_slice(&index.body).expect("the index is JSON");
    let paths: Vec<&str> = index["paths"].as_object().expect("has paths").keys().map(String::as_str).collect();
    let known = [
        ".well-known/openid-configuration",
        "api",
        "api/v1",
        "apis",
        "apis/apps",
        "apis/apps/v1",
        "openid/v1/jwks",
        "version",
    ];
    assert_eq!(paths, known);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("has a URL");
    let (path, hash) = url.split_once("?hash=").expect("has a hash");
    assert_eq!((path, hash.len()), ("/openapi/v3/apis/apps/v1", 128));

    let request = Request { path, hash: Some(hash), now_unix_seconds: 1_700_000_000, ..Request::default() };
    let reply = server.respond_v3(&request);
    assert_eq!(reply.status, 200);
    assert_eq!(header(&reply, "cache-control"), "public, immutable");
    assert_eq!(header(&reply, "expires"), "Wed, 13 Nov 2024 22:13:20 GMT");
    assert_eq!(header(&reply, "etag"), format!("\"{hash}\""));
    assert_eq!(server.respond_v3(&request).body, reply.body, "the kept form is the built form");

    let stale = server.respond_v3(&Request { hash: Some("0"), ..request });
    assert_eq!((stale.status, header(&stale, "location")), (301, url));
    let etag = format!("\"{hash}\"");
    let again = server.respond_v3(&Request { hash: None, if_none_match: Some(&etag), ..request });
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn the_accept_header_decides() {
    let server = server();
    let check = |v3: bool, path: &str, accept: &str, expect: (u16, &str)| {
        let request = Request { path, accept, ..Request::default() };
        let reply = if v3 { server.respond_v3(&request) } else { server.respond_v2(&request) };
        assert_eq!((reply.status, header(&reply, "content-type")), expect, "{path} {accept}");
    };
    let (json, proto) = ("application/json", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    let refused = (406, "text/plain; charset=utf-8");
    check(false, "/openapi/v2", "", (200, json));
    check(false, "/openapi/v2", "*/*", (200, json));
    check(false, "/openapi/v2", OLD_V2, (200, proto));
    check(false, "/openapi/v2", proto, (200, proto));
    check(false, "/openapi/v2", &format!("{json};q=0.5, {OLD_V2}"), (200, proto));
    check(false, "/openapi/v2", "text/html", refused);
    check(true, "/openapi/v3/apis/apps/v1", "application/json", (200, json));
    check(true, "/openapi/v3/apis/apps/v1", "image/png", refused);
    let v3_proto = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
    check(true, "/openapi/v3/apis/apps/v1", v3_proto, (200, v3_proto));
    check(true, "/openapi/v3/apis/apps/v1", &v3_proto.replace("v3.v1", "v3@v1"), (200, v3_proto));
    check(true, "/openapi/v3/apis/nonsense/v1", "", (404, ""));
}

/// Reads the fields of a protobuf message: tag and, where it has a length, the content.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().expect("a number ends");
            *bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return number;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = varint(&mut bytes) as usize;
        match key & 7 {
            1 => bytes = &bytes[7..], // a double, whose first byte was read as the length
            0 => found.push((key >> 3, &bytes[..0])),
            2 => {
                let (content, rest) = bytes.split_at(length);
                found.push((key >> 3, content));
                bytes = rest;
            }
            other => panic!("no such wire type here: {other}"),
        }
    }
    found
}

fn field(bytes: &[u8], tag: u64) -> &[u8] {
    fields(bytes).into_iter().find(|(known, _)| *known == tag).map(|(_, content)| content).unwrap_or_default()
}

#[test]
fn the_protobuf_form_says_what_the_json_form_says() {
    let server = server();
    let ask = |accept| server.respond_v2(&Request { path: "/openapi/v2", accept, ..Request::default() }).body;
    let json: serde_json::Value = serde_json::from_slice(&ask("application/json")).expect("v2 is JSON");
    let proto = ask(OLD_V2);
    assert_eq!(field(&proto, 1), b"2.0");
    let names = |part: u64, named: u64| -> Vec<String> {
        let entries = fields(field(&proto, part)).into_iter().filter(|(tag, _)| *tag == named);
        entries.map(|(_, entry)| String::from_utf8_lossy(field(entry, 1)).into_owned()).collect()
    };
    for (part, named, key) in [(8, 2, "paths"), (9, 1, "definitions"), (10, 1, "parameters")] {
        let expect: Vec<&String> = json[key].as_object().expect("is an object").keys().collect();
        assert_eq!(names(part, named).iter().collect::<Vec<_>>(), expect, "{key}");
    }
    for (_, entry) in fields(field(&proto, 9)) {
        let name = String::from_utf8_lossy(field(entry, 1)).into_owned();
        let schema = field(entry, 2);
        let reference = &json["definitions"][&name];
        let properties: Vec<String> = fields(field(schema, 25))
            .into_iter()
            .map(|(_, property)| String::from_utf8_lossy(field(property, 1)).into_owned())
            .collect();
        let expect: Vec<String> =
            reference["properties"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        assert_eq!(properties, expect, "{name}");
        let description = String::from_utf8_lossy(field(schema, 4)).into_owned();
        assert_eq!(description, reference["description"].as_str().unwrap_or_default(), "{name}");
    }
}

#[test]
fn the_v3_protobuf_form_has_the_same_schemas() {
    let server = server();
    let ask =
        |accept| server.respond_v3(&Request { path: "/openapi/v3/apis/apps/v1", accept, ..Request::default() }).body;
    let json: serde_json::Value = serde_json::from_slice(&ask("application/json")).expect("v3 is JSON");
    let proto = ask("application/com.github.proto-openapi.spec.v3@v1.0+protobuf");
    assert_eq!(field(&proto, 1), b"3.0.0");
    let name = |entry: &[u8]| String::from_utf8_lossy(field(entry, 1)).into_owned();
    let paths: Vec<String> = fields(field(&proto, 4)).into_iter().map(|(_, entry)| name(entry)).collect();
    assert_eq!(paths.iter().collect::<Vec<_>>(), json["paths"].as_object().expect("paths").keys().collect::<Vec<_>>());
    let schemas = json["components"]["schemas"].as_object().expect("schemas");
    let entries = fields(field(field(&proto, 5), 1));
    assert_eq!(entries.len(), schemas.len());
    for (_, entry) in entries {
        let reference = &schemas[&name(entry)];
        let schema = field(field(entry, 2), 1);
        assert_eq!(field(schema, 34), reference["description"].as_str().unwrap_or_default().as_bytes());
        let properties: Vec<String> = fields(field(schema, 31)).into_iter().map(|(_, entry)| name(entry)).collect();
        let expect: Vec<String> =
            reference["properties"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        assert_eq!(properties, expect, "{}", name(entry));
    }
}
