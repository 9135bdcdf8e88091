//! NetworkPolicy: what may reach the Pods it selects, and what they may reach.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::{self, Leniency};
use api_semantics::{ip, names};

use crate::Kind;
use crate::checks::{default_field, invalid_text, items_mut, name, texts};

pub(crate) struct NetworkPolicy;

impl Kind for NetworkPolicy {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "networkpolicies"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        for direction in ["ingress", "egress"] {
            for rule in items_mut(object, &["spec", direction]) {
                for port in items_mut(rule, &["ports"]) {
                    default_field(port, &["protocol"], "TCP");
                }
            }
        }
        if object.list_at(&["spec", "policyTypes"]).is_empty() {
            let mut types = vec![Value::str("Ingress")];
            if !object.list_at(&["spec", "egress"]).is_empty() {
                types.push(Value::str("Egress"));
            }
            object.set(&["spec", "policyTypes"], types);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, Leniency::default(), &[])
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let invalid_values = selector::has_invalid_values(old.at(&["spec", "podSelector"]));
        // Rules and peers move about freely, so that a CIDR counts as old wherever it stood.
        let mut known = Vec::new();
        for (direction, peers) in DIRECTIONS {
            for rule in old.list_at(&["spec", direction]) {
                for block in rule.list_at(&[peers]).iter().filter_map(|peer| peer.get("ipBlock")) {
                    known.push(block.str_at(&["cidr"]));
                    known.extend(texts(block, &["except"]));
                }
            }
        }
        check(new, Leniency { invalid_values, ..Leniency::default() }, &known)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        let spec = Path::new("spec");
        for (direction, peers) in DIRECTIONS {
            let direction_path = spec.child(direction);
            for (index, rule) in new.list_at(&["spec", direction]).iter().enumerate() {
                let rule_path = direction_path.index(index);
                let peers_path = rule_path.child(peers);
                for (index, peer) in rule.list_at(&[peers]).iter().enumerate() {
                    let Some(block) = peer.get("ipBlock") else { continue };
                    let peer_path = peers_path.index(index);
                    let block_path = peer_path.child("ipBlock");
                    warnings.extend(ip::cidr_warnings(&block_path.child("cidr"), block.str_at(&["cidr"])));
                    let except_path = block_path.child("except");
                    for (index, except) in texts(block, &["except"]).into_iter().enumerate() {
                        warnings.extend(ip::cidr_warnings(&except_path.index(index), except));
                    }
                }
            }
        }
        warnings
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let selector = selector::shown(Some(object.at(&["spec", "podSelector"]).unwrap_or(&Value::Null)));
        Some(vec![name(object), selector.into(), api_semantics::time::age(object, now)])
    }
}

/// The two lists of rules, and what each calls its peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn check(object: &Value, lenient: Leniency, known_cidrs: &[&str]) -> ErrorList {
    let spec = Path::new("spec");
    let mut errors = selector::validate(object.at(&["spec", "podSelector"]), &spec.child("podSelector"), lenient);
    for (direction, peers) in DIRECTIONS {
        let direction_path = spec.child(direction);
        for (index, rule) in object.list_at(&["spec", direction]).iter().enumerate() {
            let path = direction_path.index(index);
            let (ports_path, peers_path) = (path.child("ports"), path.child(peers));
            for (index, port) in rule.list_at(&["ports"]).iter().enumerate() {
                check_port(&mut errors, &ports_path.index(index), port);
            }
            for (index, peer) in rule.list_at(&[peers]).iter().enumerate() {
                check_peer(&mut errors, &peers_path.index(index), peer, lenient, known_cidrs);
            }
        }
    }
    let types = object.list_at(&["spec", "policyTypes"]);
    let types_path = spec.child("policyTypes");
    if types.len() > 2 {
        errors.push(Error::invalid(&types_path, types.to_vec(), "may not specify more than two policyTypes"));
        return errors;
    }
    for (index, policy_type) in types.iter().enumerate() {
        if !matches!(policy_type.as_str(), Some("Ingress" | "Egress")) {
            errors.push(Error::not_supported(&types_path.index(index), policy_type.clone(), &["Ingress", "Egress"]));
        }
    }
    errors
}

