//! CronJob: makes a Job whenever a schedule says so.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::{selector, time};

use crate::Kind;
use crate::checks::{name, not_negative, supported, text, text_or};
use crate::core::pod::look::{Fill, Look};
use crate::core::pod::template;
use crate::core::pod::warnings;

use super::job;

mod schedule;
mod time_zone;

pub(crate) struct CronJob;

const JOB_SPEC: &[&str] = &["spec", "jobTemplate", "spec"];
const TEMPLATE: &[&str] = &["spec", "jobTemplate", "spec", "template"];

/// The controller adds 11 characters to name a Job, whose name is a label's value.
const NAME_LEN_MAX: usize = 63 - 11;

impl Kind for CronJob {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "cronjobs"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    /// The template is filled as far as its pods go; what a Job has beside them is filled when it is made.
    fn default(&self, object: &mut Value) {
        let spec = object.entry(&["spec"]);
        spec.fill_zero("concurrencyPolicy", "Allow");
        spec.fill("suspend", false);
        spec.fill("successfulJobsHistoryLimit", 3);
        spec.fill("failedJobsHistoryLimit", 1);
        job::default_failure_policy(object, JOB_SPEC);
        template::default(object, TEMPLATE);
    }

    fn prepare_create(&self, object: &mut Value) {
        template::prepare(object, None, TEMPLATE);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        template::prepare(new, Some(old), TEMPLATE);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, object, None);
        let name = object.str_at(&["metadata", "name"]);
        if name.len() > NAME_LEN_MAX {
            let why = format!("must be no more than {NAME_LEN_MAX} characters");
            errors.push(Error::invalid(&Path::new("metadata.name"), name, why));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, new, Some(old));
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut all = Vec::new();
        if old.is_none() {
            all.extend(warnings::name(new, "Pod names and hostnames"));
        }
        all.extend(job::spec_warnings(new, old, JOB_SPEC));
        if old.is_some() && new.str_at(&["spec", "schedule"]).contains("TZ") {
            let why = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                       https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
            all.push(why.to_owned());
        }
        all
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        let suspended = match object.at(&["spec", "suspend"]).and_then(Value::as_bool) {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = match object.str_at(&["status", "lastScheduleTime"]) {
            "" => "<none>".into(),
            last => time::since(last, now),
        };
        Some(vec![
            name(object),
            text(object, &["spec", "schedule"]),
            text_or(object, &["spec", "timeZone"], "<none>"),
            suspended.into(),
            Value::Int(object.list_at(&["status", "active"]).len() as i64),
            last.into(),
            time::age(object, now),
            containers,
            images,
            selector::shown(object.at(JOB_SPEC).and_then(|spec| spec.get("selector"))).into(),
        ])
    }
}

fn spec(errors: &mut ErrorList, object: &Value, old: Option<&Value>) {
    let path = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let old_spec = old.and_then(|old| old.get("spec"));
    check_schedule(errors, spec, old_spec, &path);
    not_negative(errors, &path.child("startingDeadlineSeconds"), spec.int("startingDeadlineSeconds"));
    let zone = spec.text_if("timeZone");
    if let Some(zone) = zone.filter(|_| old_spec.is_none_or(|old| old.text_if("timeZone") != zone)) {
        for why in time_zone::check(zone) {
            errors.push(Error::invalid(&path.child("timeZone"), zone, why));
        }
    }
    let policy_path = path.child("concurrencyPolicy");
    match spec.text("concurrencyPolicy") {
        "" => errors.push(Error::required(&policy_path, "")),
        policy => supported(errors, &policy_path, policy, &["Allow", "Forbid", "Replace"]),
    }
    let job_path = path.child("jobTemplate.spec");
    let job_spec = object.at(JOB_SPEC).unwrap_or(&Value::Null);
    job::spec::without_selector(errors, job_spec, &job_path, template::options(old, TEMPLATE));
    if let Some(selector) = job_spec.get("selector") {
        errors.push(Error::invalid(&job_path.child("selector"), selector.clone(), "`selector` will be auto-generated"));
    }
    if job_spec.is_true("manualSelector") {
        errors.push(Error::not_supported(&job_path.child("manualSelector"), true, &["nil", "false"]));
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(errors, &path.child(field), spec.int(field));
    }
}

