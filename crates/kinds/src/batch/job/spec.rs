//! What a Job must be like.

use std::collections::BTreeSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::selector::{self, Selector};

use crate::checks::{internal, invalid_text, not_negative, supported};
use crate::core::pod::look::Look;
use crate::core::pod::template::{self, TEMPLATE};
use crate::core::pod::validate::{self, Options, invalid_without_value, quoted_list};

use super::{NAME_LABELS, UID_LABELS, indexes, is_indexed};

/// The most pods at once, and the most failed indexes, of an Indexed Job.
const INDEXES_MAX: i64 = 100_000;

/// With more completions than this, failed indexes are limited further.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const MANY_COMPLETIONS_INDEXES_MAX: i64 = 10_000;

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
const MANAGER_LEN_MAX: usize = 63;
const SUCCEEDED_INDEXES_LEN_MAX: usize = 64 * 1024;

/// A new Job, or an updated one.
pub(super) fn job(errors: &mut ErrorList, object: &Value, old: Option<&Value>) {
    generated_selector(errors, object, old);
    spec(errors, object, old);
    let completions = object.int_at(&["spec", "completions"]).filter(|completions| *completions > 0);
    if let (true, Some(completions)) = (is_indexed(object), completions) {
        let name = object.str_at(&["metadata", "name"]);
        // The host name of the last pod.
        let host = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&host, false).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(Error::invalid(&Path::new("metadata.name"), name, why));
        }
    }
}

/// Unless the user takes care of the selector, the labels and the selector must be the generated ones.
fn generated_selector(errors: &mut ErrorList, object: &Value, old: Option<&Value>) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let Some(wanted) = spec.get("selector").filter(|_| !spec.is_true("manualSelector")) else { return };
    let [name, uid] = ["name", "uid"].map(|field| object.str_at(&["metadata", field]));
    if uid.is_empty() {
        errors.push(Error::required(&Path::new("metadata.uid"), ""));
    }
    let [old_name, new_name] = NAME_LABELS;
    let [old_uid, new_uid] = UID_LABELS;
    let mut expected = vec![(old_uid, uid), (old_name, name)];
    // Jobs from before the labels with prefixes need not have them.
    let had = |label: &str| old.is_none_or(|old| old.at(&label_path(label)).is_some());
    if had(new_name) && had(new_uid) {
        expected.extend([(new_uid, uid), (new_name, name)]);
    }
    let labels_path = Path::new("spec.template.metadata.labels");
    for (label, value) in &expected {
        let why = format!("must be '{value}'");
        match object.at(&label_path(label)).and_then(Value::as_str) {
            None => errors.push(Error::required(&labels_path.key(label), why)),
            Some(actual) if actual != *value => {
                let labels = spec.at(&["template", "metadata", "labels"]).cloned().unwrap_or_default();
                errors.push(Error::invalid(&labels_path.key(label), labels, why));
            }
            Some(_) => {}
        }
    }
    if let Ok(selector) = Selector::from_value(Some(wanted)) {
        let value_of = |label: &str| expected.iter().find(|(key, _)| *key == label).map(|(_, value)| *value);
        if !selector.matches(value_of) {
            let why = "`selector` not auto-generated";
            errors.push(Error::invalid(&Path::new("spec.selector"), wanted.clone(), why));
        }
    }
}

fn label_path(label: &str) -> [&str; 5] {
    ["spec", "template", "metadata", "labels", label]
}

/// The spec of a Job with its selector.
pub(super) fn spec(errors: &mut ErrorList, object: &Value, old: Option<&Value>) {
    let path = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    without_selector(errors, spec, &path, template::options(old, TEMPLATE));
    let selector_path = path.child("selector");
    let lenient = selector::Leniency {
        invalid_values: old.is_some_and(|old| selector::has_invalid_values(old.at(&["spec", "selector"]))),
        ..selector::Leniency::default()
    };
    match spec.get("selector") {
        None => errors.push(Error::required(&selector_path, "")),
        wanted => errors.extend(selector::validate(wanted, &selector_path, lenient)),
    }
    let labels = spec.at(&["template", "metadata", "labels"]);
    let matches = Selector::from_value(spec.get("selector"))
        .map_or(true, |selector| selector.matches_labels(labels.and_then(Value::as_map)));
    if !matches {
        let why = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&path.child("template.metadata.labels"), labels.cloned().unwrap_or_default(), why));
    }
}

