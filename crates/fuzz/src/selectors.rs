//! Label selectors and field selectors.

use api_schema::SmolStr;
use api_semantics::selector::{FieldSelector, Selector};

/// What selectors are made of.
pub(crate) const WORDS: &[&str] = &[
    "=",
    "==",
    "!=",
    "!",
    ",",
    " in ",
    " notin ",
    "(",
    ")",
    "a",
    "b/c",
    "<",
    ">",
    "1",
    "-1",
    "\\",
    "\\,",
    "\\=",
    " ",
    "\t",
    "in",
    "notin",
    "metadata.name",
    "é",
    "\0",
    "9223372036854775808",
];

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn label_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        "",
        "a=b",
        "a==b,c!=d",
        "x in (foo,,baz),y,!z",
        "app.kubernetes.io/name=web,tier notin (front, back)",
        "n>1,m<7",
        "in in (in),notin notin (notin)",
    ])
}

pub(crate) fn field_seeds() -> Vec<Vec<u8>> {
    bytes(&["", "metadata.name=x", "a==b,c!=d", "spec.nodeName=", "x=a\\,b\\=c\\\\", "status.phase!=Running,a=,b!="])
}

pub(crate) fn check_labels(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match Selector::parse(text) {
        Ok(selector) => {
            let written = join(selector.requirements().iter());
            let again = Selector::parse(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(join(again.requirements().iter()), written);
            // Whoever has a label and whoever has not: both forms agree.
            for value in [None, Some(""), Some("b"), Some("1"), Some("foo")] {
                let label = |key: &str| value.filter(|_| key != "z");
                assert_eq!(selector.matches(label), again.matches(label), "{written}");
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn join(requirements: impl Iterator<Item = impl ToString>) -> String {
    requirements.map(|requirement| requirement.to_string()).collect::<Vec<_>>().join(",")
}

pub(crate) fn check_fields(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match FieldSelector::parse(text) {
        Ok(selector) => {
            let written = selector.to_string();
            let again = FieldSelector::parse(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
            let sorted = |selector: &FieldSelector| {
                let mut terms = selector.terms.clone();
                terms.sort_by(|a, b| (&a.field, &a.value, a.equal).cmp(&(&b.field, &b.value, b.equal)));
                terms
            };
            assert_eq!(sorted(&again), sorted(&selector), "{written}");
            for value in ["", "x", "b"] {
                let field = |_: &str| SmolStr::new(value);
                assert_eq!(selector.matches(field), again.matches(field), "{written}");
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
