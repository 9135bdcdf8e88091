//! What claims and their templates ask for.

use std::collections::{HashMap, HashSet};

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use super::{
    CONFIG_MAX, check_configuration, check_each, check_label, check_qualified_name, check_selectors, check_set,
    check_toleration, shown_text,
};
use crate::checks::{default_field, default_text, invalid_text, items_mut};

pub(super) const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const FIRST_AVAILABLE_MAX: usize = 8;

/// The names of requests, each with those of its alternatives.
pub(super) type RequestNames<'a> = HashMap<&'a str, HashSet<&'a str>>;

/// Fills in the defaults of a ResourceClaimSpec.
pub(super) fn default(object: &mut Value, spec: &[&str]) {
    let path: Vec<&str> = spec.iter().copied().chain(["devices", "requests"]).collect();
    for request in items_mut(object, &path) {
        if let Some(exactly) = request.at_mut(&["exactly"]).filter(|exactly| !exactly.is_null()) {
            default_request(exactly);
        }
        items_mut(request, &["firstAvailable"]).iter_mut().for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    default_text(request, &["allocationMode"], "ExactCount");
    if request.str_at(&["allocationMode"]) == "ExactCount" && request.int_at(&["count"]).unwrap_or(0) == 0 {
        request.set(&["count"], 1);
    }
    for toleration in items_mut(request, &["tolerations"]) {
        default_field(toleration, &["operator"], "Equal");
    }
}

/// The names that the rest of a claim can refer to.
pub(super) fn request_names(spec: &Value) -> RequestNames<'_> {
    let requests = spec.list_at(&["devices", "requests"]).iter();
    requests
        .map(|request| {
            let alternatives = request.list_at(&["firstAvailable"]).iter();
            (request.str_at(&["name"]), alternatives.map(|alternative| alternative.str_at(&["name"])).collect())
        })
        .collect()
}

fn has(names: &RequestNames<'_>, name: &str) -> bool {
    match name.split_once('/') {
        None => names.contains_key(name),
        Some((request, alternative)) => names.get(request).is_some_and(|names| names.contains(alternative)),
    }
}

/// Checks a ResourceClaimSpec.
pub(super) fn check(errors: &mut ErrorList, path: &Path<'_>, spec: &Value) {
    let path = path.child("devices");
    let known = request_names(spec);
    let requests = spec.list_at(&["devices", "requests"]);
    let name_of = |request: &Value| -> String { request.str_at(&["name"]).into() };
    check_set(
        errors,
        &path.child("requests"),
        requests,
        REQUESTS_MAX,
        name_of,
        |name| name.as_str().into(),
        check_request,
    );
    let constraints = spec.list_at(&["devices", "constraints"]);
    check_each(errors, &path.child("constraints"), constraints, CONSTRAINTS_MAX, |errors, path, constraint| {
        check_references(errors, &path.child("requests"), constraint.list_at(&["requests"]), &known);
        check_constraint(errors, path, constraint);
    });
    let config = spec.list_at(&["devices", "config"]);
    check_each(errors, &path.child("config"), config, CONFIG_MAX, |errors, path, config| {
        check_references(errors, &path.child("requests"), config.list_at(&["requests"]), &known);
        check_configuration(errors, path, config);
    });
}

fn check_request(errors: &mut ErrorList, path: &Path<'_>, request: &Value) {
    check_label(errors, &path.child("name"), request.str_at(&["name"]));
    let alternatives = request.list_at(&["firstAvailable"]);
    let one = "exactly one of `exactly` or `firstAvailable` is required";
    match (request.get("exactly"), alternatives.is_empty()) {
        (None, true) => errors.push(Error::required(path, one)),
        (Some(_), false) => {
            errors.push(Error::invalid(path, Value::Null, format!("{one}, but multiple fields are set")));
        }
        (Some(exactly), true) => check_devices(errors, &path.child("exactly"), exactly),
        (None, false) => check_set(
            errors,
            &path.child("firstAvailable"),
            alternatives,
            FIRST_AVAILABLE_MAX,
            |alternative| alternative.str_at(&["name"]),
            shown_text,
            |errors, path, alternative| {
                check_label(errors, &path.child("name"), alternative.str_at(&["name"]));
                check_devices(errors, path, alternative);
            },
        ),
    }
}

/// Which devices a request or an alternative takes, and how many.
fn check_devices(errors: &mut ErrorList, path: &Path<'_>, request: &Value) {
    let class = request.str_at(&["deviceClassName"]);
    if class.is_empty() {
        errors.push(Error::required(&path.child("deviceClassName"), ""));
    } else {
        invalid_text(errors, &path.child("deviceClassName"), class, names::dns1123_subdomain(class, false));
    }
    check_selectors(errors, &path.child("selectors"), request.list_at(&["selectors"]));
    let count = request.int_at(&["count"]).unwrap_or(0);
    match request.str_at(&["allocationMode"]) {
        "All" => {
            if count != 0 {
                let why = "must not be specified when allocationMode is 'All'";
                errors.push(Error::invalid(&path.child("count"), count, why));
            }
        }
        "ExactCount" => {
            if count <= 0 {
                errors.push(Error::invalid(&path.child("count"), count, "must be greater than zero"));
            }
        }
        mode => errors.push(Error::not_supported(&path.child("allocationMode"), mode, &["All", "ExactCount"])),
    }
    let tolerations = path.child("tolerations");
    for (index, toleration) in request.list_at(&["tolerations"]).iter().enumerate() {
        check_toleration(errors, &tolerations.index(index), toleration);
    }
}

fn check_constraint(errors: &mut ErrorList, path: &Path<'_>, constraint: &Value) {
    for field in ["matchAttribute", "distinctAttribute"] {
        if let Some(name) = constraint.get(field).and_then(Value::as_str) {
            let path = path.child(field);
            check_qualified_name(errors, &path, name);
            if !name.contains('/') {
                let why = "a fully qualified name must be a domain and a name separated by a slash";
                errors.push(Error::invalid(&path, name, why));
            }
            return;
        }
    }
    let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
    errors.push(Error::required(path, why));
}

/// References to requests.
pub(super) fn check_references(
    errors: &mut ErrorList,
    path: &Path<'_>,
    references: &[Value],
    known: &RequestNames<'_>,
) {
    check_set(
        errors,
        path,
        references,
        REQUESTS_MAX,
        |name| name.as_str().unwrap_or_default(),
        shown_text,
        |errors, path, name| check_reference(errors, path, name.as_str().unwrap_or_default(), known),
    );
}

/// A reference to a request, or to an alternative of one.
pub(super) fn check_reference(errors: &mut ErrorList, path: &Path<'_>, name: &str, known: &RequestNames<'_>) {
    let unknown =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    if name.matches('/').count() < 2 {
        name.split('/').for_each(|part| check_label(errors, path, part));
        if has(known, name) {
            return;
        }
    }
    errors.push(Error::invalid(path, name, unknown));
}