fn check_port(errors: &mut ErrorList, path: &Path<'_>, port: &Value) {
    if let Some(protocol) = port.get("protocol").and_then(Value::as_str) {
        crate::checks::supported(errors, &path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (port_path, end_path) = (path.child("port"), path.child("endPort"));
    let end = port.int_at(&["endPort"]);
    match port.get("port") {
        Some(Value::Int(number)) => {
            let check = |errors: &mut ErrorList, path: &Path<'_>, number: i64| {
                errors.extend(names::port_num(number).into_iter().map(|why| Error::invalid(path, number, why)));
            };
            check(errors, &port_path, *number);
            if let Some(end) = end {
                if end < *number {
                    // Upstream shows the other end of the range here.
                    errors.push(Error::invalid(&end_path, *number, "must be greater than or equal to `port`"));
                }
                check(errors, &end_path, end);
            }
        }
        Some(name) => {
            if let Some(end) = end {
                errors.push(Error::invalid(&end_path, end, "may not be specified when `port` is non-numeric"));
            }
            let name = name.as_str().unwrap_or_default();
            invalid_text(errors, &port_path, name, names::port_name(name));
        }
        None => {
            if let Some(end) = end {
                errors.push(Error::invalid(&end_path, end, "may not be specified when `port` is not specified"));
            }
        }
    }
}

fn check_peer(errors: &mut ErrorList, path: &Path<'_>, peer: &Value, lenient: Leniency, known_cidrs: &[&str]) {
    let mut selects = false;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.get(field) {
            selects = true;
            errors.extend(selector::validate(Some(selector), &path.child(field), lenient));
        }
    }
    match (peer.get("ipBlock"), selects) {
        (None, true) => {}
        (None, false) => errors.push(Error::required(path, "must specify a peer")),
        (Some(block), selects) => {
            check_block(errors, &path.child("ipBlock"), block, known_cidrs);
            if selects {
                errors.push(Error::forbidden(path, "may not specify both ipBlock and another peer"));
            }
        }
    }
}

