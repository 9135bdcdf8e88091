//! Secret: confidential data for Pods.

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::go_json;
use super::shared::base64_decoded_len;
use super::tls_pair;
use crate::Kind;
use crate::checks::{default_text, immutable, map, name, same};

/// All values together may not be larger than this many bytes.
const SIZE_MAX: usize = 1024 * 1024;
const SERVICE_ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";

/// The kind Secret.
pub(crate) struct Secret;

impl Kind for Secret {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "secrets"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        default_text(object, &["type"], "Opaque");
        // `stringData` is a way to write, never stored.
        if let Some(Value::Map(texts)) = object.remove(&["stringData"]) {
            for (key, text) in texts {
                let data = STANDARD.encode(text.as_str().unwrap_or_default());
                object.entry(&["data"]).make_map().insert(key, data);
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (data, path) = (map(object, &["data"]), Path::new("data"));
        let mut size = 0;
        for (key, value) in data.iter() {
            let messages = names::config_map_key(key).into_iter();
            errors.extend(messages.map(|message| Error::invalid(&path.key(key), key.clone(), message)));
            size += base64_decoded_len(value.as_str().unwrap_or_default());
        }
        if size > SIZE_MAX {
            errors.push(Error::too_long(&path, SIZE_MAX));
        }
        check_type(&mut errors, object, data, &path);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        immutable(&mut errors, &Path::new("type"), new.get("type"), old.get("type"));
        if old.bool_at(&["immutable"]) == Some(true) {
            const WHY: &str = "field is immutable when `immutable` is set";
            if new.bool_at(&["immutable"]) != Some(true) {
                errors.push(Error::forbidden(&Path::new("immutable"), WHY));
            }
            if !same(new.get("data"), old.get("data")) {
                errors.push(Error::forbidden(&Path::new("data"), WHY));
            }
        }
        errors.extend(self.validate(new));
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        if new.str_at(&["type"]) != "kubernetes.io/tls" {
            return Vec::new();
        }
        let bytes = |key: &str| STANDARD.decode(new.str_at(&["data", key])).unwrap_or_default();
        tls_pair::problem(&bytes("tls.crt"), &bytes("tls.key")).into_iter().collect()
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![
            name(object),
            object.str_at(&["type"]).into(),
            Value::Int(map(object, &["data"]).len() as i64),
            api_semantics::time::age(object, now),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["type"]
    }
}

/// Some types promise certain keys.
fn check_type(errors: &mut ErrorList, object: &Value, data: &Map, path: &Path<'_>) {
    let mut need = |key: &str| {
        // A key with null is there, and has no bytes.
        let value = data.get(key).map(|value| value.as_str().unwrap_or_default());
        if value.is_none() {
            errors.push(Error::required(&path.key(key), ""));
        }
        value.map(SmolStr::new)
    };
    match object.str_at(&["type"]) {
        "kubernetes.io/service-account-token" => {
            let annotations = map(object, &["metadata", "annotations"]);
            if annotations.get(SERVICE_ACCOUNT_ANNOTATION).and_then(Value::as_str).unwrap_or_default().is_empty() {
                let path = Path::new("metadata.annotations");
                errors.push(Error::required(&path.key(SERVICE_ACCOUNT_ANNOTATION), ""));
            }
        }
        "kubernetes.io/dockercfg" => {
            let value = need(".dockercfg");
            check_json(errors, value, &path.key(".dockercfg"));
        }
        "kubernetes.io/dockerconfigjson" => {
            let value = need(".dockerconfigjson");
            check_json(errors, value, &path.key(".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth" if !["username", "password"].iter().any(|key| data.contains_key(key)) => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").is_none_or(Value::is_zero) => {
            errors.push(Error::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

fn check_json(errors: &mut ErrorList, value: Option<SmolStr>, path: &Path<'_>) {
    let Some(value) = value else { return };
    let bytes = STANDARD.decode(value.as_str()).unwrap_or_default();
    if let Err(why) = go_json::check_object(&bytes) {
        errors.push(Error::invalid(path, "<secret contents redacted>", why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update};

    #[test]
    fn string_data_is_folded_into_data() {
        defaults(
            &Secret,
            r#"{"data":{"a":"eA==","b":"eQ=="},"stringData":{"b":"xyz"}}"#,
            r#"{"data":{"a":"eA==","b":"eHl6"},"type":"Opaque"}"#,
        );
    }

    #[test]
    fn types_ask_for_their_keys() {
        for (object, expect) in [
            (r#"{"type":"example.com/any"}"#, ""),
            (
                r#"{"type":"kubernetes.io/service-account-token"}"#,
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
            (r#"{"type":"kubernetes.io/dockercfg"}"#, "data[.dockercfg]: Required value"),
            (
                r#"{"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"eA=="}}"#,
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character 'x' looking \
                 for beginning of value",
            ),
            (r#"{"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"e30="}}"#, ""),
            (
                r#"{"type":"kubernetes.io/basic-auth"}"#,
                "data[username]: Required value\ndata[password]: Required value",
            ),
            (r#"{"type":"kubernetes.io/basic-auth","data":{"username":""}}"#, ""),
            (
                r#"{"type":"kubernetes.io/ssh-auth","data":{"ssh-privatekey":""}}"#,
                "data[ssh-privatekey]: Required value",
            ),
            (r#"{"type":"kubernetes.io/tls"}"#, "data[tls.crt]: Required value\ndata[tls.key]: Required value"),
        ] {
            create(&Secret, object, expect);
        }
    }

    #[test]
    fn keys_are_file_names_and_the_size_is_bounded() {
        create(&Secret, r#"{"data":{"..x":""}}"#, "data[..x]: Invalid value: \"..x\": must not start with '..'");
        let big = "AAAA".repeat(SIZE_MAX / 3 + 1);
        create(
            &Secret,
            &format!(r#"{{"data":{{"a":"{big}"}}}}"#),
            "data: Too long: may not be more than 1048576 bytes",
        );
    }

    #[test]
    fn the_type_never_changes_and_the_rest_only_while_mutable() {
        update(&Secret, r#"{"data":{"a":""}}"#, r#"{"data":{"a":"eA=="}}"#, "");
        update(
            &Secret,
            r#"{"data":{"a":""},"immutable":true}"#,
            r#"{"data":{"a":"eA=="},"type":"x"}"#,
            "type: Invalid value: \"x\": field is immutable\n\
             immutable: Forbidden: field is immutable when `immutable` is set\n\
             data: Forbidden: field is immutable when `immutable` is set",
        );
    }

    #[test]
    fn cells_count_keys() {
        cells(
            &Secret,
            r#"{"metadata":{"name":"a"},"type":"Opaque","data":{"x":"","y":""}}"#,
            r#"["a","Opaque",2,"<unknown>"]"#,
        );
    }
}
