//! CSIDriver: what a CSI driver needs of Kubernetes.

use std::collections::HashSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use crate::Kind;
use crate::checks::{default_field, immutable, name, same, supported, texts};

const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;

/// A field whose feature (VolumeLimitScaling) is off: upstream drops what clients set there.
const ALPHA: &str = "preventPodSchedulingIfMissing";

pub(crate) struct CsiDriver;

impl Kind for CsiDriver {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "csidrivers"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        default_field(object, &["spec", "attachRequired"], true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default_field(object, &["spec", field], false);
        }
        default_field(object, &["spec", "fsGroupPolicy"], "ReadWriteOnceWithFSType");
        if object.list_at(&["spec", "volumeLifecycleModes"]).is_empty() {
            object.set(&["spec", "volumeLifecycleModes"], vec![Value::str("Persistent")]);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.remove(&["spec", ALPHA]);
    }

    /// The generation counts changes from none: a new driver has no generation yet.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if old.at(&["spec", ALPHA]).is_none() {
            new.remove(&["spec", ALPHA]);
        }
        if !same(new.get("spec"), old.get("spec")) {
            let generation = old.int_at(&["metadata", "generation"]).unwrap_or(0) + 1;
            new.set(&["metadata", "generation"], generation);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = Path::new("spec");
        for (field, path) in [
            ("attachRequired", "attachedRequired"),
            ("podInfoOnMount", "podInfoOnMount"),
            ("storageCapacity", "storageCapacity"),
            ("seLinuxMount", "seLinuxMount"),
        ] {
            if object.at(&["spec", field]).is_none() {
                errors.push(Error::required(&spec.child(path), ""));
            }
        }
        if let Some(policy) = object.at(&["spec", "fsGroupPolicy"]).and_then(Value::as_str) {
            let policies = ["File", "None", "ReadWriteOnceWithFSType"];
            supported(&mut errors, &spec.child("fsGroupPolicy"), policy, &policies);
        }
        check_token_requests(&mut errors, &spec.child("tokenRequests"), object.list_at(&["spec", "tokenRequests"]));
        for mode in texts(object, &["spec", "volumeLifecycleModes"]) {
            supported(&mut errors, &spec.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
        let period = "nodeAllocatableUpdatePeriodSeconds";
        if let Some(seconds) = object.int_at(&["spec", period]).filter(|seconds| *seconds < UPDATE_PERIOD_SECONDS_MIN) {
            let why = format!("must be greater than or equal to {UPDATE_PERIOD_SECONDS_MIN} seconds");
            errors.push(Error::invalid(&spec.child(period), seconds, why));
        }
        if let Some(flag) = object.at(&["spec", "serviceAccountTokenInSecrets"])
            && object.list_at(&["spec", "tokenRequests"]).is_empty()
        {
            let path = spec.child("serviceAccountTokenInSecrets");
            let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.push(Error::invalid(&path, flag.clone(), why));
        }
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let requests = ["spec", "tokenRequests"];
        let is_new = old.is_none_or(|old| !same(new.at(&requests), old.at(&requests)));
        let is_said = new.at(&["spec", "serviceAccountTokenInSecrets"]).is_some();
        if is_new && !is_said && !new.list_at(&requests).is_empty() {
            let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to \
                       prevent possible logging of tokens in volume attributes";
            return vec![why.to_owned()];
        }
        Vec::new()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        let spec = Path::new("spec");
        for (field, path) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            let path = spec.child(path);
            immutable(&mut errors, &path, new.at(&["spec", field]), old.at(&["spec", field]));
        }
        errors
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let flag = |field: &str, other: bool| Value::Bool(object.bool_at(&["spec", field]).unwrap_or(other));
        let tokens = object.at(&["spec", "tokenRequests"]).map_or_else(
            || "<unset>".to_owned(),
            |_| {
                let requests = object.list_at(&["spec", "tokenRequests"]).iter();
                requests.map(|request| request.str_at(&["audience"])).collect::<Vec<_>>().join(",")
            },
        );
        let modes = match texts(object, &["spec", "volumeLifecycleModes"]).join(",") {
            modes if modes.is_empty() => "<none>".into(),
            modes => modes,
        };
        let mut cells = vec![
            name(object),
            flag("attachRequired", true),
            flag("podInfoOnMount", false),
            flag("storageCapacity", false),
            tokens.into(),
            flag("requiresRepublish", false),
            modes.into(),
            api_semantics::time::age(object, now),
        ];
        // The table of 1.34 does not list the later columns.
        cells.truncate(api_types::columns("CSIDriver").map_or(cells.len(), <[_]>::len));
        Some(cells)
    }
}