/// The spec of a Job, but for its selector.
pub(in crate::batch) fn without_selector(errors: &mut ErrorList, spec: &Value, path: &Path<'_>, options: Options<'_>) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in numbers {
        not_negative(errors, &path.child(field), spec.int(field));
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = spec.text_if("managedBy") {
        let manager_path = path.child("managedBy");
        if manager.is_empty() {
            errors.push(Error::required(&manager_path, ""));
        } else {
            for (part, why) in names::domain_prefixed_path(manager) {
                errors.push(Error::invalid(&manager_path, part, why));
            }
        }
        if manager.len() > MANAGER_LEN_MAX {
            errors.push(Error::too_long(&manager_path, MANAGER_LEN_MAX));
        }
    }
    match spec.text_if("completionMode") {
        Some("Indexed") => indexed(errors, spec, path),
        Some("NonIndexed") | None => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(number) = spec.int(field) {
                    errors.push(Error::invalid(&path.child(field), number, "requires indexed completion mode"));
                }
            }
        }
        Some(mode) => {
            errors.push(Error::not_supported(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]));
        }
    }
    if let Some(policy) = spec.get("podFailurePolicy") {
        failure_policy(errors, spec, policy, &path.child("podFailurePolicy"));
    }
    if let Some(policy) = spec.get("successPolicy") {
        success_policy(errors, spec, policy, &path.child("successPolicy"));
    }
    if let Some(policy) = spec.text_if("podReplacementPolicy") {
        let policies: &[&str] =
            if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        supported(errors, &path.child("podReplacementPolicy"), policy, policies);
    }
    let pod_template = spec.get("template").unwrap_or(&Value::Null);
    validate::template(errors, pod_template, &path.child("template"), options);
    let restart_path = path.child("template.spec.restartPolicy");
    match pod_template.str_at(&["spec", "restartPolicy"]) {
        "" | "Always" => {
            errors.push(Error::required(&restart_path, "valid values: \"OnFailure\", \"Never\""));
        }
        "Never" => {}
        "OnFailure" if !spec.has("podFailurePolicy") => {}
        "OnFailure" => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Error::invalid(&restart_path, "OnFailure", why));
        }
        policy => errors.push(Error::not_supported(&restart_path, policy, &["OnFailure", "Never"])),
    }
}

/// An Indexed Job counts indexes, of which there must not be too many.
fn indexed(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    let [completions, parallelism, max_failed] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| spec.int(field));
    let [completions_path, parallelism_path, max_failed_path] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| path.child(field));
    let at_most = |errors: &mut ErrorList, path: &Path<'_>, number: Option<i64>, max: i64, more: &str| {
        if let Some(number) = number.filter(|number| *number > max) {
            errors.push(Error::invalid(path, number, format!("must be less than or equal to {max}{more}")));
        }
    };
    if completions.is_none() {
        errors.push(Error::required(&completions_path, "when completion mode is Indexed"));
    }
    at_most(errors, &parallelism_path, parallelism, INDEXES_MAX, " when completion mode is Indexed");
    if let (Some(completions), Some(max_failed)) = (completions, max_failed)
        && max_failed > completions
    {
        errors.push(Error::invalid(&max_failed_path, max_failed, "must be less than or equal to completions"));
    }
    at_most(errors, &max_failed_path, max_failed, INDEXES_MAX, "");
    let has_many = completions.is_some_and(|completions| completions > COMPLETIONS_SOFT_MAX);
    if has_many && spec.has("backoffLimitPerIndex") {
        if max_failed.is_none() {
            let why = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
            errors.push(Error::required(&max_failed_path, why));
        }
        let more = format!(" when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index");
        at_most(errors, &parallelism_path, parallelism, MANY_COMPLETIONS_INDEXES_MAX, &more);
        at_most(errors, &max_failed_path, max_failed, MANY_COMPLETIONS_INDEXES_MAX, &more);
    }
}

fn too_many(errors: &mut ErrorList, path: &Path<'_>, count: usize, max: usize) {
    if count > max {
        errors.push(Error::too_many(path, count, max));
    }
}

/// A required word, whose absence upstream answers with the words that there are.
fn one_of(errors: &mut ErrorList, path: &Path<'_>, word: &str, words: &[&str]) {
    match word {
        "" => errors.push(Error::required(path, format!("valid values: {}", quoted_list(words)))),
        word => supported(errors, path, word, words),
    }
}

