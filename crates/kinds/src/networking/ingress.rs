//! Ingress: which HTTP requests from outside go to which Service.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path, quoted};
use api_semantics::{ip, names};

use crate::Kind;
use crate::checks::{invalid_text, map, name, required_text, text_or, texts};

/// How many hosts their cell shows.
const HOSTS_SHOWN_MAX: usize = 3;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) struct Ingress;

impl Kind for Ingress {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "ingresses"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = check(object, Leniency::default());
        if let (Some(annotation), Some(class)) = (class_annotation(object), object.at(&["spec", "ingressClassName"]))
            && class.as_str() != Some(annotation)
        {
            let annotations = Path::new("annotations");
            let why = "must match `ingressClassName` when both are specified";
            errors.push(Error::invalid(&annotations.child(CLASS_ANNOTATION), annotation, why));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let lenient = Leniency {
            secret_names: old
                .list_at(&["spec", "tls"])
                .iter()
                .any(|tls| !check_secret_name(tls.str_at(&["secretName"])).is_empty()),
            wildcard_rules: old
                .list_at(&["spec", "rules"])
                .iter()
                .any(|rule| rule.str_at(&["host"]).contains('*') && !check_rule_value(rule, &Path::ROOT).is_empty()),
        };
        check(new, lenient)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let balancer = ["status", "loadBalancer", "ingress"];
        let known: Vec<&str> = old.list_at(&balancer).iter().map(|ingress| ingress.str_at(&["ip"])).collect();
        let path = Path::new("status.loadBalancer.ingress");
        for (index, ingress) in new.list_at(&balancer).iter().enumerate() {
            let path = path.index(index);
            let (address, host) = (ingress.str_at(&["ip"]), ingress.str_at(&["hostname"]));
            if !address.is_empty() {
                errors.extend(ip::validate_legacy(&path.child("ip"), address, &known));
            }
            if !host.is_empty() {
                let path = path.child("hostname");
                invalid_text(&mut errors, &path, host, names::dns1123_subdomain(host, false));
                check_is_no_ip(&mut errors, &path, host);
            }
        }
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_none() && class_annotation(new).is_some() && new.at(&["spec", "ingressClassName"]).is_none() {
            let annotation = quoted(CLASS_ANNOTATION);
            return vec![format!("annotation {annotation} is deprecated, please use 'spec.ingressClassName' instead")];
        }
        Vec::new()
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let tls = !object.list_at(&["spec", "tls"]).is_empty();
        Some(vec![
            name(object),
            text_or(object, &["spec", "ingressClassName"], "<none>"),
            hosts(object).into(),
            addresses(object).into(),
            if tls { "80, 443" } else { "80" }.into(),
            api_semantics::time::age(object, now),
        ])
    }
}

fn class_annotation(object: &Value) -> Option<&str> {
    map(object, &["metadata", "annotations"]).get(CLASS_ANNOTATION).and_then(Value::as_str)
}

fn hosts(object: &Value) -> String {
    let rules = object.list_at(&["spec", "rules"]);
    let mut hosts = Vec::new();
    let mut more = false;
    for rule in rules {
        // Rules without a host do not fill the cell, but a rule after a full cell says that there is more.
        more |= hosts.len() == HOSTS_SHOWN_MAX;
        let host = rule.str_at(&["host"]);
        if !more && !host.is_empty() {
            hosts.push(host);
        }
    }
    match hosts.join(",") {
        hosts if hosts.is_empty() => "*".into(),
        hosts if more => format!("{hosts} + {} more...", rules.len() - HOSTS_SHOWN_MAX),
        hosts => hosts,
    }
}

