//! Whatever comes in, the readers answer: no panic, no overflow of the stack, no long thought, and what they read
//! they can write and read again.
//!
//! Each test runs a seeded number of changed inputs; `KUBOX_LONG=n` runs n times as many, from other seeds.

use std::time::{Duration, Instant};

use api_codec::{TypeCodec, builtin, json, meta, proto, transcode, yaml};

use crate::golden::{Golden, all, golden};
use crate::mutate::Mutator;

/// How long one input of a few megabytes may take; far more than it does, for debug builds on busy machines. What takes
/// more than time in proportion takes hours.
const PATIENCE: Duration = Duration::from_secs(120);

fn rounds() -> u64 {
    std::env::var("KUBOX_LONG").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// Runs a check on many changed inputs.
fn fuzz(inputs: &[Golden], times: u64, mut check: impl FnMut(&Golden, &mut Mutator)) {
    for seed in 0..times * rounds() {
        let mut mutator = Mutator::new(seed);
        let input = &inputs[mutator.below(inputs.len())];
        check(input, &mut mutator);
    }
}

fn within_patience<T>(name: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    assert!(start.elapsed() < PATIENCE, "{name} took {:?}", start.elapsed());
    result
}

/// What every tree that was read must be able to do.
fn check_tree(ty: TypeCodec<'_>, value: &api_schema::Value) {
    let (mut message, mut text, mut fast) = (Vec::new(), Vec::new(), Vec::new());
    proto::encode(ty, value, &mut message).expect("what was read can be written");
    json::encode(Some(ty), value, &mut text);
    // JSON gives back the same tree.
    let again = json::decode(Some(ty), &text, json::Options::STRICT).expect("what was written can be read");
    assert_eq!(again.problems, []);
    assert!(again.value == *value, "{}", String::from_utf8_lossy(&text));
    // Protobuf has no empty lists and no type, but gives back what it gave before.
    let read = proto::decode(ty, &message).expect("what was written can be read");
    let mut second = Vec::new();
    proto::encode(ty, &read, &mut second).expect("what was read can be written");
    assert_eq!(message, second);
    let mut slow = Vec::new();
    json::encode(Some(ty), &read, &mut slow);
    transcode::proto_to_json(ty, "", "", &message, &mut fast).expect("what can be read");
    assert_eq!(String::from_utf8_lossy(&slow), String::from_utf8_lossy(&fast));
}

#[test]
fn json_of_any_shape_is_answered() {
    let inputs = all();
    fuzz(&inputs, 1500, |golden, mutator| {
        let tree = mutator.tree(&golden.json);
        for text in [mutator.text(&tree), tree] {
            let _ = json::decode(None, &text, json::Options::STRICT);
            let _ = (meta::scan_json(&text), meta::type_meta(&text), meta::splice_resource_version_json(&text, 7));
            if let Ok(decoded) = json::decode(Some(golden.ty()), &text, json::Options::STRICT) {
                check_tree(golden.ty(), &decoded.value);
            }
            // The reader and the scanner agree on what is JSON.
            let is_json = json::check(&text).is_ok();
            let read = json::decode(None, &text, json::Options::default());
            assert_eq!(is_json, !matches!(read, Err(json::DecodeError::Syntax(_))));
        }
    });
}

#[test]
fn plain_trees_are_written_as_they_were_read() {
    let inputs = all();
    fuzz(&inputs, 500, |golden, mutator| {
        let tree = mutator.tree(&golden.json);
        let Ok(decoded) = json::decode(None, &tree, json::Options::STRICT) else { return };
        let mut text = Vec::new();
        json::encode(None, &decoded.value, &mut text);
        let ours: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let theirs: serde_json::Value = serde_json::from_slice(&tree).expect("JSON");
        assert_eq!(ours, theirs);
    });
}

#[test]
fn protobuf_of_any_shape_is_answered() {
    let inputs = all();
    fuzz(&inputs, 3000, |golden, mutator| {
        let bytes = mutator.bytes(&golden.proto);
        let ty = golden.ty();
        let read = proto::decode_object(ty, &bytes);
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        let transcoded = transcode::object_to_json(ty, &bytes, &mut fast);
        let _ = meta::splice_resource_version(&bytes, 7);
        if let Ok(envelope) = proto::envelope::split(&bytes) {
            let _ = meta::scan(envelope.raw);
        }
        match read {
            Ok(value) => {
                transcoded.expect("what can be read");
                json::encode(Some(ty), &value, &mut slow);
                assert_eq!(String::from_utf8_lossy(&slow), String::from_utf8_lossy(&fast), "{}", golden.name);
                let again = proto::encode_object(ty, &value).expect("what was read can be written");
                assert_eq!(proto::decode_object(ty, &again).as_ref(), Ok(&value));
            }
            Err(error) => assert_eq!(transcoded, Err(error), "{}", golden.name),
        }
    });
}

#[test]
fn yaml_of_any_shape_is_answered() {
    let inputs = all();
    fuzz(&inputs, 400, |golden, mutator| {
        let mut text = Vec::new();
        yaml::from_json(&mutator.tree(&golden.json), &mut text);
        for text in [mutator.yaml(&text), mutator.text(&text)] {
            if let Ok(decoded) = yaml::decode(Some(golden.ty()), &text, json::Options::STRICT) {
                check_tree(golden.ty(), &decoded.value);
            }
        }
    });
}

#[test]
fn patches_are_brought_into_the_normal_form() {
    let inputs = all();
    fuzz(&inputs, 500, |golden, mutator| {
        let tree = mutator.tree(&golden.json);
        let Ok(plain) = json::decode(None, &tree, json::Options::default()) else { return };
        let direct = json::decode(Some(golden.ty()), &tree, json::Options::default()).map(|decoded| decoded.value);
        let again = json::retype(golden.ty(), &plain.value, json::Options::default()).map(|decoded| decoded.value);
        match (direct, again) {
            (Ok(direct), Ok(again)) => assert_eq!(direct, again),
            (Err(_), Err(_)) => {}
            // `1e3` is no int32, but the tree holds 1000.
            (direct, again) => assert!(direct.is_err() && again.is_ok()),
        }
    });
}

#[test]
fn deep_nesting_is_refused_in_go_s_words_or_kept_as_text() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let check = |ty: &str, text: &str, expected: Option<&str>| {
        let ty = (!ty.is_empty()).then(|| builtin().find(ty).expect("a type"));
        let error = within_patience("JSON", || json::decode(ty, text.as_bytes(), json::Options::STRICT)).err();
        assert_eq!(error.map(|error| error.to_string()).as_deref(), expected, "{}", &text[..40.min(text.len())]);
    };
    let too_deep = Some("invalid character '[' exceeded max depth");
    check("", &nested("[", "]", json::TREE_DEPTH_MAX), None);
    check("", &nested("[", "]", json::TREE_DEPTH_MAX + 1), too_deep);
    check("", &nested("[", "]", 10_001), too_deep);
    check("", &nested("[", "]", 1_000_000), too_deep);
    check("", &"[".repeat(1_000_000), too_deep);
    check("", &"{\"a\":".repeat(1_000_000), Some("invalid character '{' exceeded max depth"));
    // What is skipped or kept as text may be as deep as in Go.
    let unknown = format!("{{\"x\":{}}}", nested("[", "]", 9_999));
    check("io.k8s.api.core.v1.Pod", &unknown, None);
    let unknown = format!("{{\"x\":{}}}", nested("[", "]", 10_000));
    check("io.k8s.api.core.v1.Pod", &unknown, too_deep);
    let raw = format!("{{\"data\":{}}}", nested("[", "]", 9_999));
    check("io.k8s.api.apps.v1.ControllerRevision", &raw, None);
    // The one type that contains itself.
    let crd = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let schema = format!(
        "{{\"spec\":{{\"versions\":[{{\"schema\":{{\"openAPIV3Schema\":{}{{}}{}}}}}]}}}}",
        "{\"items\":".repeat(5000),
        "}".repeat(5000)
    );
    check(crd, &schema, Some("invalid character '{' exceeded max depth"));

    for text in ["- ".repeat(100_000), "[".repeat(100_000), "{a: ".repeat(100_000), "? ".repeat(100_000)] {
        within_patience("YAML", || yaml::to_json(text.as_bytes())).expect_err("too deep");
    }

    // In protobuf: items (tag 24) of a schema hold a schema (tag 1), and so on.
    let mut message = Vec::new();
    for _ in 0..5000 {
        message = field(24, &field(1, &message));
    }
    let ty = builtin()
        .find("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("JSONSchemaProps");
    let error = proto::decode(ty, &message).expect_err("too deep");
    assert_eq!(transcode::proto_to_json(ty, "", "", &message, &mut Vec::new()), Err(error));

    // An enveloped object in an enveloped object, and so on.
    let ty = builtin().find("io.k8s.api.apps.v1.ControllerRevision").expect("ControllerRevision");
    let mut object = b"{}".to_vec();
    for depth in 0..1000 {
        let data = field(2, &field(1, &object));
        object = proto::envelope::wrap("apps/v1", "ControllerRevision", &data);
        assert_eq!(proto::decode_object(ty, &object).is_ok(), depth <= 4);
    }
}

/// The deepest trees that are read are read, written, copied, compared and dropped within half the stack of a thread.
#[test]
fn the_deepest_trees_fit_in_half_a_stack() {
    let plain = "[".repeat(json::TREE_DEPTH_MAX) + &"]".repeat(json::TREE_DEPTH_MAX);
    // Four levels lead to the schema.
    let schemas = json::TREE_DEPTH_MAX - 5;
    let typed = format!(
        "{{\"spec\":{{\"versions\":[{{\"schema\":{{\"openAPIV3Schema\":{}{{}}{}}}}}]}}}}",
        "{\"not\":".repeat(schemas - 1),
        "}".repeat(schemas - 1)
    );
    let crd = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
    let items = typed.replace("\"not\"", "\"items\"");
    let cases = [(None, plain), (builtin().find(crd), typed), (builtin().find(crd), items)];
    let run = move || {
        for (ty, text) in cases {
            let decoded = json::decode(ty, text.as_bytes(), json::Options::STRICT).expect("a deep tree");
            let (mut again, mut as_yaml) = (Vec::new(), Vec::new());
            json::encode(ty, &decoded.value, &mut again);
            yaml::encode(ty, &decoded.value, &mut as_yaml);
            assert_eq!(yaml::decode(ty, &as_yaml, json::Options::STRICT).as_ref(), Ok(&decoded));
            assert_eq!(decoded.clone(), decoded);
            if let Some(ty) = ty {
                check_tree(ty, &decoded.value);
            }
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).expect("a thread").join().expect("no panic");
}

/// A length-delimited field.
fn field(tag: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 12);
    for mut number in [tag << 3 | 2, value.len() as u64] {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }
    out.extend_from_slice(value);
    out
}

/// Protobuf has times that RFC 3339 has no years for. Go shows them all the same, and keeps them.
#[test]
fn times_of_any_year_are_kept() {
    let ty = builtin().find("io.k8s.api.core.v1.EventSeries").expect("EventSeries");
    for (seconds, shown) in [
        (253_402_300_800_i64, "10000-01-01T00:00:00.000000Z"),
        (-62_167_219_201, "-0001-12-31T23:59:59.000000Z"),
        (-62_167_219_200, "0000-01-01T00:00:00.000000Z"),
        (200_000_000_000_000, "6339717-09-13T19:33:20.000000Z"),
    ] {
        let mut time = vec![0x08];
        let mut number = seconds as u64;
        while number >= 0x80 {
            time.push(number as u8 | 0x80);
            number >>= 7;
        }
        time.push(number as u8);
        let value = proto::decode(ty, &field(2, &time)).expect("a time");
        assert_eq!(value.str_at(&["lastObservedTime"]), shown);
        let mut again = Vec::new();
        proto::encode(ty, &value, &mut again).expect("what was read can be written");
        assert_eq!(proto::decode(ty, &again).as_ref(), Ok(&value));
    }
}

#[test]
fn large_inputs_take_time_in_proportion() {
    // The longest body that is accepted has three megabytes.
    let size = if rounds() > 1 { 3 << 20 } else { 1 << 19 };
    let pod = golden("core.v1.Pod").ty();
    let config_map = golden("core.v1.ConfigMap").ty();
    let strict = json::Options::STRICT;
    let fill = |piece: &dyn Fn(usize) -> String, begin: &str, end: &str| {
        let mut text = String::from(begin);
        let mut at = 0;
        while text.len() < size {
            if at > 0 {
                text.push(',');
            }
            text += &piece(at);
            at += 1;
        }
        text + end
    };
    let scattered = |at: usize| at.wrapping_mul(2_654_435_761) % 1_000_003;
    let texts = [
        ("keys out of order", fill(&|at| format!("\"{}\":\"\"", scattered(at)), "{\"data\":{", "}}")),
        ("one key again and again", fill(&|_| "\"a\":\"\"".into(), "{\"data\":{", "}}")),
        ("a map again and again", fill(&|at| format!("\"data\":{{\"{at}\":\"\"}}"), "{", "}")),
        ("a struct again and again", fill(&|at| format!("\"metadata\":{{\"labels\":{{\"{at}\":\"\"}}}}"), "{", "}")),
        ("unknown fields", fill(&|at| format!("\"x{}\":1", scattered(at)), "{", "}")),
        ("small numbers", fill(&|_| "1".into(), "{\"x\":[", "]}")),
        ("escapes", format!("{{\"data\":{{\"a\":\"{}\"}}}}", "\\u00e9".repeat(size / 6))),
        ("owners", fill(&|_| "{}".into(), "{\"metadata\":{\"ownerReferences\":[", "]}}")),
        ("spaces", format!("{{{}}}", " ".repeat(size))),
    ];
    for (name, text) in &texts {
        let text = text.as_bytes();
        within_patience(name, || {
            let _ = json::decode(None, text, strict);
        });
        let decoded = within_patience(name, || json::decode(Some(config_map), text, strict)).expect(name);
        within_patience(name, || {
            let mut message = Vec::new();
            proto::encode(config_map, &decoded.value, &mut message).expect(name);
            proto::decode(config_map, &message).expect(name);
        });
        within_patience(name, || {
            let _ = meta::scan_json(text);
        });
    }

    let label = |at: usize| {
        let key = at.to_string();
        let mut entry = vec![0x0a, key.len() as u8];
        entry.extend_from_slice(key.as_bytes());
        entry
    };
    let repeated = |piece: &dyn Fn(usize) -> Vec<u8>| {
        (0..)
            .map(piece)
            .scan(0, |so_far, piece| {
                *so_far += piece.len();
                (*so_far < size).then_some(piece)
            })
            .flatten()
            .collect::<Vec<u8>>()
    };
    let messages = [
        ("a message again and again", repeated(&|at| field(1, &field(11, &label(at))))),
        ("labels and names in turn", repeated(&|at| [field(11, &label(scattered(at))), field(1, b"n")].concat())),
        ("unknown fields in protobuf", repeated(&|_| vec![15 << 3, 1])),
        ("empty messages", repeated(&|_| vec![1 << 3 | 2, 0])),
    ];
    let object_meta = builtin().find("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("ObjectMeta");
    for (name, message) in &messages {
        for ty in [pod, object_meta] {
            within_patience(name, || {
                let _ = proto::decode(ty, message);
                let _ = transcode::proto_to_json(ty, "", "", message, &mut Vec::new());
                let _ = (meta::scan(message), meta::splice_message(message, 7));
            });
        }
    }

    let lines = |piece: &dyn Fn(usize) -> String| {
        (0..)
            .map(piece)
            .scan(0, |so_far, piece| {
                *so_far += piece.len();
                (*so_far < size / 8).then_some(piece)
            })
            .collect::<String>()
    };
    let texts = [
        ("YAML keys out of order", lines(&|at| format!("{}: x\n", scattered(at)))),
        ("YAML items", lines(&|_| "- x\n".into())),
        ("YAML flow", format!("[{}]", "x,".repeat(size / 16))),
        ("YAML anchors", lines(&|at| format!("- &a{at} x\n- *a{at}\n"))),
        ("YAML names beyond ASCII", lines(&|_| "- &é x\n- *é\n".into())),
        ("YAML quotes", format!("\"{}\"", "\\x41".repeat(size / 32))),
        ("YAML block", format!("|\n{}", lines(&|_| " x\n".into()))),
        ("YAML colons", ":".repeat(size / 8)),
        ("YAML question marks", "? a\n".repeat(size / 32)),
        ("YAML comments", "#\n".repeat(size / 8)),
        ("YAML long key", format!("{}: x\n", "k".repeat(size / 8))),
        ("YAML braces", "{}".repeat(size / 16)),
        ("YAML tags", lines(&|_| "- !!str x\n".into())),
        ("YAML directives", lines(&|at| format!("%TAG !a{at}! x\n"))),
    ];
    for (name, text) in &texts {
        within_patience(name, || {
            let _ = yaml::decode(None, text.as_bytes(), strict);
        });
    }
}
