//! ResourceQuota: how much a namespace may use in all.

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use super::shared::{check_quantity, check_resource_name, is_quota_resource, quantities, round_up_resources};
use crate::Kind;
use crate::checks::{internal, map, name, texts};

/// The kind ResourceQuota.
pub(crate) struct ResourceQuota;

impl Kind for ResourceQuota {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "resourcequotas"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        round_up_resources(object, &[&["spec", "hard"], &["status", "hard"], &["status", "used"]]);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = check_spec(object);
        check_lists(&mut errors, object, &[("status", "hard"), ("status", "used")]);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = check_spec(new);
        let sorted = |object| {
            let mut scopes = texts(object, &["spec", "scopes"]);
            scopes.sort_unstable();
            scopes.dedup();
            scopes
        };
        if sorted(new) != sorted(old) {
            let shown = new.at(&["spec", "scopes"]).cloned().unwrap_or_default();
            errors.push(Error::invalid(&Path::new("spec.scopes"), shown, names::IMMUTABLE));
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        check_lists(&mut errors, new, &[("status", "hard"), ("status", "used")]);
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let used = map(object, &["status", "used"]);
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in map(object, &["status", "hard"]).iter() {
            let used = used.get(resource).and_then(Value::as_str).unwrap_or("0");
            let text = format!("{resource}: {used}/{}", hard.as_str().unwrap_or("0"));
            if resource.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
        }
        Some(vec![
            name(object),
            requests.join(", ").into(),
            limits.join(", ").into(),
            api_semantics::time::age(object, now),
        ])
    }
}

fn check_lists(errors: &mut ErrorList, object: &Value, lists: &[(&str, &str)]) {
    for (parent, list) in lists {
        let parent_path = Path::new(parent);
        let path = parent_path.child(list);
        for (resource, quantity) in quantities(object.map_at(&[parent, list])) {
            let path = path.key(resource);
            check_resource_name(errors, resource, &path);
            if !resource.contains('/') && !is_quota_resource(resource) {
                errors.push(Error::invalid(&path, resource.clone(), "must be a standard resource for quota"));
            }
            check_quantity(errors, resource, &quantity, &path);
        }
    }
}

fn check_spec(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    check_lists(&mut errors, object, &[("spec", "hard")]);
    let scopes = texts(object, &["spec", "scopes"]);
    let path = Path::new("spec.scopes");
    let shown = || object.at(&["spec", "scopes"]).cloned().unwrap_or_default();
    for scope in &scopes {
        if !is_scope(scope) {
            errors.push(Error::invalid(&path, shown(), "unsupported scope"));
        }
        for _ in misplaced(object, scope) {
            errors.push(Error::invalid(&path, shown(), "unsupported scope applied to resource"));
        }
    }
    check_conflicts(&mut errors, &scopes, shown());
    check_selector(&mut errors, object);
    errors
}

fn check_conflicts(errors: &mut ErrorList, scopes: &[&str], shown: Value) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.push(Error::invalid(&Path::new("spec.scopes"), shown.clone(), "conflicting scopes"));
        }
    }
}

fn check_selector(errors: &mut ErrorList, object: &Value) {
    let path = Path::new("spec.scopeSelector.matchExpressions");
    let expressions = object.list_at(&["spec", "scopeSelector", "matchExpressions"]);
    let mut scopes: Vec<&str> = Vec::new();
    for expression in expressions {
        let (scope, operator) = (expression.str_at(&["scopeName"]), expression.str_at(&["operator"]));
        if !is_scope(scope) {
            errors.push(Error::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in misplaced(object, scope) {
            let shown = internal(object.at(&["spec", "scopeSelector"]), "io.k8s.api.core.v1.ScopeSelector");
            errors.push(Error::invalid(&path, shown, "unsupported scope applied to resource"));
        }
        let only_exists = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && is_scope(scope);
        if only_exists && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                       ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&path.child("operator"), operator, why));
        }
        let values = expression.get("values").filter(|values| !values.is_zero());
        match (operator, values) {
            ("In" | "NotIn", None) => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&path.child("values"), why));
            }
            ("Exists" | "DoesNotExist", Some(values)) => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Error::invalid(&path.child("values"), values.clone(), why));
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
            _ => errors.push(Error::invalid(&path.child("operator"), operator, "not a valid selector operator")),
        }
        scopes.push(scope);
    }
    check_conflicts(errors, &scopes, object.at(&["spec", "scopes"]).cloned().unwrap_or_default());
}

