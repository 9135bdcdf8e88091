//! StatefulSet: pods with names and disks of their own.

use api_schema::{Map, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::Selector;
use api_semantics::{int_or_string, names, time};

use super::deployment::{amount, ready_cell};
use crate::Kind;
use crate::checks::{internal, invalid_text, name, not_negative, same, supported};
use crate::core::persistentvolumeclaim::{check_spec, default_spec};
use crate::core::pod::look::{Fill, Look};
use crate::core::pod::template::{self, TEMPLATE};
use crate::core::pod::{validate as pod_validate, warnings as pod_warnings};

pub(crate) struct StatefulSet;

impl Kind for StatefulSet {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "statefulsets"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_label(name, prefix)
    }

    fn default(&self, object: &mut Value) {
        let spec = object.entry(&["spec"]);
        spec.fill_zero("podManagementPolicy", "OrderedReady");
        let strategy = spec.entry(&["updateStrategy"]);
        if strategy.text("type").is_empty() {
            strategy.set(&["type"], "RollingUpdate");
            strategy.fill("rollingUpdate", Map::new());
        }
        if strategy.text("type") == "RollingUpdate" {
            strategy.with("rollingUpdate", |rolling| rolling.fill("partition", 0));
        }
        let retention = spec.entry(&["persistentVolumeClaimRetentionPolicy"]);
        retention.fill_zero("whenDeleted", "Retain");
        retention.fill_zero("whenScaled", "Retain");
        spec.fill("replicas", 1);
        spec.fill("revisionHistoryLimit", 10);
        spec.each("volumeClaimTemplates", |claim| {
            claim.with("spec", default_spec);
            claim.entry(&["status"]).fill_zero("phase", "Pending");
        });
        template::default(object, TEMPLATE);
        name_claims(object);
    }

    fn on_read(&self) -> Option<fn(&mut Value)> {
        Some(name_claims)
    }

    fn prepare_create(&self, object: &mut Value) {
        drop_disabled(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        drop_disabled(new, Some(old));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&mut errors, object, None, &Path::new("spec"), Skip::default());
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        // What was accepted long ago may stay.
        let mut skip = Skip { template: false, service_name: true, claims: true };
        let mut old_errors = ErrorList::new();
        spec(&mut old_errors, old, Some(old), &path, skip);
        skip.template = !old_errors.is_empty();
        spec(&mut errors, new, Some(old), &path, skip);
        let fixed = |object: &Value| {
            let mut spec = object.get("spec").cloned().unwrap_or_default();
            for field in [
                "replicas",
                "template",
                "updateStrategy",
                "minReadySeconds",
                "ordinals",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
            ] {
                spec.remove(&[field]);
            }
            spec
        };
        if !same(Some(&fixed(new)), Some(&fixed(old))) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                       'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                       'minReadySeconds' are forbidden";
            errors.push(Error::forbidden(&path, why));
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("status");
        let status = new.get("status").unwrap_or(&Value::Null);
        let fields = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        template::counters(&mut errors, status, &path, &fields);
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        template::not_greater(&mut errors, status, &path, &parts, ("replicas", "status.replicas"));
        let ready = ("readyReplicas", "status.readyReplicas");
        template::not_greater(&mut errors, status, &path, &["availableReplicas"], ready);
        template::collision_count(&mut errors, new, old);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = template::template_warnings(new, old, TEMPLATE);
        let claims = Path::new("spec.volumeClaimTemplates");
        for (at, claim) in new.list_at(&["spec", "volumeClaimTemplates"]).iter().enumerate() {
            let claim_path = claims.index(at);
            // The spec's name is in the path on update only, as upstream has it.
            let spec_path = if old.is_some() { claim_path.child("Spec") } else { claim_path };
            if let Some(spec) = claim.get("spec") {
                pod_warnings::claim_storage(&mut warnings, spec, &spec_path);
            }
        }
        if new.int_at(&["spec", "revisionHistoryLimit"]).is_some_and(|limit| limit < 0) {
            let why = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                       recommended";
            warnings.push(why.to_owned());
        }
        warnings
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        Some(vec![name(object), ready_cell(object), time::age(object, now), containers, images])
    }
}

/// Clears what belongs to features that are off: MaxUnavailableStatefulSet, and those of pods.
fn drop_disabled(new: &mut Value, old: Option<&Value>) {
    let field = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
    if old.is_none_or(|old| old.at(&field).is_none()) {
        new.remove(&field);
    }
    template::prepare(new, old, TEMPLATE);
}

