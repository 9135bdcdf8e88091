//! ReplicaSet: keeps a number of pods of one template running.

use api_schema::Value;
use api_semantics::field::{ErrorList, Path};
use api_semantics::{selector, time};

use super::deployment::selector_and_template;
use crate::Kind;
use crate::checks::{immutable, name, not_negative};
use crate::core::pod::look::{Fill, Look};
use crate::core::pod::template::{self, TEMPLATE};
use crate::core::replicationcontroller::status;

pub(crate) struct ReplicaSet;

impl Kind for ReplicaSet {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "replicasets"
    }

    fn default(&self, object: &mut Value) {
        object.entry(&["spec"]).fill("replicas", 1);
        template::default(object, TEMPLATE);
    }

    fn prepare_create(&self, object: &mut Value) {
        template::prepare(object, None, TEMPLATE);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        template::prepare(new, Some(old), TEMPLATE);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = validate(new, Some(old));
        let selector = ["spec", "selector"];
        immutable(&mut errors, &Path::new("spec.selector"), new.at(&selector), old.at(&selector));
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        status(&mut errors, new);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        template::named_warnings(new, old, TEMPLATE)
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        Some(vec![
            name(object),
            template::number_cell(object, &["spec", "replicas"]),
            template::number_cell(object, &["status", "replicas"]),
            template::number_cell(object, &["status", "readyReplicas"]),
            time::age(object, now),
            containers,
            images,
            selector::shown(object.at(&["spec", "selector"])).into(),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["status.replicas"]
    }

    fn selectable_field(&self, object: &Value, label: &str) -> api_schema::SmolStr {
        match label {
            "status.replicas" => {
                api_schema::format_smolstr!("{}", object.int_at(&["status", "replicas"]).unwrap_or(0))
            }
            _ => api_schema::SmolStr::default(),
        }
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    for field in ["replicas", "minReadySeconds"] {
        not_negative(&mut errors, &path.child(field), spec.int(field));
    }
    selector_and_template(&mut errors, spec, old, &path);
    errors
}