fn check_block(errors: &mut ErrorList, path: &Path<'_>, block: &Value, known_cidrs: &[&str]) {
    let text = crate::checks::required_text(errors, path, block, "cidr");
    if text.is_empty() {
        return;
    }
    errors.extend(ip::validate_cidr_legacy(&path.child("cidr"), text, known_cidrs));
    let Some(cidr) = ip::parse_cidr(text) else { return };
    let except_path = path.child("except");
    for (index, text) in texts(block, &["except"]).into_iter().enumerate() {
        let path = except_path.index(index);
        errors.extend(ip::validate_cidr_legacy(&path, text, known_cidrs));
        let Some(except) = ip::parse_cidr(text) else { continue };
        if !cidr.contains(except.network()) || cidr.bits() >= except.bits() {
            errors.push(Error::invalid(&path, text, "must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, update};

    #[test]
    fn a_policy_is_about_ingress_and_about_egress_if_it_says_so() {
        for (spec, expect) in [
            (r#"{"podSelector":{}}"#, r#"{"podSelector":{},"policyTypes":["Ingress"]}"#),
            (
                r#"{"podSelector":{},"egress":[{}]}"#,
                r#"{"podSelector":{},"egress":[{}],"policyTypes":["Ingress","Egress"]}"#,
            ),
            (
                r#"{"podSelector":{},"egress":[{"ports":[{"port":53}]}],"policyTypes":["Egress"]}"#,
                r#"{"podSelector":{},"egress":[{"ports":[{"port":53,"protocol":"TCP"}]}],"policyTypes":["Egress"]}"#,
            ),
        ] {
            defaults(&NetworkPolicy, &format!(r#"{{"spec":{spec}}}"#), &format!(r#"{{"spec":{expect}}}"#));
        }
    }

    #[test]
    fn ports_are_numbers_ranges_or_names() {
        for (port, expect) in [
            (r#"{"port":80}"#, ""),
            (r#"{"port":80,"endPort":90}"#, ""),
            (r#"{"port":"http"}"#, ""),
            (
                r#"{"port":0}"#,
                "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                r#"{"port":80,"endPort":79}"#,
                "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
            ),
            (
                r#"{"port":"http","endPort":79}"#,
                "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
            ),
            (
                r#"{"endPort":79}"#,
                "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
            ),
            (
                r#"{"protocol":"ICMP"}"#,
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \
                 \"SCTP\"",
            ),
        ] {
            let object = format!(r#"{{"spec":{{"podSelector":{{}},"ingress":[{{"ports":[{port}]}}]}}}}"#);
            create(&NetworkPolicy, &object, expect);
        }
    }

    #[test]
    fn a_peer_is_a_selection_or_a_block() {
        for (peer, expect) in [
            (r#"{"podSelector":{},"namespaceSelector":{"matchLabels":{"a":"b"}}}"#, ""),
            (r#"{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}"#, ""),
            ("{}", "spec.egress[0].to[0]: Required value: must specify a peer"),
            (
                r#"{"podSelector":{},"ipBlock":{"cidr":"10.0.0.0/8"}}"#,
                "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
            (r#"{"ipBlock":{"cidr":""}}"#, "spec.egress[0].to[0].ipBlock.cidr: Required value"),
            (
                r#"{"ipBlock":{"cidr":"10.0.0.0"}}"#,
                "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. \
                 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                r#"{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.0.0.0/8","11.0.0.0/16"]}}"#,
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of \
                 `cidr`\n\
                 spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of \
                 `cidr`",
            ),
        ] {
            let object = format!(r#"{{"spec":{{"podSelector":{{}},"egress":[{{"to":[{peer}]}}]}}}}"#);
            create(&NetworkPolicy, &object, expect);
        }
    }

    #[test]
    fn types_are_known() {
        for (types, expect) in [
            (
                r#"["ingress"]"#,
                "spec.policyTypes[0]: Unsupported value: \"ingress\": supported values: \"Ingress\", \"Egress\"",
            ),
            (
                r#"["Ingress","Egress","Ingress"]"#,
                "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two \
                 policyTypes",
            ),
        ] {
            create(&NetworkPolicy, &format!(r#"{{"spec":{{"podSelector":{{}},"policyTypes":{types}}}}}"#), expect);
        }
    }

    #[test]
    fn an_odd_cidr_may_stay_and_move() {
        let policy = |direction: &str, peers: &str| {
            let block = r#"{"ipBlock":{"cidr":"10.0.0.1/8"}}"#;
            format!(r#"{{"spec":{{"podSelector":{{}},"{direction}":[{{"{peers}":[{block}]}}]}}}}"#)
        };
        let why = "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the \
                   prefix length";
        create(&NetworkPolicy, &policy("ingress", "from"), why);
        update(&NetworkPolicy, &policy("egress", "to"), &policy("ingress", "from"), "");
        assert_eq!(
            NetworkPolicy.warnings(&json(&policy("ingress", "from")), None),
            [
                "spec.ingress[0].from[0].ipBlock.cidr: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \
                 \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
    }

    #[test]
    fn cells_show_the_selector() {
        for (selector, expect) in [
            ("{}", "<none>"),
            (r#"{"matchLabels":{"b":"c","a":"b"},"matchExpressions":[{"key":"d","operator":"Exists"}]}"#, "a=b,b=c,d"),
        ] {
            cells(
                &NetworkPolicy,
                &format!(r#"{{"metadata":{{"name":"p"}},"spec":{{"podSelector":{selector}}}}}"#),
                &format!(r#"["p","{expect}","<unknown>"]"#),
            );
        }
    }
}