fn check_token_requests(errors: &mut ErrorList, path: &Path<'_>, requests: &[Value]) {
    let mut audiences = HashSet::new();
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        let audience = request.str_at(&["audience"]);
        if !audiences.insert(audience) {
            errors.push(Error::duplicate(&path.child("audience"), audience));
            continue;
        }
        let seconds_path = path.child("expirationSeconds");
        match request.int_at(&["expirationSeconds"]) {
            Some(seconds) if seconds < TOKEN_SECONDS_MIN => {
                let why = "may not specify a duration less than 10 minutes";
                errors.push(Error::invalid(&seconds_path, seconds, why));
            }
            Some(seconds) if seconds > TOKEN_SECONDS_MAX => {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.push(Error::invalid(&seconds_path, seconds, why));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{create, defaults, json, update};

    #[test]
    fn a_driver_attaches_and_knows_nothing_of_pods_unless_it_says_otherwise() {
        defaults(
            &CsiDriver,
            r#"{"spec":{"podInfoOnMount":true}}"#,
            r#"{"spec":{"attachRequired":true,"podInfoOnMount":true,"storageCapacity":false,"requiresRepublish":false,
                "seLinuxMount":false,"fsGroupPolicy":"ReadWriteOnceWithFSType","volumeLifecycleModes":["Persistent"]}}"#,
        );
        for (spec, expect) in [
            ("{}", ""),
            (
                r#"{"fsGroupPolicy":"Odd","volumeLifecycleModes":["Odd"],"nodeAllocatableUpdatePeriodSeconds":9}"#,
                "spec.fsGroupPolicy: Unsupported value: \"Odd\": supported values: \"File\", \"None\", \
                 \"ReadWriteOnceWithFSType\"\n\
                 spec.volumeLifecycleModes: Unsupported value: \"Odd\": supported values: \"Persistent\", \
                 \"Ephemeral\"\n\
                 spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ),
            (
                r#"{"serviceAccountTokenInSecrets":true}"#,
                "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no \
                 tokenRequests are specified",
            ),
            (
                r#"{"tokenRequests":[{"audience":"a","expirationSeconds":1},{"audience":"a"},
                    {"audience":"b","expirationSeconds":4294967297}]}"#,
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 \
                 minutes\n\
                 spec.tokenRequests[1].audience: Duplicate value: \"a\"\n\
                 spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger \
                 than 2^32 seconds",
            ),
        ] {
            create(&CsiDriver, &format!(r#"{{"spec":{spec}}}"#), expect);
        }
    }

    #[test]
    fn attaching_and_modes_stay() {
        update(&CsiDriver, r#"{"spec":{}}"#, r#"{"spec":{"podInfoOnMount":true,"fsGroupPolicy":"File"}}"#, "");
        update(
            &CsiDriver,
            r#"{"spec":{}}"#,
            r#"{"spec":{"attachRequired":false,"volumeLifecycleModes":["Ephemeral"]}}"#,
            "spec.attachedRequired: Invalid value: false: field is immutable\n\
             spec.volumeLifecycleModes: Invalid value: [\"Ephemeral\"]: field is immutable",
        );
    }

    #[test]
    fn the_generation_counts_changes_from_none() {
        let old = json(r#"{"metadata":{},"spec":{}}"#);
        for (new, expect) in [
            (r#"{"metadata":{},"spec":{}}"#, None),
            (r#"{"metadata":{},"spec":{"podInfoOnMount":true}}"#, Some(1)),
            (r#"{"metadata":{},"spec":{"preventPodSchedulingIfMissing":true}}"#, None),
        ] {
            let mut new = json(new);
            CsiDriver.prepare_update(&mut new, &old);
            assert_eq!(new.int_at(&["metadata", "generation"]), expect);
        }
    }

    #[test]
    fn cells_tell_what_the_driver_wants() {
        for (spec, expect) in [
            (r#"{"storageCapacity":true}"#, r#"["d",true,false,true,"<unset>",false,"<none>","<unknown>"]"#),
            (
                r#"{"attachRequired":false,"podInfoOnMount":true,"tokenRequests":[{"audience":"a"},{"audience":"b"}],
                    "requiresRepublish":true,"volumeLifecycleModes":["Persistent","Ephemeral"]}"#,
                r#"["d",false,true,false,"a,b",true,"Persistent,Ephemeral","<unknown>"]"#,
            ),
        ] {
            let driver = json(&format!(r#"{{"metadata":{{"name":"d"}},"spec":{spec}}}"#));
            let mut expect = json(expect).as_list().unwrap_or_default().to_vec();
            expect.truncate(api_types::columns("CSIDriver").map_or(expect.len(), <[_]>::len));
            assert_eq!(CsiDriver.cells(&driver, 0), Some(expect));
        }
    }
}
