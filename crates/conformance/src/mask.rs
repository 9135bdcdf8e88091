//! Makes a template of a recorded answer: what differs from run to run becomes a placeholder.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::template::{is_age, is_time, is_uid};

/// The volatile values of one case, each with its number.
#[derive(Debug)]
pub(crate) struct Masker {
    namespace: String,
    /// The text of the case's requests: what they say themselves is not volatile.
    literals: String,
    keep_managed_fields: bool,
    /// Each `generateName` of the case: five random characters follow it.
    generated_prefixes: Vec<String>,
    numbers: HashMap<(&'static str, String), usize>,
    counts: HashMap<&'static str, usize>,
}

impl Masker {
    pub(crate) fn new(namespace: &str, literals: String, keep_managed_fields: bool) -> Self {
        let (numbers, counts) = (HashMap::new(), HashMap::new());
        let prefix = |rest: &str| rest.trim_start_matches(['"', ':', ' ']).split('"').next().map(str::to_owned);
        let mut generated_prefixes: Vec<String> = literals.split("generateName").skip(1).filter_map(prefix).collect();
        generated_prefixes.retain(|prefix| !prefix.is_empty());
        Self { namespace: namespace.to_owned(), literals, keep_managed_fields, generated_prefixes, numbers, counts }
    }

    /// The placeholder of a value: `<class-N>`, the same for the same value.
    fn number(&mut self, class: &'static str, value: &str) -> String {
        let Self { numbers, counts, .. } = self;
        let number = *numbers.entry((class, value.to_owned())).or_insert_with(|| {
            let count = counts.entry(class).or_insert(0);
            *count += 1;
            *count
        });
        format!("<{class}-{number}>")
    }

    fn known(&self, class: &'static str, value: &str) -> Option<String> {
        self.numbers.get(&(class, value.to_owned())).map(|number| format!("<{class}-{number}>"))
    }

    /// Masks a document in place.
    pub(crate) fn document(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => self.object(fields),
            Value::Array(items) => items.iter_mut().for_each(|item| self.document(item)),
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }

    fn object(&mut self, fields: &mut Map<String, Value>) {
        let kind = fields.get("kind").and_then(Value::as_str).unwrap_or("");
        let is_list =
            kind.ends_with("List") || kind == "Table" || fields.contains_key("items") || fields.contains_key("rows");
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            if !self.keep_managed_fields {
                metadata.shift_remove("managedFields");
            }
            if is_list && metadata.get("resourceVersion").is_some_and(|rv| rv != "" && rv != "0") {
                metadata.insert("resourceVersion".into(), "<rv>".into());
            }
        }
        // A bookmark tells how far the server is by now.
        if fields.get("type").is_some_and(|kind| kind == "BOOKMARK") {
            fields.values_mut().for_each(forget_versions);
        }
        // A table's column explains itself in the server's own words.
        if fields.contains_key("priority") && fields.contains_key("format") && fields.contains_key("description") {
            fields.insert("description".into(), "<any>".into());
        }
        for (name, value) in fields {
            match (name.as_str(), &mut *value) {
                ("resourceVersion", Value::String(rv))
                    if rv.bytes().all(|b| b.is_ascii_digit()) && !matches!(rv.as_str(), "" | "0") =>
                {
                    *value = self.number("rv", rv).into();
                }
                ("continue", Value::String(token)) if !token.is_empty() => *value = "<continue>".into(),
                // Who records and where is not what is recorded.
                ("serverAddress", Value::String(_)) => *value = "<any>".into(),
                ("username", Value::String(user)) if user == "admin" => *value = "<any>".into(),
                ("authentication.kubernetes.io/credential-id", Value::Array(ids)) => *ids = vec!["<any>".into()],
                ("message", Value::String(message)) if message.contains("\n@@ ") => {
                    let masked = without_difference(message);
                    *value = self.text(&masked).into();
                }
                ("clusterIP", Value::String(_)) => self.address(value),
                ("clusterIPs", Value::Array(addresses)) => addresses.iter_mut().for_each(|a| self.address(a)),
                ("nodePort" | "healthCheckNodePort", Value::Number(port)) => {
                    let port = port.to_string();
                    if port != "0" && !self.literals.contains(&port) {
                        *value = self.number("port", &port).into();
                    }
                }
                ("cells", Value::Array(cells)) => {
                    for cell in cells {
                        match cell.as_str() {
                            Some(age) if is_age(age) && !self.literals.contains(age) => *cell = "<age>".into(),
                            Some(address) if address.parse::<IpAddr>().is_ok() => self.address(cell),
                            _ => self.document(cell),
                        }
                    }
                }
                ("message", Value::String(message))
                    if message.to_lowercase().replace(' ', "").contains("resourceversion") =>
                {
                    let masked = self.text(message);
                    *value = self.versions(&masked).into();
                }
                _ => self.document(value),
            }
        }
    }

