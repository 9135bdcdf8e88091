//! PriorityLevelConfiguration: how much of the server a priority level gets.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use crate::Kind;
use crate::checks::{default_field, internal, map, name, same, text};

const QUEUES_MAX: i64 = 10_000_000;
/// How many bits of a hash shuffle sharding may consume.
const HASH_BITS_MAX: i64 = 60;

const SPEC: &str = "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec";
const PRESERVE_ZERO: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

pub(crate) struct PriorityLevelConfiguration;

impl Kind for PriorityLevelConfiguration {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "prioritylevelconfigurations"
    }

    fn default(&self, object: &mut Value) {
        if object.at(&["spec", "exempt"]).is_some() {
            default_field(object, &["spec", "exempt", "nominalConcurrencyShares"], 0);
            default_field(object, &["spec", "exempt", "lendablePercent"], 0);
        }
        if object.at(&["spec", "limited"]).is_some() {
            default_field(object, &["spec", "limited", "nominalConcurrencyShares"], 30);
            default_field(object, &["spec", "limited", "lendablePercent"], 0);
        }
        let queuing = ["spec", "limited", "limitResponse", "queuing"];
        if let Some(queuing) = object.at_mut(&queuing).filter(|queuing| !queuing.is_null()) {
            for (field, default) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if queuing.int_at(&[field]).unwrap_or(0) == 0 {
                    queuing.set(&[field], default);
                }
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if map(object, &["metadata", "annotations"]).contains_key(PRESERVE_ZERO) {
            let why = format!("annotation '{PRESERVE_ZERO}' is forbidden");
            errors.push(Error::forbidden(&Path::new("metadata.annotations"), why));
        }
        let spec = Path::new("spec");
        let level_type = object.str_at(&["spec", "type"]);
        let is_exempt = object.str_at(&["metadata", "name"]) == "exempt";
        if is_exempt != (level_type == "Exempt") {
            let why = "must be 'Exempt' if and only if `name` is 'exempt'";
            errors.push(Error::invalid(&spec.child("type"), level_type, why));
        }
        let (limited, exempt) = (object.at(&["spec", "limited"]), object.at(&["spec", "exempt"]));
        let (limited_path, exempt_path) = (spec.child("limited"), spec.child("exempt"));
        match level_type {
            "Exempt" => {
                if limited.is_some() {
                    errors.push(Error::forbidden(&limited_path, "must be nil if the type is not Limited"));
                }
                if let Some(exempt) = exempt {
                    check_shares(&mut errors, &exempt_path, exempt);
                    check_lendable(&mut errors, &exempt_path, exempt);
                }
            }
            "Limited" => {
                if exempt.is_some() {
                    errors.push(Error::forbidden(&exempt_path, "must be nil if the type is Limited"));
                }
                match limited {
                    None => errors.push(Error::required(&limited_path, "must not be empty when type is Limited")),
                    Some(limited) => check_limited(&mut errors, &limited_path, limited),
                }
            }
            _ => errors.push(Error::not_supported(&spec.child("type"), level_type, &["Exempt", "Limited"])),
        }
        check_mandatory(&mut errors, object);
        super::check_conditions(&mut errors, object);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        super::check_conditions(&mut errors, new);
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let number = |path: &[&str]| object.int_at(path).map_or_else(|| "<none>".into(), Value::Int);
        let shares = match object.at(&["spec", "limited"]) {
            Some(_) => number(&["spec", "limited", "nominalConcurrencyShares"]),
            None => number(&["spec", "exempt", "nominalConcurrencyShares"]),
        };
        let queuing = |field: &str| number(&["spec", "limited", "limitResponse", "queuing", field]);
        Some(vec![
            name(object),
            text(object, &["spec", "type"]),
            shares,
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            api_semantics::time::age(object, now),
        ])
    }
}

fn check_mandatory(errors: &mut ErrorList, object: &Value) {
    if object.str_at(&["metadata", "name"]) != "exempt" {
        return super::check_mandatory(errors, object, SPEC, mandatory);
    }
    // Administrators may say how much of the server the exempt level takes away from the others.
    let without_shares = |spec: Option<&Value>| {
        let mut spec = spec.cloned().unwrap_or_default();
        spec.remove(&["exempt"]);
        spec
    };
    let (spec, fixed) = (object.get("spec"), mandatory("exempt"));
    if !same(Some(&without_shares(spec)), Some(&without_shares(fixed.as_ref()))) {
        let why = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value";
        errors.push(Error::invalid(&Path::new("spec"), internal(spec, SPEC), why));
    }
}

