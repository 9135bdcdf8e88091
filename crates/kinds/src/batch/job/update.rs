//! What of a Job may change.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::{immutable, internal, items_mut, same};
use crate::core::pod::look::Look;
use crate::core::pod::template::TEMPLATE;

use super::{SUSPENDED, is_indexed, is_true, spec};

/// Checks an update. (Upstream checks the spec once for the object and once for the update, and says so twice.)
pub(super) fn check(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    spec::job(&mut errors, new, Some(old));
    spec::spec(&mut errors, new, Some(old));
    completions(&mut errors, new, old);
    let fixed = |errors: &mut ErrorList, field: &str, ty: Option<&str>| {
        fixed(errors, &path.child(field), new.at(&["spec", field]), old.at(&["spec", field]), ty);
    };
    fixed(&mut errors, "selector", None);
    template(&mut errors, new, old);
    fixed(&mut errors, "completionMode", None);
    fixed(&mut errors, "podFailurePolicy", Some("io.k8s.api.batch.v1.PodFailurePolicy"));
    fixed(&mut errors, "backoffLimitPerIndex", None);
    fixed(&mut errors, "managedBy", None);
    fixed(&mut errors, "successPolicy", Some("io.k8s.api.batch.v1.SuccessPolicy"));
    errors
}

/// The value must be the same as before; `ty` is the type of a struct.
fn fixed(errors: &mut ErrorList, path: &Path<'_>, new: Option<&Value>, old: Option<&Value>, ty: Option<&str>) {
    match ty.filter(|_| new.is_some() && !same(new, old)) {
        Some(ty) => errors.push(Error::invalid(path, internal(new, ty), names::IMMUTABLE)),
        None => immutable(errors, path, new, old),
    }
}

/// Only an Indexed Job may change how many completions it wants, and only together with its parallelism.
fn completions(errors: &mut ErrorList, new: &Value, old: &Value) {
    let path = Path::new("spec.completions");
    let field = ["spec", "completions"];
    if !is_indexed(new) {
        immutable(errors, &path, new.at(&field), old.at(&field));
        return;
    }
    let completions = new.int_at(&field).filter(|completions| Some(*completions) != old.int_at(&field));
    if let Some(completions) = completions.filter(|wanted| Some(*wanted) != new.int_at(&["spec", "parallelism"])) {
        errors.push(Error::invalid(&path, completions, "can only be modified in tandem with spec.parallelism"));
    }
}

/// The template is fixed, but for where and with what the pods of a suspended Job are to run.
fn template(errors: &mut ErrorList, new: &Value, old: &Value) {
    let is_suspended = old.at(&["spec", "suspend"]).and_then(Value::as_bool) == Some(true);
    let is_idle = (old.str_at(&["status", "startTime"]).is_empty() || is_true(old, SUSPENDED))
        && old.int_at(&["status", "active"]).unwrap_or(0) == 0;
    let (mut path, mut ty) = ("spec.template", "io.k8s.api.core.v1.PodTemplateSpec");
    let (Some(mut new), Some(mut old)) = (new.at(TEMPLATE).cloned(), old.at(TEMPLATE).cloned()) else { return };
    if is_suspended && is_idle {
        let was_free_of_affinity = old.at(&["spec", "affinity"]).is_none();
        // Where the pods run.
        take(&mut old, &new, &["spec", "affinity", "nodeAffinity"]);
        let is_free_of_affinity = new.at(&["spec", "affinity"]).is_none();
        let is_left_empty = old.map_at(&["spec", "affinity"]).is_some_and(|affinity| affinity.is_empty());
        if is_left_empty && (is_free_of_affinity || was_free_of_affinity) {
            old.remove(&["spec", "affinity"]);
        }
        if was_free_of_affinity && new.map_at(&["spec", "affinity"]).is_some_and(|affinity| affinity.is_empty()) {
            new.remove(&["spec", "affinity"]);
        }
        for field in [
            ["spec", "nodeSelector"],
            ["spec", "tolerations"],
            ["spec", "schedulingGates"],
            ["metadata", "annotations"],
            ["metadata", "labels"],
        ] {
            take(&mut old, &new, &field);
        }
        // What they run with. From here on, upstream looks at the spec alone.
        (path, ty) = ("spec.template.spec", "io.k8s.api.core.v1.PodSpec");
        old = old.get("spec").cloned().unwrap_or_default();
        new = new.get("spec").cloned().unwrap_or_default();
        for list in ["containers", "initContainers"] {
            let containers = new.items(list).to_vec();
            let olds = items_mut(&mut old, &[list]);
            if olds.len() == containers.len() {
                for (old, new) in olds.iter_mut().zip(&containers) {
                    if old.text("name") == new.text("name") {
                        take(old, new, &["resources"]);
                    }
                }
            }
        }
    }
    fixed(errors, &Path::new(path), Some(&new), Some(&old), Some(ty));
}

/// Makes a field of `to` the one of `from`.
fn take(to: &mut Value, from: &Value, path: &[&str]) {
    match from.at(path) {
        Some(value) => to.set(path, value.clone()),
        None => drop(to.remove(path)),
    }
}