    fn address(&mut self, value: &mut Value) {
        if let Some(address) = value.as_str()
            && !matches!(address, "" | "None")
            && !self.literals.contains(address)
        {
            *value = self.number("ip", address).into();
        }
    }

    /// Known resourceVersions inside a message about resourceVersions.
    fn versions(&mut self, message: &str) -> String {
        let mut masked = String::new();
        let mut rest = message;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let end = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| start + end);
            masked.push_str(&rest[..start]);
            let digits = &rest[start..end];
            match self.known("rv", digits) {
                // How far the server is by now is nobody's business.
                _ if rest[..start].ends_with("current: ") || rest[..start].ends_with('(') => masked.push_str("<rv>"),
                Some(placeholder) => masked.push_str(&placeholder),
                None => masked.push_str(digits),
            }
            rest = &rest[end..];
        }
        masked + rest
    }

    /// Masks an object in YAML, line by line.
    pub(crate) fn yaml(&mut self, text: &str) -> String {
        let mut lines = Vec::new();
        for line in text.lines() {
            let version = line.trim_start().strip_prefix("resourceVersion: \"").and_then(|rest| rest.strip_suffix('"'));
            lines.push(match version {
                Some(version) => line.replace(version, &self.number("rv", version)),
                None => self.text(line),
            });
        }
        lines.join("\n")
    }

    /// Masks uids, times, tokens, generated names and the case's namespace anywhere in a text.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let mut masked = String::new();
        let mut rest = text;
        let mut after_word = false;
        while let Some(c) = rest.chars().next() {
            let found = if after_word { None } else { self.volatile(rest) };
            match found {
                Some((length, placeholder)) => {
                    masked.push_str(&placeholder);
                    rest = &rest[length..];
                    after_word = true;
                }
                None => {
                    masked.push(c);
                    rest = &rest[c.len_utf8()..];
                    after_word = c.is_ascii_alphanumeric();
                }
            }
        }
        masked
    }

    /// The volatile value at the start of a text: its length and its placeholder.
    fn volatile(&mut self, text: &str) -> Option<(usize, String)> {
        if text.starts_with(&self.namespace) {
            return Some((self.namespace.len(), "$ns".to_owned()));
        }
        if let Some(uid) = text.get(..36).filter(|uid| is_uid(uid)) {
            return (!self.literals.contains(uid)).then(|| (36, self.number("uid", uid)));
        }
        for (length, placeholder) in [(20, "<time>"), (27, "<microtime>")] {
            if let Some(time) = text.get(..length).filter(|time| is_time(time)) {
                return (!self.literals.contains(time)).then(|| (length, placeholder.to_owned()));
            }
        }
        if text.starts_with("eyJ") {
            let end =
                text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
            if text[..end].split('.').count() == 3 && !self.literals.contains(&text[..end]) {
                return Some((end, "<token>".to_owned()));
            }
        }
        let digits = text.find(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':'))).unwrap_or(text.len());
        let address = text[..digits].trim_end_matches([':', '.']);
        let is_range = text[address.len()..].starts_with('/');
        if let (Some(placeholder), false) = (self.known("ip", address), is_range) {
            return Some((address.len(), placeholder));
        }
        for prefix in self.generated_prefixes.clone() {
            let suffix = text.strip_prefix(prefix.as_str()).and_then(|rest| rest.get(..5));
            if let Some(suffix) = suffix.filter(|s| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())) {
                return Some((prefix.len() + 5, format!("{prefix}{}", self.number("rand", suffix))));
            }
        }
        // The volume that the ServiceAccount plugin adds to Pods.
        if let Some(suffix) = text.strip_prefix("kube-api-access-").and_then(|rest| rest.get(..5)) {
            return Some((21, format!("kube-api-access-{}", self.number("rand", suffix))));
        }
        None
    }
}

/// Cuts off the difference between two Go structs that some refusals end with: it shows names that no client knows.
fn without_difference(message: &str) -> String {
    let start = message.find("\n@@ ").unwrap_or(message.len());
    let end = if message.contains(" is invalid: [") { "]" } else { "" };
    format!("{}<any>{end}", &message[..start])
}

