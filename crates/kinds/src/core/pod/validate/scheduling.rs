//! Where a pod may run: affinity, tolerations, spread constraints, gates.

use std::collections::BTreeSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::selector::{self, Leniency};

use crate::checks::{invalid_text, supported};

use super::super::look::Look;
use super::Options;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NOT_POSITIVE: &str = "must be greater than zero";

/// A pod's affinity.
pub(super) fn affinity(errors: &mut ErrorList, spec: &Value, path: &Path<'_>, options: Options<'_>) {
    let Some(affinity) = spec.get("affinity") else { return };
    if let Some(node) = affinity.get("nodeAffinity") {
        node_affinity(errors, node, &path.child("nodeAffinity"), options);
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = affinity.get(side) else { continue };
        let side_path = path.child(side);
        let required = side_path.child(REQUIRED);
        for (at, term) in terms.items(REQUIRED).iter().enumerate() {
            pod_affinity_term(errors, term, &required.index(at), options);
        }
        let preferred = side_path.child(PREFERRED);
        for (at, weighted) in terms.items(PREFERRED).iter().enumerate() {
            let term_path = preferred.index(at);
            weight(errors, weighted, &term_path);
            let term = weighted.get("podAffinityTerm").unwrap_or(&Value::Null);
            pod_affinity_term(errors, term, &term_path.child("podAffinityTerm"), options);
        }
    }
}

fn weight(errors: &mut ErrorList, weighted: &Value, path: &Path<'_>) {
    let weight = weighted.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn node_affinity(errors: &mut ErrorList, affinity: &Value, path: &Path<'_>, options: Options<'_>) {
    if let Some(required) = affinity.get(REQUIRED) {
        node_selector(errors, required, options.lenient.invalid_node_affinity_values, &path.child(REQUIRED));
    }
    let preferred = path.child(PREFERRED);
    for (at, term) in affinity.items(PREFERRED).iter().enumerate() {
        let term_path = preferred.index(at);
        weight(errors, term, &term_path);
        // Values that no label can have do no harm to a preference.
        let preference = term.get("preference").unwrap_or(&Value::Null);
        node_selector_term(errors, preference, true, &term_path.child("preference"));
    }
}

/// A selector of nodes: at least one term.
pub(crate) fn node_selector(errors: &mut ErrorList, selector: &Value, any_value: bool, path: &Path<'_>) {
    let terms_path = path.child("nodeSelectorTerms");
    let terms = selector.items("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(Error::required(&terms_path, "must have at least one node selector term"));
    }
    for (at, term) in terms.iter().enumerate() {
        node_selector_term(errors, term, any_value, &terms_path.index(at));
    }
}

fn node_selector_term(errors: &mut ErrorList, term: &Value, any_value: bool, path: &Path<'_>) {
    let expressions = path.child("matchExpressions");
    for (at, requirement) in term.items("matchExpressions").iter().enumerate() {
        label_requirement(errors, requirement, any_value, &expressions.index(at));
    }
    let fields = path.child("matchFields");
    for (at, requirement) in term.items("matchFields").iter().enumerate() {
        field_requirement(errors, requirement, &fields.index(at));
    }
}

fn label_requirement(errors: &mut ErrorList, requirement: &Value, any_value: bool, path: &Path<'_>) {
    let values = requirement.items("values").len();
    let values_path = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" if values == 0 => {
            errors.push(Error::required(&values_path, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&values_path, why));
        }
        "Gt" | "Lt" if values != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&values_path, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        operator => errors.push(Error::invalid(&path.child("operator"), operator, "not a valid selector operator")),
    }
    let key = requirement.text("key");
    invalid_text(errors, &path.child("key"), key, names::qualified_name(key));
    if !any_value {
        for (at, value) in requirement.texts("values").enumerate() {
            invalid_text(errors, &values_path.index(at), value, names::label_value(value));
        }
    }
}

