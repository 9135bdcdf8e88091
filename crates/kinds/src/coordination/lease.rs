//! Lease: who holds something, and until when (leader election, node heartbeats).

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use crate::Kind;
use crate::checks::{name, not_negative, text};

pub(crate) struct Lease;

/// Fields of coordinated leader election. Upstream drops what clients set there while its feature
/// CoordinatedLeaderElection is off, which is the default.
const COORDINATED: [&str; 2] = ["strategy", "preferredHolder"];

impl Kind for Lease {
    fn group(&self) -> &str {
        "coordination.k8s.io"
    }

    fn resource(&self) -> &str {
        "leases"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value) {
        for field in COORDINATED {
            object.remove(&["spec", field]);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        for field in COORDINATED {
            if old.at(&["spec", field]).is_none() {
                new.remove(&["spec", field]);
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = Path::new("spec");
        if let Some(seconds) = object.int_at(&["spec", "leaseDurationSeconds"]).filter(|seconds| *seconds <= 0) {
            errors.push(Error::invalid(&spec.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
        }
        not_negative(&mut errors, &spec.child("leaseTransitions"), object.int_at(&["spec", "leaseTransitions"]));
        errors
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let holder = text(object, &["spec", "holderIdentity"]);
        Some(vec![name(object), holder, api_semantics::time::age(object, now)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json, update};

    #[test]
    fn durations_are_positive_and_transitions_are_not_negative() {
        for (spec, expect) in [
            ("{}", ""),
            (r#"{"leaseDurationSeconds":1,"leaseTransitions":0}"#, ""),
            (r#"{"leaseDurationSeconds":0}"#, "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"),
            (
                r#"{"leaseTransitions":-1}"#,
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ),
        ] {
            let object = format!(r#"{{"spec":{spec}}}"#);
            create(&Lease, &object, expect);
            update(&Lease, r#"{"spec":{}}"#, &object, expect);
        }
    }

    #[test]
    fn coordinated_leader_election_is_off_but_keeps_what_is_stored() {
        let with = json(r#"{"spec":{"strategy":"OldestEmulationVersion","preferredHolder":"a"}}"#);
        let mut created = with.clone();
        Lease.prepare_create(&mut created);
        assert_eq!(created, json(r#"{"spec":{}}"#));
        let mut updated = with.clone();
        Lease.prepare_update(&mut updated, &with);
        assert_eq!(updated, with);
        Lease.prepare_update(&mut updated, &json(r#"{"spec":{}}"#));
        assert_eq!(updated, json(r#"{"spec":{}}"#));
    }

    #[test]
    fn cells_show_the_holder() {
        for (spec, holder) in [(r#"{"holderIdentity":"a"}"#, "a"), ("{}", "")] {
            cells(
                &Lease,
                &format!(r#"{{"metadata":{{"name":"l"}},"spec":{spec}}}"#),
                &format!(r#"["l","{holder}","<unknown>"]"#),
            );
        }
    }
}
