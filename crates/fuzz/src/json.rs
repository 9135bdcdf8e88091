//! Bodies in JSON.

use api_codec::{json, meta};

use crate::objects::{assert_same, check_growth, check_tree, golden, type_of_text};

/// What JSON is made of.
pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u12",
    "\\ud83d\\ude00",
    "\\ud800",
    " ",
    "\n",
    "\0",
    "null",
    "true",
    "fals",
    "1",
    "-",
    "0",
    ".5",
    "e9",
    "1e400",
    "9223372036854775808",
    "\u{7f}",
    "\u{2028}",
    "\"kind\":\"x\",",
    "\u{1f}",
    "\"\":",
    "é",
];

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    golden().iter().map(|golden| golden.json.clone().into_bytes()).collect()
}

pub(crate) fn check(text: &[u8]) -> bool {
    let ty = type_of_text(text);
    let typed = json::decode(Some(ty), text, json::Options::STRICT);
    if let Ok(decoded) = &typed {
        check_tree(ty, &decoded.value);
    }
    let plain = json::decode(None, text, json::Options::default());
    // The reader and the scanner agree on what is JSON.
    let is_json = json::check(text).is_ok();
    assert_eq!(is_json, !matches!(plain, Err(json::DecodeError::Syntax(_))));
    for error in [typed.as_ref().err(), plain.as_ref().err()].into_iter().flatten() {
        assert!(!error.to_string().is_empty());
    }
    let scanned = meta::scan_json(text);
    if let Ok(spliced) = meta::splice_resource_version_json(text, 7)
        && is_json
        && scanned.is_ok()
    {
        json::check(&spliced).expect("what was JSON stays JSON");
    }
    if let Ok(decoded) = plain {
        let mut written = Vec::new();
        json::encode(None, &decoded.value, &mut written);
        check_growth(text.len(), written.len());
        let again = json::decode(None, &written, json::Options::default()).expect("what was written can be read");
        assert_same(&again.value, &decoded.value, &written);
        let mut pretty = Vec::new();
        json::pretty(&written, &mut pretty);
        let again = json::decode(None, &pretty, json::Options::default()).expect("what was indented can be read");
        assert_same(&again.value, &decoded.value, &pretty);
    }
    typed.is_ok()
}
