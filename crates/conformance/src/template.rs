//! Expected answers are templates: `<uid-1>`, `<rv-2>`, `<time>` … stand for what differs from run to run.
//!
//! Numbered placeholders bind: within a case `<uid-1>` is the same value everywhere, and `<uid-2>` another one.
//! So an expectation says that an update kept the uid and moved the resourceVersion without naming either.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::script::Extent;

/// What a placeholder may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Uid,
    ResourceVersion,
    Time,
    MicroTime,
    Random,
    Age,
    Address,
    Port,
    Token,
    Continue,
    Etag,
    Any,
}

const CLASSES: [(&str, Class); 12] = [
    ("uid", Class::Uid),
    ("rv", Class::ResourceVersion),
    ("time", Class::Time),
    ("microtime", Class::MicroTime),
    ("rand", Class::Random),
    ("age", Class::Age),
    ("ip", Class::Address),
    ("port", Class::Port),
    ("token", Class::Token),
    ("continue", Class::Continue),
    ("etag", Class::Etag),
    ("any", Class::Any),
];

impl Class {
    /// Whether a whole text is of the class.
    fn holds(self, text: &str) -> bool {
        let all = |allowed: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| allowed(&b));
        let base64url = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        match self {
            Self::Uid => is_uid(text),
            Self::ResourceVersion | Self::Port => all(u8::is_ascii_digit),
            Self::Time => is_time(text) && text.len() == 20,
            Self::MicroTime => is_time(text) && text.len() == 27,
            Self::Random => text.len() == 5 && all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
            Self::Age => text == "<unknown>" || is_age(text),
            Self::Address => text.parse::<IpAddr>().is_ok(),
            Self::Token => {
                text.split('.').count() == 3
                    && text.split('.').all(|p| !p.is_empty() && p.bytes().all(|b| base64url(&b)))
            }
            Self::Continue => !text.is_empty() && text.bytes().all(|b| base64url(&b)),
            Self::Etag => text.len() > 2 && text.starts_with('"') && text.ends_with('"'),
            Self::Any => true,
        }
    }
}

/// `8-4-4-4-12` lower-case hexadecimal digits.
pub(crate) fn is_uid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
}

/// RFC 3339 in UTC, with or without a fraction.
pub(crate) fn is_time(text: &str) -> bool {
    let shape = b"0000-00-00T00:00:00";
    let bytes = text.as_bytes();
    bytes.len() >= 20
        && bytes.ends_with(b"Z")
        && bytes.iter().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s })
        && match &bytes[19..bytes.len() - 1] {
            [] => true,
            [b'.', fraction @ ..] => !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// A rendered duration such as `0s` or `3m12s`.
pub(crate) fn is_age(text: &str) -> bool {
    let mut digits = 0;
    !text.is_empty()
        && text.bytes().all(|b| match b {
            b'0'..=b'9' => {
                digits += 1;
                true
            }
            b's' | b'm' | b'h' | b'd' | b'y' => std::mem::take(&mut digits) > 0,
            _ => false,
        })
        && digits == 0
}

/// What the numbered placeholders of a case stand for so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bindings {
    value_of: HashMap<String, String>,
    placeholder_of: HashMap<(String, String), String>,
}

impl Bindings {
    /// Whether the placeholder may stand for the text, given what it and others stand for; binds it if so.
    fn bind(&mut self, placeholder: &str, text: &str) -> bool {
        let Some((class, _)) = placeholder.rsplit_once('-') else { return true };
        if let Some(bound) = self.value_of.get(placeholder) {
            return bound == text;
        }
        let key = (class.to_owned(), text.to_owned());
        if self.placeholder_of.contains_key(&key) {
            return false;
        }
        self.placeholder_of.insert(key, placeholder.to_owned());
        self.value_of.insert(placeholder.to_owned(), text.to_owned());
        true
    }
}

/// The placeholder at the start of a pattern: its name, its class, and the rest of the pattern.
fn placeholder(pattern: &str) -> Option<(&str, Class, &str)> {
    let (name, rest) = pattern.strip_prefix('<')?.split_once('>')?;
    let class = match name.rsplit_once('-') {
        Some((class, number)) if number.bytes().all(|b| b.is_ascii_digit()) => class,
        _ => name,
    };
    let (_, class) = CLASSES.iter().find(|(n, _)| *n == class)?;
    Some((name, *class, rest))
}

/// Whether a text is what the pattern says. Bindings change only if it is.
pub(crate) fn text_matches(pattern: &str, text: &str, bindings: &mut Bindings) -> bool {
    let mut tried = bindings.clone();
    if !matches_from(pattern, text, &mut tried) {
        return false;
    }
    *bindings = tried;
    true
}