/// What to do about pods that fail in certain ways.
fn failure_policy(errors: &mut ErrorList, spec: &Value, policy: &Value, path: &Path<'_>) {
    let rules_path = path.child("rules");
    let rules = policy.items("rules");
    too_many(errors, &rules_path, rules.len(), RULES_MAX);
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| spec.list_at(&["template", "spec", list]))
        .map(|container| container.text("name"))
        .collect();
    for (at, rule) in rules.iter().enumerate() {
        let path = rules_path.index(at);
        match rule.text("action") {
            "FailIndex" if spec.has("backoffLimitPerIndex") => {}
            "FailIndex" => {
                let why = "requires the backoffLimitPerIndex to be set";
                errors.push(Error::invalid(&path.child("action"), "FailIndex", why));
            }
            action => one_of(errors, &path.child("action"), action, &["Count", "FailIndex", "FailJob", "Ignore"]),
        }
        if let Some(codes) = rule.get("onExitCodes") {
            exit_codes(errors, codes, &path.child("onExitCodes"), &containers);
        }
        let patterns = rule.items("onPodConditions");
        let patterns_path = path.child("onPodConditions");
        too_many(errors, &patterns_path, patterns.len(), PATTERNS_MAX);
        for (at, pattern) in patterns.iter().enumerate() {
            let pattern_path = patterns_path.index(at);
            let name = pattern.text("type");
            invalid_text(errors, &pattern_path.child("type"), name, names::qualified_name(name));
            one_of(errors, &pattern_path.child("status"), pattern.text("status"), &["False", "True", "Unknown"]);
        }
        match (rule.has("onExitCodes"), !patterns.is_empty()) {
            (true, true) => errors
                .push(invalid_without_value(&path, "specifying both OnExitCodes and OnPodConditions is not supported")),
            (false, false) => errors
                .push(invalid_without_value(&path, "specifying one of OnExitCodes and OnPodConditions is required")),
            _ => {}
        }
    }
}

fn exit_codes(errors: &mut ErrorList, on: &Value, path: &Path<'_>, containers: &BTreeSet<&str>) {
    one_of(errors, &path.child("operator"), on.text("operator"), &["In", "NotIn"]);
    if let Some(name) = on.text_if("containerName").filter(|name| !containers.contains(name)) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(&path.child("containerName"), name, why));
    }
    let values_path = path.child("values");
    let values: Vec<i64> = on.items("values").iter().filter_map(Value::as_int).collect();
    if values.is_empty() {
        let shown = on.get("values").cloned().unwrap_or_default();
        errors.push(Error::invalid(&values_path, shown, "at least one value is required"));
    }
    too_many(errors, &values_path, values.len(), EXIT_CODES_MAX);
    for (at, value) in values.iter().enumerate() {
        if *value == 0 && on.text("operator") == "In" {
            errors.push(Error::invalid(&values_path.index(at), 0, "must not be 0 for the In operator"));
        }
        if values[..at].contains(value) {
            errors.push(Error::duplicate(&values_path.index(at), *value));
        }
    }
    if !values.is_sorted() {
        let shown = on.get("values").cloned().unwrap_or_default();
        errors.push(Error::invalid(&values_path, shown, "must be ordered"));
    }
}

/// When an Indexed Job has succeeded before all its indexes have.
fn success_policy(errors: &mut ErrorList, spec: &Value, policy: &Value, path: &Path<'_>) {
    let rules = policy.items("rules");
    if spec.text("completionMode") != "Indexed" {
        let shown = internal(Some(policy), "io.k8s.api.batch.v1.SuccessPolicy");
        errors.push(Error::invalid(path, shown, "requires indexed completion mode"));
        return;
    }
    let rules_path = path.child("rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&rules_path, why));
    }
    too_many(errors, &rules_path, rules.len(), RULES_MAX);
    // Upstream stumbles over an absent number of completions, which is an error already.
    let completions = spec.int("completions").unwrap_or(0);
    for (at, rule) in rules.iter().enumerate() {
        success_rule(errors, rule, completions, &rules_path.index(at));
    }
}

fn success_rule(errors: &mut ErrorList, rule: &Value, completions: i64, path: &Path<'_>) {
    let (count, list) = (rule.int("succeededCount"), rule.text_if("succeededIndexes"));
    if count.is_none() && list.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, why));
    }
    let listed = list.map(|list| {
        let list_path = path.child("succeededIndexes");
        if list.len() > SUCCEEDED_INDEXES_LEN_MAX {
            errors.push(Error::too_long(&list_path, SUCCEEDED_INDEXES_LEN_MAX));
        }
        indexes::count(list, completions).unwrap_or_else(|why| {
            errors.push(Error::invalid(&list_path, list, format!("error parsing succeededIndexes: {why}")));
            0
        })
    });
    let Some(count) = count else { return };
    let count_path = path.child("succeededCount");
    not_negative(errors, &count_path, Some(count));
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.push(Error::invalid(&count_path, count, why));
    }
    if let Some(listed) = listed.filter(|listed| count > *listed) {
        let why = format!(
            "must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.push(Error::invalid(&count_path, count, why));
    }
}