fn is_scope(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "VolumeAttributesClass"
            | "CrossNamespacePodAffinity"
    )
}

/// The quota's resources that a scope says nothing about.
fn misplaced<'a>(object: &'a Value, scope: &str) -> impl Iterator<Item = &'a SmolStr> {
    let allowed: &'static [&'static str] = match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            &["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"]
        }
        "BestEffort" => &["pods"],
        "VolumeAttributesClass" => &["persistentvolumeclaims", "requests.storage"],
        _ => &[],
    };
    let is_known = is_scope(scope);
    map(object, &["spec", "hard"])
        .keys()
        .filter(move |resource| is_known && is_quota_resource(resource) && !allowed.contains(&resource.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update};

    #[test]
    fn resources_are_known_and_not_negative() {
        create(&ResourceQuota, r#"{"spec":{"hard":{"pods":"1","requests.x.y/z":"2","count/widgets.x":"3"}}}"#, "");
        create(
            &ResourceQuota,
            r#"{"spec":{"hard":{"pods":"-1","storage":"1","wool":"1"}}}"#,
            "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0\n\
             spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota\n\
             spec.hard[wool]: Invalid value: \"wool\": must be a standard resource type or fully qualified\n\
             spec.hard[wool]: Invalid value: \"wool\": must be a standard resource for quota",
        );
    }

    #[test]
    fn scopes_fit_resources_and_each_other() {
        create(&ResourceQuota, r#"{"spec":{"hard":{"pods":"1"},"scopes":["BestEffort","Terminating"]}}"#, "");
        create(
            &ResourceQuota,
            r#"{"spec":{"hard":{"cpu":"1"},"scopes":["BestEffort","NotBestEffort","x"]}}"#,
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"x\"]: unsupported scope applied to \
             resource\n\
             spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"x\"]: unsupported scope\n\
             spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"x\"]: conflicting scopes",
        );
        update(
            &ResourceQuota,
            r#"{"spec":{"scopes":["BestEffort"]}}"#,
            "{}",
            "spec.scopes: Invalid value: null: field is immutable",
        );
    }

    #[test]
    fn scope_selectors_have_fitting_operators() {
        create(
            &ResourceQuota,
            r#"{"spec":{"scopeSelector":{"matchExpressions":[
                {"scopeName":"PriorityClass","operator":"In","values":["high"]},
                {"scopeName":"PriorityClass","operator":"In"},
                {"scopeName":"PriorityClass","operator":"Exists","values":["x"]},
                {"scopeName":"PriorityClass","operator":"Like"}]}}}"#,
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is \
             'In' or 'NotIn' for scope selector\n\
             spec.scopeSelector.matchExpressions.values: Invalid value: [\"x\"]: must be no value when `operator` is \
             'Exist' or 'DoesNotExist' for scope selector\n\
             spec.scopeSelector.matchExpressions.operator: Invalid value: \"Like\": not a valid selector operator",
        );
    }

    #[test]
    fn cells_part_requests_from_limits() {
        cells(
            &ResourceQuota,
            r#"{"metadata":{"name":"q"},"status":{"hard":{"limits.cpu":"2","pods":"3","requests.cpu":"1"},
                "used":{"pods":"1"}}}"#,
            r#"["q","pods: 1/3, requests.cpu: 0/1","limits.cpu: 0/2","<unknown>"]"#,
        );
    }
}
