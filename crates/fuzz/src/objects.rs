//! The golden objects of upstream's own compatibility tests, and what every tree that was read must be able to do.

use std::path::Path;
use std::sync::OnceLock;

use api_codec::{TypeCodec, builtin, json, meta, proto, transcode};
use api_schema::Value;

/// How much longer than an input its output may be: an input repeats nothing, so what comes out is of its order.
const GROWTH_MAX: usize = 64;

/// One object in two forms.
pub(crate) struct Golden {
    /// Compact, in one line.
    pub(crate) json: String,
    pub(crate) proto: Vec<u8>,
}

/// The golden objects, from beside the repository.
pub(crate) fn golden() -> &'static [Golden] {
    static ALL: OnceLock<Vec<Golden>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/golden");
        let entries = std::fs::read_dir(&folder).expect("the golden objects beside the repository");
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        let read = |path: &Path| {
            let json: serde_json::Value =
                serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("golden objects are JSON");
            Golden { json: json.to_string(), proto: std::fs::read(path.with_extension("pb")).expect("a pair") }
        };
        paths.iter().map(|path| read(path)).collect()
    })
}

/// The type that `apiVersion` and `kind` name.
pub(crate) fn type_of(api_version: &str, kind: &str) -> Option<TypeCodec<'static>> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let candidates = [api_types::type_name(group, version, kind), api_types::type_name("meta.k8s.io", "v1", kind)];
    candidates.iter().find_map(|name| builtin().find(name))
}

/// The type that a JSON text names; a Pod if it names none.
pub(crate) fn type_of_text(text: &[u8]) -> TypeCodec<'static> {
    let named = meta::type_meta(text).ok().and_then(|meta| type_of(&meta.api_version, &meta.kind));
    named.or_else(|| type_of("v1", "Pod")).expect("there are Pods")
}

/// Output is of the order of its input.
pub(crate) fn check_growth(input: usize, output: usize) {
    assert!(output <= 4096 + input * GROWTH_MAX, "{input} bytes became {output}");
}

/// A tree that was read can be written in each form, and read again as the same.
pub(crate) fn check_tree(ty: TypeCodec<'_>, value: &Value) {
    let (mut message, mut text, mut fast) = (Vec::new(), Vec::new(), Vec::new());
    proto::encode(ty, value, &mut message).expect("what was read can be written");
    json::encode(Some(ty), value, &mut text);
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

/// Trees that must be the same; a failure shows where they are not.
pub(crate) fn assert_same(left: &Value, right: &Value, written: &[u8]) {
    if left == right {
        return;
    }
    let text = |value: &Value| {
        let mut out = Vec::new();
        json::encode(None, value, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    let (left, right) = (text(left), text(right));
    let same = left.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(80)..text.len().min(same + 80)]).into_owned()
    };
    panic!("{:?}\nis not\n{:?}\nwritten as {:?}", around(&left), around(&right), String::from_utf8_lossy(written));
}
