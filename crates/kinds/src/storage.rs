//! The group storage.k8s.io.

use std::collections::BTreeSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::{invalid_text, map};

pub(crate) mod csidriver;
pub(crate) mod csinode;
pub(crate) mod csistoragecapacity;
pub(crate) mod storageclass;
pub(crate) mod volumeattachment;
pub(crate) mod volumeattributesclass;

const GROUP: &str = "storage.k8s.io";

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const DRIVER_NAME_LEN_MAX: usize = 63;

/// The name of a provisioner: qualified, in any case.
fn check_provisioner(errors: &mut ErrorList, path: &Path<'_>, provisioner: &str) {
    if provisioner.is_empty() {
        errors.push(Error::required(path, ""));
    } else {
        let lower = provisioner.to_lowercase();
        invalid_text(errors, path, &lower, names::qualified_name(&lower));
    }
}

/// The name of a CSI driver.
pub(crate) fn check_driver_name(errors: &mut ErrorList, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > DRIVER_NAME_LEN_MAX {
        errors.push(Error::too_long(path, DRIVER_NAME_LEN_MAX));
    }
    invalid_text(errors, path, name, names::dns1123_subdomain(&name.to_lowercase(), false));
}

fn check_parameters(errors: &mut ErrorList, object: &Value, may_be_empty: bool) {
    let path = Path::new("parameters");
    let parameters = map(object, &["parameters"]);
    if parameters.len() > PARAMETERS_MAX {
        errors.push(Error::too_long(&path, PARAMETERS_MAX));
        return;
    }
    let mut bytes = 0;
    for (key, value) in parameters.iter() {
        if key.is_empty() {
            errors.push(Error::invalid(&path, key.clone(), "field can not be empty."));
        }
        bytes += key.len() + value.as_str().unwrap_or_default().len();
    }
    if bytes > PARAMETERS_BYTES_MAX {
        errors.push(Error::too_long(&path, PARAMETERS_BYTES_MAX));
    }
    if parameters.is_empty() && !may_be_empty {
        errors.push(Error::required(&path, "must contain at least one key/value pair"));
    }
}

/// Terms that say where a volume may be: each names values of labels, and no two are the same.
fn check_topologies(errors: &mut ErrorList, path: &Path<'_>, terms: &[Value]) {
    let mut seen = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let path = path.index(index);
        let expressions = path.child("matchLabelExpressions");
        let mut of_term = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for (index, expression) in term.list_at(&["matchLabelExpressions"]).iter().enumerate() {
            let path = expressions.index(index);
            let values = expression.list_at(&["values"]);
            let values_path = path.child("values");
            if values.is_empty() {
                errors.push(Error::required(&values_path, ""));
            }
            let mut set = BTreeSet::new();
            for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
                if !set.insert(value) {
                    errors.push(Error::duplicate(&values_path.index(index), value));
                }
            }
            let key = expression.str_at(&["key"]);
            invalid_text(errors, &path.child("key"), key, names::qualified_name(key));
            if !keys.insert(key) {
                errors.push(Error::duplicate(&path.child("key"), key));
            }
            of_term.insert((key, set));
        }
        // Upstream compares with every term before, and with as many empty ones as there are terms.
        let empty = if of_term.is_empty() { terms.len() } else { 0 };
        let twice = seen.iter().filter(|other| **other == of_term).count() + empty;
        errors.extend((0..twice).map(|_| Error::duplicate(&expressions, "")));
        seen.push(of_term);
    }
}
