//! Changes valid objects field by field, and compares what two servers make of each change.
//!
//! `mutations/KIND.json` says how a valid object is sent; `mutations/KIND.txt` has one line for each change: where,
//! what is put there, and the reference server's verdict. Everything is sent with `dryRun=All`.
//!
//! ```text
//! /spec/replicas -1 => 422 spec.replicas FieldValueInvalid
//! /spec/selector (removed) => 422 spec.selector FieldValueRequired, spec.template.metadata.labels FieldValueInvalid
//! ```

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Error;
use crate::expand::{self, Variables};
use crate::http::{Client, Request, Response, Target};
use crate::run::{Mode, namespace_name, open_namespace, talk};

/// What a text field is put through; the long one is expanded when it is sent.
const TEXTS: [&str; 4] = ["", "Nope", "-A b_/", "$(repeat 300 x)"];

/// What a number is put through.
const NUMBERS: [i64; 4] = [0, -1, 65_536, 2_147_483_648];

/// How a valid object is sent.
#[derive(Debug)]
struct Base {
    method: String,
    path: String,
    /// Path and object of what must be there first.
    before: Option<(String, Value)>,
    object: Value,
}

/// One change of one field.
#[derive(Debug, Clone, PartialEq)]
struct Mutation {
    /// JSON pointer.
    at: String,
    /// What is put there; none: the field is removed.
    value: Option<Value>,
}

/// Differences of one kind.
#[derive(Debug, Clone, Default)]
pub struct KindReport {
    /// The file's stem: `Pod`, `Pod-update`.
    pub kind: String,
    /// Changes sent.
    pub sent: usize,
    /// Changes with the same status and the same fields.
    pub equal: usize,
    /// One line for each other change.
    pub differences: Vec<String>,
}

/// What became of a run over all kinds.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By kind, in the order of the files.
    pub kinds: Vec<KindReport>,
}