fn field_requirement(errors: &mut ErrorList, requirement: &Value, path: &Path<'_>) {
    let values_path = path.child("values");
    match requirement.text("operator") {
        "In" | "NotIn" if requirement.items("values").len() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&values_path, why));
        }
        "In" | "NotIn" => {}
        operator => errors.push(Error::invalid(&path.child("operator"), operator, "not a valid selector operator")),
    }
    match requirement.text("key") {
        "metadata.name" => {
            for (at, value) in requirement.texts("values").enumerate() {
                invalid_text(errors, &values_path.index(at), value, names::dns1123_subdomain(value, false));
            }
        }
        key => errors.push(Error::invalid(&path.child("key"), key, "not a valid field selector key")),
    }
}

fn pod_affinity_term(errors: &mut ErrorList, term: &Value, path: &Path<'_>, options: Options<'_>) {
    let lenient = Leniency { invalid_values: options.lenient.invalid_label_values, ..Leniency::default() };
    for field in ["labelSelector", "namespaceSelector"] {
        errors.extend(selector::validate(term.get(field), &path.child(field), lenient));
    }
    for name in term.texts("namespaces") {
        invalid_text(errors, &path.child("namespace"), name, names::dns1123_label(name, false));
    }
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(errors, term, field, path);
    }
    // The path of what it finds is upstream's.
    keys_in_selector(errors, term, path);
    for (at, key) in term.texts("matchLabelKeys").enumerate() {
        if term.texts("mismatchLabelKeys").any(|other| other == key) {
            let keys = path.child("matchLabelKeys");
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(Error::invalid(&keys.index(at), key, why));
        }
    }
    let key = term.text("topologyKey");
    let key_path = path.child("topologyKey");
    if key.is_empty() {
        errors.push(Error::required(&key_path, "can not be empty"));
    }
    invalid_text(errors, &key_path, key, names::qualified_name(key));
}

fn label_keys(errors: &mut ErrorList, term: &Value, field: &str, path: &Path<'_>) {
    let keys_path = path.child(field);
    if term.items(field).is_empty() {
        return;
    }
    if !term.has("labelSelector") {
        errors.push(Error::forbidden(&keys_path, "must not be specified when labelSelector is not set"));
        return;
    }
    for (at, key) in term.texts(field).enumerate() {
        invalid_text(errors, &keys_path.index(at), key, names::qualified_name(key));
    }
}

/// Creation turns label keys into expressions; another condition on the same label is the client's own.
fn keys_in_selector(errors: &mut ErrorList, term: &Value, path: &Path<'_>) {
    let Some(selector) = term.get("labelSelector") else { return };
    let mut seen: BTreeSet<&str> = selector.entries("matchLabels").keys().map(|key| key.as_str()).collect();
    for expression in selector.items("matchExpressions") {
        let key = expression.text("key");
        if !seen.insert(key)
            && let Some(at) = term.texts("matchLabelKeys").position(|candidate| candidate == key)
        {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&path.index(at), key, why));
        }
    }
}

