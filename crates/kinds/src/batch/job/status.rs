//! What the status of a Job must be like. A rule asks only about what the update changes: controllers may mend the
//! rest later.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::time::rfc3339;

use crate::checks::{internal, not_negative, same};
use crate::core::pod::look::Look;
use crate::core::pod::validate::invalid_without_value;

use super::{
    COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED, has_condition, indexes, is_finished, is_indexed,
    is_true,
};

/// Checks the new status against the old one.
pub(super) fn check(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let check = Check { new, old, status: new.get("status").unwrap_or(&Value::Null), path: Path::new("status") };
    check.counters(&mut errors);
    check.conditions_and_times(&mut errors);
    check.finish(&mut errors);
    check.indexes(&mut errors);
    check.pods(&mut errors);
    check.success(&mut errors);
    check.transition(&mut errors);
    errors
}

struct Check<'a> {
    new: &'a Value,
    old: &'a Value,
    status: &'a Value,
    path: Path<'a>,
}

impl Check<'_> {
    fn is(&self, condition: &str) -> bool {
        is_true(self.new, condition)
    }

    fn was(&self, condition: &str) -> bool {
        is_true(self.old, condition)
    }

    /// Whether a condition became true or stopped being so.
    fn turned(&self, condition: &str) -> bool {
        self.is(condition) != self.was(condition)
    }

    fn finish_changed(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn changed(&self, field: &str) -> bool {
        !same(self.status.get(field), self.old.at(&["status", field]))
    }

    /// As [`Check::changed`], for numbers and strings whose absence is their zero value.
    fn changed_value(&self, field: &str) -> bool {
        let value = |value: Option<&Value>| value.filter(|value| !value.is_zero()).cloned();
        value(self.status.get(field)) != value(self.old.at(&["status", field]))
    }

    fn condition_error(&self, errors: &mut ErrorList, why: &str) {
        errors.push(invalid_without_value(&self.path.child("conditions"), why));
    }

    fn invalid(&self, errors: &mut ErrorList, field: &str, why: &str) {
        let value = self.status.get(field).cloned().unwrap_or_default();
        errors.push(Error::invalid(&self.path.child(field), value, why));
    }

    fn counters(&self, errors: &mut ErrorList) {
        for field in ["active", "succeeded", "failed", "ready", "terminating"] {
            not_negative(errors, &self.path.child(field), self.status.int(field));
        }
        let mut seen: Vec<&str> = Vec::new();
        let path = self.path.child("uncountedTerminatedPods");
        for list in ["succeeded", "failed"] {
            let list_path = path.child(list);
            for (at, uid) in self.status.list_at(&["uncountedTerminatedPods", list]).iter().enumerate() {
                match uid.as_str().unwrap_or_default() {
                    "" => errors.push(Error::invalid(&list_path.index(at), "", "must not be empty")),
                    uid if seen.contains(&uid) => errors.push(Error::duplicate(&list_path.index(at), uid)),
                    uid => seen.push(uid),
                }
            }
        }
    }

    fn conditions_and_times(&self, errors: &mut ErrorList) {
        let is_complete = self.is(COMPLETE);
        let complete_turned = self.turned(COMPLETE);
        if is_complete && self.is(FAILED) && (complete_turned || self.turned(FAILED)) {
            self.condition_error(errors, "cannot set Complete=True and Failed=true conditions");
        }
        if is_complete && self.is(FAILURE_TARGET) && (complete_turned || self.turned(FAILURE_TARGET)) {
            self.condition_error(errors, "cannot set Complete=True and FailureTarget=true conditions");
        }
        let end_changed = self.changed("completionTime");
        let end = self.status.text_if("completionTime");
        if complete_turned || end_changed {
            if end.is_some() && !is_complete {
                let why = "cannot set completionTime when there is no Complete=True condition";
                self.invalid(errors, "completionTime", why);
            }
            if end.is_none() && is_complete {
                let why = "completionTime is required for Complete jobs";
                errors.push(Error::required(&self.path.child("completionTime"), why));
            }
        }
        if end_changed || self.changed("startTime") {
            let [start, end] = ["startTime", "completionTime"].map(|field| rfc3339(self.status.text(field)));
            if start.zip(end).is_some_and(|(start, end)| end < start) {
                self.invalid(errors, "completionTime", "must be equal to or after `startTime`");
            }
        }
        if self.is(FAILED) && !self.is(FAILURE_TARGET) && (self.turned(FAILED) || self.changed("failedIndexes")) {
            let why = "cannot set Failed=True condition without the FailureTarget=true condition";
            self.condition_error(errors, why);
        }
        if is_complete && !self.is(SUCCESS_CRITERIA_MET) && (complete_turned || self.turned(SUCCESS_CRITERIA_MET)) {
            let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            self.condition_error(errors, why);
        }
    }

    /// What a finished Job may have no more.
    fn finish(&self, errors: &mut ErrorList) {
        if !is_finished(self.new) {
            return;
        }
        let finish_changed = self.finish_changed();
        if self.status.int("active").unwrap_or(0) > 0 && (finish_changed || self.changed_value("active")) {
            self.invalid(errors, "active", "active>0 is invalid for finished job");
        }
        let spec = self.new.get("spec").unwrap_or(&Value::Null);
        let never_started = spec.is_true("suspend") && spec.int("completions") == Some(0);
        if !self.status.has("startTime") && (finish_changed || self.changed("startTime")) && !never_started {
            errors.push(Error::required(&self.path.child("startTime"), "startTime is required for finished job"));
        }
        if let Some(uncounted) = self.status.get("uncountedTerminatedPods")
            && (finish_changed || self.changed("uncountedTerminatedPods"))
            && ["succeeded", "failed"].iter().any(|list| !uncounted.items(list).is_empty())
        {
            let shown = internal(Some(uncounted), "io.k8s.api.batch.v1.UncountedTerminatedPods");
            let path = self.path.child("uncountedTerminatedPods");
            errors.push(Error::invalid(&path, shown, "must be empty for finished job"));
        }
    }

    fn indexes(&self, errors: &mut ErrorList) {
        let (completed_changed, failed_changed) =
            (self.changed_value("completedIndexes"), self.changed("failedIndexes"));
        let completed = self.status.text("completedIndexes");
        let failed = self.status.text_if("failedIndexes");
        let completions = self.new.int_at(&["spec", "completions"]);
        let has_limit = self.new.at(&["spec", "backoffLimitPerIndex"]).is_some();
        if let (true, Some(completions)) = (completed_changed, completions)
            && let Err(why) = indexes::count(completed, completions)
        {
            self.invalid(errors, "completedIndexes", &format!("error parsing completedIndexes: {why}"));
        }
        if let (true, true, Some(completions), Some(failed)) = (failed_changed, has_limit, completions, failed)
            && let Err(why) = indexes::count(failed, completions)
        {
            self.invalid(errors, "failedIndexes", &format!("error parsing failedIndexes: {why}"));
        }
        if completed_changed && !completed.is_empty() && !is_indexed(self.new) {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            self.invalid(errors, "completedIndexes", why);
        }
        if failed_changed && !has_limit && failed.is_some() {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            self.invalid(errors, "failedIndexes", why);
        }
        if let (true, Some(completions), Some(failed)) = (failed_changed || completed_changed, completions, failed)
            && let Err(why) = indexes::check_disjoint(completed, failed, completions)
        {
            self.invalid(errors, "failedIndexes", &why);
        }
    }

    fn pods(&self, errors: &mut ErrorList) {
        if is_finished(self.new)
            && self.status.int("terminating").unwrap_or(0) > 0
            && (self.finish_changed() || self.changed("terminating"))
        {
            self.invalid(errors, "terminating", "terminating>0 is invalid for finished job");
        }
        let active = self.status.int("active").unwrap_or(0);
        if self.status.int("ready").is_some_and(|ready| ready > active)
            && (self.changed("ready") || self.changed_value("active"))
        {
            self.invalid(errors, "ready", "cannot set more ready pods than active");
        }
    }

    fn success(&self, errors: &mut ErrorList) {
        if self.is(SUCCESS_CRITERIA_MET) {
            for (condition, why) in [
                (FAILED, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
                (FAILURE_TARGET, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
            ] {
                if self.is(condition) {
                    self.condition_error(errors, why);
                }
            }
        } else if self.is(COMPLETE) && self.new.at(&["spec", "successPolicy"]).is_some() {
            let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
            self.condition_error(errors, why);
        }
    }

    /// What only goes one way.
    fn transition(&self, errors: &mut ErrorList) {
        for condition in [FAILED, COMPLETE, FAILURE_TARGET] {
            if self.was(condition) && !self.is(condition) {
                self.condition_error(errors, &format!("cannot disable the terminal {condition}=True condition"));
            }
        }
        let may_shrink = is_indexed(self.new)
            && self.new.int_at(&["spec", "completions"]) == self.new.int_at(&["spec", "parallelism"]);
        for (counter, may_shrink) in [("failed", false), ("succeeded", may_shrink)] {
            let (now, before) = (self.status.int(counter), self.old.int_at(&["status", counter]));
            if now.unwrap_or(0) < before.unwrap_or(0) && !may_shrink {
                let why = format!("cannot decrease the {counter} counter");
                errors.push(Error::invalid(&self.path.child(counter), now.unwrap_or(0), why));
            }
        }
        let had = |field: &str| self.old.at(&["status", field]).is_some();
        if self.status.has("completionTime") && had("completionTime") && self.changed("completionTime") {
            self.invalid(errors, "completionTime", names::IMMUTABLE);
        }
        let resumes = self.was(SUSPENDED) && has_condition(self.new, SUSPENDED, "False");
        let is_suspended = self.new.at(&["spec", "suspend"]).and_then(Value::as_bool) == Some(true);
        if had("startTime") && self.changed("startTime") && !resumes && !is_suspended {
            self.invalid(errors, "startTime", "field is immutable for unsuspended job once set");
        }
        if self.was(SUCCESS_CRITERIA_MET) && !self.is(SUCCESS_CRITERIA_MET) {
            self.condition_error(errors, "cannot disable the SuccessCriteriaMet=True condition");
        }
        if self.was(COMPLETE) && !self.was(SUCCESS_CRITERIA_MET) && self.is(SUCCESS_CRITERIA_MET) {
            let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            self.condition_error(errors, why);
        }
    }
}
