//! Tests state a change to a good object as `path = JSON` (more of them after ` ; `, relative to the spec unless the
//! path begins with `metadata`, `status` or `spec`), and see what is wrong with the result. What they expect is what
//! a kube-apiserver 1.36.2 answered. A new line needs no answer: `UPDATE_EXPECT=1 cargo test` writes ours.

use api_schema::Value;
use api_semantics::field::ErrorList;
use expect_test::Expect;
use serde_json::{Value as Json, json};

use crate::Kind;
use crate::checks::tests as checks;

use super::Pod;

/// A good pod.
pub(crate) fn base() -> Json {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "namespace": "ns"},
        "spec": {"serviceAccountName": "default", "containers": [{"name": "c", "image": "i"}]},
    })
}

/// The tree of a JSON object, in which null is nothing.
pub(crate) fn tree(json: &Json) -> Value {
    fn without_nulls(json: &Json) -> Json {
        match json {
            Json::Object(map) => {
                let fields = map.iter().filter(|(_, value)| !value.is_null());
                fields.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
            }
            Json::Array(items) => items.iter().map(without_nulls).collect(),
            other => other.clone(),
        }
    }
    checks::json(&without_nulls(json).to_string())
}

/// The base with the changes of one line.
pub(crate) fn changed(base: &Json, line: &str) -> Json {
    let mut object = base.clone();
    for change in line.split(" ; ").filter(|change| !change.is_empty()) {
        let (path, value) = change.split_once(" = ").unwrap_or_else(|| panic!("no ` = ` in {change}"));
        let value: Json = serde_json::from_str(value).unwrap_or_else(|why| panic!("{why} in {change}"));
        set(&mut object, path, value);
    }
    object
}

fn set(object: &mut Json, path: &str, value: Json) {
    let is_full = ["metadata", "status", "spec", "template"].iter().any(|part| path.starts_with(part));
    let mut at = if is_full { object } else { &mut object["spec"] };
    for key in path.split(['.', '[']) {
        at = match key.strip_suffix(']') {
            None => &mut at[key],
            Some(index) => {
                let index: usize = index.parse().unwrap_or_else(|why| panic!("{why} in {path}"));
                if at.is_null() {
                    *at = json!([]);
                }
                let list = at.as_array_mut().unwrap_or_else(|| panic!("no list at {path}"));
                if index == list.len() {
                    list.push(Json::Null);
                }
                &mut list[index]
            }
        };
    }
    *at = value;
}

/// What is wrong (or, indented further, warned of) with the object that each line makes of the base, if created. The
/// lines are those of the expectation that are not indented.
#[track_caller]
pub(crate) fn created(kind: &dyn Kind, base: &Json, expect: &Expect) {
    report(expect, |line| {
        let mut object = tree(&changed(base, line));
        kind.default(&mut object);
        kind.prepare_create(&mut object);
        (kind.validate(&object), kind.warnings(&object, None))
    });
}

/// What is wrong with changing the base to what each line makes of it.
#[track_caller]
pub(crate) fn updated(kind: &dyn Kind, base: &Json, subresource: &str, expect: &Expect) {
    report(expect, |line| {
        let (mut old, mut new) = (tree(base), tree(&changed(base, line)));
        kind.default(&mut old);
        kind.default(&mut new);
        let errors = match subresource {
            "" => {
                kind.prepare_update(&mut new, &old);
                kind.validate_update(&new, &old)
            }
            "status" => {
                kind.prepare_status_update(&mut new, &old);
                kind.validate_status_update(&new, &old)
            }
            _ => {
                kind.prepare_subresource_update(subresource, &mut new, &old);
                kind.validate_subresource_update(subresource, &new, &old)
            }
        };
        (errors, Vec::new())
    });
}

#[track_caller]
fn report(expect: &Expect, check: impl Fn(&str) -> (ErrorList, Vec<String>)) {
    let mut report = String::new();
    let indent = expect.data().trim_start_matches('\n').chars().take_while(|c| *c == ' ').count();
    let lines = expect.data().lines().filter_map(|line| line.get(indent..));
    for line in lines.filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic())) {
        let (errors, warnings) = check(line);
        report.push_str(line);
        report.push('\n');
        for error in errors {
            report.push_str(&format!("  {}\n", shortened(&error.to_string())));
        }
        for warning in warnings {
            report.push_str(&format!("    {}\n", shortened(&warning)));
        }
    }
    expect.assert_eq(&report);
}

/// The rules for names are long, and tested elsewhere.
fn shortened(text: &str) -> String {
    match (text.find(" (e.g. "), text.rfind(')')) {
        (Some(start), Some(end)) if start < end => format!("{}{}", &text[..start], &text[end + 1..]),
        _ => text.to_owned(),
    }
}

/// As [`created`], for pods.
#[track_caller]
pub(crate) fn pods(expect: &Expect) {
    created(&Pod, &base(), expect);
}