/// The specs of the levels that must be as they are.
fn mandatory(name: &str) -> Option<Value> {
    let shares = |shares: i64| Value::from([("nominalConcurrencyShares", shares), ("lendablePercent", 0)]);
    match name {
        "exempt" => Some(Value::from([("type", Value::str("Exempt")), ("exempt", shares(0))])),
        "catch-all" => {
            let mut limited = shares(5);
            limited.set(&["limitResponse", "type"], "Reject");
            Some(Value::from([("type", Value::str("Limited")), ("limited", limited)]))
        }
        _ => None,
    }
}

fn check_shares(errors: &mut ErrorList, path: &Path<'_>, level: &Value) {
    if let Some(shares) = level.int_at(&["nominalConcurrencyShares"]).filter(|shares| *shares < 0) {
        let why = "must be a non-negative integer";
        errors.push(Error::invalid(&path.child("nominalConcurrencyShares"), shares, why));
    }
}

fn check_lendable(errors: &mut ErrorList, path: &Path<'_>, level: &Value) {
    if let Some(percent) = level.int_at(&["lendablePercent"]).filter(|percent| !(0..=100).contains(percent)) {
        errors.push(Error::invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive"));
    }
}

fn check_limited(errors: &mut ErrorList, path: &Path<'_>, limited: &Value) {
    check_shares(errors, path, limited);
    let response = path.child("limitResponse");
    let queuing_path = response.child("queuing");
    let queuing = limited.at(&["limitResponse", "queuing"]);
    match limited.str_at(&["limitResponse", "type"]) {
        "Reject" => {
            if queuing.is_some() {
                let why = "must be nil if limited.limitResponse.type is not Limited";
                errors.push(Error::forbidden(&queuing_path, why));
            }
        }
        "Queue" => match queuing {
            None => {
                let why = "must not be empty if limited.limitResponse.type is Limited";
                errors.push(Error::required(&queuing_path, why));
            }
            Some(queuing) => check_queuing(errors, &queuing_path, queuing),
        },
        other => errors.push(Error::not_supported(&response.child("type"), other, &["Queue", "Reject"])),
    }
    check_lendable(errors, path, limited);
    if let Some(percent) = limited.int_at(&["borrowingLimitPercent"]).filter(|percent| *percent < 0) {
        let why = "if specified, must be a non-negative integer";
        errors.push(Error::invalid(&path.child("borrowingLimitPercent"), percent, why));
    }
}

fn check_queuing(errors: &mut ErrorList, path: &Path<'_>, queuing: &Value) {
    let number = |field: &str| queuing.int_at(&[field]).unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    let mut refuse = |field: &str, why: String| {
        errors.push(Error::invalid(&path.child(field), number(field), why));
    };
    if number("queueLengthLimit") <= 0 {
        refuse("queueLengthLimit", "must be positive".into());
    }
    if queues <= 0 {
        refuse("queues", "must be positive".into());
    } else if queues > QUEUES_MAX {
        refuse("queues", format!("must not be greater than {QUEUES_MAX}"));
    }
    // A slightly conservative estimate of the bits that dealing such a hand takes.
    let bits = ((queues as f64).log2() * hand as f64).ceil() as i64;
    if hand <= 0 {
        refuse("handSize", "must be positive".into());
    } else if hand > queues {
        refuse("handSize", format!("should not be greater than queues ({queues})"));
    } else if bits > HASH_BITS_MAX {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS_MAX}"
        );
        refuse("handSize", why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update_status};

    fn of(name: &str, spec: &str) -> String {
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#)
    }

    #[test]
    fn levels_get_their_usual_size() {
        defaults(
            &PriorityLevelConfiguration,
            r#"{"spec":{"type":"Limited","limited":{"limitResponse":{"type":"Queue","queuing":{"queues":0,"handSize":4}}}}}"#,
            r#"{"spec":{"type":"Limited","limited":{"nominalConcurrencyShares":30,"lendablePercent":0,
                "limitResponse":{"type":"Queue","queuing":{"queues":64,"handSize":4,"queueLengthLimit":50}}}}}"#,
        );
    }

    #[test]
    fn a_level_is_exempt_or_limited() {
        for (name, spec, expect) in [
            ("a", r#"{"type":"Limited","limited":{"limitResponse":{"type":"Reject"}}}"#, ""),
            ("exempt", r#"{"type":"Exempt","exempt":{}}"#, ""),
            ("exempt", r#"{"type":"Exempt","exempt":{"nominalConcurrencyShares":7}}"#, ""),
            (
                "exempt",
                r#"{"type":"Limited","limited":{"limitResponse":{"type":"Reject"}}}"#,
                "spec.type: Invalid value: \"Limited\": must be 'Exempt' if and only if `name` is 'exempt'\n\
                 spec: Invalid value: {\"Type\":\"Limited\",\"Limited\":{\"NominalConcurrencyShares\":30,\
                 \"LimitResponse\":{\"Type\":\"Reject\",\"Queuing\":null},\"LendablePercent\":0,\
                 \"BorrowingLimitPercent\":null},\"Exempt\":null}: spec of 'exempt' except the 'spec.exempt' field \
                 must equal the fixed value",
            ),
            (
                "a",
                r#"{"type":"Exempt","limited":{"limitResponse":{"type":"Reject"}}}"#,
                "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'\n\
                 spec.limited: Forbidden: must be nil if the type is not Limited",
            ),
            ("a", r#"{"type":"Limited"}"#, "spec.limited: Required value: must not be empty when type is Limited"),
            (
                "a",
                r#"{"type":"Limited","limited":{"nominalConcurrencyShares":-1,"lendablePercent":101,
                    "borrowingLimitPercent":-1,"limitResponse":{"type":"Queue"}}}"#,
                "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer\n\
                 spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is \
                 Limited\n\
                 spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive\n\
                 spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
            ),
            (
                "a",
                r#"{"type":"Limited","limited":{"limitResponse":{"type":"Queue","queuing":{"queues":512,"handSize":7}}}}"#,
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 512 \
                 and handSize 7 should not be greater than 60",
            ),
        ] {
            create(&PriorityLevelConfiguration, &of(name, spec), expect);
        }
    }

    #[test]
    fn the_mandatory_levels_stay_as_they_are() {
        let catch_all = |shares: i64| {
            format!(
                r#"{{"type":"Limited","limited":{{"nominalConcurrencyShares":{shares},
                    "limitResponse":{{"type":"Reject"}}}}}}"#
            )
        };
        create(&PriorityLevelConfiguration, &of("catch-all", &catch_all(5)), "");
        create(
            &PriorityLevelConfiguration,
            &of("catch-all", &catch_all(6)),
            "spec: Invalid value: {\"Type\":\"Limited\",\"Limited\":{\"NominalConcurrencyShares\":6,\"LimitResponse\":\
             {\"Type\":\"Reject\",\"Queuing\":null},\"LendablePercent\":0,\"BorrowingLimitPercent\":null},\"Exempt\":\
             null}: spec of 'catch-all' must equal the fixed value",
        );
    }

    #[test]
    fn conditions_have_types() {
        update_status(
            &PriorityLevelConfiguration,
            "{}",
            r#"{"status":{"conditions":[{"type":"A"},{"type":"A"},{}]}}"#,
            "status.conditions[1].type: Duplicate value: \"A\"\n\
             status.conditions[2].type: Required value",
        );
    }

    #[test]
    fn cells_show_the_size() {
        for (spec, expect) in [
            (
                r#"{"type":"Limited","limited":{"nominalConcurrencyShares":5,"limitResponse":{"queuing":
                    {"queues":64,"handSize":6,"queueLengthLimit":50}}}}"#,
                r#""Limited",5,64,6,50"#,
            ),
            (
                r#"{"type":"Exempt","exempt":{"nominalConcurrencyShares":0}}"#,
                r#""Exempt",0,"<none>","<none>","<none>""#,
            ),
        ] {
            cells(&PriorityLevelConfiguration, &of("a", spec), &format!(r#"["a",{expect},"<unknown>"]"#));
        }
    }
}