impl Report {
    /// Whether no verdict differs.
    pub fn is_clean(&self) -> bool {
        self.kinds.iter().all(|kind| kind.differences.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in &self.kinds {
            for difference in &kind.differences {
                writeln!(f, "{}: {difference}", kind.kind)?;
            }
        }
        writeln!(f, "{:24} {:>7} {:>7} {:>7}", "kind", "changes", "equal", "differ")?;
        for kind in &self.kinds {
            writeln!(f, "{:24} {:>7} {:>7} {:>7}", kind.kind, kind.sent, kind.equal, kind.differences.len())?;
        }
        let sum = |count: fn(&KindReport) -> usize| self.kinds.iter().map(count).sum::<usize>();
        write!(f, "{} passed, {} failed", sum(|k| k.equal), sum(|k| k.differences.len()))
    }
}

/// Sends every change of every kind in a folder. [`Mode::Record`] makes the list of changes anew (from the base, and
/// from the fully populated object `GOLDEN/*.KIND.json` if there is one) and writes the verdicts; [`Mode::Check`]
/// reads both. `only` names one kind.
pub fn run(
    folder: &Path,
    target: &Target,
    mode: Mode,
    golden: Option<&Path>,
    only: Option<&str>,
) -> Result<Report, Error> {
    let client = Client::new(target)?;
    let mut report = Report::default();
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let mut bases: Vec<_> = fs::read_dir(folder)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(file_error(folder))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    bases.sort();
    for path in bases {
        let kind = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if only.is_some_and(|only| only != kind) {
            continue;
        }
        let base = Base::read(&fs::read_to_string(&path).map_err(file_error(&path))?, &kind)?;
        let namespace = namespace_name();
        let mut variables = Variables::from([("ns".to_owned(), namespace.clone())]);
        open_namespace(&client, &namespace)?;
        if let Some((path, object)) = &base.before {
            let response = send(&client, "POST", path, object, &variables)?;
            if response.status != 201 {
                let answer = String::from_utf8_lossy(&response.body);
                return Err(Error::Base { what: format!("{kind}: what must be there first was refused: {answer}") });
            }
            let made: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            if let Some(version) = made.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
                variables.insert("rv".to_owned(), version.to_owned());
            }
        }
        let valid = verdict(&send(&client, &base.method, &base.path, &base.object, &variables)?, &namespace);
        if mode == Mode::Record && !valid.starts_with('2') {
            return Err(Error::Base { what: format!("{kind}: the base object is refused: {valid}") });
        }
        let list = path.with_extension("txt");
        let lines: Vec<(Mutation, String)> = match mode {
            Mode::Record => {
                let golden = golden.map(|folder| read_golden(folder, &base.object)).transpose()?.flatten();
                plan(&base.object, golden.as_ref()).into_iter().map(|mutation| (mutation, String::new())).collect()
            }
            Mode::Check => {
                let text = fs::read_to_string(&list).map_err(file_error(&list))?;
                text.lines().map(|line| parse(line, &kind)).collect::<Result<_, _>>()?
            }
        };
        let mut result = KindReport { kind, sent: lines.len(), ..KindReport::default() };
        if mode == Mode::Check && !valid.starts_with('2') {
            result.differences.push(format!("the base object itself: found {valid}"));
        }
        let mut text = String::new();
        for (mutation, expected) in lines {
            let mut object = base.object.clone();
            apply(&mut object, &mutation);
            let found = match send(&client, &base.method, &base.path, &object, &variables) {
                Ok(response) => verdict(&response, &namespace),
                Err(e) => format!("no answer ({e})"),
            };
            match mode {
                // A failure of the reference server is no expectation.
                Mode::Record if found.starts_with('5') => {}
                Mode::Record => _ = writeln!(text, "{mutation} => {found}"),
                Mode::Check if found == expected => result.equal += 1,
                Mode::Check => result.differences.push(format!("{mutation}: expected {expected}, found {found}")),
            }
        }
        if mode == Mode::Record {
            result.equal = result.sent;
            fs::write(&list, text).map_err(file_error(&list))?;
        }
        if let Some((path, object)) = &base.before {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let path = expand::text(&format!("{path}/{name}?gracePeriodSeconds=0"), &variables);
            talk(&client, &Request { method: "DELETE".into(), path, ..Request::default() })?;
        }
        let path = format!("/api/v1/namespaces/{namespace}");
        talk(&client, &Request { method: "DELETE".into(), path, ..Request::default() })?;
        report.kinds.push(result);
    }
    Ok(report)
}

impl Base {
    fn read(text: &str, kind: &str) -> Result<Self, Error> {
        let bad = |what: &str| Error::Base { what: format!("{kind}: {what}") };
        let base: Value = serde_json::from_str(text).map_err(|e| bad(&e.to_string()))?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let before = match base.get("before") {
            None => None,
            Some(before) => Some((
                text(before.get("path")).ok_or_else(|| bad("`before` wants a path"))?,
                before.get("object").cloned().ok_or_else(|| bad("`before` wants an object"))?,
            )),
        };
        Ok(Self {
            method: text(base.get("method")).unwrap_or_else(|| "POST".to_owned()),
            path: text(base.get("path")).ok_or_else(|| bad("a base wants a path"))? + "?dryRun=All",
            before,
            object: base.get("object").cloned().ok_or_else(|| bad("a base wants an object"))?,
        })
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} {value}", self.at),
            None => write!(f, "{} (removed)", self.at),
        }
    }
}

fn parse(line: &str, kind: &str) -> Result<(Mutation, String), Error> {
    let bad = || Error::Base { what: format!("{kind}: not `POINTER VALUE => VERDICT`: {line}") };
    let (mutation, verdict) = line.rsplit_once(" => ").ok_or_else(bad)?;
    let (at, value) = mutation.split_once(' ').ok_or_else(bad)?;
    let value = match value {
        "(removed)" => None,
        json => Some(serde_json::from_str(json).map_err(|_| bad())?),
    };
    Ok((Mutation { at: at.to_owned(), value }, verdict.to_owned()))
}

