//! Node: a machine that runs Pods.

use api_codec::json;
use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path, quoted};
use api_semantics::{ip, names};

use super::shared::{check_quantity, quantities, round_up_resources};
use crate::Kind;
use crate::checks::{internal, invalid_text, map, name, texts};

const ROLE_LABEL_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const TAINTS_ANNOTATION: &str = "scheduler.alpha.kubernetes.io/taints";
const AVOID_PODS_ANNOTATION: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";

/// The kind Node.
pub(crate) struct Node;

impl Kind for Node {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "nodes"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        if let (None, Some(capacity)) = (object.at(&["status", "allocatable"]), object.at(&["status", "capacity"])) {
            let allocatable = capacity.clone();
            object.set(&["status", "allocatable"], allocatable);
        }
        round_up_resources(object, &[&["status", "capacity"], &["status", "allocatable"]]);
        sync_pod_cidr(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        // Configuration of kubelets through the API is gone; only what is stored stays.
        object.remove(&["spec", "configSource"]);
        object.remove(&["status", "config"]);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if old.at(&["spec", "configSource"]).is_none() {
            new.remove(&["spec", "configSource"]);
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        if old.at(&["status", "config"]).is_none() {
            new.remove(&["status", "config"]);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        check_annotations(&mut errors, object);
        check_taints(&mut errors, object.list_at(&["spec", "taints"]), &Path::new("metadata.taints"));
        check_resources(&mut errors, object);
        check_declared_features(&mut errors, object);
        let swap = object.at(&["status", "nodeInfo", "swap"]).and_then(|swap| swap.int_at(&["capacity"]));
        if let Some(swap) = swap.filter(|swap| *swap <= 0) {
            // The path is upstream's.
            errors.push(Error::invalid(
                &Path::new("metadata.nodeSwapStatus.capacity"),
                swap,
                "must be greater than zero",
            ));
        }
        check_pod_cidrs(&mut errors, object);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(check_update(new, old));
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        check_update(new, old)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if new.at(&["spec", "configSource"]).is_some() {
            warnings.push("spec.configSource: the feature is removed".to_owned());
        }
        if !new.str_at(&["spec", "externalID"]).is_empty() {
            warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        let path = Path::new("spec.podCIDRs");
        for (at, cidr) in texts(new, &["spec", "podCIDRs"]).into_iter().enumerate() {
            warnings.extend(ip::cidr_warnings(&path.index(at), cidr));
        }
        warnings
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let info = |field: &str| SmolStr::new(object.str_at(&["status", "nodeInfo", field]));
        let known = |text: SmolStr| if text.is_empty() { SmolStr::new_static("<unknown>") } else { text };
        let kernel = match (known(info("kernelVersion")), info("architecture")) {
            (kernel, architecture) if architecture.is_empty() => kernel,
            (kernel, architecture) => format_smolstr!("{kernel} ({architecture})"),
        };
        Some(vec![
            name(object),
            status_cell(object).into(),
            roles_cell(object).into(),
            api_semantics::time::age(object, now),
            info("kubeletVersion").into(),
            address_cell(object, "InternalIP"),
            address_cell(object, "ExternalIP"),
            known(info("osImage")).into(),
            kernel.into(),
            known(info("containerRuntimeVersion")).into(),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.unschedulable"]
    }

    fn selectable_field(&self, object: &Value, label: &str) -> SmolStr {
        let flag = label == "spec.unschedulable" && object.bool_at(&["spec", "unschedulable"]) == Some(true);
        SmolStr::new_static(if flag { "true" } else { "false" })
    }
}

/// `podCIDR` is the first of `podCIDRs`; a client that sets only one of them means both.
fn sync_pod_cidr(object: &mut Value) {
    let one = SmolStr::new(object.str_at(&["spec", "podCIDR"]));
    let first = object.list_at(&["spec", "podCIDRs"]).first().cloned();
    match first {
        Some(first) if one.is_empty() => object.set(&["spec", "podCIDR"], first),
        first if !one.is_empty() && first.as_ref().and_then(Value::as_str) != Some(&*one) => {
            object.set(&["spec", "podCIDRs"], vec![Value::Str(one)]);
        }
        _ => {}
    }
}

fn status_cell(object: &Value) -> String {
    let ready = object.list_at(&["status", "conditions"]).iter().rev().find(|c| c.str_at(&["type"]) == "Ready");
    let mut status = match ready.map(|ready| ready.str_at(&["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object.bool_at(&["spec", "unschedulable"]) == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles_cell(object: &Value) -> String {
    let labels = map(object, &["metadata", "labels"]).iter();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_LABEL_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address_cell(object: &Value, address_type: &str) -> Value {
    let address = object.list_at(&["status", "addresses"]).iter().find(|a| a.str_at(&["type"]) == address_type);
    address.map_or("<none>", |address| address.str_at(&["address"])).into()
}

/// Checks taints; the path is upstream's, `metadata.taints` for those of the spec.
fn check_taints(errors: &mut ErrorList, taints: &[Value], path: &Path<'_>) {
    for (at, taint) in taints.iter().enumerate() {
        let path = path.index(at);
        let (key, value, effect) = (taint.str_at(&["key"]), taint.str_at(&["value"]), taint.str_at(&["effect"]));
        invalid_text(errors, &path.child("key"), key, names::qualified_name(key));
        let messages = names::label_value(value);
        if !messages.is_empty() {
            errors.push(Error::invalid(&path.child("value"), value, messages.join(";")));
        }
        const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        let effect_path = path.child("effect");
        if effect.is_empty() {
            errors.push(Error::required(&effect_path, ""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(Error::not_supported(&effect_path, effect, &EFFECTS));
        }
        if taints[..at].iter().any(|other| other.str_at(&["key"]) == key && other.str_at(&["effect"]) == effect) {
            let mut error = Error::duplicate(&path, internal(Some(taint), "io.k8s.api.core.v1.Taint"));
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
}

fn check_resources(errors: &mut ErrorList, object: &Value) {
    let status = Path::new("status");
    for list in ["capacity", "allocatable"] {
        let path = status.child(list);
        for (resource, quantity) in quantities(object.map_at(&["status", list])) {
            check_quantity(errors, resource, &quantity, &path.child(resource));
        }
    }
}

/// The features that a kubelet declares are paths of names, sorted and distinct.
fn check_declared_features(errors: &mut ErrorList, object: &Value) {
    let (features, path) = (texts(object, &["status", "declaredFeatures"]), Path::new("status.declaredFeatures"));
    let is_name = |(at, name): (usize, &str)| {
        name.starts_with(|c: char| if at == 0 { c.is_ascii_uppercase() } else { c.is_ascii_alphabetic() })
            && name.bytes().all(|c| c.is_ascii_alphanumeric())
    };
    for (at, feature) in features.iter().enumerate() {
        let shown = quoted(feature);
        if feature.len() > names::DNS1123_SUBDOMAIN_LEN_MAX {
            let why = names::max_len_error(names::DNS1123_SUBDOMAIN_LEN_MAX);
            errors.push(Error::invalid(&path.index(at), *feature, format!("invalid feature name {shown}: {why}")));
        } else if !feature.split('/').enumerate().all(is_name) {
            let why = format!(
                "invalid feature name {shown}: must start with an UpperCamelCase segment, with subsequent segments \
                 separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric \
                 characters and slashes"
            );
            errors.push(Error::invalid(&path.index(at), *feature, why));
        }
        match features.get(at + 1) {
            Some(next) if next == feature => errors.push(Error::duplicate(&path.index(at + 1), *next)),
            Some(next) if next < feature => {
                errors.push(Error::invalid(&path.index(at + 1), *next, "list must be sorted alphabetically"));
            }
            _ => {}
        }
    }
}

fn check_pod_cidrs(errors: &mut ErrorList, object: &Value) {
    let (cidrs, path) = (texts(object, &["spec", "podCIDRs"]), Path::new("spec.podCIDRs"));
    for (at, cidr) in cidrs.iter().enumerate() {
        errors.extend(ip::validate_cidr_legacy(&path.index(at), cidr, &[]));
    }
    if cidrs.len() > 1 {
        if let Some((at, bad)) = cidrs.iter().enumerate().find(|(_, cidr)| ip::parse_cidr(cidr).is_none()) {
            let why = format!(
                "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{at}]: <nil> (invalid CIDR \
                 address: {bad})"
            );
            errors.push(Error::internal(&path, why));
        }
        let is_dual = cidrs.iter().any(|cidr| ip::is_v6_cidr(cidr)) && cidrs.iter().any(|cidr| ip::is_v4_cidr(cidr));
        if !is_dual || cidrs.len() > 2 {
            let shown = object.at(&["spec", "podCIDRs"]).cloned().unwrap_or_default();
            errors.push(Error::invalid(&path, shown, "may specify no more than one CIDR for each IP family"));
        }
    }
}

/// Annotations that once were fields of the spec.
fn check_annotations(errors: &mut ErrorList, object: &Value) {
    let text = object.str_at(&["metadata", "annotations", TAINTS_ANNOTATION]);
    if !text.is_empty() {
        let path = Path::new("metadata.annotations");
        let wrong = match json::decode(None, text.as_bytes(), json::Options::default()) {
            Ok(decoded) => match decoded.value {
                Value::List(taints) => {
                    check_taints(errors, &taints, &path.child(TAINTS_ANNOTATION));
                    None
                }
                Value::Null => None,
                other => {
                    let found = other.type_name();
                    Some(format!("json: cannot unmarshal {found} into Go value of type []core.Taint"))
                }
            },
            Err(why) => Some(why.to_string()),
        };
        // Upstream shows the key.
        errors.extend(wrong.map(|why| Error::invalid(&path, TAINTS_ANNOTATION, why)));
    }
    check_avoid_pods(errors, object);
}

/// The annotation by which a node once asked not to get the Pods of some controllers.
fn check_avoid_pods(errors: &mut ErrorList, object: &Value) {
    let text = object.str_at(&["metadata", "annotations", AVOID_PODS_ANNOTATION]);
    if text.is_empty() {
        return;
    }
    let path = Path::new("metadata.annotations");
    let ty = api_codec::builtin().find("io.k8s.api.core.v1.AvoidPods");
    let avoided = match json::decode(ty, text.as_bytes(), json::Options::default()) {
        Ok(avoided) => avoided.value,
        Err(why) => {
            // Upstream shows the key.
            errors.push(Error::invalid(&path.child("AvoidPods"), AVOID_PODS_ANNOTATION, why.to_string()));
            return;
        }
    };
    let path = path.child(AVOID_PODS_ANNOTATION);
    for (at, entry) in avoided.list_at(&["preferAvoidPods"]).iter().enumerate() {
        let path = path.index(at);
        match entry.at(&["podSignature", "podController"]) {
            None => errors.push(Error::required(&path.child("PodSignature"), "")),
            Some(controller) if controller.bool_at(&["controller"]) != Some(true) => {
                let why = "must point to a controller";
                errors.push(Error::invalid(&path.child("PodSignature.PodController.Controller"), false, why));
            }
            Some(_) => {}
        }
    }
}

fn check_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    check_annotations(&mut errors, new);
    check_resources(&mut errors, new);
    let (addresses, path) = (new.list_at(&["status", "addresses"]), Path::new("status.addresses"));
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].contains(address) {
            errors.push(Error::duplicate(&path.index(at), internal(Some(address), "io.k8s.api.core.v1.NodeAddress")));
        }
    }
    let (had, has) = (texts(old, &["spec", "podCIDRs"]), texts(new, &["spec", "podCIDRs"]));
    let changes = if had.len() == has.len() { had.iter().zip(&has).filter(|(a, b)| a != b).count() } else { 1 };
    if !had.is_empty() {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.extend((0..changes).map(|_| Error::forbidden(&Path::new("spec.podCIDRs"), why)));
    }
    let provider = ["spec", "providerID"];
    if !old.str_at(&provider).is_empty() && old.str_at(&provider) != new.str_at(&provider) {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&Path::new("spec.providerID"), why));
    }
    if let Some(source) = new.at(&["spec", "configSource"]) {
        check_config_source(&mut errors, source, &Path::new("spec.configSource"), false);
    }
    let config = Path::new("status.config");
    for field in ["assigned", "active", "lastKnownGood"] {
        if let Some(source) = new.at(&["status", "config", field]) {
            check_config_source(&mut errors, source, &config.child(field), true);
        }
    }
    check_taints(&mut errors, new.list_at(&["spec", "taints"]), &Path::new("metadata.taints"));
    check_declared_features(&mut errors, new);
    let external = ["spec", "externalID"];
    if new.str_at(&external) != old.str_at(&external) {
        errors.push(Error::forbidden(&Path::new("spec.externalID"), "may not be updated"));
    }
    errors
}

fn check_config_source(errors: &mut ErrorList, source: &Value, path: &Path<'_>, in_status: bool) {
    let Some(config_map) = source.get("configMap") else {
        let why = "exactly one reference subfield must be non-nil";
        errors.push(Error::invalid(path, internal(Some(source), "io.k8s.api.core.v1.NodeConfigSource"), why));
        return;
    };
    let path = path.child("configMap");
    for field in ["uid", "resourceVersion"] {
        match (in_status, config_map.str_at(&[field]).is_empty()) {
            (true, true) => errors.push(Error::required(&path.child(field), "")),
            (false, false) => {
                errors.push(Error::forbidden(&path.child(field), format!("{field} must not be set in spec")));
            }
            _ => {}
        }
    }
    let mut check = |field: &str, rule: &dyn Fn(&str) -> Vec<String>| {
        let text = config_map.str_at(&[field]);
        if text.is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        } else {
            invalid_text(errors, &path.child(field), text, rule(text));
        }
    };
    check("namespace", &|text| names::dns1123_label(text, false));
    check("name", &|text| names::dns1123_subdomain(text, false));
    check("kubeletConfigKey", &names::config_map_key);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, update, update_status};

    #[test]
    fn allocatable_is_all_there_is_and_the_first_cidr_the_one() {
        defaults(
            &Node,
            r#"{"spec":{"podCIDRs":["10.0.0.0/24","fd00::/64"]},"status":{"capacity":{"cpu":"0.0001"}}}"#,
            r#"{"spec":{"podCIDR":"10.0.0.0/24","podCIDRs":["10.0.0.0/24","fd00::/64"]},
                "status":{"capacity":{"cpu":"1m"},"allocatable":{"cpu":"1m"}}}"#,
        );
        defaults(
            &Node,
            r#"{"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.0.0.0/24"]}}"#,
            r#"{"spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24"]}}"#,
        );
    }

    #[test]
    fn taints_are_well_formed_and_unique() {
        create(
            &Node,
            r#"{"spec":{"taints":[{"key":"a","effect":"NoSchedule"},{"key":"a","effect":"NoExecute"}]}}"#,
            "",
        );
        create(
            &Node,
            r#"{"spec":{"taints":[{"key":"a","value":"-","effect":"Never"},{"key":"b"},
                {"key":"c","effect":"NoSchedule"},{"key":"c","effect":"NoSchedule"}]}}"#,
            "metadata.taints[0].value: Invalid value: \"-\": a valid label must be an empty string or consist of \
             alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
             'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')\n\
             metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
             \"PreferNoSchedule\", \"NoExecute\"\n\
             metadata.taints[1].effect: Required value\n\
             metadata.taints[3]: Duplicate value: {\"Key\":\"c\",\"Value\":\"\",\"Effect\":\"NoSchedule\",\
             \"TimeAdded\":null}: taints must be unique by key and effect pair",
        );
    }

    #[test]
    fn pod_cidrs_are_one_for_each_family() {
        create(&Node, r#"{"spec":{"podCIDRs":["10.0.0.0/24","fd00::/64"]}}"#, "");
        create(
            &Node,
            r#"{"spec":{"podCIDRs":["10.0.0.0/24","10.0.1.0/24"]}}"#,
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for \
             each IP family",
        );
    }

    #[test]
    fn what_the_control_plane_set_stays() {
        update(
            &Node,
            r#"{"spec":{"podCIDR":"10.0.0.0/24","providerID":"a"}}"#,
            r#"{"spec":{"podCIDR":"10.0.1.0/24","providerID":"b","externalID":"c"}}"#,
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid\n\
             spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid\n\
             spec.externalID: Forbidden: may not be updated",
        );
        update(&Node, "{}", r#"{"spec":{"podCIDR":"10.0.1.0/24","providerID":"b"}}"#, "");
    }

    #[test]
    fn statuses_have_whole_pods_and_distinct_addresses() {
        update_status(
            &Node,
            "{}",
            r#"{"status":{"capacity":{"pods":"1500m","cpu":"-1"},"allocatable":{"cpu":"1"},
                "addresses":[{"type":"InternalIP","address":"1.2.3.4"},{"type":"InternalIP","address":"1.2.3.4"}]}}"#,
            "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0\n\
             status.capacity.pods: Invalid value: \"1500m\": must be an integer\n\
             status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"1.2.3.4\"}",
        );
    }

    #[test]
    fn declared_features_are_sorted_names() {
        create(&Node, r#"{"status":{"declaredFeatures":["A","B/cD"]}}"#, "");
        create(
            &Node,
            r#"{"status":{"declaredFeatures":["B","B","A","a"]}}"#,
            "status.declaredFeatures[1]: Duplicate value: \"B\"\n\
             status.declaredFeatures[2]: Invalid value: \"A\": list must be sorted alphabetically\n\
             status.declaredFeatures[3]: Invalid value: \"a\": invalid feature name \"a\": must start with an \
             UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or \
             MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
        );
    }

    #[test]
    fn cells_tell_readiness_roles_and_versions() {
        cells(
            &Node,
            r#"{"metadata":{"name":"n","labels":{"node-role.kubernetes.io/control-plane":"","kubernetes.io/role":"x"}},
                "spec":{"unschedulable":true},"status":{"conditions":[{"type":"Ready","status":"True"}],
                "addresses":[{"type":"InternalIP","address":"10.0.0.1"}],
                "nodeInfo":{"kubeletVersion":"v1","osImage":"os","kernelVersion":"6.1","architecture":"arm64"}}}"#,
            r#"["n","Ready,SchedulingDisabled","control-plane,x","<unknown>","v1","10.0.0.1","<none>","os",
                "6.1 (arm64)","<unknown>"]"#,
        );
        cells(
            &Node,
            r#"{"metadata":{"name":"n"}}"#,
            r#"["n","Unknown","<none>","<unknown>","","<none>","<none>","<unknown>","<unknown>","<unknown>"]"#,
        );
    }

    #[test]
    fn unschedulable_selects_by_true_and_false() {
        for (object, expect) in [("{}", "false"), (r#"{"spec":{"unschedulable":true}}"#, "true")] {
            assert_eq!(Node.selectable_field(&json(object), "spec.unschedulable"), expect);
        }
    }
}
