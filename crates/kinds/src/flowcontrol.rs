//! The group flowcontrol.apiserver.k8s.io: whose requests are served first.

use std::collections::HashSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

pub(crate) mod flowschema;
pub(crate) mod prioritylevelconfiguration;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

fn check_conditions(errors: &mut ErrorList, object: &Value) {
    let path = Path::new("status.conditions");
    let mut seen = HashSet::new();
    for (index, condition) in object.list_at(&["status", "conditions"]).iter().enumerate() {
        let path = path.index(index);
        let condition_type = condition.str_at(&["type"]);
        if !seen.insert(condition_type) {
            errors.push(Error::duplicate(&path.child("type"), condition_type));
        }
        if condition_type.is_empty() {
            errors.push(Error::required(&path.child("type"), ""));
        }
    }
}

fn check_mandatory(errors: &mut ErrorList, object: &Value, ty: &str, mandatory: impl Fn(&str) -> Option<Value>) {
    let name = object.str_at(&["metadata", "name"]);
    if let Some(spec) = mandatory(name)
        && !crate::checks::same(object.get("spec"), Some(&spec))
    {
        let shown = crate::checks::internal(object.get("spec"), ty);
        errors.push(Error::invalid(&Path::new("spec"), shown, format!("spec of '{name}' must equal the fixed value")));
    }
}