fn matches_from(pattern: &str, text: &str, bindings: &mut Bindings) -> bool {
    // The literal part before the next placeholder.
    let mut literal = 0;
    let found = loop {
        match pattern[literal..].find('<') {
            None => break None,
            Some(at) => {
                literal += at;
                match placeholder(&pattern[literal..]) {
                    Some(found) => break Some(found),
                    None => literal += 1,
                }
            }
        }
    };
    let Some((name, class, rest)) = found else { return pattern == text };
    let Some(text) = text.strip_prefix(&pattern[..literal]) else { return false };
    // Longest first: a placeholder takes all it can.
    for end in (0..=text.len()).rev().filter(|end| text.is_char_boundary(*end)) {
        if class.holds(&text[..end]) {
            let mut tried = bindings.clone();
            if tried.bind(name, &text[..end]) && matches_from(rest, &text[end..], &mut tried) {
                *bindings = tried;
                return true;
            }
        }
    }
    false
}

/// One place where an answer is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// JSON pointer, or a header's name.
    pub(crate) at: String,
    pub(crate) expected: Option<String>,
    pub(crate) found: Option<String>,
}

/// How two documents are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) extent: Extent,
    /// Whether `metadata.managedFields` counts.
    pub(crate) managed_fields: bool,
}

/// Compares a document with its template and adds what differs.
pub(crate) fn compare(
    expected: &Value,
    found: &Value,
    at: &str,
    rules: Rules,
    bindings: &mut Bindings,
    differences: &mut Vec<Difference>,
) {
    let mut differ = |at: String, expected: Option<&Value>, found: Option<&Value>| {
        differences.push(Difference {
            at,
            expected: expected.map(crate::render::line),
            found: found.map(crate::render::line),
        });
    };
    match (expected, found) {
        (Value::Object(e), Value::Object(f)) => {
            for (name, value) in e {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                match f.get(name) {
                    Some(found) => compare(value, found, &at, rules, bindings, differences),
                    None => {
                        differences.push(Difference { at, expected: Some(crate::render::line(value)), found: None })
                    }
                }
            }
            if rules.extent == Extent::Part {
                return;
            }
            for (name, value) in f {
                if !e.contains_key(name) && (rules.managed_fields || name != "managedFields") {
                    let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                    differences.push(Difference { at, expected: None, found: Some(crate::render::line(value)) });
                }
            }
        }
        (Value::Array(e), Value::Array(f)) if rules.extent == Extent::Part => {
            for (i, item) in e.iter().enumerate() {
                let fits = f.iter().any(|candidate| {
                    let (mut tried, mut inner) = (bindings.clone(), Vec::new());
                    compare(item, candidate, "", rules, &mut tried, &mut inner);
                    let fits = inner.is_empty();
                    if fits {
                        *bindings = tried;
                    }
                    fits
                });
                if !fits {
                    differ(format!("{at}/{i}"), Some(item), None);
                }
            }
        }
        (Value::Array(e), Value::Array(f)) => {
            let sorted = |entries: &[Value]| {
                let mut entries = entries.to_vec();
                entries.sort_by_key(manager_identity);
                entries
            };
            // Sorted by time in the answer, to the second: by chance, that is, when many write in one second.
            let managers = at.ends_with("/managedFields").then(|| (sorted(e), sorted(f)));
            let (e, f) = managers.as_ref().map_or((e, f), |(e, f)| (e, f));
            for i in 0..e.len().max(f.len()) {
                let at = format!("{at}/{i}");
                match (e.get(i), f.get(i)) {
                    (Some(e), Some(f)) => compare(e, f, &at, rules, bindings, differences),
                    (e, f) => differences.push(Difference {
                        at,
                        expected: e.map(crate::render::line),
                        found: f.map(crate::render::line),
                    }),
                }
            }
        }
        (Value::String(e), Value::String(f)) => {
            if !text_matches(e, f, bindings) {
                differ(at.to_owned(), Some(expected), Some(found));
            }
        }
        // `"<any>"` stands for any value, `"<port-1>"` for a number.
        (Value::String(e), f) if placeholder(e).is_some_and(|(_, _, rest)| rest.is_empty()) => {
            if e != "<any>" && !(f.is_number() && text_matches(e, &f.to_string(), bindings)) {
                differ(at.to_owned(), Some(expected), Some(found));
            }
        }
        (e, f) => {
            if e != f {
                differ(at.to_owned(), Some(e), Some(f));
            }
        }
    }
}

