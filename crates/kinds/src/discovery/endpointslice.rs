//! EndpointSlice: some of the addresses behind a Service.

use std::collections::HashSet;
use std::net::IpAddr;

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::{ip, names, selector};

use crate::Kind;
use crate::checks::{immutable, invalid_text, items_mut, list_with_more, map, name, same, text};

const ADDRESSES_MAX: usize = 100;
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_LABELS_MAX: usize = 16;
const HINTS_MAX: usize = 8;
/// How many ports and endpoints their cells show.
const SHOWN_MAX: usize = 3;

const HOSTNAME: &str = "kubernetes.io/hostname";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

pub(crate) struct EndpointSlice;

impl Kind for EndpointSlice {
    fn group(&self) -> &str {
        "discovery.k8s.io"
    }

    fn resource(&self) -> &str {
        "endpointslices"
    }

    fn default(&self, object: &mut Value) {
        for port in items_mut(object, &["ports"]) {
            crate::checks::default_field(port, &["name"], "");
            crate::checks::default_field(port, &["protocol"], "TCP");
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        drop_topology(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // Labels say whose slice it is, so that a change of them counts as one of content.
        let labels = ["metadata", "labels"];
        let generation = ["metadata", "generation"];
        if new.at(&generation) == old.at(&generation) && !same(new.at(&labels), old.at(&labels)) {
            new.set(&generation, old.int_at(&generation).unwrap_or(0) + 1);
        }
        if !same(new.get("endpoints"), old.get("endpoints")) {
            drop_topology(new, Some(old));
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = check(new, Some(old));
        immutable(&mut errors, &Path::new("addressType"), new.get("addressType"), old.get("addressType"));
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() && new.str_at(&["addressType"]) == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        // Slices of our own controllers hold addresses that were mended on the way.
        let manager = map(new, &["metadata", "labels"]).get(MANAGED_BY).and_then(Value::as_str);
        if matches!(manager, Some("endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io")) {
            return warnings;
        }
        let path = Path::new("endpoints");
        for (index, endpoint) in new.list_at(&["endpoints"]).iter().enumerate() {
            let endpoint_path = path.index(index);
            let addresses = endpoint_path.child("addresses");
            for (index, address) in endpoint.list_at(&["addresses"]).iter().filter_map(Value::as_str).enumerate() {
                warnings.extend(ip::warning(&addresses.index(index), address));
            }
        }
        warnings
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let ports: Vec<String> = object
            .list_at(&["ports"])
            .iter()
            .map(|port| match (port.int_at(&["port"]), port.get("name")) {
                (Some(number), _) => number.to_string(),
                (None, Some(name)) => name.as_str().unwrap_or_default().to_owned(),
                (None, None) => "*".into(),
            })
            .collect();
        let endpoints: Vec<String> = object
            .list_at(&["endpoints"])
            .iter()
            .flat_map(|endpoint| endpoint.list_at(&["addresses"]))
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect();
        Some(vec![
            name(object),
            text(object, &["addressType"]),
            list_with_more(&ports, SHOWN_MAX).into(),
            list_with_more(&endpoints, SHOWN_MAX).into(),
            api_semantics::time::age(object, now),
        ])
    }
}

/// v1 has no topology any more: what clients write there is dropped. Only a node name that the slice already had in
/// its topology moves to where it belongs.
fn drop_topology(object: &mut Value, old: Option<&Value>) {
    let node = |endpoint: &Value| -> Option<SmolStr> {
        let name = endpoint.at(&["deprecatedTopology", HOSTNAME])?.as_str().filter(|name| !name.is_empty())?;
        Some(SmolStr::new(name))
    };
    let known: HashSet<SmolStr> =
        old.map(|old| old.list_at(&["endpoints"]).iter().filter_map(node).collect()).unwrap_or_default();
    for endpoint in items_mut(object, &["endpoints"]) {
        if let Some(name) = node(endpoint).filter(|name| known.contains(name))
            && endpoint.get("nodeName").is_none()
        {
            endpoint.set(&["nodeName"], name);
        }
        endpoint.remove(&["deprecatedTopology"]);
    }
}

fn check(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let address_type = object.str_at(&["addressType"]);
    let path = Path::new("addressType");
    match address_type {
        "" => errors.push(Error::required(&path, "")),
        "IPv4" | "IPv6" | "FQDN" => {}
        _ => errors.push(Error::not_supported(&path, address_type, &["FQDN", "IPv4", "IPv6"])),
    }
    check_ports(&mut errors, object.list_at(&["ports"]));
    // Endpoints that are as they were are good as they are.
    if old.is_none_or(|old| !same(object.get("endpoints"), old.get("endpoints"))) {
        check_endpoints(&mut errors, object.list_at(&["endpoints"]), address_type);
    }
    errors
}

fn check_endpoints(errors: &mut ErrorList, endpoints: &[Value], address_type: &str) {
    let path = Path::new("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(Error::too_many(&path, endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        let addresses = endpoint.list_at(&["addresses"]);
        let addresses_path = path.child("addresses");
        if addresses.is_empty() {
            errors.push(Error::required(&addresses_path, "must contain at least 1 address"));
        } else if addresses.len() > ADDRESSES_MAX {
            errors.push(Error::too_many(&addresses_path, addresses.len(), ADDRESSES_MAX));
        }
        for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            check_address(errors, &addresses_path, index, address, address_type);
        }
        if let Some(node) = endpoint.get("nodeName").and_then(Value::as_str) {
            invalid_text(errors, &path.child("nodeName"), node, names::dns1123_subdomain(node, false));
        }
        let topology = map(endpoint, &["deprecatedTopology"]);
        let topology_path = path.child("deprecatedTopology");
        if topology.len() > TOPOLOGY_LABELS_MAX {
            errors.push(Error::too_many(&topology_path, topology.len(), TOPOLOGY_LABELS_MAX));
        }
        errors.extend(selector::validate_labels(Some(topology), &topology_path));
        if let Some(hostname) = endpoint.get("hostname").and_then(Value::as_str) {
            invalid_text(errors, &path.child("hostname"), hostname, names::dns1123_label(hostname, false));
        }
        if let Some(hints) = endpoint.get("hints") {
            check_hints(errors, &path.child("hints"), hints);
        }
    }
}

fn check_address(errors: &mut ErrorList, list: &Path<'_>, index: usize, address: &str, address_type: &str) {
    let path = &list.index(index);
    match address_type {
        "IPv4" | "IPv6" => {
            let is_v4 = address_type == "IPv4";
            let wrong = if is_v4 { ip::validate_legacy(path, address, &[]) } else { ip::validate(path, address) };
            if !wrong.is_empty() {
                errors.extend(wrong);
                return;
            }
            let Some(parsed) = ip::parse(address) else { return };
            if parsed.addr.is_ipv4() != is_v4 {
                // Upstream blames the whole list.
                errors.push(Error::invalid(list, address, format!("must be an {address_type} address")));
            }
            check_not_special(errors, path, address, parsed.addr);
        }
        "FQDN" if address.is_empty() => errors.push(Error::required(path, "")),
        "FQDN" => {
            if let Some((part, why)) = names::fully_qualified_domain_name(address) {
                errors.push(Error::invalid(path, part, why));
            }
        }
        _ => {}
    }
}

/// Endpoints are reached over the network: not at this machine's own or this link's addresses.
pub(crate) fn check_not_special(errors: &mut ErrorList, path: &Path<'_>, text: &str, address: IpAddr) {
    let (link_local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    for (is_so, why) in [
        (address.is_unspecified(), format!("may not be unspecified ({text})")),
        (address.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ] {
        if is_so {
            errors.push(Error::invalid(path, text, why));
        }
    }
}

fn check_hints(errors: &mut ErrorList, path: &Path<'_>, hints: &Value) {
    let zones = hints.list_at(&["forZones"]);
    if check_hint(errors, &path.child("forZones"), zones, names::label_value) {
        let check_name = |name: &str| names::dns1123_subdomain(name, false);
        check_hint(errors, &path.child("forNodes"), hints.list_at(&["forNodes"]), check_name);
    }
}

/// Whether the list was short enough to be checked.
fn check_hint(errors: &mut ErrorList, path: &Path<'_>, hints: &[Value], check: impl Fn(&str) -> Vec<String>) -> bool {
    if hints.len() > HINTS_MAX {
        errors.push(Error::too_many(path, hints.len(), HINTS_MAX));
        return false;
    }
    let mut seen = HashSet::new();
    for (index, hint) in hints.iter().enumerate() {
        let name = hint.str_at(&["name"]);
        let index_path = path.index(index);
        let path = index_path.child("name");
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path, name));
        }
        invalid_text(errors, &path, name, check(name));
    }
    true
}

fn check_ports(errors: &mut ErrorList, ports: &[Value]) {
    let path = Path::new("ports");
    if ports.len() > PORTS_MAX {
        errors.push(Error::too_many(&path, ports.len(), PORTS_MAX));
        return;
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.str_at(&["name"]);
        if !name.is_empty() {
            invalid_text(errors, &path.child("name"), name, names::dns1123_label(name, false));
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        match port.get("protocol").and_then(Value::as_str) {
            None => errors.push(Error::required(&path.child("protocol"), "")),
            Some(protocol) => {
                crate::checks::supported(errors, &path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
            }
        }
        if let Some(protocol) = port.get("appProtocol").and_then(Value::as_str) {
            invalid_text(errors, &path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, update};

    fn slice(address_type: &str, endpoint: &str, port: &str) -> String {
        format!(r#"{{"addressType":"{address_type}","endpoints":[{endpoint}],"ports":[{port}]}}"#)
    }

    #[test]
    fn ports_have_a_name_and_a_protocol() {
        defaults(
            &EndpointSlice,
            r#"{"ports":[{"port":80},{"name":"a","protocol":"UDP"}],"endpoints":null}"#,
            r#"{"ports":[{"port":80,"name":"","protocol":"TCP"},{"name":"a","protocol":"UDP"}],"endpoints":null}"#,
        );
        for (ports, expect) in [
            (r#"{"name":"a"},{"name":"b","appProtocol":"kubernetes.io/h2c"}"#, ""),
            (r#"{"name":"a"},{"name":"a"}"#, "ports[1].name: Duplicate value: \"a\""),
            (r#"{},{}"#, "ports[1].name: Duplicate value: \"\""),
            (
                r#"{"protocol":"tcp"}"#,
                "ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (r#"{"name":"a.b"}"#, "ports[0].name: Invalid value: \"a.b\": must not contain dots"),
            (
                r#"{"appProtocol":"a/"}"#,
                "ports[0].appProtocol: Invalid value: \"a/\": name part must be non-empty\n\
                 ports[0].appProtocol: Invalid value: \"a/\": name part must consist of alphanumeric characters, '-', \
                 '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                 '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
        ] {
            create(&EndpointSlice, &slice("IPv4", "", ports), expect);
        }
    }

    #[test]
    fn addresses_are_of_the_slices_type() {
        for (address_type, address, expect) in [
            ("IPv4", "10.0.0.1", ""),
            ("IPv6", "2001:db8::1", ""),
            ("FQDN", "a.example.com.", ""),
            ("", "10.0.0.1", "addressType: Required value"),
            (
                "IP",
                "10.0.0.1",
                "addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            ("IPv4", "2001:db8::1", "endpoints[0].addresses: Invalid value: \"2001:db8::1\": must be an IPv4 address"),
            ("IPv6", "10.0.0.1", "endpoints[0].addresses: Invalid value: \"10.0.0.1\": must be an IPv6 address"),
            (
                "IPv4",
                "10.0.0",
                "endpoints[0].addresses[0]: Invalid value: \"10.0.0\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
            ),
            (
                "IPv6",
                "2001:db8:0::1",
                "endpoints[0].addresses[0]: Invalid value: \"2001:db8:0::1\": must be in canonical form \
                 (\"2001:db8::1\")",
            ),
            (
                "IPv4",
                "0.0.0.0",
                "endpoints[0].addresses[0]: Invalid value: \"0.0.0.0\": may not be unspecified (0.0.0.0)",
            ),
            (
                "IPv4",
                "127.0.0.1",
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range \
                 (127.0.0.0/8, ::1/128)",
            ),
            (
                "IPv6",
                "fe80::1",
                "endpoints[0].addresses[0]: Invalid value: \"fe80::1\": may not be in the link-local range \
                 (169.254.0.0/16, fe80::/10)",
            ),
            (
                "IPv4",
                "224.0.0.7",
                "endpoints[0].addresses[0]: Invalid value: \"224.0.0.7\": may not be in the link-local multicast range \
                 (224.0.0.0/24, ff02::/10)",
            ),
            (
                "FQDN",
                "example",
                "endpoints[0].addresses[0]: Invalid value: \"example\": should be a domain with at least two segments \
                 separated by dots",
            ),
        ] {
            let endpoint = format!(r#"{{"addresses":["{address}"]}}"#);
            create(&EndpointSlice, &slice(address_type, &endpoint, ""), expect);
        }
        create(
            &EndpointSlice,
            &slice("IPv4", r#"{"addresses":[]}"#, ""),
            "endpoints[0].addresses: Required value: must contain at least 1 address",
        );
        let many = vec!["\"10.0.0.1\""; 101].join(",");
        create(
            &EndpointSlice,
            &slice("IPv4", &format!(r#"{{"addresses":[{many}]}}"#), ""),
            "endpoints[0].addresses: Too many: 101: must have at most 100 items",
        );
    }

    #[test]
    fn endpoints_name_hosts_nodes_and_zones() {
        for (more, expect) in [
            (r#""hostname":"a","nodeName":"n.x","hints":{"forZones":[{"name":"z"}],"forNodes":[{"name":"n"}]}"#, ""),
            (r#""hostname":"a.b""#, "endpoints[0].hostname: Invalid value: \"a.b\": must not contain dots"),
            (
                r#""hints":{"forZones":[{"name":"z"},{"name":"z"}]}"#,
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"z\"",
            ),
            (
                r#""hints":{"forNodes":[{},{},{},{},{},{},{},{},{}]}"#,
                "endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items",
            ),
        ] {
            create(&EndpointSlice, &slice("IPv4", &format!(r#"{{"addresses":["10.0.0.1"],{more}}}"#), ""), expect);
        }
    }

    #[test]
    fn the_address_type_stays_and_so_may_old_spellings() {
        let old = slice("IPv4", r#"{"addresses":["010.0.0.1"]}"#, "");
        update(&EndpointSlice, &old, &old, "");
        update(
            &EndpointSlice,
            &old,
            &slice("IPv6", "", ""),
            "addressType: Invalid value: \"IPv6\": field is immutable",
        );
        create(
            &EndpointSlice,
            &old,
            "endpoints[0].addresses[0]: Invalid value: \"010.0.0.1\": must not have leading 0s",
        );
    }

    #[test]
    fn labels_count_as_content() {
        let old = json(r#"{"metadata":{"generation":3,"labels":{"a":"b"}}}"#);
        for (new, generation) in [
            (r#"{"metadata":{"generation":3,"labels":{"a":"b"},"annotations":{"x":"y"}}}"#, 3),
            (r#"{"metadata":{"generation":3,"labels":{"a":"c"}}}"#, 4),
            (r#"{"metadata":{"generation":4,"labels":{"a":"c"}}}"#, 4),
        ] {
            let mut new = json(new);
            EndpointSlice.prepare_update(&mut new, &old);
            assert_eq!(new.int_at(&["metadata", "generation"]), Some(generation));
        }
    }

    #[test]
    fn topology_is_dropped_but_for_a_known_node() {
        let topology = |node: &str| format!(r#"{{"endpoints":[{{"deprecatedTopology":{{"{HOSTNAME}":"{node}"}}}}]}}"#);
        for (old, new, expect) in [("a", "a", topology("a")), ("a", "b", r#"{"endpoints":[{}]}"#.to_owned())] {
            let mut new = json(&topology(new));
            EndpointSlice.prepare_update(&mut new, &json(&topology(old)));
            assert_eq!(new, json(&expect));
        }
        let mut new =
            json(&format!(r#"{{"endpoints":[{{"hostname":"h","deprecatedTopology":{{"{HOSTNAME}":"a"}}}}]}}"#));
        EndpointSlice.prepare_update(&mut new, &json(&topology("a")));
        assert_eq!(new, json(r#"{"endpoints":[{"hostname":"h","nodeName":"a"}]}"#));
    }

    #[test]
    fn odd_spellings_and_domains_are_warned_of() {
        for (slice, expect) in [
            (r#"{"addressType":"FQDN"}"#, vec!["spec.addressType: FQDN endpoints are deprecated"]),
            (
                r#"{"addressType":"IPv6","endpoints":[{"addresses":["2001:db8:0::1"]}]}"#,
                vec![
                    "endpoints[0].addresses[0]: IPv6 address \"2001:db8:0::1\" should be in RFC 5952 canonical format \
                     (\"2001:db8::1\")",
                ],
            ),
            (
                r#"{"metadata":{"labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"}},
                    "addressType":"IPv6","endpoints":[{"addresses":["2001:db8:0::1"]}]}"#,
                vec![],
            ),
        ] {
            assert_eq!(EndpointSlice.warnings(&json(slice), None), expect);
        }
    }

    #[test]
    fn cells_show_three_ports_and_endpoints() {
        for (ports, endpoints, expect) in [
            ("", "", r#""<unset>","<unset>""#),
            (
                r#"{"port":80},{"name":"x"},{}"#,
                r#"{"addresses":["10.0.0.1","10.0.0.2"]}"#,
                r#""80,x,*","10.0.0.1,10.0.0.2""#,
            ),
            (
                r#"{"port":1},{"port":2},{"port":3},{"port":4}"#,
                r#"{"addresses":["a"]},{"addresses":["b"]},{"addresses":["c"]},{"addresses":["d","e"]}"#,
                r#""1,2,3 + 1 more...","a,b,c + 2 more...""#,
            ),
        ] {
            cells(
                &EndpointSlice,
                &format!(
                    r#"{{"metadata":{{"name":"s"}},"addressType":"IPv4","ports":[{ports}],"endpoints":[{endpoints}]}}"#
                ),
                &format!(r#"["s","IPv4",{expect},"<unknown>"]"#),
            );
        }
    }
}
