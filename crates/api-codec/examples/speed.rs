//! Prints how fast each path is, on upstream's fully populated Pod and on a Pod of everyday size.
//!
//! `cargo run --release -p api-codec --example speed [PART OF A PATH'S NAME]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use api_codec::{builtin, json, list, meta, proto, transcode, yaml};

/// A Pod as a Deployment makes it and a kubelet reports it.
const EVERYDAY: &[u8] = include_bytes!("pod.json");

/// A Pod of 2 KB as it was just made, such as `cargo xtask bench` lists.
const PENDING: &[u8] = include_bytes!("pod-pending.json");

/// How long each path is measured.
const MEASURED: Duration = Duration::from_millis(400);

fn main() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/golden/core.v1.Pod.json");
    if let Ok(full) = std::fs::read(golden) {
        measure("golden Pod", &full);
    }
    measure("everyday Pod", EVERYDAY);
    measure("pending Pod", PENDING);
}

fn measure(title: &str, pretty: &[u8]) {
    let ty = builtin().find("io.k8s.api.core.v1.Pod").expect("Pod");
    let value = json::decode(Some(ty), pretty, json::Options::STRICT).expect("a Pod").value;
    let plain = json::decode(None, pretty, json::Options::STRICT).expect("a Pod").value;
    let enveloped = proto::encode_object(ty, &value).expect("a message");
    let raw = proto::envelope::split(&enveloped).expect("an envelope").raw;
    let (mut compact, mut text) = (Vec::new(), Vec::new());
    json::encode(Some(ty), &value, &mut compact);
    yaml::encode(Some(ty), &value, &mut text);
    println!("{title}: {} bytes of JSON, {} of protobuf, {} of YAML", compact.len(), raw.len(), text.len());

    let mut out = Vec::with_capacity(1 << 20);
    run("transcode protobuf to JSON (JSON bytes)", compact.len(), || {
        out.clear();
        transcode::proto_to_json(ty, "v1", "Pod", raw, &mut out).expect("JSON");
        out.len()
    });
    run("decode JSON by type", compact.len(), || {
        let decoded = json::decode(Some(ty), &compact, json::Options::STRICT).expect("a Pod");
        decoded.value.as_map().map_or(0, api_schema::Map::len)
    });
    run("decode JSON without type", compact.len(), || {
        let decoded = json::decode(None, &compact, json::Options::STRICT).expect("a Pod");
        decoded.value.as_map().map_or(0, api_schema::Map::len)
    });
    run("check JSON", compact.len(), || usize::from(json::check(&compact).is_ok()));
    run("encode JSON by type", compact.len(), || {
        out.clear();
        json::encode(Some(ty), &value, &mut out);
        out.len()
    });
    run("encode JSON without type", compact.len(), || {
        out.clear();
        json::encode(None, &plain, &mut out);
        out.len()
    });
    run("decode protobuf", raw.len(), || {
        proto::decode(ty, raw).expect("a Pod").as_map().map_or(0, api_schema::Map::len)
    });
    run("encode protobuf with envelope", raw.len(), || proto::encode_object(ty, &value).expect("a message").len());
    run("scan metadata of protobuf", raw.len(), || meta::scan(raw).expect("metadata").labels.len());
    run("scan metadata of JSON", compact.len(), || meta::scan_json(&compact).expect("metadata").labels.len());
    run("splice resourceVersion into protobuf", raw.len(), || {
        meta::splice_resource_version(&enveloped, 123_456).expect("a message").len()
    });
    run("splice resourceVersion into JSON", compact.len(), || {
        meta::splice_resource_version_json(&compact, 123_456).expect("JSON").len()
    });
    run("list of 5,000 as protobuf", raw.len() * 5000, || {
        out.clear();
        list::proto("v1", "PodList", list::ListMeta::default(), std::iter::repeat_n(raw, 5000), &mut out);
        out.len()
    });
    run("list of 5,000 as JSON, transcoded", compact.len() * 5000, || {
        out.clear();
        let meta = list::ListMeta::default();
        list::json_head(list::Order::Declared, "v1", "PodList", meta, &mut out);
        for at in 0..5000 {
            if at > 0 {
                out.push(b',');
            }
            transcode::proto_to_json(ty, "", "", raw, &mut out).expect("JSON");
        }
        list::json_tail(list::Order::Declared, "PodList", meta, &mut out);
        out.len()
    });
    run("decode YAML by type", text.len(), || {
        let decoded = yaml::decode(Some(ty), &text, json::Options::STRICT).expect("a Pod");
        decoded.value.as_map().map_or(0, api_schema::Map::len)
    });
    run("encode YAML by type", text.len(), || {
        out.clear();
        yaml::encode(Some(ty), &value, &mut out);
        out.len()
    });
    println!();
}

/// Runs a path for a while, and prints its best round: the machine has other work too.
fn run(name: &str, bytes: usize, mut path: impl FnMut() -> usize) {
    if std::env::args().nth(1).is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let begin = Instant::now();
    let mut best = f64::MAX;
    while begin.elapsed() < MEASURED {
        let rounds = (200_000 / bytes.max(1)).max(1) as u32;
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(path());
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds));
    }
    println!("  {name:<42} {:>9.2} us {:>9.0} MB/s", best * 1e6, bytes as f64 / best / 1e6);
}