/// Makes every resourceVersion one that is not compared.
fn forget_versions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("resourceVersion", version @ Value::String(_)) => *version = "<rv>".into(),
                    (_, value) => forget_versions(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(forget_versions),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(documents: &[&str], expect: Expect) {
        let requests = r#""10.0.0.9" 31000 2000-01-01T00:00:00Z {"generateName": "x-"}"#;
        let mut masker = Masker::new("c-abcde", requests.to_owned(), false);
        let lines: Vec<String> = documents
            .iter()
            .map(|json| {
                let mut value: Value = serde_json::from_str(json).unwrap();
                masker.document(&mut value);
                crate::render::line(&value)
            })
            .collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn equal_values_get_equal_numbers() {
        check(
            &[
                r#"{"metadata":{"uid":"0a0a0a0a-1111-2222-3333-444444444444","resourceVersion":"7","namespace":"c-abcde","managedFields":[]}}"#,
                r#"{"metadata":{"uid":"0b0b0b0b-1111-2222-3333-444444444444","resourceVersion":"9"}}"#,
                r#"{"message":"UID 0a0a0a0a-1111-2222-3333-444444444444, ResourceVersion 9 not 44, current: 45"}"#,
            ],
            expect![[r#"
                {"metadata": {"uid": "<uid-1>", "resourceVersion": "<rv-1>", "namespace": "$ns"}}
                {"metadata": {"uid": "<uid-2>", "resourceVersion": "<rv-2>"}}
                {"message": "UID <uid-1>, ResourceVersion <rv-2> not 44, current: <rv>"}"#]],
        );
    }

    #[test]
    fn what_the_request_says_is_not_volatile() {
        check(
            &[
                r#"{"spec":{"clusterIP":"10.0.0.9","ports":[{"nodePort":31000},{"nodePort":31001}],"clusterIPs":["10.0.0.8","None"]}}"#,
                r#"{"a":"2000-01-01T00:00:00Z","b":"2000-01-01T00:00:01Z","c":"2000-01-01T00:00:01.000000Z"}"#,
            ],
            expect![[r#"
                {"spec": {"clusterIP": "10.0.0.9", "ports": [{"nodePort": 31000}, {"nodePort": "<port-1>"}], "clusterIPs": ["<ip-1>", "None"]}}
                {"a": "2000-01-01T00:00:00Z", "b": "<time>", "c": "<microtime>"}"#]],
        );
    }

    #[test]
    fn differences_between_structs_are_cut_off() {
        check(
            &[
                r#"{"message":"Pod \"p\" is invalid: [a: x, spec: no\n@@ -1 +1 @@\n-a\n+b\n]"}"#,
                r#"{"message":"no\n@@ -1 +1 @@\n-a\n+b\n"}"#,
            ],
            expect![[r#"
                {"message": "Pod \"p\" is invalid: [a: x, spec: no<any>]"}
                {"message": "no<any>"}"#]],
        );
    }

    #[test]
    fn bookmarks_have_no_known_version() {
        check(
            &[
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"},"rows":[{"object":{"metadata":{"resourceVersion":"5"}}}]}}"#,
            ],
            expect![[
                r#"{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "<rv>"}, "rows": [{"object": {"metadata": {"resourceVersion": "<rv>"}}}]}}"#
            ]],
        );
    }

    #[test]
    fn lists_generated_names_and_cells() {
        check(
            &[
                r#"{"kind":"PodList","metadata":{"resourceVersion":"5","continue":"abc"},"items":[{"metadata":{"generateName":"x-","name":"x-q2w3e"}}]}"#,
                r#"{"message":"pods \"x-q2w3e\" not found in c-abcde","rows":[{"cells":["x-q2w3e","3m2s",1]}]}"#,
                r#"{"volumes":[{"name":"kube-api-access-zzzz2"}],"token":"eyJhbGci.eyJhdWQi.c2ln"}"#,
            ],
            expect![[r#"
                {"kind": "PodList", "metadata": {"resourceVersion": "<rv>", "continue": "<continue>"}, "items": [{"metadata": {"generateName": "x-", "name": "x-<rand-1>"}}]}
                {"message": "pods \"x-<rand-1>\" not found in $ns", "rows": [{"cells": ["x-<rand-1>", "<age>", 1]}]}
                {"volumes": [{"name": "kube-api-access-<rand-2>"}], "token": "<token>"}"#]],
        );
    }
}
