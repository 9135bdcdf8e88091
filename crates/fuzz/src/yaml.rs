//! Bodies in YAML.

use api_codec::{json, yaml};

use crate::objects::{assert_same, check_growth, check_tree, golden, type_of_text};

/// A YAML of each trick that people use.
const TRICKS: &[&str] = &[
    "a: &x {b: 1}\nc: *x\n",
    "base: &b\n  k: 1\nderived:\n  <<: *b\n  l: 2\n",
    "a: |\n  one\n  two\nb: >-\n  folded\n  text\nc: |+\n  kept\n\n",
    "- 0o17\n- 0x1f\n- 1_000\n- ~\n- yes\n- 2001-12-14t21:59:43.10-05:00\n",
    "---\na: 1\n...\n---\nb: 2\n",
    "%YAML 1.1\n---\n!!map {? a : !!str 1, \"b\\u263a\": 'it''s'}\n",
    "? [a, b]\n: c\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: \"1\"\n",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let object = |json: &str| {
        let mut text = Vec::new();
        yaml::from_json(json.as_bytes(), &mut text);
        text
    };
    // A complex key is no JSON.
    let tricks = TRICKS.iter().filter(|trick| !trick.starts_with('?')).map(|trick| trick.as_bytes().to_vec());
    golden().iter().map(|golden| object(&golden.json)).chain(tricks).collect()
}

pub(crate) fn check(text: &[u8]) -> bool {
    let json = match yaml::to_json(text) {
        Ok(json) => json,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    check_growth(text.len(), json.len());
    json::check(&json).expect("what comes out is JSON");
    let ty = type_of_text(&json);
    if let Ok(decoded) = yaml::decode(Some(ty), text, json::Options::STRICT) {
        check_tree(ty, &decoded.value);
    }
    // What is written is read as the same, and written as the same.
    if let Ok(plain) = json::decode(None, &json, json::Options::default()) {
        let mut written = Vec::new();
        yaml::encode(None, &plain.value, &mut written);
        check_growth(text.len(), written.len());
        let again = yaml::to_json(&written).expect("what was written can be read");
        let again = json::decode(None, &again, json::Options::default()).expect("and is JSON");
        assert_same(&again.value, &plain.value, &written);
        let mut second = Vec::new();
        yaml::encode(None, &again.value, &mut second);
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&second));
    }
    true
}
