//! The group rbac.authorization.k8s.io: who may do what.

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::{default_text, internal, invalid_text, items_mut, name, same};

pub(crate) mod clusterrole;
pub(crate) mod clusterrolebinding;
pub(crate) mod role;
pub(crate) mod rolebinding;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Names of RBAC objects need only fit in a path: `system:node` is one.
fn check_name(name: &str, _prefix: bool) -> Vec<String> {
    names::path_segment_name(name, false)
}

fn check_rules(object: &Value, namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let rules = Path::new("rules");
    for (index, rule) in object.list_at(&["rules"]).iter().enumerate() {
        check_rule(&mut errors, &rules.index(index), rule, namespaced);
    }
    errors
}

fn check_rule(errors: &mut ErrorList, path: &Path<'_>, rule: &Value, namespaced: bool) {
    let has = |field: &str| !rule.list_at(&[field]).is_empty();
    if !has("verbs") {
        errors.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
    }
    if has("nonResourceURLs") {
        let mut refuse = |why: &str| {
            let urls = rule.list_at(&["nonResourceURLs"]).to_vec();
            errors.push(Error::invalid(&path.child("nonResourceURLs"), urls, why));
        };
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if has("apiGroups") || has("resources") || has("resourceNames") {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if !has("apiGroups") {
        errors.push(Error::required(&path.child("apiGroups"), "resource rules must supply at least one api group"));
    }
    if !has("resources") {
        errors.push(Error::required(&path.child("resources"), "resource rules must supply at least one resource"));
    }
}

/// Subjects and the role's reference belong to this group where they name none; a service account is of the core
/// group.
fn default_binding(object: &mut Value) {
    default_text(object, &["roleRef", "apiGroup"], GROUP);
    for subject in items_mut(object, &["subjects"]) {
        if matches!(subject.str_at(&["kind"]), "User" | "Group") {
            default_text(subject, &["apiGroup"], GROUP);
        }
    }
}

fn check_binding(object: &Value, role_kinds: &[&str], namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let role_ref = Path::new("roleRef");
    let (group, kind, role) = (
        object.str_at(&["roleRef", "apiGroup"]),
        object.str_at(&["roleRef", "kind"]),
        object.str_at(&["roleRef", "name"]),
    );
    if group != GROUP {
        errors.push(Error::not_supported(&role_ref.child("apiGroup"), group, &[GROUP]));
    }
    if !role_kinds.contains(&kind) {
        errors.push(Error::not_supported(&role_ref.child("kind"), kind, role_kinds));
    }
    if role.is_empty() {
        errors.push(Error::required(&role_ref.child("name"), ""));
    } else {
        invalid_text(&mut errors, &role_ref.child("name"), role, check_name(role, false));
    }
    let subjects = Path::new("subjects");
    for (index, subject) in object.list_at(&["subjects"]).iter().enumerate() {
        check_subject(&mut errors, &subjects.index(index), subject, namespaced);
    }
    errors
}

fn check_subject(errors: &mut ErrorList, path: &Path<'_>, subject: &Value, namespaced: bool) {
    let (kind, group, name) = (subject.str_at(&["kind"]), subject.str_at(&["apiGroup"]), subject.str_at(&["name"]));
    let name_path = path.child("name");
    if name.is_empty() {
        errors.push(Error::required(&name_path, ""));
    }
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                invalid_text(errors, &name_path, name, names::dns1123_subdomain(name, false));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && subject.str_at(&["namespace"]).is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        _ => errors.push(Error::not_supported(&path.child("kind"), kind, &["ServiceAccount", "User", "Group"])),
    }
}

/// A binding keeps its role: what it grants is decided once, by someone allowed to grant that.
fn check_role_ref_unchanged(errors: &mut ErrorList, new: &Value, old: &Value) {
    if !same(new.get("roleRef"), old.get("roleRef")) {
        let shown = internal(new.get("roleRef"), "io.k8s.api.rbac.v1.RoleRef");
        errors.push(Error::invalid(&Path::new("roleRef"), shown, "cannot change roleRef"));
    }
}

fn binding_cells(object: &Value, now: i64) -> Vec<Value> {
    let role = format!("{}/{}", object.str_at(&["roleRef", "kind"]), object.str_at(&["roleRef", "name"]));
    let of_kind = |kind: &str| -> Value {
        let subjects = object.list_at(&["subjects"]).iter().filter(|subject| subject.str_at(&["kind"]) == kind);
        let names: Vec<SmolStr> = subjects
            .map(|subject| match kind {
                "ServiceAccount" => {
                    api_schema::format_smolstr!("{}/{}", subject.str_at(&["namespace"]), subject.str_at(&["name"]))
                }
                _ => subject.str_at(&["name"]).into(),
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        name(object),
        role.into(),
        api_semantics::time::age(object, now),
        of_kind("User"),
        of_kind("Group"),
        of_kind("ServiceAccount"),
    ]
}
