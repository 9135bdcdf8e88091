//! ConfigMap: configuration for Pods, as text and bytes.

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use super::shared::base64_decoded_len;
use crate::Kind;

/// The sum of all keys' values may not be larger than this many bytes.
const SIZE_MAX: usize = 1024 * 1024;

/// The kind ConfigMap.
pub(crate) struct ConfigMap;

impl Kind for ConfigMap {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "configmaps"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let (data, binary) = (Path::new("data"), Path::new("binaryData"));
        let empty = Map::new();
        let texts = object.map_at(&["data"]).unwrap_or(&empty);
        let mut size = 0;
        for (key, value) in texts.iter() {
            errors
                .extend(names::config_map_key(key).into_iter().map(|m| Error::invalid(&data.key(key), key.clone(), m)));
            if object.at(&["binaryData"]).is_some_and(|b| b.get(key).is_some()) {
                errors.push(Error::invalid(&data.key(key), key.clone(), "duplicate of key present in binaryData"));
            }
            size += value.as_str().unwrap_or_default().len();
        }
        for (key, value) in object.map_at(&["binaryData"]).unwrap_or(&empty).iter() {
            errors.extend(
                names::config_map_key(key).into_iter().map(|m| Error::invalid(&binary.key(key), key.clone(), m)),
            );
            size += base64_decoded_len(value.as_str().unwrap_or_default());
        }
        if size > SIZE_MAX {
            errors.push(Error::too_long(&Path::new(""), SIZE_MAX));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if old.bool_at(&["immutable"]) == Some(true) {
            const WHY: &str = "field is immutable when `immutable` is set";
            if new.bool_at(&["immutable"]) != Some(true) {
                errors.push(Error::forbidden(&Path::new("immutable"), WHY));
            }
            for field in ["data", "binaryData"] {
                if new.get(field) != old.get(field) {
                    errors.push(Error::forbidden(&Path::new(field), WHY));
                }
            }
        }
        errors.extend(self.validate(new));
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let count = ["data", "binaryData"].iter().filter_map(|f| object.map_at(&[f])).map(Map::len).sum::<usize>();
        Some(vec![
            SmolStr::new(object.str_at(&["metadata", "name"])).into(),
            Value::Int(count as i64),
            api_semantics::time::age(object, now),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update};

    #[test]
    fn keys_are_file_names_and_stand_once() {
        create(
            &ConfigMap,
            r#"{"data":{"a":"x","..":""},"binaryData":{"a":"eA=="}}"#,
            "data[..]: Invalid value: \"..\": must not be '..'\n\
             data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
        );
    }

    #[test]
    fn all_values_together_are_bounded() {
        let (text, bytes) = ("x".repeat(SIZE_MAX - 2), "eHh4");
        create(
            &ConfigMap,
            &format!(r#"{{"data":{{"a":"{text}"}},"binaryData":{{"b":"{bytes}"}}}}"#),
            "[]: Too long: may not be more than 1048576 bytes",
        );
    }

    #[test]
    fn an_immutable_one_stays_as_it_is() {
        update(&ConfigMap, r#"{"data":{"a":"x"}}"#, r#"{"data":{"a":"y"}}"#, "");
        update(
            &ConfigMap,
            r#"{"data":{"a":"x"},"immutable":true}"#,
            r#"{"data":{"a":"y"}}"#,
            "immutable: Forbidden: field is immutable when `immutable` is set\n\
             data: Forbidden: field is immutable when `immutable` is set",
        );
    }

    #[test]
    fn cells_count_keys() {
        cells(
            &ConfigMap,
            r#"{"metadata":{"name":"a"},"data":{"x":""},"binaryData":{"y":""}}"#,
            r#"["a",2,"<unknown>"]"#,
        );
    }
}
