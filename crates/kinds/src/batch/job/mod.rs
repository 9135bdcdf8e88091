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

    fn deletion_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        let spec = object.entry(&["spec"]);
        if !spec.has("parallelism") {
            spec.fill("completions", 1);
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

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::checks::tests::{cells, defaults};
    use crate::core::pod::tests::{created, updated};

    fn base() -> Json {
        json!({"metadata": {"name": "x", "namespace": "ns", "uid": "u"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
    }

    #[test]
    fn one_pod_is_run_six_times_at_most() {
        defaults(
            &Job,
            r#"{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"{"spec":{"completions":1,"parallelism":1,"backoffLimit":6,"completionMode":"NonIndexed","suspend":false,"podReplacementPolicy":"TerminatingOrFailed","manualSelector":false,"template":{"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#,
        );
    }

    #[test]
    fn some_defaults_depend_on_others() {
        defaults(
            &Job,
            r#"{"spec":{"parallelism":2,"backoffLimitPerIndex":1,"podFailurePolicy":{"rules":[{"onPodConditions":[{"type":"a"}]}]},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"{"spec":{"parallelism":2,"backoffLimit":2147483647,"backoffLimitPerIndex":1,"podFailurePolicy":{"rules":[{"onPodConditions":[{"type":"a","status":"True"}]}]},"completionMode":"NonIndexed","suspend":false,"podReplacementPolicy":"Failed","manualSelector":false,"template":{"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#,
        );
    }

    #[test]
    fn pods_are_found_by_uid() {
        let mut job = crate::core::pod::tests::tree(&base());
        Job.default(&mut job);
        Job.prepare_create(&mut job);
        let labels = json!({
            "batch.kubernetes.io/controller-uid": "u",
            "batch.kubernetes.io/job-name": "x",
            "controller-uid": "u",
            "job-name": "x",
        });
        let labels = crate::core::pod::tests::tree(&labels);
        assert_eq!(job.at(&["spec", "template", "metadata", "labels"]), Some(&labels));
        assert_eq!(job.at(&["metadata", "labels"]), Some(&labels));
        assert_eq!(job.str_at(&["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"]), "u");
    }

    #[test]
    fn jobs_are_checked() {
        created(
            &Job,
            &base(),
            &expect![[r#"
                parallelism = -1 ; completions = -1 ; backoffLimit = -1 ; ttlSecondsAfterFinished = -1
                  spec.parallelism: Invalid value: -1: must be greater than or equal to 0
                  spec.completions: Invalid value: -1: must be greater than or equal to 0
                  spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0
                  spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0
                completionMode = "X"
                  spec.completionMode: Unsupported value: "X": supported values: "NonIndexed", "Indexed"
                completionMode = "Indexed"
                completionMode = "Indexed" ; completions = 200001 ; backoffLimitPerIndex = 1 ; parallelism = 200000
                  spec.parallelism: Invalid value: 200000: must be less than or equal to 100000 when completion mode is Indexed
                  spec.maxFailedIndexes: Required value: must be specified when completions is above 100000
                  spec.parallelism: Invalid value: 200000: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index
                    spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail
                maxFailedIndexes = 1
                  spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified
                  spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode
                manualSelector = true
                  spec.selector: Required value
                  spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
                manualSelector = true ; selector = {"matchLabels":{"a":"b"}}
                  spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
                selector = {"matchLabels":{"a":"b"}}
                  spec.selector: Invalid value: {"matchLabels":{"a":"b","batch.kubernetes.io/controller-uid":"u"}}: `selector` not auto-generated
                  spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"x","controller-uid":"u","job-name":"x"}: `selector` does not match template `labels`
                spec.template.metadata = {"labels":{"job-name":"y"}}
                  spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u","batch.kubernetes.io/job-name":"x","controller-uid":"u","job-name":"y"}: must be 'x'
                managedBy = "x"
                  spec.managedBy: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")
                podReplacementPolicy = "X"
                  spec.podReplacementPolicy: Unsupported value: "X": supported values: "Failed", "TerminatingOrFailed"
                spec.template.spec.restartPolicy = "Always"
                  spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
                spec.template.spec.restartPolicy = "OnFailure" ; podFailurePolicy = {"rules":[]}
                  spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified
                podFailurePolicy = {"rules":[{}]}
                  spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]
                  spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required
                podFailurePolicy = {"rules":[{"action":"X","onExitCodes":{"operator":"In","values":[0,2,1,1],"containerName":"z"}}]}
                  spec.podFailurePolicy.rules[0].action: Unsupported value: "X": supported values: "Count", "FailIndex", "FailJob", "Ignore"
                  spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "z": must be one of the container or initContainer names in the pod template
                  spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator
                  spec.podFailurePolicy.rules[0].onExitCodes.values[3]: Duplicate value: 1
                  spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [0,2,1,1]: must be ordered
                podFailurePolicy = {"rules":[{"action":"FailIndex","onExitCodes":{"operator":"X","values":[]},"onPodConditions":[{"type":"a b","status":"X"}]}]}
                  spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set
                  spec.podFailurePolicy.rules[0].onExitCodes.operator: Unsupported value: "X": supported values: "In", "NotIn"
                  spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: []: at least one value is required
                  spec.podFailurePolicy.rules[0].onPodConditions[0].type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                  spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: "X": supported values: "False", "True", "Unknown"
                  spec.podFailurePolicy.rules[0]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported
                successPolicy = {"rules":[{"succeededCount":1}]}
                  spec.successPolicy: Invalid value: {"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}: requires indexed completion mode
                completionMode = "Indexed" ; completions = 5 ; successPolicy = {"rules":[{},{"succeededCount":9,"succeededIndexes":"0-2"},{"succeededIndexes":"3,1"}]}
                  spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified
                  spec.successPolicy.rules[1].succeededCount: Invalid value: 9: must be less than or equal to 5 (the number of specified completions)
                  spec.successPolicy.rules[1].succeededCount: Invalid value: 9: must be less than or equal to 3 (the number of indexes in the specified succeededIndexes field)
                  spec.successPolicy.rules[2].succeededIndexes: Invalid value: "3,1": error parsing succeededIndexes: non-increasing order, previous: 3, current: 1
                completionMode = "Indexed" ; completions = 20000 ; metadata.name = "a.b"
                  metadata.name: Invalid value: "a.b": will not able to create pod with invalid DNS label: a.b-19999
                    metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]
            "#]],
        );
    }

    /// A Job as it was stored.
    fn stored(line: &str) -> Json {
        let mut job = crate::core::pod::tests::changed(&base(), line);
        let labels = json!({
            "batch.kubernetes.io/controller-uid": "u",
            "batch.kubernetes.io/job-name": "x",
            "controller-uid": "u",
            "job-name": "x",
        });
        job["spec"]["template"]["metadata"]["labels"] = labels;
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"] = "u".into();
        job
    }

    #[test]
    fn little_of_a_job_changes() {
        updated(
            &Job,
            &stored("completions = 3"),
            "",
            &expect![[r#"
                parallelism = 4
                completions = 4
                  spec.completions: Invalid value: 4: field is immutable
                completionMode = "Indexed"
                  spec.completionMode: Invalid value: "Indexed": field is immutable
                selector = {"matchLabels":{"job-name":"x"}}
                  spec.selector: Invalid value: {"matchLabels":{"job-name":"x"}}: field is immutable
                backoffLimitPerIndex = 1
                  spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode
                  spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode
                  spec.backoffLimitPerIndex: Invalid value: 1: field is immutable
                managedBy = "a.b/c"
                  spec.managedBy: Invalid value: "a.b/c": field is immutable
            "#]],
        );
    }

    #[test]
    fn an_indexed_job_grows_with_its_parallelism() {
        updated(
            &Job,
            &stored(r#"completions = 3 ; parallelism = 3 ; completionMode = "Indexed""#),
            "",
            &expect![[r#"
                completions = 4
                  spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism
                completions = 4 ; parallelism = 4
            "#]],
        );
    }

    #[test]
    fn where_suspended_pods_run_may_change() {
        updated(
            &Job,
            &stored("suspend = true"),
            "",
            &expect![[r#"
            spec.template.spec.nodeSelector = {"a":"b"}
            spec.template.spec.affinity = {"nodeAffinity":{}}
            spec.template.spec.containers[0].resources = {"requests":{"cpu":"1"}}
            spec.template.metadata.annotations = {"a":"b"}
        "#]],
        );
    }

    #[test]
    fn statuses_are_consistent() {
        updated(
            &Job,
            &stored(r#"status = {"startTime":"2026-01-01T00:00:00Z","failed":2}"#),
            "status",
            &expect![[r#"
                status = {"active":-1,"succeeded":1}
                  status.active: Invalid value: -1: must be greater than or equal to 0
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: null: field is immutable for unsuspended job once set
                status = {"active":1,"ready":2}
                  status.ready: Invalid value: 2: cannot set more ready pods than active
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: null: field is immutable for unsuspended job once set
                status = {"conditions":[{"type":"Complete","status":"True"}]}
                  status.completionTime: Required value: completionTime is required for Complete jobs
                  status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition
                  status.startTime: Required value: startTime is required for finished job
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: null: field is immutable for unsuspended job once set
                status = {"conditions":[{"type":"Complete","status":"True"},{"type":"SuccessCriteriaMet","status":"True"}],"startTime":"2026-01-01T01:00:00Z","completionTime":"2026-01-01T00:00:00Z","active":1}
                  status.completionTime: Invalid value: "2026-01-01T00:00:00Z": must be equal to or after `startTime`
                  status.active: Invalid value: 1: active>0 is invalid for finished job
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: "2026-01-01T01:00:00Z": field is immutable for unsuspended job once set
                status = {"conditions":[{"type":"Failed","status":"True"}]}
                  status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition
                  status.startTime: Required value: startTime is required for finished job
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: null: field is immutable for unsuspended job once set
                status = {"startTime":"2026-01-01T01:00:00Z"}
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: "2026-01-01T01:00:00Z": field is immutable for unsuspended job once set
                status = {"completedIndexes":"0"}
                  status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: null: field is immutable for unsuspended job once set
                status = {"failedIndexes":"0"}
                  status.failedIndexes: Invalid value: "0": cannot set non-null failedIndexes when backoffLimitPerIndex is null
                  status.failed: Invalid value: 0: cannot decrease the failed counter
                  status.startTime: Invalid value: null: field is immutable for unsuspended job once set
                status = {"uncountedTerminatedPods":{"succeeded":["a"],"failed":["a",""]},"failed":2}
                  status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"
                  status.uncountedTerminatedPods.failed[1]: Invalid value: "": must not be empty
                  status.startTime: Invalid value: null: field is immutable for unsuspended job once set
            "#]],
        );
    }

    #[test]
    fn cells_tell_how_far_it_is() {
        for (spec, status, expect) in [
            ("", "", r#"["x","Running","0/1","","0s","","","<none>"]"#),
            (r#""parallelism":4"#, "", r#"["x","Running","0/1 of 4","","0s","","","<none>"]"#),
            (
                r#""completions":3"#,
                r#""succeeded":1,"startTime":"1969-12-31T23:50:00Z""#,
                r#"["x","Running","1/3","10m","0s","","","<none>"]"#,
            ),
            (
                r#""completions":1"#,
                r#""succeeded":1,"startTime":"1969-12-31T23:50:00Z","completionTime":"1969-12-31T23:51:00Z",
                    "conditions":[{"type":"Complete","status":"True"}]"#,
                r#"["x","Complete","1/1","60s","0s","","","<none>"]"#,
            ),
            (
                r#""completions":1"#,
                r#""conditions":[{"type":"Suspended","status":"True"}]"#,
                r#"["x","Suspended","0/1","","0s","","","<none>"]"#,
            ),
        ] {
            let metadata = r#"{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"}"#;
            cells(&Job, &format!(r#"{{"metadata":{metadata},"spec":{{{spec}}},"status":{{{status}}}}}"#), expect);
        }
    }
}