fn addresses(object: &Value) -> String {
    let balancer = object.list_at(&["status", "loadBalancer", "ingress"]);
    let mut addresses: Vec<&str> = balancer
        .iter()
        .map(|ingress| match ingress.str_at(&["ip"]) {
            "" => ingress.str_at(&["hostname"]),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.join(",")
}

/// What an object may keep from before it was checked.
#[derive(Clone, Copy, Default)]
struct Leniency {
    secret_names: bool,
    wildcard_rules: bool,
}

fn check(object: &Value, lenient: Leniency) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let rules = object.list_at(&["spec", "rules"]);
    let backend = object.at(&["spec", "defaultBackend"]);
    if rules.is_empty() && backend.is_none() {
        let shown = object.at(&["spec", "rules"]).cloned().unwrap_or_default();
        errors.push(Error::invalid(&spec, shown, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(backend) = backend {
        check_backend(&mut errors, &spec.child("defaultBackend"), backend);
    }
    let rules_path = spec.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        let path = rules_path.index(index);
        let host = rule.str_at(&["host"]);
        check_host(&mut errors, &path.child("host"), host);
        if !(lenient.wildcard_rules && host.contains('*')) {
            errors.extend(check_rule_value(rule, &path));
        }
    }
    let tls_path = spec.child("tls");
    for (index, tls) in object.list_at(&["spec", "tls"]).iter().enumerate() {
        let path = tls_path.index(index);
        let hosts_path = path.child("hosts");
        for (index, host) in texts(tls, &["hosts"]).into_iter().enumerate() {
            invalid_text(&mut errors, &hosts_path.index(index), host, check_host_name(host));
        }
        if !lenient.secret_names {
            let secret = tls.str_at(&["secretName"]);
            invalid_text(&mut errors, &path.child("secretName"), secret, check_secret_name(secret));
        }
    }
    if let Some(class) = object.at(&["spec", "ingressClassName"]).and_then(Value::as_str) {
        invalid_text(&mut errors, &spec.child("ingressClassName"), class, names::dns1123_subdomain(class, false));
    }
    errors
}

fn check_secret_name(name: &str) -> Vec<String> {
    if name.is_empty() { Vec::new() } else { names::dns1123_subdomain(name, false) }
}

fn check_host_name(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard_dns1123_subdomain(host) } else { names::dns1123_subdomain(host, false) }
}

fn check_host(errors: &mut ErrorList, path: &Path<'_>, host: &str) {
    if !host.is_empty() {
        check_is_no_ip(errors, path, host);
        invalid_text(errors, path, host, check_host_name(host));
    }
}

fn check_is_no_ip(errors: &mut ErrorList, path: &Path<'_>, host: &str) {
    if ip::parse(host).is_some() {
        errors.push(Error::invalid(path, host, "must be a DNS name, not an IP address"));
    }
}

fn check_rule_value(rule: &Value, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(http) = rule.get("http") else { return errors };
    let http_path = path.child("http");
    let paths_path = http_path.child("paths");
    let paths = http.list_at(&["paths"]);
    if paths.is_empty() {
        errors.push(Error::required(&paths_path, ""));
    }
    for (index, path) in paths.iter().enumerate() {
        check_path(&mut errors, &paths_path.index(index), path);
    }
    errors
}

fn check_path(errors: &mut ErrorList, path: &Path<'_>, http_path: &Value) {
    let Some(path_type) = http_path.get("pathType").and_then(Value::as_str) else {
        errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
        return;
    };
    let text = http_path.str_at(&["path"]);
    let mut refuse = |why: String| errors.push(Error::invalid(&path.child("path"), text, why));
    match path_type {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                refuse("must be an absolute path".into());
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(sequence) {
                    refuse(format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if text.ends_with(suffix) {
                    refuse(format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                refuse("must be an absolute path".into());
            }
        }
        _ => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Error::not_supported(&path.child("pathType"), path_type, &supported));
        }
    }
    let empty = Value::default();
    check_backend(errors, &path.child("backend"), http_path.get("backend").unwrap_or(&empty));
}

fn check_backend(errors: &mut ErrorList, path: &Path<'_>, backend: &Value) {
    match (backend.get("resource"), backend.get("service")) {
        (Some(_), Some(_)) => {
            errors.push(Error::invalid(path, "", "cannot set both resource and service backends"));
        }
        (Some(resource), None) => check_typed_reference(errors, &path.child("resource"), resource),
        (None, Some(service)) => check_service(errors, path, service),
        (None, None) => errors.push(Error::invalid(path, "", "resource or service backend is required")),
    }
}

fn check_service(errors: &mut ErrorList, path: &Path<'_>, service: &Value) {
    let service_path = path.child("service");
    let name = required_text(errors, &service_path, service, "name");
    if !name.is_empty() {
        invalid_text(errors, &service_path.child("name"), name, names::dns1123_label(name, false));
    }
    let port_path = service_path.child("port");
    let (port_name, port) = (service.str_at(&["port", "name"]), service.int_at(&["port", "number"]).unwrap_or(0));
    match (port_name.is_empty(), port) {
        (false, 0) => invalid_text(errors, &port_path.child("name"), port_name, names::port_name(port_name)),
        (false, _) => errors.push(Error::invalid(path, "", "cannot set both port name & port number")),
        (true, 0) => errors.push(Error::required(path, "port name or number is required")),
        (true, _) => {
            let path = port_path.child("number");
            errors.extend(names::port_num(port).into_iter().map(|why| Error::invalid(&path, port, why)));
        }
    }
}

/// A reference to an object of any kind in the same namespace.
pub(super) fn check_typed_reference(errors: &mut ErrorList, path: &Path<'_>, reference: &Value) {
    if let Some(group) = reference.get("apiGroup").and_then(Value::as_str) {
        invalid_text(errors, &path.child("apiGroup"), group, names::dns1123_subdomain(group, false));
    }
    for field in ["kind", "name"] {
        let text = required_text(errors, path, reference, field);
        if !text.is_empty() {
            invalid_text(errors, &path.child(field), text, names::path_segment_name(text, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json, update, update_status};

    const BACKEND: &str = r#"{"service":{"name":"s","port":{"number":80}}}"#;

    #[test]
    fn something_answers() {
        for (spec, expect) in [
            ("{}", "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
            (
                r#"{"defaultBackend":{}}"#,
                "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                r#"{"defaultBackend":{"resource":{"kind":"K","name":"n"},"service":{"name":"s"}}}"#,
                "spec.defaultBackend: Invalid value: \"\": cannot set both resource and service backends",
            ),
            (r#"{"defaultBackend":{"resource":{"kind":"K","name":"n","apiGroup":"a.b"}}}"#, ""),
            (
                r#"{"defaultBackend":{"resource":{"kind":"","name":"a/b"}}}"#,
                "spec.defaultBackend.resource.kind: Required value\n\
                 spec.defaultBackend.resource.name: Invalid value: \"a/b\": may not contain '/'",
            ),
            (r#"{"defaultBackend":{"service":{"name":"s","port":{"name":"http"}}}}"#, ""),
            (
                r#"{"defaultBackend":{"service":{"name":"","port":{}}}}"#,
                "spec.defaultBackend.service.name: Required value\n\
                 spec.defaultBackend: Required value: port name or number is required",
            ),
            (
                r#"{"defaultBackend":{"service":{"name":"s","port":{"name":"http","number":80}}}}"#,
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ),
            (
                r#"{"defaultBackend":{"service":{"name":"s","port":{"number":70000}}}}"#,
                "spec.defaultBackend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
        ] {
            create(&Ingress, &format!(r#"{{"spec":{spec}}}"#), expect);
        }
    }

    #[test]
    fn paths_are_clean() {
        for (path, expect) in [
            (r#""pathType":"Prefix","path":"/a""#, ""),
            (r#""pathType":"ImplementationSpecific""#, ""),
            ("\"path\":\"/\"", "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"),
            (
                r#""pathType":"Exact""#,
                "spec.rules[0].http.paths[0].path: Invalid value: \"\": must be an absolute path",
            ),
            (
                r#""pathType":"Prefix","path":"/a//b/..""#,
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": must not contain '//'\n\
                 spec.rules[0].http.paths[0].path: Invalid value: \"/a//b/..\": cannot end with '/..'",
            ),
            (
                r#""pathType":"Regex","path":"/""#,
                "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \
                 \"ImplementationSpecific\", \"Prefix\"",
            ),
        ] {
            let path = format!(r#"{{{path},"backend":{BACKEND}}}"#);
            create(&Ingress, &format!(r#"{{"spec":{{"rules":[{{"http":{{"paths":[{path}]}}}}]}}}}"#), expect);
        }
        create(&Ingress, r#"{"spec":{"rules":[{"http":{"paths":[]}}]}}"#, "spec.rules[0].http.paths: Required value");
    }

    #[test]
    fn hosts_are_names() {
        for (host, expect) in [
            ("example.com", ""),
            ("*.example.com", ""),
            ("10.0.0.1", "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"),
            (
                "*example.com",
                "spec.rules[0].host: Invalid value: \"*example.com\": a wildcard DNS-1123 subdomain must start with '*.', \
                 followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or \
                 '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is \
                 '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
        ] {
            create(&Ingress, &format!(r#"{{"spec":{{"rules":[{{"host":"{host}"}}]}}}}"#), expect);
        }
    }

    #[test]
    fn old_faults_may_stay() {
        let secret = format!(r#"{{"spec":{{"defaultBackend":{BACKEND},"tls":[{{"secretName":"A"}}]}}}}"#);
        update(&Ingress, &secret, &secret, "");
        let wildcard = r#"{"spec":{"rules":[{"host":"*.a.b","http":{"paths":[]}}]}}"#;
        update(&Ingress, wildcard, wildcard, "");
    }

    #[test]
    fn the_class_is_said_once() {
        let with = |class: &str| {
            format!(
                r#"{{"metadata":{{"annotations":{{"{CLASS_ANNOTATION}":"a"}}}},
                    "spec":{{{class}"defaultBackend":{BACKEND}}}}}"#
            )
        };
        create(&Ingress, &with(r#""ingressClassName":"a","#), "");
        create(
            &Ingress,
            &with(r#""ingressClassName":"b","#),
            "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are \
             specified",
        );
        assert_eq!(
            Ingress.warnings(&json(&with("")), None),
            ["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]
        );
        assert!(Ingress.warnings(&json(&with(r#""ingressClassName":"a","#)), None).is_empty());
    }

    #[test]
    fn the_load_balancer_has_addresses() {
        let status = |ingress: &str| format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{ingress}]}}}}}}"#);
        for (ingress, expect) in [
            (r#"{"ip":"10.0.0.1","hostname":"a.b"}"#, ""),
            (
                r#"{"hostname":"10.0.0.1"}"#,
                "status.loadBalancer.ingress[0].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP \
                 address",
            ),
            (
                r#"{"ip":"x"}"#,
                "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
            ),
        ] {
            update_status(&Ingress, "{}", &status(ingress), expect);
        }
    }

    #[test]
    fn cells_show_hosts_addresses_and_ports() {
        for (spec, status, expect) in [
            ("{}", "", r#""<none>","*","","80""#),
            (
                r#"{"ingressClassName":"c","rules":[{"host":"a"},{},{"host":"b"}],"tls":[{}]}"#,
                r#"{"ip":"10.0.0.2"},{"hostname":"h"},{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}"#,
                r#""c","a,b","10.0.0.1,10.0.0.2,h","80, 443""#,
            ),
            (
                r#"{"rules":[{"host":"a"},{"host":"b"},{"host":"c"},{"host":"d"},{"host":"e"}]}"#,
                "",
                r#""<none>","a,b,c + 2 more...","","80""#,
            ),
        ] {
            cells(
                &Ingress,
                &format!(
                    r#"{{"metadata":{{"name":"i"}},"spec":{spec},"status":{{"loadBalancer":{{"ingress":[{status}]}}}}}}"#
                ),
                &format!(r#"["i",{expect},"<unknown>"]"#),
            );
        }
    }
}