/// The fully populated object of the same version and kind.
fn read_golden(folder: &Path, object: &Value) -> Result<Option<Value>, Error> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let group_version = match version.split_once('/') {
        Some((group, version)) => format!("{group}.{version}"),
        None => format!("core.{version}"),
    };
    let path = folder.join(format!("{group_version}.{kind}.json"));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(serde_json::from_str(&text).ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path, source }),
    }
}

/// Every change of an object: each of its fields, then what the fully populated one has besides.
fn plan(object: &Value, golden: Option<&Value>) -> Vec<Mutation> {
    let mut mutations = Vec::new();
    change(object, "", &mut mutations);
    if let Some(golden) = golden {
        add(object, golden, "", &mut mutations);
    }
    mutations
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn change(value: &Value, at: &str, mutations: &mut Vec<Mutation>) {
    let mut put = |new: Value| {
        if new != *value {
            mutations.push(Mutation { at: at.to_owned(), value: Some(new) });
        }
    };
    if !at.is_empty() {
        match value {
            Value::String(_) => {
                TEXTS.iter().for_each(|text| put((*text).into()));
                put(json!(5));
            }
            Value::Number(_) => {
                NUMBERS.iter().for_each(|number| put((*number).into()));
                put(json!("x"));
            }
            Value::Bool(value) => {
                put((!value).into());
                put(json!("x"));
            }
            Value::Array(items) => {
                put(json!([]));
                put(json!({}));
                if let Some(first) = items.first() {
                    let mut twice = items.clone();
                    twice.push(first.clone());
                    put(twice.into());
                }
            }
            Value::Object(_) => {
                put(json!({}));
                put(json!([]));
            }
            Value::Null => {}
        }
        put(Value::Null);
        mutations.push(Mutation { at: at.to_owned(), value: None });
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                change(value, &format!("{at}/{}", escaped(name)), mutations);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                change(item, &format!("{at}/{i}"), mutations);
            }
        }
        _ => {}
    }
}

/// What the fully populated object has where the base has nothing.
fn add(base: &Value, golden: &Value, at: &str, mutations: &mut Vec<Mutation>) {
    match (base, golden) {
        (Value::Object(base), Value::Object(golden)) => {
            for (name, value) in golden {
                let at = format!("{at}/{}", escaped(name));
                match base.get(name) {
                    Some(base) => add(base, value, &at, mutations),
                    // A status is dropped by writes of the main resource; managedFields are another test's.
                    None if at == "/status" || name == "managedFields" => {}
                    // Whether a write is conditional is the scripts' matter.
                    None if at == "/metadata/resourceVersion" => {}
                    None => mutations.push(Mutation { at, value: Some(value.clone()) }),
                }
            }
        }
        (Value::Array(base), Value::Array(golden)) => {
            if let (Some(base), Some(golden)) = (base.first(), golden.first()) {
                add(base, golden, &format!("{at}/0"), mutations);
            }
        }
        _ => {}
    }
}

/// Changes an object. A pointer that leads nowhere changes nothing: the verdict will show it.
fn apply(object: &mut Value, mutation: &Mutation) {
    let Some((parent, last)) = mutation.at.rsplit_once('/') else { return };
    let last = last.replace("~1", "/").replace("~0", "~");
    match (object.pointer_mut(parent), mutation.value.clone()) {
        (Some(Value::Object(fields)), Some(value)) => _ = fields.insert(last, value),
        (Some(Value::Object(fields)), None) => _ = fields.shift_remove(&last),
        (Some(Value::Array(items)), value) => {
            if let Some(i) = last.parse::<usize>().ok().filter(|i| *i < items.len()) {
                match value {
                    Some(value) => items[i] = value,
                    None => _ = items.remove(i),
                }
            }
        }
        _ => {}
    }
}