/// What tells one entry of `managedFields` from another.
fn manager_identity(entry: &Value) -> [String; 4] {
    ["operation", "manager", "subresource", "apiVersion"]
        .map(|field| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(pairs: &[(&str, &str, bool)]) {
        let mut bindings = Bindings::default();
        for (pattern, text, expect) in pairs {
            assert_eq!(text_matches(pattern, text, &mut bindings), *expect, "{pattern} against {text}");
        }
    }

    const A: &str = "0a0a0a0a-1111-2222-3333-444444444444";
    const B: &str = "0b0b0b0b-1111-2222-3333-444444444444";

    #[test]
    fn a_numbered_placeholder_is_one_value() {
        check_text(&[("<uid-1>", A, true), ("<uid-1>", B, false), ("<uid-2>", A, false), ("<uid-2>", B, true)]);
        check_text(&[
            ("<rv-1>", "12", true),
            ("now <rv-1>, then <rv-2>", "now 12, then 13", true),
            ("<rv-2>", "14", false),
        ]);
    }

    #[test]
    fn a_failed_match_binds_nothing() {
        check_text(&[("<rv-1> x", "12 y", false), ("<rv-1>", "13", true)]);
    }

    #[test]
    fn classes_hold_their_shapes_only() {
        check_text(&[
            ("<time>", "2024-02-03T04:05:06Z", true),
            ("<time>", "2024-02-03T04:05:06.123456Z", false),
            ("<microtime>", "2024-02-03T04:05:06.123456Z", true),
            ("<age>", "3m12s", true),
            ("<age>", "3m12", false),
            ("x-<rand-1>", "x-b4kzq", true),
            ("x-<rand-2>", "x-b4kz", false),
            ("<ip-1>", "10.0.0.1", true),
            ("<ip-2>", "10.0.0", false),
            ("no <placeholder> here", "no <placeholder> here", true),
            ("a<any>c", "abbbc", true),
        ]);
    }

    #[track_caller]
    fn check(extent: Extent, expected: &str, found: &str, at: &[&str]) {
        let (expected, found) = (serde_json::from_str(expected).unwrap(), serde_json::from_str(found).unwrap());
        let mut differences = Vec::new();
        let rules = Rules { extent, managed_fields: false };
        compare(&expected, &found, "", rules, &mut Bindings::default(), &mut differences);
        assert_eq!(differences.iter().map(|d| d.at.as_str()).collect::<Vec<_>>(), at);
    }

    #[test]
    fn whole_documents_differ_by_anything() {
        check(Extent::Whole, r#"{"a":1,"b":[1,{"c":2}]}"#, r#"{"b":[1,{"c":2}],"a":1}"#, &[]);
        check(
            Extent::Whole,
            r#"{"a":1,"b":[1,{"c":2}]}"#,
            r#"{"b":[1,{"c":3},4],"d":1}"#,
            &["/a", "/b/1/c", "/b/2", "/d"],
        );
        check(Extent::Whole, r#"{"a":1}"#, r#"{"a":"1"}"#, &["/a"]);
        check(Extent::Whole, r#"{"p":"<port-1>","x":"<any>"}"#, r#"{"p":30000,"x":{"y":[]}}"#, &[]);
        check(Extent::Whole, r#"{"p":"<port-1>"}"#, r#"{"p":true}"#, &["/p"]);
    }

    #[test]
    fn managed_fields_are_left_out_unless_asked_for() {
        check(Extent::Whole, r#"{"metadata":{}}"#, r#"{"metadata":{"managedFields":[]}}"#, &[]);
    }

    #[test]
    fn managers_come_in_any_order() {
        let (expected, found) = (
            serde_json::json!({"managedFields": [{"manager": "a"}, {"manager": "b"}]}),
            serde_json::json!({"managedFields": [{"manager": "b"}, {"manager": "a"}]}),
        );
        let mut differences = Vec::new();
        let rules = Rules { extent: Extent::Whole, managed_fields: true };
        compare(&expected, &found, "", rules, &mut Bindings::default(), &mut differences);
        assert_eq!(differences, []);
    }

    #[test]
    fn partial_documents_may_hold_more() {
        check(Extent::Part, r#"{"a":[{"n":2}]}"#, r#"{"a":[{"n":1},{"n":2,"m":0}],"b":1}"#, &[]);
        check(Extent::Part, r#"{"a":[{"n":3}]}"#, r#"{"a":[{"n":1},{"n":2,"m":0}],"b":1}"#, &["/a/0"]);
    }
}