fn check_schedule(errors: &mut ErrorList, spec: &Value, old: Option<&Value>, path: &Path<'_>) {
    let path = path.child("schedule");
    let text = spec.text("schedule");
    if text.is_empty() {
        errors.push(Error::required(&path, ""));
        return;
    }
    if let Err(why) = schedule::check(text) {
        errors.push(Error::invalid(&path, text, why));
    }
    if text.contains("TZ") {
        let why = match old.is_some_and(|old| old.text("schedule").contains("TZ")) {
            true if spec.has("timeZone") => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            true => return,
            false => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        };
        errors.push(Error::invalid(&path, text, why));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::checks::tests::{cells, defaults};
    use crate::core::pod::tests::{created, updated};

    fn base() -> Json {
        json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}})
    }

    #[test]
    fn runs_may_overlap_and_four_are_kept() {
        defaults(
            &CronJob,
            r#"{"spec":{"schedule":"@daily","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}"#,
            r#"{"spec":{"schedule":"@daily","concurrencyPolicy":"Allow","suspend":false,"successfulJobsHistoryLimit":3,"failedJobsHistoryLimit":1,"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Never","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}}}"#,
        );
    }

    #[test]
    fn cron_jobs_are_checked() {
        created(
            &CronJob,
            &base(),
            &expect![[r#"
                schedule = ""
                  spec.schedule: Required value
                schedule = "x"
                  spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]
                schedule = "TZ=UTC * * * * *"
                  spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
                timeZone = "Mars/Olympus"
                  spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus
                concurrencyPolicy = "X"
                  spec.concurrencyPolicy: Unsupported value: "X": supported values: "Allow", "Forbid", "Replace"
                startingDeadlineSeconds = -1 ; successfulJobsHistoryLimit = -1 ; failedJobsHistoryLimit = -1
                  spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0
                  spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
                  spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0
                jobTemplate.spec.selector = {"matchLabels":{"a":"b"}} ; jobTemplate.spec.manualSelector = true
                  spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated
                  spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"
                jobTemplate.spec.template.spec.restartPolicy = "Always"
                  spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"
                jobTemplate.spec.completions = -1
                  spec.jobTemplate.spec.completions: Invalid value: -1: must be greater than or equal to 0
                jobTemplate.spec.template.spec.nodeSelector = {"beta.kubernetes.io/os":"x"}
                    spec.jobTemplate.spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
                metadata.name = "a1234567890123456789012345678901234567890123456789012"
                  metadata.name: Invalid value: "a1234567890123456789012345678901234567890123456789012": must be no more than 52 characters
            "#]],
        );
    }

    #[test]
    fn old_schedules_may_name_zones() {
        updated(
            &CronJob,
            &crate::core::pod::tests::changed(&base(), r#"schedule = "TZ=UTC * * * * *""#),
            "",
            &expect![[r#"
                schedule = "TZ=UTC 1 * * * *"
                schedule = "TZ=UTC 1 * * * *" ; timeZone = "UTC"
                  spec.schedule: Invalid value: "TZ=UTC 1 * * * *": cannot use both timeZone field and TZ or CRON_TZ in schedule
            "#]],
        );
    }

    #[test]
    fn cells_show_the_schedule() {
        cells(
            &CronJob,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{"schedule":"@daily","suspend":true,"jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}},"status":{"active":[{"name":"a"}],"lastScheduleTime":"1969-12-31T23:59:00Z"}}"#,
            r#"["x","@daily","<none>","True",1,"60s","0s","c","i","<none>"]"#,
        );
    }
}