fn send(client: &Client, method: &str, path: &str, object: &Value, variables: &Variables) -> Result<Response, Error> {
    let request = Request {
        method: method.to_owned(),
        path: expand::text(path, variables),
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: expand::bytes(&object.to_string(), variables),
    };
    talk(client, &request)
}

/// Status, and the causes' fields and reasons in order of their names.
fn verdict(response: &Response, namespace: &str) -> String {
    let status: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let mut verdict = response.status.to_string();
    if let Some(causes) = status.pointer("/details/causes").and_then(Value::as_array) {
        let text = |cause: &Map<String, Value>, field: &str| {
            cause.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut causes: Vec<String> = causes
            .iter()
            .filter_map(Value::as_object)
            .map(|cause| format!(" {} {}", text(cause, "field"), text(cause, "reason")))
            .collect();
        causes.sort();
        causes.dedup();
        verdict.push_str(&causes.join(","));
    }
    verdict.replace(namespace, "$ns")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(object: &Value, golden: Option<&Value>, expect: Expect) {
        let mut lines = Vec::new();
        for mutation in plan(object, golden) {
            let line = format!("{mutation} => 422 a b");
            assert_eq!(parse(&line, "K").unwrap(), (mutation.clone(), "422 a b".to_owned()));
            let mut changed = object.clone();
            apply(&mut changed, &mutation);
            assert_ne!(&changed, object, "{mutation} changes nothing");
            lines.push(mutation.to_string());
        }
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn every_field_is_changed_in_every_way() {
        check(
            &json!({"a/b": "x", "l": [{"n": 7}], "t": true}),
            None,
            expect![[r#"
                /a~1b ""
                /a~1b "Nope"
                /a~1b "-A b_/"
                /a~1b "$(repeat 300 x)"
                /a~1b 5
                /a~1b null
                /a~1b (removed)
                /l []
                /l {}
                /l [{"n":7},{"n":7}]
                /l null
                /l (removed)
                /l/0 {}
                /l/0 []
                /l/0 null
                /l/0 (removed)
                /l/0/n 0
                /l/0/n -1
                /l/0/n 65536
                /l/0/n 2147483648
                /l/0/n "x"
                /l/0/n null
                /l/0/n (removed)
                /t false
                /t "x"
                /t null
                /t (removed)"#]],
        );
    }

    #[test]
    fn what_only_the_full_object_has_is_added() {
        let golden = json!({"spec": {"a": {"x": 1}, "b": [{"c": 2}]}, "status": {"d": 3}});
        check(
            &json!({"spec": {"b": [{}]}, "e": null}),
            Some(&golden),
            expect![[r#"
            /spec {}
            /spec []
            /spec null
            /spec (removed)
            /spec/b []
            /spec/b {}
            /spec/b [{},{}]
            /spec/b null
            /spec/b (removed)
            /spec/b/0 []
            /spec/b/0 null
            /spec/b/0 (removed)
            /e (removed)
            /spec/a {"x":1}
            /spec/b/0/c 2"#]],
        );
    }

    #[test]
    fn every_committed_change_can_be_read_and_changes_its_base() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutations");
        let mut changes = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let kind = path.file_stem().unwrap().to_string_lossy().into_owned();
                let base = Base::read(&fs::read_to_string(&path).unwrap(), &kind).unwrap();
                for line in fs::read_to_string(path.with_extension("txt")).unwrap().lines() {
                    let (mutation, verdict) = parse(line, &kind).unwrap();
                    let mut changed = base.object.clone();
                    apply(&mut changed, &mutation);
                    assert_ne!(changed, base.object, "{kind}: {line}");
                    assert!(verdict.starts_with(['2', '4']), "{kind}: {line}");
                    changes += 1;
                }
            }
        }
        assert!(changes > 10_000, "only {changes} changes");
    }
}