/// What an update need not check again.
#[derive(Clone, Copy, Debug, Default)]
struct Skip {
    template: bool,
    service_name: bool,
    claims: bool,
}

fn spec(errors: &mut ErrorList, object: &Value, old: Option<&Value>, path: &Path<'_>, skip: Skip) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let policy_path = path.child("podManagementPolicy");
    match spec.text("podManagementPolicy") {
        "" => errors.push(Error::required(&policy_path, "")),
        "OrderedReady" | "Parallel" => {}
        policy => errors.push(Error::invalid(&policy_path, policy, "must be 'OrderedReady' or 'Parallel'")),
    }
    update_strategy(errors, spec.get("updateStrategy").unwrap_or(&Value::Null), &path.child("updateStrategy"));
    if let Some(retention) = spec.get("persistentVolumeClaimRetentionPolicy") {
        let retention_path = path.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            supported(errors, &retention_path.child(field), retention.text(field), &["Retain", "Delete"]);
        }
    }
    if !skip.claims {
        let claims = path.child("volumeClaimTemplates");
        for (at, claim) in spec.items("volumeClaimTemplates").iter().enumerate() {
            let claim_path = claims.index(at);
            let claim_spec = claim.get("spec").unwrap_or(&Value::Null);
            errors.extend(check_spec(claim_spec, None, &claim_path.child("spec")));
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        not_negative(errors, &path.child(field), spec.int(field));
    }
    not_negative(errors, &path.child("ordinals.start"), spec.int_at(&["ordinals", "start"]));
    let service = spec.text("serviceName");
    if !skip.service_name && !service.is_empty() {
        invalid_text(errors, &path.child("serviceName"), service, names::dns1123_label(service, false));
    }
    let selector_path = path.child("selector");
    template::required_selector(errors, spec.get("selector"), &selector_path, "statefulset");
    let pod_template = spec.get("template").unwrap_or(&Value::Null);
    let template_path = path.child("template");
    match Selector::from_value(spec.get("selector")) {
        Err(_) => {
            let selector = spec.get("selector").cloned().unwrap_or_default();
            errors.push(Error::invalid(&selector_path, selector, ""));
        }
        Ok(selector) => {
            template::matches_selector(errors, pod_template, &selector, &template_path);
            if !skip.template {
                let as_pod = as_the_controller_makes_it(spec, pod_template);
                pod_validate::template(errors, &as_pod, &template_path, template::options(old, TEMPLATE));
            }
            pod_validate::template_metadata(errors, pod_template, &template_path);
        }
    }
    template::restarts_always(errors, pod_template, "StatefulSet", &template_path);
}

/// The controller sets host names and adds a volume for each claim, which replaces one of the same name.
fn as_the_controller_makes_it(spec: &Value, pod_template: &Value) -> Value {
    let mut pod_template = pod_template.clone();
    pod_template.remove(&["spec", "subdomain"]);
    pod_template.remove(&["spec", "hostname"]);
    let claims: Vec<&str> =
        spec.items("volumeClaimTemplates").iter().map(|claim| claim.str_at(&["metadata", "name"])).collect();
    if !claims.is_empty() {
        let mut volumes: Vec<Value> = Vec::new();
        for claim in &claims {
            if !volumes.iter().any(|volume| volume.text("name") == *claim) {
                let mut volume = Value::from([("name", *claim)]);
                volume.set(&["persistentVolumeClaim", "claimName"], *claim);
                volumes.push(volume);
            }
        }
        let own = pod_template.list_at(&["spec", "volumes"]).iter();
        volumes.extend(own.filter(|volume| !claims.contains(&volume.text("name"))).cloned());
        pod_template.set(&["spec", "volumes"], volumes);
    }
    pod_template
}

