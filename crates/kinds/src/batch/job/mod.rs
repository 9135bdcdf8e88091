//! Job: runs pods until enough of them succeed.

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::field::{ErrorList, Path};
use api_semantics::{selector, time};

use crate::Kind;
use crate::checks::name;
use crate::core::pod::look::{Fill, Look};
use crate::core::pod::template::{self, TEMPLATE};
use crate::core::pod::warnings;

mod indexes;
pub(super) mod spec;
mod status;
mod update;

pub(crate) struct Job;

/// The labels of a Job's pods with its name; the first is from before labels had prefixes.
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

/// The labels of a Job's pods with its uid.
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

const COMPLETE: &str = "Complete";
const FAILED: &str = "Failed";
const FAILURE_TARGET: &str = "FailureTarget";
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const SUSPENDED: &str = "Suspended";

impl Kind for Job {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "jobs"
    }

    fn default(&self, object: &mut Value) {
        let spec = object.entry(&["spec"]);
        if !spec.has("completions") {
            if !spec.has("parallelism") {
                spec.set(&["completions"], 1);
            }
        }
        spec.fill("parallelism", 1);
        let backoff_limit = if spec.has("backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
        spec.fill("backoffLimit", backoff_limit);
        spec.fill("completionMode", "NonIndexed");
        spec.fill("suspend", false);
        let replacement = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        spec.fill("podReplacementPolicy", replacement);
        spec.fill("manualSelector", false);
        default_failure_policy(object, &["spec"]);
        template::default(object, TEMPLATE);
    }

    fn prepare_create(&self, object: &mut Value) {
        if object.at(&["spec", "manualSelector"]).and_then(Value::as_bool) != Some(true) {
            generate_selector(object);
        }
        // Upstream does this when it fills defaults, but then the object and the template share one map of labels, and
        // so the generated ones.
        template::labels_from_template(object, TEMPLATE);
        template::prepare(object, None, TEMPLATE);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        template::labels_from_template(new, TEMPLATE);
        template::prepare(new, Some(old), TEMPLATE);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec::job(&mut errors, object, None);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        update::check(new, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        status::check(new, old)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut all = Vec::new();
        if old.is_none() {
            all.extend(warnings::name(new, "Pod names and hostnames"));
        }
        all.extend(spec_warnings(new, old, &["spec"]));
        all
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        Some(vec![
            name(object),
            status_cell(object).into(),
            completions_cell(object).into(),
            duration_cell(object, now).into(),
            time::age(object, now),
            containers,
            images,
            selector::shown(object.at(&["spec", "selector"])).into(),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["status.successful"]
    }

    fn selectable_field(&self, object: &Value, _label: &str) -> SmolStr {
        format_smolstr!("{}", object.int_at(&["status", "succeeded"]).unwrap_or(0))
    }
}

/// A condition's status is True unless it says otherwise.
pub(super) fn default_failure_policy(object: &mut Value, spec: &[&str]) {
    let Some(spec) = object.at_mut(spec) else { return };
    spec.with("podFailurePolicy", |policy| {
        policy.each("rules", |rule| {
            rule.each("onPodConditions", |pattern| pattern.fill_zero("status", "True"));
        });
    });
}

/// Makes the pods findable: labels with the name and uid of the Job, and a selector for the uid.
fn generate_selector(object: &mut Value) {
    let [name, uid] = ["name", "uid"].map(|field| SmolStr::new(object.str_at(&["metadata", field])));
    let mut labels = object.map_at(&["spec", "template", "metadata", "labels"]).cloned().unwrap_or_else(Map::new);
    for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
        for key in keys {
            if !labels.contains_key(key) {
                labels.insert(key, value.clone());
            }
        }
    }
    object.set(&["spec", "template", "metadata", "labels"], labels);
    let [_, uid_label] = UID_LABELS;
    let selected = ["spec", "selector", "matchLabels", uid_label];
    if object.at(&selected).is_none() {
        object.set(&selected, uid);
    }
}

/// The warnings for a Job's spec: of a new one, and of one whose generation moved on.
pub(super) fn spec_warnings(new: &Value, old: Option<&Value>, path: &[&str]) -> Vec<String> {
    const MANY_COMPLETIONS: i64 = 100_000;
    const MANY_AT_ONCE: i64 = 10_000;
    let generation = |object: &Value| object.int_at(&["metadata", "generation"]);
    let Some(spec) = new.at(path).filter(|_| old.is_none_or(|old| generation(old) != generation(new))) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if spec.text("completionMode") == "Indexed"
        && spec.int("completions").unwrap_or(0) > MANY_COMPLETIONS
        && spec.int("parallelism").unwrap_or(0) > MANY_AT_ONCE
    {
        all.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            path.join(".")
        ));
    }
    let spec_path = path.join(".");
    let spec_path = Path::new(&spec_path);
    if let Some(template) = spec.get("template") {
        all.extend(warnings::template(template, &spec_path.child("template")));
    }
    all
}

fn is_true(object: &Value, condition: &str) -> bool {
    has_condition(object, condition, "True")
}

fn has_condition(object: &Value, condition: &str, status: &str) -> bool {
    let mut conditions = object.list_at(&["status", "conditions"]).iter();
    conditions.any(|item| item.text("type") == condition && item.text("status") == status)
}

fn is_finished(object: &Value) -> bool {
    is_true(object, COMPLETE) || is_true(object, FAILED)
}

fn is_indexed(object: &Value) -> bool {
    object.str_at(&["spec", "completionMode"]) == "Indexed"
}

fn status_cell(object: &Value) -> &'static str {
    let is_going = !object.str_at(&["metadata", "deletionTimestamp"]).is_empty();
    let finished = [COMPLETE, FAILED].into_iter().find(|condition| is_true(object, condition));
    let others = [SUSPENDED, FAILURE_TARGET, SUCCESS_CRITERIA_MET];
    match (finished, is_going) {
        (Some(condition), _) => condition,
        (None, true) => "Terminating",
        (None, false) => others.into_iter().find(|condition| is_true(object, condition)).unwrap_or("Running"),
    }
}

fn completions_cell(object: &Value) -> SmolStr {
    let succeeded = object.int_at(&["status", "succeeded"]).unwrap_or(0);
    let parallelism = object.int_at(&["spec", "parallelism"]).unwrap_or(0);
    match object.int_at(&["spec", "completions"]) {
        Some(completions) => format_smolstr!("{succeeded}/{completions}"),
        None if parallelism > 1 => format_smolstr!("{succeeded}/1 of {parallelism}"),
        None => format_smolstr!("{succeeded}/1"),
    }
}

fn duration_cell(object: &Value, now: i64) -> String {
    let [start, end] = ["startTime", "completionTime"].map(|field| time::rfc3339(object.str_at(&["status", field])));
    start.map(|start| time::human_duration(end.unwrap_or(now) - start)).unwrap_or_default()
}
