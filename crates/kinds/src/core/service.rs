//! Service: one stable name and address for a set of Pods.
//!
//! The registry allocates cluster IPs, node ports and health check ports before it validates, as upstream does. What
//! it needs for that without knowing more of Services is at the end of this file.

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::{ip, names, selector};

use crate::Kind;
use crate::checks::{default_text, invalid_text, items_mut, map, name, required_text, same, supported, texts};
use crate::core::shared::{labels_cell, not_special_ip};

const CLUSTER_IP_NONE: &str = "None";
const AFFINITY_SECONDS_DEFAULT: i64 = 10_800;
const AFFINITY_SECONDS_MAX: i64 = 86_400;
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_HINTS_ANNOTATION: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE_ANNOTATION: &str = "service.kubernetes.io/topology-mode";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const UNCHANGED: &str = "may not change once set";

/// The kind Service.
pub(crate) struct Service;

impl Kind for Service {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "services"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_label(name, prefix)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        default_text(object, &["spec", "sessionAffinity"], "None");
        match object.str_at(&["spec", "sessionAffinity"]) {
            "None" => {
                object.remove(&["spec", "sessionAffinityConfig"]);
            }
            "ClientIP" => {
                const TIMEOUT: [&str; 3] = ["sessionAffinityConfig", "clientIP", "timeoutSeconds"];
                if object.at(&["spec"]).is_some_and(|spec| spec.at(&TIMEOUT).is_none()) {
                    object.remove(&["spec", "sessionAffinityConfig"]);
                    object.entry(&["spec"]).set(&TIMEOUT, AFFINITY_SECONDS_DEFAULT);
                }
            }
            _ => {}
        }
        default_text(object, &["spec", "type"], "ClusterIP");
        for port in items_mut(object, &["spec", "ports"]) {
            default_text(port, &["protocol"], "TCP");
            if port.get("targetPort").is_none_or(Value::is_zero) {
                let number = port.int_at(&["port"]).unwrap_or(0);
                port.set(&["targetPort"], number);
            }
        }
        if is_externally_accessible(object) {
            default_text(object, &["spec", "externalTrafficPolicy"], "Cluster");
        }
        let service_type = SmolStr::new(object.str_at(&["spec", "type"]));
        if matches!(service_type.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer")
            && object.at(&["spec", "internalTrafficPolicy"]).is_none()
        {
            object.set(&["spec", "internalTrafficPolicy"], "Cluster");
        }
        if service_type == "LoadBalancer" {
            if object.at(&["spec", "allocateLoadBalancerNodePorts"]).is_none() {
                object.set(&["spec", "allocateLoadBalancerNodePorts"], true);
            }
            for ingress in items_mut(object, &["status", "loadBalancer", "ingress"]) {
                if !ingress.str_at(&["ip"]).is_empty() && ingress.get("ipMode").is_none() {
                    ingress.set(&["ipMode"], "VIP");
                }
            }
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        drop_type_dependent_fields(new, old);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        check_changed_cluster_ips(&mut errors, new, old);
        check_changed_families(&mut errors, new, old);
        if is_type(new, "LoadBalancer") && is_type(old, "LoadBalancer") {
            let class = ["spec", "loadBalancerClass"];
            if new.at(&class) != old.at(&class) {
                let shown = new.at(&class).cloned().unwrap_or_default();
                errors.push(Error::invalid(&Path::new("spec.loadBalancerClass"), shown, UNCHANGED));
            }
        }
        check_load_balancer_class(&mut errors, new);
        let health_check = ["spec", "healthCheckNodePort"];
        if needs_health_check_port(old)
            && needs_health_check_port(new)
            && new.at(&health_check) != old.at(&health_check)
        {
            errors.push(Error::forbidden(&Path::new("spec.healthCheckNodePort"), names::IMMUTABLE));
        }
        errors.extend(check(new, Some(old)));
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let load_balancer = Path::new("status.loadBalancer");
        let (path, ingress) = (load_balancer.child("ingress"), new.list_at(&["status", "loadBalancer", "ingress"]));
        if !is_type(new, "LoadBalancer") && !ingress.is_empty() {
            errors.push(Error::forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'"));
            return errors;
        }
        let known: Vec<&str> =
            old.list_at(&["status", "loadBalancer", "ingress"]).iter().map(|ingress| ingress.str_at(&["ip"])).collect();
        for (at, ingress) in ingress.iter().enumerate() {
            check_ingress(&mut errors, &path.index(at), ingress, &known);
        }
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(new)
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let cluster_ip = texts(object, &["spec", "clusterIPs"]).first().map_or("<none>", |ip| *ip);
        Some(vec![
            name(object),
            object.str_at(&["spec", "type"]).into(),
            cluster_ip.into(),
            external_ip(object).into(),
            ports_cell(object.list_at(&["spec", "ports"])).into(),
            api_semantics::time::age(object, now),
            labels_cell(object.map_at(&["spec", "selector"])),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.clusterIP", "spec.type"]
    }
}

fn external_ip(object: &Value) -> SmolStr {
    let external_ips = texts(object, &["spec", "externalIPs"]);
    match object.str_at(&["spec", "type"]) {
        "ClusterIP" | "NodePort" if external_ips.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => external_ips.join(",").into(),
        "LoadBalancer" => {
            let ingress = object.list_at(&["status", "loadBalancer", "ingress"]).iter();
            let mut addresses: Vec<&str> = ingress
                .map(|ingress| match ingress.str_at(&["ip"]) {
                    "" => ingress.str_at(&["hostname"]),
                    ip => ip,
                })
                .filter(|address| !address.is_empty())
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses.extend(external_ips);
            if addresses.is_empty() { "<pending>".into() } else { addresses.join(",").into() }
        }
        "ExternalName" => object.str_at(&["spec", "externalName"]).into(),
        _ => "<unknown>".into(),
    }
}

fn ports_cell(ports: &[Value]) -> SmolStr {
    let pieces: Vec<String> = ports
        .iter()
        .map(|port| {
            let (number, protocol) = (port.int_at(&["port"]).unwrap_or(0), port.str_at(&["protocol"]));
            match node_port(port) {
                0 => format!("{number}/{protocol}"),
                node_port => format!("{number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    if pieces.is_empty() { "<none>".into() } else { pieces.join(",").into() }
}

fn is_type(service: &Value, service_type: &str) -> bool {
    service.str_at(&["spec", "type"]) == service_type
}

fn is_headless(service: &Value) -> bool {
    texts(service, &["spec", "clusterIPs"]) == [CLUSTER_IP_NONE]
}

fn is_externally_accessible(service: &Value) -> bool {
    match service.str_at(&["spec", "type"]) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !service.list_at(&["spec", "externalIPs"]).is_empty(),
        _ => false,
    }
}

fn node_port(port: &Value) -> i64 {
    port.int_at(&["nodePort"]).unwrap_or(0)
}

/// The value at a path as messages show it.
fn shown(object: &Value, path: &[&str]) -> Value {
    object.at(path).cloned().unwrap_or_default()
}

fn check(service: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let annotations = map(service, &["metadata", "annotations"]);
    let annotation = |key: &str| annotations.get(key).and_then(Value::as_str);
    if let (Some(mode), Some(hints)) = (annotation(TOPOLOGY_MODE_ANNOTATION), annotation(TOPOLOGY_HINTS_ANNOTATION))
        && mode != hints
    {
        let why = format!("must match annotations[{TOPOLOGY_HINTS_ANNOTATION}] when both are specified");
        let path = Path::new("metadata.annotations");
        errors.push(Error::invalid(&path.key(TOPOLOGY_MODE_ANNOTATION), mode, why));
    }
    let (nothing, path) = (Value::Null, Path::new("spec"));
    let spec = service.get("spec").unwrap_or(&nothing);
    let (service_type, ports) = (spec.str_at(&["type"]), spec.list_at(&["ports"]));
    if ports.is_empty() && !is_headless(service) && service_type != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    check_type(&mut errors, service, spec, service_type, &path);
    let ports_path = path.child("ports");
    let mut port_names = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        check_port(&mut errors, &ports_path.index(at), port, ports.len() > 1, &mut port_names);
    }
    errors.extend(selector::validate_labels(spec.map_at(&["selector"]), &path.child("selector")));
    check_affinity(&mut errors, spec, &path);
    check_cluster_ips(&mut errors, service, old);
    check_external_ips(&mut errors, service, old, &path.child("externalIPs"));
    let type_path = path.child("type");
    if service_type.is_empty() {
        errors.push(Error::required(&type_path, ""));
    } else {
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        supported(&mut errors, &type_path, service_type, &types);
    }
    check_unique_ports(&mut errors, ports, service_type, &ports_path);
    check_source_ranges(&mut errors, service, old, &path);
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if service_type != "LoadBalancer" && allocate.is_some() {
        errors.push(Error::forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY_LOAD_BALANCER));
    }
    if service_type == "LoadBalancer" && allocate.is_none() {
        errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
    }
    check_load_balancer_class(&mut errors, service);
    check_traffic_policies(&mut errors, service, spec, &path);
    errors
}

fn check_type(errors: &mut ErrorList, service: &Value, spec: &Value, service_type: &str, path: &Path<'_>) {
    match service_type {
        "LoadBalancer" | "NodePort" if is_headless(service) => {
            let why = format!("may not be set to 'None' for {service_type} services");
            errors.push(Error::invalid(&path.child("clusterIPs").index(0), CLUSTER_IP_NONE, why));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies"] {
                if !spec.list_at(&[field]).is_empty() {
                    errors.push(Error::forbidden(&path.child(field), "may not be set for ExternalName services"));
                }
            }
            if spec.get("ipFamilyPolicy").is_some() {
                let why = "may not be set for ExternalName services";
                errors.push(Error::forbidden(&path.child("ipFamilyPolicy"), why));
            }
            let external_name = spec.str_at(&["externalName"]);
            let external_name = external_name.strip_suffix('.').unwrap_or(external_name);
            let path = path.child("externalName");
            if external_name.is_empty() {
                errors.push(Error::required(&path, ""));
            } else {
                invalid_text(errors, &path, external_name, names::dns1123_subdomain(external_name, false));
            }
        }
        _ => {}
    }
}

fn check_port<'a>(
    errors: &mut ErrorList,
    path: &Path<'_>,
    port: &'a Value,
    needs_name: bool,
    port_names: &mut Vec<&'a str>,
) {
    let (port_name, name_path) = (port.str_at(&["name"]), path.child("name"));
    if !port_name.is_empty() {
        invalid_text(errors, &name_path, port_name, names::dns1123_label(port_name, false));
        if port_names.contains(&port_name) {
            errors.push(Error::duplicate(&name_path, port_name));
        }
        port_names.push(port_name);
    } else if needs_name {
        errors.push(Error::required(&name_path, ""));
    }
    let number = port.int_at(&["port"]).unwrap_or(0);
    errors.extend(names::port_num(number).into_iter().map(|why| Error::invalid(&path.child("port"), number, why)));
    let protocol = required_text(errors, path, port, "protocol");
    if !protocol.is_empty() {
        supported(errors, &path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    let target = path.child("targetPort");
    match port.get("targetPort") {
        Some(Value::Str(text)) => invalid_text(errors, &target, text, names::port_name(text)),
        number => {
            let number = number.and_then(Value::as_int).unwrap_or(0);
            errors.extend(names::port_num(number).into_iter().map(|why| Error::invalid(&target, number, why)));
        }
    }
    if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
        invalid_text(errors, &path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

fn check_affinity(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    let (affinity, config) = (spec.str_at(&["sessionAffinity"]), spec.get("sessionAffinityConfig"));
    let config_path = path.child("sessionAffinityConfig");
    match affinity {
        "" => errors.push(Error::required(&path.child("sessionAffinity"), "")),
        "None" => {
            if config.is_some() {
                errors.push(Error::forbidden(&config_path, "must not be set when session affinity is None"));
            }
        }
        "ClientIP" => {
            const WHY: &str = "when session affinity type is ClientIP";
            let client_path = config_path.child("clientIP");
            let timeout_path = client_path.child("timeoutSeconds");
            let client = config.and_then(|config| config.get("clientIP"));
            match (config, client, client.and_then(|client| client.int_at(&["timeoutSeconds"]))) {
                (None, ..) => errors.push(Error::required(&config_path, WHY)),
                (_, None, _) => errors.push(Error::required(&client_path, WHY)),
                (.., None) => errors.push(Error::required(&timeout_path, WHY)),
                (.., Some(timeout)) if !(1..=AFFINITY_SECONDS_MAX).contains(&timeout) => {
                    let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                    errors.push(Error::invalid(&timeout_path, timeout, why));
                }
                _ => {}
            }
        }
        _ => supported(errors, &path.child("sessionAffinity"), affinity, &["ClientIP", "None"]),
    }
}

fn check_cluster_ips(errors: &mut ErrorList, service: &Value, old: Option<&Value>) {
    if is_type(service, "ExternalName") {
        return;
    }
    let path = Path::new("spec.clusterIPs");
    let (cluster_ip, cluster_ips) = (service.str_at(&["spec", "clusterIP"]), texts(service, &["spec", "clusterIPs"]));
    let invalid = |why: &str| Error::invalid(&path, shown(service, &["spec", "clusterIPs"]), why);
    match (cluster_ip, cluster_ips.first()) {
        ("", Some(_)) => errors.push(invalid("must be empty when `clusterIP` is not specified")),
        ("", None) => {}
        (_, None) => errors.push(Error::required(&path, "")),
        (one, Some(first)) if one != *first => errors.push(invalid("first value must match `clusterIP`")),
        _ => {}
    }
    let families = texts(service, &["spec", "ipFamilies"]);
    let families_path = Path::new("spec.ipFamilies");
    for (at, family) in families.iter().enumerate() {
        supported(errors, &families_path.index(at), family, &["IPv4", "IPv6"]);
        if families[..at].contains(family) {
            errors.push(Error::duplicate(&families_path.index(at), *family));
        }
    }
    if let Some(policy) = service.at(&["spec", "ipFamilyPolicy"]).and_then(Value::as_str) {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        supported(errors, &Path::new("spec.ipFamilyPolicy"), policy, &policies);
    }
    let known = old.map(|old| texts(old, &["spec", "clusterIPs"])).unwrap_or_default();
    let mut has_invalid = false;
    for (at, text) in cluster_ips.iter().enumerate() {
        if at == 0 && *text == CLUSTER_IP_NONE {
            if cluster_ips.len() > 1 {
                has_invalid = true;
                errors.push(invalid("'None' must be the first and only value"));
            }
            continue;
        }
        let bad = ip::validate_legacy(&path.index(at), text, &known);
        has_invalid |= !bad.is_empty();
        errors.extend(bad);
    }
    if cluster_ips.len() > 2 {
        errors.push(invalid("may only hold up to 2 values"));
    }
    if has_invalid {
        return;
    }
    let first_is_v6 = cluster_ips.first().is_some_and(|first| ip::is_v6(first));
    if cluster_ips.len() > 1 && cluster_ips.iter().all(|text| ip::is_v6(text) == first_is_v6) {
        errors.push(invalid("may specify no more than one IP for each IP family"));
    }
    if !is_headless(service) {
        for (at, (text, family)) in cluster_ips.iter().zip(&families).enumerate() {
            if (*family == "IPv4" && ip::is_v6(text)) || (*family == "IPv6" && !ip::is_v6(text)) {
                let why = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
                errors.push(Error::invalid(&path.index(at), *text, why));
            }
        }
    }
}

fn check_external_ips(errors: &mut ErrorList, service: &Value, old: Option<&Value>, path: &Path<'_>) {
    let known = old.map(|old| texts(old, &["spec", "externalIPs"])).unwrap_or_default();
    for (at, text) in texts(service, &["spec", "externalIPs"]).into_iter().enumerate() {
        let bad = ip::validate_legacy(&path.index(at), text, &known);
        if bad.is_empty() {
            not_special_ip(errors, &path.index(at), text);
        } else {
            errors.extend(bad);
        }
    }
}

fn check_unique_ports(errors: &mut ErrorList, ports: &[Value], service_type: &str, path: &Path<'_>) {
    if service_type == "ClusterIP" {
        for (at, _) in ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(Error::forbidden(&path.index(at).child("nodePort"), why));
        }
    }
    let key =
        |port: &Value, field: &str| (port.int_at(&[field]).unwrap_or(0), SmolStr::new(port.str_at(&["protocol"])));
    for (at, port) in ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
        if ports[..at].iter().any(|other| key(other, "nodePort") == key(port, "nodePort")) {
            errors.push(Error::duplicate(&path.index(at).child("nodePort"), node_port(port)));
        }
    }
    for (at, port) in ports.iter().enumerate() {
        let (number, protocol) = key(port, "port");
        if ports[..at].iter().any(|other| key(other, "port") == (number, protocol.clone())) {
            // As Go's JSON shows its internal struct, of which only these two fields are set.
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\
                 \"NodePort\":0}}",
                api_semantics::field::quoted(&protocol)
            );
            errors.push(Error::duplicate(&path.index(at), Value::Raw(shown.into())));
        }
    }
}

fn check_source_ranges(errors: &mut ErrorList, service: &Value, old: Option<&Value>, path: &Path<'_>) {
    let is_load_balancer = is_type(service, "LoadBalancer");
    let ranges = texts(service, &["spec", "loadBalancerSourceRanges"]);
    let annotation = |service: &Value| {
        map(service, &["metadata", "annotations"])
            .get(SOURCE_RANGES_ANNOTATION)
            .and_then(Value::as_str)
            .map(SmolStr::new)
    };
    if !ranges.is_empty() {
        // The capital letter is upstream's.
        let path = path.child("LoadBalancerSourceRanges");
        if !is_load_balancer {
            errors.push(Error::forbidden(&path, ONLY_LOAD_BALANCER));
        }
        let known = old.map(|old| texts(old, &["spec", "loadBalancerSourceRanges"])).unwrap_or_default();
        let known: Vec<&str> = known.into_iter().map(str::trim).collect();
        for (at, range) in ranges.iter().enumerate() {
            errors.extend(ip::validate_cidr_legacy(&path.index(at), range.trim(), &known));
        }
    } else if let Some(text) = annotation(service) {
        let annotations = Path::new("metadata.annotations");
        let path = annotations.key(SOURCE_RANGES_ANNOTATION);
        if !is_load_balancer {
            errors.push(Error::forbidden(&path, ONLY_LOAD_BALANCER));
        }
        if old.and_then(annotation).as_ref() != Some(&text) && !text.trim().is_empty() {
            for range in text.trim().split(',') {
                errors.extend(ip::validate_cidr_legacy(&path, range.trim(), &[]));
            }
        }
    }
}

fn check_load_balancer_class(errors: &mut ErrorList, service: &Value) {
    let Some(class) = service.at(&["spec", "loadBalancerClass"]).and_then(Value::as_str) else { return };
    let path = Path::new("spec.loadBalancerClass");
    if is_type(service, "LoadBalancer") {
        invalid_text(errors, &path, class, names::qualified_name(class));
    } else {
        errors.push(Error::forbidden(&path, ONLY_LOAD_BALANCER));
    }
}

fn check_traffic_policies(errors: &mut ErrorList, service: &Value, spec: &Value, path: &Path<'_>) {
    let (external, external_path) = (spec.str_at(&["externalTrafficPolicy"]), path.child("externalTrafficPolicy"));
    match (is_externally_accessible(service), external) {
        (false, "") => {}
        (false, _) => {
            let why = "may only be set for externally-accessible services";
            errors.push(Error::invalid(&external_path, external, why));
        }
        (true, "") => errors.push(Error::required(&external_path, "")),
        (true, _) => supported(errors, &external_path, external, &["Cluster", "Local"]),
    }
    let (health_check, health_path) =
        (spec.int_at(&["healthCheckNodePort"]).unwrap_or(0), path.child("healthCheckNodePort"));
    match (needs_health_check_port(service), health_check) {
        (false, 0) => {}
        (false, _) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&health_path, health_check, why));
        }
        (true, 0) => errors.push(Error::required(&health_path, "")),
        (true, port) => {
            errors.extend(names::port_num(port).into_iter().map(|why| Error::invalid(&health_path, port, why)));
        }
    }
    let internal_path = path.child("internalTrafficPolicy");
    match spec.get("internalTrafficPolicy").and_then(Value::as_str) {
        None if matches!(spec.str_at(&["type"]), "ClusterIP" | "NodePort" | "LoadBalancer") => {
            errors.push(Error::required(&internal_path, ""));
        }
        None => {}
        Some(policy) => supported(errors, &internal_path, policy, &["Cluster", "Local"]),
    }
    if let Some(distribution) = spec.get("trafficDistribution").and_then(Value::as_str) {
        let known = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        supported(errors, &path.child("trafficDistribution"), distribution, &known);
    }
}

fn check_ingress(errors: &mut ErrorList, path: &Path<'_>, ingress: &Value, known: &[&str]) {
    let (address, mode) = (ingress.str_at(&["ip"]), ingress.get("ipMode").and_then(Value::as_str));
    if !address.is_empty() {
        errors.extend(ip::validate_legacy(&path.child("ip"), address, known));
    }
    let mode_path = path.child("ipMode");
    match mode {
        None if address.is_empty() => {}
        None => errors.push(Error::required(&mode_path, "must be specified when `ip` is set")),
        Some(_) if address.is_empty() => {
            errors.push(Error::forbidden(&mode_path, "may not be specified when `ip` is not set"));
        }
        Some(mode) => supported(errors, &mode_path, mode, &["Proxy", "VIP"]),
    }
    let (hostname, path) = (ingress.str_at(&["hostname"]), path.child("hostname"));
    if !hostname.is_empty() {
        invalid_text(errors, &path, hostname, names::dns1123_subdomain(hostname, false));
        if ip::parse(hostname).is_some() {
            errors.push(Error::invalid(&path, hostname, "must be a DNS name, not an IP address"));
        }
    }
}

/// A Service may gain or lose a second cluster IP, but not change one, unless it comes from or becomes ExternalName.
fn check_changed_cluster_ips(errors: &mut ErrorList, new: &Value, old: &Value) {
    if is_type(new, "ExternalName") || is_type(old, "ExternalName") || (is_headless(new) && is_headless(old)) {
        return;
    }
    let path = Path::new("spec.clusterIPs");
    let (had, has) = (texts(old, &["spec", "clusterIPs"]), texts(new, &["spec", "clusterIPs"]));
    let invalid = |at: usize, why: &str| Error::invalid(&path.index(at), shown(new, &["spec", "clusterIPs"]), why);
    if had.len() == has.len() {
        let changed = had.iter().zip(&has).enumerate().filter(|(_, (had, has))| had != has);
        errors.extend(changed.map(|(at, _)| invalid(at, UNCHANGED)));
        return;
    }
    if has.is_empty() {
        errors.push(invalid(0, "primary clusterIP can not be unset"));
    }
    if let (Some(had), Some(has)) = (had.first(), has.first())
        && had != has
    {
        errors.push(invalid(0, UNCHANGED));
    }
    if had.len() > has.len() && has.len() == 1 {
        check_single_stack(errors, new, "must be set to 'SingleStack' when releasing the secondary clusterIP");
    }
}

fn check_changed_families(errors: &mut ErrorList, new: &Value, old: &Value) {
    if is_type(new, "ExternalName") || is_type(old, "ExternalName") || is_headless(new) || is_headless(old) {
        return;
    }
    let path = Path::new("spec.ipFamilies");
    let (had, has) = (texts(old, &["spec", "ipFamilies"]), texts(new, &["spec", "ipFamilies"]));
    let invalid = |field: &str, why: &str| Error::invalid(&path.index(0), shown(new, &["spec", field]), why);
    if had.len() == has.len() {
        let changed = had.iter().zip(&has).filter(|(had, has)| had != has);
        errors.extend(changed.map(|_| invalid("ipFamilies", UNCHANGED)));
        return;
    }
    if had.len() > has.len() && new.list_at(&["spec", "clusterIPs"]).is_empty() {
        errors.push(invalid("ipFamilies", "primary ipFamily can not be unset"));
    }
    if let (Some(had), Some(has)) = (had.first(), has.first())
        && had != has
    {
        // Upstream shows the addresses here.
        errors.push(invalid("clusterIPs", UNCHANGED));
    }
    if had.len() > has.len() && has.len() == 1 {
        check_single_stack(errors, new, "must be set to 'SingleStack' when releasing the secondary ipFamily");
    }
}

fn check_single_stack(errors: &mut ErrorList, new: &Value, why: &str) {
    let policy = shown(new, &["spec", "ipFamilyPolicy"]);
    if policy.as_str() != Some("SingleStack") {
        errors.push(Error::invalid(&Path::new("spec.ipFamilyPolicy"), policy, why));
    }
}

fn warnings(service: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if map(service, &["metadata", "annotations"]).contains_key(TOPOLOGY_HINTS_ANNOTATION) {
        warnings.push(format!(
            "annotation {TOPOLOGY_HINTS_ANNOTATION} is deprecated, please use {TOPOLOGY_MODE_ANNOTATION} instead"
        ));
    }
    let (nothing, path) = (Value::Null, Path::new("spec"));
    let spec = service.get("spec").unwrap_or(&nothing);
    let ips = |warnings: &mut Vec<String>, field: &'static str| {
        let path = path.child(field);
        let list = texts(spec, &[field]).into_iter().enumerate();
        warnings.extend(list.filter_map(|(at, text)| ip::warning(&path.index(at), text)));
    };
    if !matches!(spec.str_at(&["clusterIP"]), "" | CLUSTER_IP_NONE) {
        ips(&mut warnings, "clusterIPs");
    }
    let has_external_ips = !spec.list_at(&["externalIPs"]).is_empty();
    let load_balancer_ip = spec.str_at(&["loadBalancerIP"]);
    let is_headless = is_type(service, "ClusterIP") && spec.str_at(&["clusterIP"]) == CLUSTER_IP_NONE;
    if is_headless {
        for (is_set, field) in [
            (!load_balancer_ip.is_empty(), "loadBalancerIP"),
            (has_external_ips, "externalIPs"),
            (spec.str_at(&["sessionAffinity"]) != "None", "SessionAffinity"),
        ] {
            if is_set {
                warnings.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    ips(&mut warnings, "externalIPs");
    warnings.extend(ip::warning(&path.child("loadBalancerIP"), load_balancer_ip));
    let ranges_path = path.child("loadBalancerSourceRanges");
    for (at, range) in texts(spec, &["loadBalancerSourceRanges"]).into_iter().enumerate() {
        warnings.extend(ip::cidr_warnings(&ranges_path.index(at), range));
    }
    if is_type(service, "ExternalName") && has_external_ips {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_type(service, "ExternalName") && !spec.str_at(&["externalName"]).is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if has_external_ips && !is_headless && !is_type(service, "ExternalName") {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    if spec.str_at(&["trafficDistribution"]) == "PreferClose" {
        warnings.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
    warnings
}

/// Clears what a changed type no longer needs, as long as the client did not change it, too.
fn drop_type_dependent_fields(new: &mut Value, old: &Value) {
    let same_at = |new: &Value, field: &str| same(new.at(&["spec", field]), old.at(&["spec", field]));
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same_at(new, "clusterIP") && same_at(new, "clusterIPs") {
            new.remove(&["spec", "clusterIP"]);
            new.remove(&["spec", "clusterIPs"]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same_at(new, field) {
                new.remove(&["spec", field]);
            }
        }
    }
    if needs_node_ports(old)
        && !needs_node_ports(new)
        && node_ports(new).iter().all(|port| node_ports(old).contains(port))
    {
        for port in items_mut(new, &["spec", "ports"]) {
            port.remove(&["nodePort"]);
        }
    }
    if needs_health_check_port(old) && !needs_health_check_port(new) && same_at(new, "healthCheckNodePort") {
        new.remove(&["spec", "healthCheckNodePort"]);
    }
    if is_type(old, "LoadBalancer") && !is_type(new, "LoadBalancer") {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same_at(new, field) {
                new.remove(&["spec", field]);
            }
        }
    }
    if is_externally_accessible(old) && !is_externally_accessible(new) && same_at(new, "externalTrafficPolicy") {
        new.remove(&["spec", "externalTrafficPolicy"]);
    }
    if !is_type(new, "LoadBalancer") && new.at(&["status", "loadBalancer"]).is_some() {
        new.set(&["status", "loadBalancer"], Map::new());
    }
}

/// What is wrong with the cluster IPs, families and family policy of a Service that is about to be allocated some. As
/// upstream, the registry refuses a Service for these alone before it allocates.
pub fn validate_cluster_ips(service: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    check_cluster_ips(&mut errors, service, old);
    errors
}

/// Whether a Service has cluster IPs (`None` counts as one).
pub fn needs_cluster_ip(service: &Value) -> bool {
    !is_type(service, "ExternalName")
}

/// Whether a Service's ports are opened on every node; a load balancer may do without
/// (`allocateLoadBalancerNodePorts`).
pub fn needs_node_ports(service: &Value) -> bool {
    matches!(service.str_at(&["spec", "type"]), "NodePort" | "LoadBalancer")
}

/// Whether a Service has a port on which each node says if it has endpoints.
pub fn needs_health_check_port(service: &Value) -> bool {
    is_type(service, "LoadBalancer") && service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

fn node_ports(service: &Value) -> Vec<i64> {
    service.list_at(&["spec", "ports"]).iter().map(node_port).filter(|port| *port != 0).collect()
}

/// Keeps `clusterIP` and `clusterIPs` together for clients that know only the older of them. The registry calls it
/// first on create (`old` is none) and update.
pub fn normalize_cluster_ips(new: &mut Value, old: Option<&Value>) {
    let one = |service: &Value| SmolStr::new(service.str_at(&["spec", "clusterIP"]));
    let (new_one, all) = (one(new), ["spec", "clusterIPs"]);
    let list_of = |ip: &SmolStr| vec![Value::Str(ip.clone())];
    let Some(old) = old else {
        if !new_one.is_empty() && new.list_at(&all).is_empty() {
            new.set(&all, list_of(&new_one));
        }
        return;
    };
    let old_one = one(old);
    if old_one == new_one && new.list_at(&all).is_empty() && !old.list_at(&all).is_empty() {
        new.set(&all, shown(old, &all));
    }
    if old_one != new_one && same(new.at(&all), old.at(&all)) {
        if new_one.is_empty() {
            new.remove(&all);
        } else {
            new.set(&all, list_of(&new_one));
        }
    }
}

/// Takes over allocated values that an update left out. The registry calls it on update, after
/// [`normalize_cluster_ips`] and before it allocates what is still missing.
pub fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        for field in ["clusterIP", "clusterIPs"] {
            if let (true, Some(value)) = (new.at(&["spec", field]).is_none_or(Value::is_zero), old.at(&["spec", field]))
            {
                new.set(&["spec", field], value.clone());
            }
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let (had, has) = (node_ports(old), node_ports(new));
        let ports = old.list_at(&["spec", "ports"]);
        for port in items_mut(new, &["spec", "ports"]).iter_mut().filter(|port| node_port(port) == 0) {
            let same_name = ports.iter().rev().find(|old| old.str_at(&["name"]) == port.str_at(&["name"]));
            let known = same_name.map_or(0, node_port);
            if known != 0 && !(had.contains(&known) && has.contains(&known)) {
                port.set(&["nodePort"], known);
            }
        }
    }
    let health_check = ["spec", "healthCheckNodePort"];
    if needs_health_check_port(old)
        && needs_health_check_port(new)
        && new.int_at(&health_check).unwrap_or(0) == 0
        && let Some(port) = old.int_at(&health_check)
    {
        new.set(&health_check, port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, update, update_status};

    /// A Service with one port and what `spec` says.
    fn service(spec: &str) -> String {
        let comma = if spec.is_empty() { "" } else { "," };
        format!(r#"{{"spec":{{"ports":[{{"port":80}}]{comma}{spec}}}}}"#)
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        defaults(
            &Service,
            &service(r#""sessionAffinityConfig":{"clientIP":{"timeoutSeconds":5}}"#),
            r#"{"spec":{"ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None",
                "type":"ClusterIP","internalTrafficPolicy":"Cluster"}}"#,
        );
        defaults(
            &Service,
            r#"{"spec":{"ports":[{"port":80,"targetPort":"web"}],"sessionAffinity":"ClientIP","type":"LoadBalancer"},
                "status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"},{"hostname":"a"}]}}}"#,
            r#"{"spec":{"ports":[{"port":80,"protocol":"TCP","targetPort":"web"}],"sessionAffinity":"ClientIP",
                "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}},"type":"LoadBalancer",
                "internalTrafficPolicy":"Cluster","externalTrafficPolicy":"Cluster",
                "allocateLoadBalancerNodePorts":true},
                "status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4","ipMode":"VIP"},{"hostname":"a"}]}}}"#,
        );
    }

    #[test]
    fn types_say_what_a_service_needs() {
        create(&Service, &service(""), "");
        create(&Service, r#"{"spec":{"clusterIP":"None","clusterIPs":["None"]}}"#, "");
        create(&Service, r#"{"spec":{"type":"ExternalName","externalName":"example.com."}}"#, "");
        create(&Service, r#"{"spec":{}}"#, "spec.ports: Required value");
        create(
            &Service,
            &service(
                r#""type":"ExternalName","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4"],
                "ipFamilyPolicy":"SingleStack""#,
            ),
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services\n\
             spec.ipFamilies: Forbidden: may not be set for ExternalName services\n\
             spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services\n\
             spec.externalName: Required value",
        );
        create(
            &Service,
            &service(r#""type":"NodePort","clusterIP":"None","clusterIPs":["None"]"#),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
        );
        create(
            &Service,
            &service(r#""type":"Pigeon""#),
            "spec.type: Unsupported value: \"Pigeon\": supported values: \"ClusterIP\", \"ExternalName\", \
             \"LoadBalancer\", \"NodePort\"",
        );
    }

    #[test]
    fn ports_are_named_and_distinct() {
        create(
            &Service,
            r#"{"spec":{"type":"NodePort","ports":[{"port":80,"nodePort":30080},{"port":80,"name":"a","nodePort":30080},
                {"port":81,"name":"a","targetPort":"1","appProtocol":"/"}]}}"#,
            "spec.ports[0].name: Required value\n\
             spec.ports[2].name: Duplicate value: \"a\"\n\
             spec.ports[2].targetPort: Invalid value: \"1\": must contain at least one letter (a-z)\n\
             spec.ports[2].appProtocol: Invalid value: \"/\": prefix part must be non-empty\n\
             spec.ports[2].appProtocol: Invalid value: \"/\": name part must be non-empty\n\
             spec.ports[2].appProtocol: Invalid value: \"/\": name part must consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
             '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')\n\
             spec.ports[1].nodePort: Duplicate value: 30080\n\
             spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\
             \"TargetPort\":0,\"NodePort\":0}",
        );
        create(
            &Service,
            r#"{"spec":{"ports":[{"port":0,"protocol":"X","nodePort":1}]}}"#,
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\n\
             spec.ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"\n\
             spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive\n\
             spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        );
    }

    #[test]
    fn addresses_agree_with_each_other_and_with_families() {
        create(
            &Service,
            &service(r#""clusterIP":"10.0.0.1","clusterIPs":["10.0.0.2"]"#),
            "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
        );
        create(
            &Service,
            &service(r#""clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","10.0.0.2"]"#),
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP \
             family",
        );
        create(
            &Service,
            &service(
                r#""clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv6","IPv6","x"],
                "ipFamilyPolicy":"y""#,
            ),
            "spec.ipFamilies[1]: Duplicate value: \"IPv6\"\n\
             spec.ipFamilies[2]: Unsupported value: \"x\": supported values: \"IPv4\", \"IPv6\"\n\
             spec.ipFamilyPolicy: Unsupported value: \"y\": supported values: \"PreferDualStack\", \
             \"RequireDualStack\", \"SingleStack\"\n\
             spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        );
        create(
            &Service,
            &service(r#""externalIPs":["127.0.0.1","010.1.2.3"]"#),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
             ::1/128)\n\
             spec.externalIPs[1]: Invalid value: \"010.1.2.3\": must not have leading 0s",
        );
    }

    #[test]
    fn affinity_lasts_a_day_at_most() {
        create(
            &Service,
            &service(r#""sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86401}}"#),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less \
             than 86400",
        );
        create(
            &Service,
            &service(r#""sessionAffinity":"Cookie""#),
            "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
        );
    }

    #[test]
    fn policies_and_load_balancer_fields_fit_the_type() {
        create(
            &Service,
            &service(
                r#""externalTrafficPolicy":"Local","internalTrafficPolicy":"x","healthCheckNodePort":1,
                "allocateLoadBalancerNodePorts":false,"loadBalancerClass":"a","loadBalancerSourceRanges":["10.0.0.1/8"],
                "trafficDistribution":"y""#,
            ),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'\n\
             spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix \
             length\n\
             spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'\n\
             spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'\n\
             spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services\n\
             spec.healthCheckNodePort: Invalid value: 1: may only be set when `type` is 'LoadBalancer' and \
             `externalTrafficPolicy` is 'Local'\n\
             spec.internalTrafficPolicy: Unsupported value: \"x\": supported values: \"Cluster\", \"Local\"\n\
             spec.trafficDistribution: Unsupported value: \"y\": supported values: \"PreferClose\", \
             \"PreferSameZone\", \"PreferSameNode\"",
        );
        create(
            &Service,
            &service(
                r#""type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":32000,
                "loadBalancerClass":"a/b/c""#,
            ),
            "spec.loadBalancerClass: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or \
             'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with \
             an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        );
    }

    #[test]
    fn a_cluster_ip_stays_and_a_second_comes_and_goes() {
        let with = |ips: &str, more: &str| service(&format!(r#""clusterIP":"10.0.0.1","clusterIPs":[{ips}]{more}"#));
        let (one, both) = (r#""10.0.0.1""#, r#""10.0.0.1","fd00::1""#);
        update(&Service, &with(one, ""), &with(both, ""), "");
        update(&Service, &with(both, ""), &with(one, r#","ipFamilyPolicy":"SingleStack""#), "");
        update(
            &Service,
            &with(both, ""),
            &with(one, ""),
            "spec.ipFamilyPolicy: Invalid value: null: must be set to 'SingleStack' when releasing the secondary \
             clusterIP",
        );
        update(
            &Service,
            &with(one, ""),
            &service(r#""clusterIP":"10.0.0.2","clusterIPs":["10.0.0.2"]"#),
            "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set",
        );
        update(
            &Service,
            &with(one, r#","ipFamilies":["IPv4"]"#),
            &with(one, r#","ipFamilies":["IPv6"]"#),
            "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set\n\
             spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        );
    }

    #[test]
    fn a_class_and_a_health_check_port_stay() {
        let balancer = |more: &str| service(&format!(r#""type":"LoadBalancer"{more}"#));
        update(
            &Service,
            &balancer(r#","loadBalancerClass":"a""#),
            &balancer(r#","loadBalancerClass":"b""#),
            "spec.loadBalancerClass: Invalid value: \"b\": may not change once set",
        );
        let local = |port: u16| balancer(&format!(r#","externalTrafficPolicy":"Local","healthCheckNodePort":{port}"#));
        update(&Service, &local(30000), &local(30001), "spec.healthCheckNodePort: Forbidden: field is immutable");
    }

    #[test]
    fn a_new_type_drops_what_it_does_not_need() {
        let old = json(
            r#"{"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4"],
                "ipFamilyPolicy":"SingleStack","ports":[{"port":80,"nodePort":30080}],
                "externalTrafficPolicy":"Local","healthCheckNodePort":30081,"allocateLoadBalancerNodePorts":true,
                "loadBalancerClass":"a"},"status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"}]}}}"#,
        );
        for (service_type, expect) in [
            (
                "ClusterIP",
                r#"{"spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],
                    "ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"port":80}]},
                    "status":{"loadBalancer":{}}}"#,
            ),
            ("ExternalName", r#"{"spec":{"type":"ExternalName","ports":[{"port":80}]},"status":{"loadBalancer":{}}}"#),
        ] {
            let mut new = old.clone();
            new.set(&["spec", "type"], service_type);
            Service.prepare_update(&mut new, &old);
            assert_eq!(new, json(expect), "{service_type}");
        }
    }

    #[test]
    fn what_was_allocated_is_kept_unless_the_client_says_otherwise() {
        let old = r#"{"spec":{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],
            "ports":[{"name":"a","port":80,"nodePort":30080},{"name":"b","port":81,"nodePort":30081}]}}"#;
        for (new, expect) in [
            (
                r#"{"spec":{"type":"NodePort","ports":[{"name":"a","port":90},{"name":"c","port":81}]}}"#,
                r#"{"spec":{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],
                    "ports":[{"name":"a","port":90,"nodePort":30080},{"name":"c","port":81}]}}"#,
            ),
            (
                r#"{"spec":{"type":"NodePort","clusterIP":"10.0.0.2","clusterIPs":["10.0.0.1"],
                    "ports":[{"name":"a","port":80,"nodePort":30081},{"name":"b","port":81}]}}"#,
                r#"{"spec":{"type":"NodePort","clusterIP":"10.0.0.2","clusterIPs":["10.0.0.2"],
                    "ports":[{"name":"a","port":80,"nodePort":30081},{"name":"b","port":81}]}}"#,
            ),
            (r#"{"spec":{"type":"ExternalName"}}"#, r#"{"spec":{"type":"ExternalName"}}"#),
        ] {
            let (old, mut new) = (json(old), json(new));
            normalize_cluster_ips(&mut new, Some(&old));
            keep_allocated(&mut new, &old);
            assert_eq!(new, json(expect));
        }
        let mut new = json(r#"{"spec":{"clusterIP":"None"}}"#);
        assert_eq!(validate_cluster_ips(&new, None).len(), 1);
        normalize_cluster_ips(&mut new, None);
        assert_eq!(new, json(r#"{"spec":{"clusterIP":"None","clusterIPs":["None"]}}"#));
        assert_eq!(validate_cluster_ips(&new, None), []);
    }

    #[test]
    fn statuses_hold_addresses_or_names() {
        let balancer = service(r#""type":"LoadBalancer""#);
        let with_status = |ingress: &str| {
            let spec = balancer.trim_end_matches('}');
            format!(r#"{spec}}},"status":{{"loadBalancer":{{"ingress":[{ingress}]}}}}}}"#)
        };
        update_status(&Service, &balancer, &with_status(r#"{"ip":"1.2.3.4"},{"hostname":"a.b"}"#), "");
        update_status(
            &Service,
            &balancer,
            &with_status(r#"{"ip":"x","ipMode":"Direct"},{"hostname":"1.2.3.4","ipMode":"VIP"}"#),
            "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
             2001:db8::ffff)\n\
             status.loadBalancer.ingress[0].ipMode: Unsupported value: \"Direct\": supported values: \"Proxy\", \
             \"VIP\"\n\
             status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when `ip` is not set\n\
             status.loadBalancer.ingress[1].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
        );
        update_status(
            &Service,
            &service(""),
            r#"{"spec":{"type":"ClusterIP"},"status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4","ipMode":"VIP"}]}}}"#,
            "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'",
        );
    }

    #[test]
    fn odd_settings_are_warned_of() {
        let object = json(
            r#"{"spec":{"type":"ClusterIP","clusterIP":"None","sessionAffinity":"ClientIP","externalIPs":["::ffff:1.2.3.4"],
                "externalName":"a","trafficDistribution":"PreferClose"}}"#,
        );
        assert_eq!(
            Service.warnings(&object, None),
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
                "spec.externalIPs[0]: non-standard IP address \"::ffff:1.2.3.4\" is invalid: use \"1.2.3.4\"",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ]
        );
    }

    #[test]
    fn cells_tell_addresses_and_ports() {
        for (spec, status, expect) in [
            (
                r#""type":"ClusterIP","clusterIPs":["10.0.0.1"],"ports":[{"port":80,"protocol":"TCP"}],
                    "selector":{"b":"c","a":"b"}"#,
                "",
                r#"["s","ClusterIP","10.0.0.1","<none>","80/TCP","<unknown>","a=b,b=c"]"#,
            ),
            (
                r#""type":"NodePort","clusterIPs":["10.0.0.1"],"externalIPs":["1.1.1.1","2.2.2.2"],
                    "ports":[{"port":80,"nodePort":30080,"protocol":"TCP"},{"port":53,"protocol":"UDP"}]"#,
                "",
                r#"["s","NodePort","10.0.0.1","1.1.1.1,2.2.2.2","80:30080/TCP,53/UDP","<unknown>","<none>"]"#,
            ),
            (
                r#""type":"LoadBalancer""#,
                "",
                r#"["s","LoadBalancer","<none>","<pending>","<none>","<unknown>","<none>"]"#,
            ),
            (
                r#""type":"LoadBalancer""#,
                r#","status":{"loadBalancer":{"ingress":[{"ip":"2.2.2.2"},{"hostname":"a.b"},{"ip":"1.1.1.1"}]}}"#,
                r#"["s","LoadBalancer","<none>","1.1.1.1,2.2.2.2,a.b","<none>","<unknown>","<none>"]"#,
            ),
            (
                r#""type":"ExternalName","externalName":"x.y""#,
                "",
                r#"["s","ExternalName","<none>","x.y","<none>","<unknown>","<none>"]"#,
            ),
        ] {
            cells(&Service, &format!(r#"{{"metadata":{{"name":"s"}},"spec":{{{spec}}}{status}}}"#), expect);
        }
    }
}
