//! Endpoints: the addresses behind a Service, in the form that EndpointSlices have replaced.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::{ip, names};

use super::shared::not_special_ip;
use crate::Kind;
use crate::checks::{default_text, invalid_text, items_mut, map, name, required_text, same, supported};

const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
/// How many addresses a cell shows.
const SHOWN_MAX: usize = 3;

/// The kind Endpoints.
pub(crate) struct Endpoints;

impl Kind for Endpoints {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "endpoints"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn default(&self, object: &mut Value) {
        for subset in items_mut(object, &["subsets"]) {
            for port in items_mut(subset, &["ports"]) {
                default_text(port, &["protocol"], "TCP");
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        // What an older server let in may stay.
        if same(new.get("subsets"), old.get("subsets")) { ErrorList::new() } else { check(new) }
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        // What the controller writes is good, and may be long.
        if map(new, &["metadata", "labels"]).get(MANAGED_BY_LABEL).and_then(Value::as_str) == Some(CONTROLLER) {
            return warnings;
        }
        let path = Path::new("subsets");
        for (at, subset) in new.list_at(&["subsets"]).iter().enumerate() {
            let path = path.index(at);
            for list in ["addresses", "notReadyAddresses"] {
                let path = path.child(list);
                for (at, address) in subset.list_at(&[list]).iter().enumerate() {
                    warnings.extend(ip::warning(&path.index(at).child("ip"), address.str_at(&["ip"])));
                }
            }
        }
        warnings
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![name(object), addresses_cell(object).into(), api_semantics::time::age(object, now)])
    }
}

fn addresses_cell(object: &Value) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut count = 0;
    for subset in object.list_at(&["subsets"]) {
        let addresses = subset.list_at(&["addresses"]);
        let mut show = |text: &dyn Fn(&str) -> String| {
            count += addresses.len();
            let room = SHOWN_MAX - shown.len();
            shown.extend(addresses.iter().take(room).map(|address| text(address.str_at(&["ip"]))));
        };
        let ports = subset.list_at(&["ports"]);
        if ports.is_empty() {
            show(&str::to_owned);
        }
        for port in ports {
            let number = port.int_at(&["port"]).unwrap_or(0);
            show(&|ip| if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") });
        }
    }
    match (object.list_at(&["subsets"]).is_empty(), count > SHOWN_MAX) {
        (true, _) => "<none>".to_owned(),
        (_, true) => format!("{} + {} more...", shown.join(","), count - SHOWN_MAX),
        _ => shown.join(","),
    }
}

fn check(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("subsets");
    for (at, subset) in object.list_at(&["subsets"]).iter().enumerate() {
        let path = path.index(at);
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| subset.list_at(&[list]).is_empty()) {
            errors.push(Error::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in lists {
            let path = path.child(list);
            for (at, address) in subset.list_at(&[list]).iter().enumerate() {
                check_address(&mut errors, address, &path.index(at));
            }
        }
        let (ports, path) = (subset.list_at(&["ports"]), path.child("ports"));
        for (at, port) in ports.iter().enumerate() {
            check_port(&mut errors, port, ports.len() > 1, &path.index(at));
        }
    }
    errors
}

fn check_address(errors: &mut ErrorList, address: &Value, path: &Path<'_>) {
    let (text, host) = (address.str_at(&["ip"]), address.str_at(&["hostname"]));
    errors.extend(ip::validate_legacy(&path.child("ip"), text, &[]));
    if !host.is_empty() {
        invalid_text(errors, &path.child("hostname"), host, names::dns1123_label(host, false));
    }
    if let Some(node) = address.get("nodeName").and_then(Value::as_str) {
        invalid_text(errors, &path.child("nodeName"), node, names::dns1123_subdomain(node, false));
    }
    not_special_ip(errors, &path.child("ip"), text);
}

fn check_port(errors: &mut ErrorList, port: &Value, needs_name: bool, path: &Path<'_>) {
    let port_name = port.str_at(&["name"]);
    if !port_name.is_empty() {
        invalid_text(errors, &path.child("name"), port_name, names::dns1123_label(port_name, false));
    } else if needs_name {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let number = port.int_at(&["port"]).unwrap_or(0);
    errors.extend(names::port_num(number).into_iter().map(|why| Error::invalid(&path.child("port"), number, why)));
    let protocol = required_text(errors, path, port, "protocol");
    if !protocol.is_empty() {
        supported(errors, &path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    }
    if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
        invalid_text(errors, &path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json, update};

    #[test]
    fn subsets_have_addresses_and_good_ports() {
        create(&Endpoints, r#"{"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]}"#, "");
        create(
            &Endpoints,
            r#"{"subsets":[{"ports":[{"port":80},{"port":0,"protocol":"x","name":"a"}]}]}"#,
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`\n\
             subsets[0].ports[0].name: Required value\n\
             subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive\n\
             subsets[0].ports[1].protocol: Unsupported value: \"x\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        );
    }

    #[test]
    fn addresses_are_reachable_from_elsewhere() {
        create(
            &Endpoints,
            r#"{"subsets":[{"addresses":[{"ip":"127.0.0.1"},{"ip":"x"}]}]}"#,
            "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
             ::1/128)\n\
             subsets[0].addresses[1].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
             2001:db8::ffff)\n\
             subsets[0].addresses[1].ip: Invalid value: \"x\": must be a valid IP address",
        );
        let old = r#"{"subsets":[{"addresses":[{"ip":"127.0.0.1"}]}]}"#;
        update(&Endpoints, old, old, "");
    }

    #[test]
    fn odd_spellings_are_warned_of_unless_the_controller_made_them() {
        let object = r#"{"metadata":{"labels":{"endpoints.kubernetes.io/managed-by":"x"}},
            "subsets":[{"addresses":[{"ip":"010.0.0.1"}]}]}"#;
        assert_eq!(
            Endpoints.warnings(&json(object), None),
            ["subsets[0].addresses[0].ip: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\""]
        );
        let object = object.replace("\"x\"", "\"endpoint-controller\"");
        assert!(Endpoints.warnings(&json(&object), None).is_empty());
    }

    #[test]
    fn cells_show_three_addresses() {
        cells(
            &Endpoints,
            r#"{"metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}],
                "ports":[{"port":80},{"port":443}]}]}"#,
            r#"["e","10.0.0.1:80,[fd00::1]:80,10.0.0.1:443 + 1 more...","<unknown>"]"#,
        );
        cells(&Endpoints, r#"{"metadata":{"name":"e"}}"#, r#"["e","<none>","<unknown>"]"#);
    }
}
