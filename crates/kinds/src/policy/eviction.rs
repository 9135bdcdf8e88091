//! Eviction (the `eviction` subresource of Pods): a deletion that asks the budgets first.

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::selector::Selector;
use api_semantics::status::{Cause, GroupResource, Status};
use api_semantics::time::Timestamp;

/// How many evicted Pods a budget may have that its controller has not seen go.
const DISRUPTED_PODS_MAX: usize = 2000;

/// What to do about an eviction.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Delete the Pod. If `same_version`, only while it is as it was looked at: it must not have become ready.
    Delete {
        /// Whether the deletion is conditional on the Pod's resourceVersion.
        same_version: bool,
    },
    /// Write this budget through its status, on the condition that nobody else has; then delete the Pod. On a
    /// conflict, read the budget anew and decide again.
    Charge(Value),
    /// Answer with this.
    Refuse(Status),
}

/// Decides on the eviction of a Pod, given the budgets of its namespace. `now` is in Unix seconds.
pub fn decide(pod: &Value, budgets: &[Value], now: i64) -> Decision {
    let phase = pod.str_at(&["status", "phase"]);
    let is_going = pod.at(&["metadata", "deletionTimestamp"]).is_some();
    // Such a Pod does not count as available: nothing is disrupted.
    if is_going || matches!(phase, "Succeeded" | "Failed" | "Pending") {
        return Decision::Delete { same_version: !is_going && phase == "Pending" };
    }
    let concerned: Vec<&Value> = budgets.iter().filter(|budget| is_about(budget, pod)).collect();
    let budget = match concerned[..] {
        [] => return Decision::Delete { same_version: false },
        [budget] => budget,
        _ => {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Decision::Refuse(Status::plain(message));
        }
    };
    if !is_ready(pod) {
        let count = |field: &str| budget.int_at(&["status", field]).unwrap_or(0);
        let is_healthy = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
        if is_healthy || budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow" {
            return Decision::Delete { same_version: true };
        }
    }
    match charge(budget, pod.str_at(&["metadata", "name"]), now) {
        Ok(charged) => Decision::Charge(charged),
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// The answer to a client whose Pod has changed while it was evicted.
pub fn come_again(budget: &str) -> Status {
    let why = format_smolstr!("The disruption budget {budget} is still being processed by the server.");
    refusal(why, 10)
}

fn refusal(why: SmolStr, retry_after_seconds: u32) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_after_seconds);
    status.causes.push(Cause { reason: "DisruptionBudget".into(), message: why, field: SmolStr::default() });
    status
}

/// A budget without a selector, or with an empty one, is about no Pod.
fn is_about(budget: &Value, pod: &Value) -> bool {
    Selector::from_value(budget.at(&["spec", "selector"]))
        .is_ok_and(|selector| !selector.is_everything() && selector.matches_object(pod))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.list_at(&["status", "conditions"]);
    conditions.iter().any(|c| c.str_at(&["type"]) == "Ready" && c.str_at(&["status"]) == "True")
}

/// The budget with one disruption less, or why there is none to take.
fn charge(budget: &Value, pod: &str, now: i64) -> Result<Value, Status> {
    let name = budget.str_at(&["metadata", "name"]);
    let count = |field: &str| budget.int_at(&["status", field]).unwrap_or(0);
    let group_resource = GroupResource::new("policy", "poddisruptionbudget");
    if count("observedGeneration") < budget.int_at(&["metadata", "generation"]).unwrap_or(0) {
        return Err(come_again(name));
    }
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(&group_resource, name, "pdb disruptions allowed is negative"));
    }
    if budget.map_at(&["status", "disruptedPods"]).map_or(0, Map::len) > DISRUPTED_PODS_MAX {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&group_resource, name, why));
    }
    if allowed == 0 {
        let (needed, healthy) = (count("desiredHealthy"), count("currentHealthy"));
        let conditions = budget.list_at(&["status", "conditions"]);
        let why = match conditions.iter().find(|c| c.str_at(&["type"]) == "DisruptionAllowed") {
            Some(condition) if condition.str_at(&["reason"]) == "SyncFailed" => format_smolstr!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                condition.str_at(&["message"])
            ),
            _ => {
                format_smolstr!("The disruption budget {name} needs {needed} healthy pods and has {healthy} currently")
            }
        };
        return Err(refusal(why, 0));
    }
    let mut charged = budget.clone();
    charged.set(&["status", "disruptionsAllowed"], allowed - 1);
    let time = Timestamp::from_seconds(now).to_time();
    charged.set(&["status", "disruptedPods", pod], time.clone());
    if allowed == 1 {
        set_insufficient(&mut charged, &time);
    }
    Ok(charged)
}