/// Tolerations.
pub(super) fn tolerations(errors: &mut ErrorList, tolerations: &[Value], path: &Path<'_>) {
    for (at, toleration) in tolerations.iter().enumerate() {
        let toleration_path = path.index(at);
        let (key, operator, value) = (toleration.text("key"), toleration.text("operator"), toleration.text("value"));
        let effect = toleration.text("effect");
        let operator_path = toleration_path.child("operator");
        if !key.is_empty() {
            invalid_text(errors, &toleration_path.child("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&operator_path, operator, why));
        }
        let effect_path = toleration_path.child("effect");
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&effect_path, effect, why));
        }
        match operator {
            "Equal" | "" => {
                let messages = names::label_value(value);
                if !messages.is_empty() {
                    errors.push(Error::invalid(&operator_path, value, messages.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&operator_path, value, why));
            }
            "Exists" => {}
            // The feature TaintTolerationComparisonOperators is off by default; the list is upstream's all the same.
            "Lt" | "Gt" => {
                errors.push(Error::not_supported(&operator_path, operator, &["Equal", "Exists", "Lt", "Gt"]));
            }
            operator => errors.push(Error::not_supported(&operator_path, operator, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            supported(errors, &effect_path, effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        }
    }
}

/// Scheduling gates.
pub(super) fn gates(errors: &mut ErrorList, gates: &[Value], path: &Path<'_>) {
    let mut seen = BTreeSet::new();
    for (at, gate) in gates.iter().enumerate() {
        let name = gate.text("name");
        invalid_text(errors, &path.index(at), name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path.index(at), name));
        }
    }
}

/// Topology spread constraints.
pub(super) fn spread_constraints(errors: &mut ErrorList, constraints: &[Value], path: &Path<'_>, options: Options<'_>) {
    for (at, constraint) in constraints.iter().enumerate() {
        let path = path.index(at);
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(Error::invalid(&path.child("maxSkew"), skew, NOT_POSITIVE));
        }
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        if key.is_empty() {
            errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
        }
        supported(errors, &path.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        let is_same = |other: &Value| other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action;
        if constraints[at + 1..].iter().any(is_same) {
            let tuple = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&tuple, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = constraint.int("minDomains") {
            let domains_path = path.child("minDomains");
            if domains <= 0 {
                errors.push(Error::invalid(&domains_path, domains, NOT_POSITIVE));
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(Error::invalid(&domains_path, domains, why));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.text_if(field) {
                supported(errors, &path.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(errors, constraint, "matchLabelKeys", &path);
        keys_in_selector(errors, constraint, &path);
        if !options.lenient.invalid_spread_selectors {
            let selector = constraint.get("labelSelector");
            errors.extend(selector::validate(selector, &path.child("labelSelector"), Leniency::default()));
        }
    }
}

fn pod_affinity_terms(spec: &Value) -> impl Iterator<Item = &Value> {
    let sides = ["podAffinity", "podAntiAffinity"].into_iter().filter_map(|side| spec.at(&["affinity", side]));
    sides.flat_map(|terms| {
        let preferred = terms.items(PREFERRED).iter().filter_map(|weighted| weighted.get("podAffinityTerm"));
        terms.items(REQUIRED).iter().chain(preferred)
    })
}

pub(super) fn has_invalid_affinity_selectors(spec: &Value) -> bool {
    pod_affinity_terms(spec).any(|term| {
        ["labelSelector", "namespaceSelector"].iter().any(|field| selector::has_invalid_values(term.get(field)))
    })
}

pub(super) fn has_invalid_spread_selectors(spec: &Value) -> bool {
    let path = Path::ROOT;
    spec.items("topologySpreadConstraints")
        .iter()
        .any(|constraint| !selector::validate(constraint.get("labelSelector"), &path, Leniency::default()).is_empty())
}

pub(super) fn has_invalid_node_affinity_values(spec: &Value) -> bool {
    let terms = spec.list_at(&["affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"]);
    terms
        .iter()
        .flat_map(|term| term.items("matchExpressions"))
        .any(|requirement| requirement.texts("values").any(|value| !names::label_value(value).is_empty()))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn affinity_is_checked() {
        pods(&expect![[r#"
                nodeSelector = {"a b":"c d"}
                  spec.nodeSelector: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                  spec.nodeSelector: Invalid value: "c d": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                affinity = {"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[]}}}
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term
                affinity = {"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"a b","operator":"X"},{"key":"a","operator":"In"},{"key":"a","operator":"Exists","values":["x"]},{"key":"a","operator":"Gt","values":["x","y"]}]}]}}}
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "X": not a valid selector operator
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[2].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[3].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
                affinity = {"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["A_","b"]},{"key":"foo","operator":"X","values":["a"]}]}]}}}
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values[0]: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[1].operator: Invalid value: "X": not a valid selector operator
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[1].key: Invalid value: "foo": not a valid field selector key
                affinity = {"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":0,"preference":{}},{"weight":101,"preference":{"matchExpressions":[{"key":"","operator":""}]}}]}}
                  spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
                  spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].weight: Invalid value: 101: must be in the range 1-100
                  spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].preference.matchExpressions[0].operator: Invalid value: "": not a valid selector operator
                  spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].preference.matchExpressions[0].key: Invalid value: "": name part must be non-empty
                  spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].preference.matchExpressions[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                affinity = {"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":""}]}}
                  spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty
                  spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty
                  spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                    spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod
                affinity = {"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":101,"podAffinityTerm":{"topologyKey":"a b","namespaces":["A_"],"labelSelector":{"matchLabels":{"a":"b c"}}}}]}}
                  spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100
                  spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector.matchLabels: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                  spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.namespace: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character
                  spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                affinity = {"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"a","matchLabelKeys":["a"]}]}}
                  spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set
                    spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod
                metadata.labels = {"x":"1"} ; affinity = {"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"a","labelSelector":{"matchLabels":{"a":"b"}},"matchLabelKeys":["x"],"mismatchLabelKeys":["x","y z"]}]}}
                  spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].mismatchLabelKeys[1]: Invalid value: "y z": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                  spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0][0]: Invalid value: "x": exists in both matchLabelKeys and labelSelector
                  spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value: "x": exists in both matchLabelKeys and mismatchLabelKeys
            "#]]);
    }

    #[test]
    fn tolerations_and_spreads_are_checked() {
        pods(&expect![[r#"
                tolerations = [{}]
                  spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"
                tolerations = [{"key":"a b","operator":"Exists"}]
                  spec.tolerations[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                tolerations = [{"key":"a","operator":"X"}]
                  spec.tolerations[0].operator: Unsupported value: "X": supported values: "Equal", "Exists"
                tolerations = [{"key":"a","operator":"Exists","value":"v"}]
                  spec.tolerations[0].operator: Invalid value: "v": value must be empty when `operator` is 'Exists'
                tolerations = [{"key":"a","operator":"Exists","effect":"NoSchedule","tolerationSeconds":5}]
                  spec.tolerations[0].effect: Invalid value: "NoSchedule": effect must be 'NoExecute' when `tolerationSeconds` is set
                tolerations = [{"key":"a","operator":"Exists","effect":"X"}]
                  spec.tolerations[0].effect: Unsupported value: "X": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
                topologySpreadConstraints = [{"maxSkew":0,"topologyKey":"","whenUnsatisfiable":"X"}]
                  spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
                  spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
                  spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "X": supported values: "DoNotSchedule", "ScheduleAnyway"
                    spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod
                topologySpreadConstraints = [{"maxSkew":1,"topologyKey":"a","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}},{"maxSkew":2,"topologyKey":"a","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}]
                  spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{a, DoNotSchedule}"
                topologySpreadConstraints = [{"maxSkew":1,"topologyKey":"a","whenUnsatisfiable":"ScheduleAnyway","minDomains":0,"nodeAffinityPolicy":"X","labelSelector":{"matchLabels":{"a":"b"}},"matchLabelKeys":["a","b c"]}]
                  spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero
                  spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway
                  spec.topologySpreadConstraints[0].nodeAffinityPolicy: Unsupported value: "X": supported values: "Honor", "Ignore"
                  spec.topologySpreadConstraints[0].matchLabelKeys[1]: Invalid value: "b c": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                schedulingGates = [{"name":""}]
                  spec.schedulingGates[0]: Invalid value: "": name part must be non-empty
                  spec.schedulingGates[0]: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                schedulingGates = [{"name":"a"},{"name":"a"}]
                  spec.schedulingGates[1]: Duplicate value: "a"
                nodeName = "n" ; schedulingGates = [{"name":"a"}]
                  spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared
            "#]]);
    }
}
