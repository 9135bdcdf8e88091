//! VolumeAttachment: a volume that is to be attached to a node.

use api_schema::{Map, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::Kind;
use crate::checks::{internal, invalid_text, map, name, same, text};

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_LEN_MAX: usize = 1024;

pub(crate) struct VolumeAttachment;

impl Kind for VolumeAttachment {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "volumeattachments"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = check(new);
        if !same(new.get("spec"), old.get("spec")) {
            let shown = internal(new.get("spec"), "io.k8s.api.storage.v1.VolumeAttachmentSpec");
            errors.push(Error::invalid(&Path::new("spec"), shown, names::IMMUTABLE));
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        self.validate_update(new, old)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![
            name(object),
            text(object, &["spec", "attacher"]),
            text(object, &["spec", "source", "persistentVolumeName"]),
            text(object, &["spec", "nodeName"]),
            object.bool_at(&["status", "attached"]).unwrap_or(false).into(),
            api_semantics::time::age(object, now),
        ])
    }
}

fn check(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    super::check_driver_name(&mut errors, &spec.child("attacher"), object.str_at(&["spec", "attacher"]));
    let source = spec.child("source");
    let volume = object.at(&["spec", "source", "persistentVolumeName"]);
    match (object.at(&["spec", "source", "inlineVolumeSpec"]), volume) {
        (None, None) => {
            let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.push(Error::required(&source, why));
        }
        (Some(_), Some(_)) => {
            let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.push(Error::forbidden(&source, why));
        }
        (None, Some(volume)) if volume.is_zero() => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(Error::required(&source.child("persistentVolumeName"), why));
        }
        _ => {}
    }
    let node = object.str_at(&["spec", "nodeName"]);
    invalid_text(&mut errors, &spec.child("nodeName"), node, names::dns1123_subdomain(node, false));

    let status = Path::new("status");
    let size = |metadata: &Map| -> usize {
        metadata.iter().map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len()).sum()
    };
    if size(map(object, &["status", "attachmentMetadata"])) > METADATA_BYTES_MAX {
        errors.push(Error::too_long(&status.child("attachmentMetadata"), METADATA_BYTES_MAX));
    }
    for field in ["attachError", "detachError"] {
        let path = status.child(field);
        if object.str_at(&["status", field, "message"]).len() > MESSAGE_LEN_MAX {
            // Upstream names the other bound here.
            errors.push(Error::too_long(&path.child("message"), METADATA_BYTES_MAX));
        }
        if let Some(code) = object.int_at(&["status", field, "errorCode"]).filter(|code| *code < 0) {
            let why = names::inclusive_range_error(0, i32::MAX.into());
            errors.push(Error::invalid(&path.child("errorCode"), code, why));
        }
    }
    if let Some(volume) = volume.and_then(Value::as_str) {
        let messages = names::dns1123_subdomain(volume, false);
        invalid_text(&mut errors, &source.child("persistentVolumeName"), volume, messages);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update, update_status};

    const SPEC: &str = r#""spec":{"attacher":"a","nodeName":"n","source":{"persistentVolumeName":"v"}}"#;

    #[test]
    fn one_volume_goes_to_one_node() {
        create(&VolumeAttachment, &format!("{{{SPEC}}}"), "");
        for (source, expect) in [
            (
                "{}",
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (
                r#"{"persistentVolumeName":"v","inlineVolumeSpec":{}}"#,
                "spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
        ] {
            let object = format!(r#"{{"spec":{{"attacher":"a","nodeName":"n","source":{source}}}}}"#);
            create(&VolumeAttachment, &object, expect);
        }
    }

    #[test]
    fn the_status_is_bounded_and_the_spec_stays() {
        let old = format!("{{{SPEC}}}");
        let long = "x".repeat(1025);
        for (new, expect) in [
            (format!(r#"{{{SPEC},"status":{{"attached":true}}}}"#), ""),
            (
                format!(r#"{{{SPEC},"status":{{"attachError":{{"message":"{long}"}}}}}}"#),
                "status.attachError.message: Too long: may not be more than 262144 bytes",
            ),
        ] {
            update_status(&VolumeAttachment, &old, &new, expect);
        }
        update(
            &VolumeAttachment,
            &old,
            &old.replace("\"v\"", "\"w\""),
            "spec: Invalid value: {\"Attacher\":\"a\",\"Source\":{\"PersistentVolumeName\":\"w\",\
             \"InlineVolumeSpec\":null},\"NodeName\":\"n\"}: field is immutable",
        );
    }

    #[test]
    fn cells_show_volume_and_node() {
        cells(
            &VolumeAttachment,
            &format!(r#"{{"metadata":{{"name":"x"}},{SPEC},"status":{{"attached":true}}}}"#),
            r#"["x","a","v","n",true,"<unknown>"]"#,
        );
    }
}