/// The condition that tells users that nothing more may go.
fn set_insufficient(budget: &mut Value, time: &SmolStr) {
    let generation = budget.int_at(&["metadata", "generation"]).unwrap_or(0);
    let conditions = budget.entry(&["status", "conditions"]);
    if conditions.as_list().is_none() {
        *conditions = Value::List(Vec::new());
    }
    let Some(conditions) = conditions.as_list_mut() else { return };
    let at = match conditions.iter().position(|c| c.str_at(&["type"]) == "DisruptionAllowed") {
        Some(at) => at,
        None => {
            conditions.push(Value::from([("type", "DisruptionAllowed")]));
            conditions.len() - 1
        }
    };
    let condition = &mut conditions[at];
    if condition.str_at(&["status"]) != "False" {
        condition.set(&["status"], "False");
        condition.set(&["lastTransitionTime"], time.clone());
    }
    condition.set(&["reason"], "InsufficientPods");
    condition.set(&["message"], "");
    condition.set(&["observedGeneration"], generation);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::json;

    const READY: &str = r#"{"metadata":{"name":"p","labels":{"a":"b"}},
        "status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    const UNREADY: &str = r#"{"metadata":{"name":"p","labels":{"a":"b"}},"status":{"phase":"Running"}}"#;

    fn budget(spec: &str, status: &str) -> Value {
        json(&format!(
            r#"{{"metadata":{{"name":"b","generation":1}},"spec":{{"selector":{{"matchLabels":{{"a":"b"}}}}{spec}}},
                "status":{{"observedGeneration":1{status}}}}}"#
        ))
    }

    #[test]
    fn pods_that_do_not_count_just_go() {
        let strict = [budget("", "")];
        for (pod, budgets, same_version) in [
            (r#"{"status":{"phase":"Succeeded"}}"#, &strict[..], false),
            (r#"{"status":{"phase":"Pending"}}"#, &strict[..], true),
            (r#"{"metadata":{"deletionTimestamp":"t"},"status":{"phase":"Running"}}"#, &strict[..], false),
            (READY, &[], false),
            (r#"{"metadata":{"labels":{"a":"c"}},"status":{"phase":"Running"}}"#, &strict[..], false),
            (READY, &[json(r#"{"spec":{"selector":{}}}"#), json(r#"{"spec":{}}"#)], false),
            (UNREADY, &[budget("", r#","currentHealthy":2,"desiredHealthy":2"#)], true),
            (UNREADY, &[budget(r#","unhealthyPodEvictionPolicy":"AlwaysAllow""#, "")], true),
        ] {
            assert_eq!(decide(&json(pod), budgets, 0), Decision::Delete { same_version }, "{pod}");
        }
    }

    #[test]
    fn a_budget_is_charged_until_it_is_empty() {
        let two = budget("", r#","disruptionsAllowed":2"#);
        let Decision::Charge(one) = decide(&json(READY), &[two], 0) else { panic!("not charged") };
        assert_eq!(
            one.get("status"),
            Some(&json(
                r#"{"observedGeneration":1,"disruptionsAllowed":1,"disruptedPods":{"p":"1970-01-01T00:00:00Z"}}"#
            ))
        );
        let Decision::Charge(none) = decide(&json(READY), &[one], 0) else { panic!("not charged") };
        assert_eq!(
            none.list_at(&["status", "conditions"]),
            [json(
                r#"{"type":"DisruptionAllowed","status":"False","reason":"InsufficientPods","message":"",
                    "observedGeneration":1,"lastTransitionTime":"1970-01-01T00:00:00Z"}"#
            )]
        );
        assert!(matches!(decide(&json(READY), &[none], 0), Decision::Refuse(status) if status.code == 429));
    }

    #[test]
    fn refusals_say_why() {
        for (budgets, code, expect) in [
            (
                vec![budget("", r#","desiredHealthy":3,"currentHealthy":2"#)],
                429,
                "The disruption budget b needs 3 healthy pods and has 2 currently",
            ),
            (
                vec![budget(
                    "",
                    r#","conditions":[{"type":"DisruptionAllowed","status":"False","reason":"SyncFailed","message":"m"}]"#,
                )],
                429,
                "The disruption budget b does not allow evicting pods currently because it failed sync: m",
            ),
            (
                vec![json(
                    r#"{"metadata":{"name":"b","generation":2},"spec":{"selector":{"matchLabels":{"a":"b"}}},
                        "status":{"observedGeneration":1,"disruptionsAllowed":1}}"#,
                )],
                429,
                "The disruption budget b is still being processed by the server.",
            ),
            (
                vec![budget("", r#","disruptionsAllowed":-1"#)],
                403,
                "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative",
            ),
            (
                vec![budget("", ""), budget("", "")],
                500,
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ),
        ] {
            let Decision::Refuse(status) = decide(&json(READY), &budgets, 0) else { panic!("not refused") };
            assert_eq!(status.code, code);
            let why = status.causes.first().map_or(status.message.as_str(), |cause| cause.message.as_str());
            assert_eq!(why, expect);
        }
    }
}