fn update_strategy(errors: &mut ErrorList, strategy: &Value, path: &Path<'_>) {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.get("rollingUpdate")) {
        ("", _) => errors.push(Error::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let shown = internal(Some(rolling), "io.k8s.api.apps.v1.RollingUpdateStatefulSetStrategy");
            errors.push(Error::invalid(&rolling_path, shown, "only allowed for updateStrategy 'RollingUpdate'"));
        }
        ("RollingUpdate", Some(rolling)) => {
            not_negative(errors, &rolling_path.child("partition"), rolling.int("partition"));
            if let Some(unavailable) = rolling.get("maxUnavailable") {
                let unavailable_path = rolling_path.child("maxUnavailable");
                errors.extend(int_or_string::validate_positive(unavailable, &unavailable_path));
                if amount(unavailable) == 0 {
                    errors.push(Error::invalid(&unavailable_path, unavailable.clone(), "cannot be 0"));
                }
                errors.extend(int_or_string::validate_not_more_than_100_percent(unavailable, &unavailable_path));
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => {
            let shown = internal(Some(strategy), "io.k8s.api.apps.v1.StatefulSetUpdateStrategy");
            errors.push(Error::invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

/// Claim templates say what they are.
fn name_claims(object: &mut Value) {
    let Some(Value::List(claims)) = object.at_mut(&["spec", "volumeClaimTemplates"]) else { return };
    for claim in claims {
        claim.set(&["apiVersion"], "v1");
        claim.set(&["kind"], "PersistentVolumeClaim");
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
        json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": {"serviceName": "s", "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    }

    #[test]
    fn pods_come_in_order_and_keep_their_disks() {
        defaults(
            &StatefulSet,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"volumeClaimTemplates":[{"metadata":{"name":"v"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}],"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"replicas":1,"podManagementPolicy":"OrderedReady","updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}},"revisionHistoryLimit":10,"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain","whenScaled":"Retain"},"volumeClaimTemplates":[{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"v"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}},"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}],"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#,
        );
    }

    #[test]
    fn sets_are_checked() {
        created(
            &StatefulSet,
            &base(),
            &expect![[r#"
                podManagementPolicy = "X"
                  spec.podManagementPolicy: Invalid value: "X": must be 'OrderedReady' or 'Parallel'
                updateStrategy = {"type":"X"}
                  spec.updateStrategy: Invalid value: {"Type":"X","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete'
                updateStrategy = {"type":"OnDelete","rollingUpdate":{"partition":1}}
                  spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":1,"MaxUnavailable":null}: only allowed for updateStrategy 'RollingUpdate'
                updateStrategy = {"rollingUpdate":{"partition":-1}}
                  spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0
                persistentVolumeClaimRetentionPolicy = {"whenDeleted":"X"}
                  spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "X": supported values: "Retain", "Delete"
                ordinals = {"start":-1}
                  spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0
                serviceName = "A_"
                  spec.serviceName: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character
                selector = {"matchLabels":{"a":"c"}}
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                spec.template.spec.restartPolicy = "Never"
                  spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
                volumeClaimTemplates = [{"metadata":{"name":"v"},"spec":{}}]
                  spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required
                  spec.volumeClaimTemplates[0].spec.resources[storage]: Required value
                spec.template.spec.containers[0].volumeMounts = [{"name":"v","mountPath":"/v"}]
                  spec.template.spec.containers[0].volumeMounts[0].name: Not found: "v"
                volumeClaimTemplates = [{"metadata":{"name":"v"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}] ; spec.template.spec.containers[0].volumeMounts = [{"name":"v","mountPath":"/v"}]
                revisionHistoryLimit = -1
                    spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended
            "#]],
        );
    }

    #[test]
    fn most_of_a_set_stays() {
        updated(
            &StatefulSet,
            &base(),
            "",
            &expect![[r#"
                replicas = 3
                serviceName = "t"
                  spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
                podManagementPolicy = "Parallel"
                  spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
                volumeClaimTemplates = [{"metadata":{"name":"v"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}]
                  spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden
                updateStrategy = {"type":"OnDelete"}
            "#]],
        );
    }

    #[test]
    fn statuses_add_up() {
        updated(
            &StatefulSet,
            &base(),
            "status",
            &expect![[r#"
                status = {"replicas":1,"readyReplicas":2,"currentReplicas":2,"updatedReplicas":2,"availableReplicas":3}
                  status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.currentReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas
            "#]],
        );
    }

    #[test]
    fn names_are_labels_of_hosts() {
        assert_eq!(StatefulSet.check_name("a.b", false), ["must not contain dots"]);
        assert!(StatefulSet.check_name("a-b", false).is_empty());
    }

    #[test]
    fn cells_count_pods() {
        cells(
            &StatefulSet,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{"replicas":2,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"readyReplicas":1}}"#,
            r#"["x","1/2","0s","c","i"]"#,
        );
    }
}
