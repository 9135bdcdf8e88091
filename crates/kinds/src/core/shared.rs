//! What several core kinds share: cells of labels and access modes, special addresses, names of resources and the
//! quantities that go with them.

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::quantity::Quantity;
use api_semantics::{ip, names};

use super::pod::resources;
use crate::checks::{invalid_text, map, texts};

/// The annotation that named a storage class before fields did.
pub(crate) const STORAGE_CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Labels as cells show them: `a=b,c=d`, `<none>` for none.
pub(crate) fn labels_cell(labels: Option<&Map>) -> Value {
    let labels = labels.into_iter().flat_map(Map::iter);
    let pairs: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",").into() }
}

/// Access modes as cells show them: `RWO,ROX`, always in the same order.
pub(crate) fn access_modes_cell(object: &Value, path: &[&str]) -> Value {
    let modes = texts(object, path);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let shown: Vec<&str> = short.into_iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| short).collect();
    shown.join(",").into()
}

/// The storage class of a volume or claim: what the old annotation says, else the field.
pub(crate) fn storage_class_cell(object: &Value) -> Value {
    let annotated = map(object, &["metadata", "annotations"]).get(STORAGE_CLASS_ANNOTATION).and_then(Value::as_str);
    annotated.unwrap_or_else(|| object.str_at(&["spec", "storageClassName"])).into()
}

/// How many bytes a base64 text stands for.
pub(crate) fn base64_decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|c| *c == b'=').count().min(2);
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// An address of endpoints or an external IP must be reachable over the network.
pub(crate) fn not_special_ip(errors: &mut ErrorList, path: &Path<'_>, text: &str) {
    match ip::parse(text) {
        None => errors.push(Error::invalid(path, text, "must be a valid IP address")),
        Some(ip) => crate::discovery::endpointslice::check_not_special(errors, path, text, ip.addr),
    }
}

/// Checks the access modes of a volume or claim, of which there must be one.
pub(crate) fn check_access_modes(errors: &mut ErrorList, spec: &Value, path: &Path<'_>, why_needed: &str) {
    const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let (modes, path) = (texts(spec, &["accessModes"]), path.child("accessModes"));
    if modes.is_empty() {
        errors.push(Error::required(&path, why_needed));
    }
    for mode in modes.iter().filter(|mode| !MODES.contains(mode)) {
        errors.push(Error::not_supported(&path, *mode, &MODES));
    }
    let alone = |mode: &&&str| **mode == "ReadWriteOncePod";
    if modes.iter().any(|mode| alone(&mode)) && modes.iter().any(|mode| MODES.contains(mode) && !alone(&mode)) {
        errors.push(Error::forbidden(&path, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// The quantities of a resource list, by name.
pub(crate) fn quantities(list: Option<&Map>) -> impl Iterator<Item = (&SmolStr, Quantity)> {
    list.into_iter().flat_map(Map::iter).map(|(name, value)| (name, resources::quantity(value)))
}

/// Rounds the quantities of resource lists up to thousandths, the finest that objects keep.
pub(crate) fn round_up_resources(object: &mut Value, paths: &[&[&str]]) {
    for path in paths {
        let Some(list) = object.at_mut(path).and_then(Value::as_map_mut) else { continue };
        for (_, value) in list.iter_mut() {
            let quantity = resources::quantity(value);
            let rounded = resources::round_up_to_milli(quantity.clone());
            if rounded != quantity {
                *value = rounded.canonical().into();
            }
        }
    }
}

/// A quantity of a resource: not negative, and whole if the resource comes in pieces.
pub(crate) fn check_quantity(errors: &mut ErrorList, name: &str, quantity: &Quantity, path: &Path<'_>) {
    if quantity.sign() < 0 {
        errors.push(Error::invalid(path, quantity.canonical(), names::NEGATIVE));
    }
    if resources::is_integer(name) && quantity.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(path, quantity.canonical(), "must be an integer"));
    }
}

/// A quantity that must not be below zero once rounded.
pub(crate) fn check_basic_quantity(errors: &mut ErrorList, quantity: &Quantity, path: &Path<'_>) {
    if quantity.value() < 0 {
        errors.push(Error::invalid(path, quantity.value(), "must be a valid resource quantity"));
    }
}

/// A quantity that must be above zero.
pub(crate) fn check_positive_quantity(errors: &mut ErrorList, quantity: &Quantity, path: &Path<'_>) -> bool {
    let is_positive = quantity.sign() > 0;
    if !is_positive {
        errors.push(Error::invalid(path, quantity.canonical(), "must be greater than zero"));
    }
    is_positive
}

/// The name of a resource: qualified, or one that Kubernetes knows. Gives whether it is good.
pub(crate) fn check_resource_name(errors: &mut ErrorList, name: &str, path: &Path<'_>) -> bool {
    let messages = names::qualified_name(name);
    let is_qualified = messages.is_empty();
    invalid_text(errors, path, name, messages);
    if is_qualified && !name.contains('/') && !resources::is_standard(name) {
        errors.push(Error::invalid(path, name, "must be a standard resource type or fully qualified"));
        return false;
    }
    is_qualified
}

/// The name of a resource that containers may use.
pub(crate) fn check_container_resource_name(errors: &mut ErrorList, name: &str, path: &Path<'_>) {
    check_resource_name(errors, name, path);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !resources::is_huge_page(name) {
            errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !resources::is_native(name) && !resources::is_extended(name) {
        errors.push(Error::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// Whether the name is one of those that quotas know; others must be qualified.
pub(crate) fn is_quota_resource(name: &str) -> bool {
    name != "storage" && resources::is_standard(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources_are_known_or_qualified() {
        let check = |name: &str| {
            let mut errors = ErrorList::new();
            check_container_resource_name(&mut errors, name, &Path::new("x"));
            errors.into_iter().map(|error| error.detail).collect::<Vec<_>>()
        };
        assert!(check("cpu").is_empty());
        assert!(check("hugepages-2Mi").is_empty());
        assert!(check("example.com/gpu").is_empty());
        assert_eq!(check("pods"), ["must be a standard resource for containers"]);
        assert_eq!(
            check("wool"),
            ["must be a standard resource type or fully qualified", "must be a standard resource for containers"]
        );
        assert_eq!(check("requests.example.com/gpu"), ["doesn't follow extended resource name standard"]);
    }
}
