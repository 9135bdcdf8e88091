//! CertificateSigningRequest: someone asks a signer for a certificate, someone approves, the signer issues.

use std::collections::HashSet;

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pki::PkiError;

use super::check_signer_name;
use crate::Kind;
use crate::checks::{items_mut, name, supported, text, text_or, texts};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

const EXPIRATION_SECONDS_MIN: i64 = 600;

/// What a certificate may be for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Conditions that only an approver sets.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

pub(crate) struct CertificateSigningRequest;

/// What an update may do, by the path that it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    Main,
    Status,
    Approval,
}

impl Kind for CertificateSigningRequest {
    fn group(&self) -> &str {
        "certificates.k8s.io"
    }

    fn resource(&self) -> &str {
        "certificatesigningrequests"
    }

    /// Only what is asked for is the client's; who asks (`username` and so on) the registry sets from the request.
    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], api_schema::Map::new());
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        for decision in DECISIONS {
            let kept = conditions(old, decision);
            let fresh = items_mut(new, &["status", "conditions"]);
            let places: Vec<&mut Value> = fresh.iter_mut().filter(|item| item.str_at(&["type"]) == decision).collect();
            if places.len() == kept.len() {
                places.into_iter().zip(kept).for_each(|(place, condition)| *place = condition.clone());
            }
        }
    }

    fn prepare_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if subresource != "approval" {
            return;
        }
        let conditions = new.at(&["status", "conditions"]).cloned();
        keep(new, old, "spec");
        keep(new, old, "status");
        match conditions {
            Some(conditions) => new.set(&["status", "conditions"], conditions),
            None => drop(new.remove(&["status", "conditions"])),
        }
    }

    fn stamp(&self, new: &mut Value, old: Option<&Value>, now: &str) {
        let before = old.map_or(&[][..], |old| old.list_at(&["status", "conditions"]));
        for condition in items_mut(new, &["status", "conditions"]) {
            if condition.str_at(&["lastUpdateTime"]).is_empty() {
                condition.set(&["lastUpdateTime"], now);
            }
            if condition.str_at(&["lastTransitionTime"]).is_empty() {
                let time = before
                    .iter()
                    .filter(|old| ["type", "status"].iter().all(|field| old.get(field) == condition.get(field)))
                    .map(|old| old.str_at(&["lastTransitionTime"]))
                    .find(|time| !time.is_empty())
                    .unwrap_or(now);
                condition.set(&["lastTransitionTime"], time);
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        check_update(new, old, Through::Main)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        check_update(new, old, Through::Status)
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> ErrorList {
        match subresource {
            "approval" => check_update(new, old, Through::Approval),
            _ => ErrorList::new(),
        }
    }

    fn check_name(&self, _name: &str, _prefix: bool) -> Vec<String> {
        Vec::new()
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let duration = match object.int_at(&["spec", "expirationSeconds"]) {
            Some(seconds) => api_semantics::time::human_duration(seconds).into(),
            None => "<none>".into(),
        };
        Some(vec![
            name(object),
            api_semantics::time::age(object, now),
            text_or(object, &["spec", "signerName"], "<none>"),
            text(object, &["spec", "username"]),
            duration,
            state(object).into(),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.signerName"]
    }
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => new.set(&[field], value.clone()),
        None => drop(new.remove(&[field])),
    }
}

fn conditions<'a>(object: &'a Value, ty: &str) -> Vec<&'a Value> {
    let items = object.list_at(&["status", "conditions"]).iter();
    items.filter(|condition| condition.str_at(&["type"]) == ty).collect()
}

fn state(object: &Value) -> SmolStr {
    let has = |ty: &str| !conditions(object, ty).is_empty();
    let mut state = String::from(match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    });
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !object.str_at(&["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    state.into()
}

fn check(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let request = object.str_at(&["spec", "request"]);
    if let Err(why) = check_request(request) {
        let shown = object.at(&["spec", "request"]).cloned().unwrap_or_default();
        errors.push(Error::invalid(&spec.child("request"), shown, why));
    }
    check_usages(&mut errors, &spec.child("usages"), object, old);
    let signer = object.str_at(&["spec", "signerName"]);
    let had_legacy = old.is_some_and(|old| old.str_at(&["spec", "signerName"]) == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !had_legacy {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&spec.child("signerName"), signer, why));
    } else {
        check_signer_name(&mut errors, &spec.child("signerName"), signer);
    }
    if let Some(seconds) = object.int_at(&["spec", "expirationSeconds"]).filter(|s| *s < EXPIRATION_SECONDS_MIN) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&spec.child("expirationSeconds"), seconds, why));
    }
    let status = Path::new("status");
    check_conditions(&mut errors, &status.child("conditions"), object, old);
    let certificate = object.str_at(&["status", "certificate"]);
    let had = old.map(|old| old.str_at(&["status", "certificate"]));
    let tolerated = had.is_some_and(|had| had == certificate || check_certificate(had).is_err());
    if !tolerated && let Err(why) = check_certificate(certificate) {
        errors.push(Error::invalid(&status.child("certificate"), "<certificate data>", why));
    }
    errors
}

fn check_usages(errors: &mut ErrorList, path: &Path<'_>, object: &Value, old: Option<&Value>) {
    let usages = texts(object, &["spec", "usages"]);
    let old_usages = old.map_or_else(Vec::new, |old| texts(old, &["spec", "usages"]));
    if usages.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if old_usages.iter().all(|usage| USAGES.contains(usage)) {
        for (index, usage) in usages.iter().enumerate() {
            supported(errors, &path.index(index), usage, &USAGES);
        }
    }
    if !has_twice(&old_usages) {
        let mut seen = HashSet::new();
        for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !seen.insert(**usage)) {
            errors.push(Error::duplicate(&path.index(index), *usage));
        }
    }
}

fn has_twice(texts: &[&str]) -> bool {
    let mut seen = HashSet::new();
    texts.iter().any(|text| !seen.insert(*text))
}

fn types(object: &Value) -> Vec<&str> {
    object.list_at(&["status", "conditions"]).iter().map(|condition| condition.str_at(&["type"])).collect()
}

/// Conditions, but for what was wrong with those already stored.
fn check_conditions(errors: &mut ErrorList, path: &Path<'_>, object: &Value, old: Option<&Value>) {
    let old_types = old.map_or_else(Vec::new, types);
    let had_both = DECISIONS.iter().all(|decision| old_types.contains(decision));
    let (had_empty, had_twice) = (old_types.contains(&""), has_twice(&old_types));
    let mut seen = HashSet::new();
    for (index, condition) in object.list_at(&["status", "conditions"]).iter().enumerate() {
        let item = path.index(index);
        let (ty, status) = (condition.str_at(&["type"]), condition.str_at(&["status"]));
        if ty.is_empty() && !had_empty {
            errors.push(Error::required(&item.child("type"), ""));
        }
        match (ty, status) {
            (_, "") => errors.push(Error::required(&item.child("status"), "")),
            ("Approved" | "Denied" | "Failed", _) => supported(errors, &item.child("status"), status, &["True"]),
            _ => supported(errors, &item.child("status"), status, &["False", "True", "Unknown"]),
        }
        let other = match ty {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !had_both && !other.is_empty() && seen.contains(other) {
            errors.push(Error::invalid(path, ty, "Approved and Denied conditions are mutually exclusive"));
        }
        if !seen.insert(ty) && !had_twice {
            errors.push(Error::duplicate(&item.child("type"), ty));
        }
    }
}

fn check_update(new: &Value, old: &Value, through: Through) -> ErrorList {
    let mut errors = check(new, Some(old));
    let path = Path::new("status.conditions");
    let count = |object: &Value, ty: &str| conditions(object, ty).len();
    for ty in ["Approved", "Denied", "Failed"] {
        if count(new, ty) < count(old, ty) {
            errors.push(Error::forbidden(&path, format!("updates may not remove a condition of type \"{ty}\"")));
        }
    }
    if through != Through::Approval {
        for ty in DECISIONS {
            if count(new, ty) > count(old, ty) {
                errors.push(Error::forbidden(&path, format!("updates may not add a condition of type \"{ty}\"")));
            } else if count(new, ty) == count(old, ty) && conditions(new, ty) != conditions(old, ty) {
                errors.push(Error::forbidden(&path, format!("updates may not modify a condition of type \"{ty}\"")));
            }
        }
    }
    let (certificate, had) = (new.str_at(&["status", "certificate"]), old.str_at(&["status", "certificate"]));
    let path = Path::new("status.certificate");
    if certificate != had {
        if through != Through::Status {
            errors.push(Error::forbidden(&path, "updates may not set certificate content"));
        } else if !had.is_empty() {
            errors.push(Error::forbidden(&path, "updates may not modify existing certificate content"));
        }
    }
    errors
}

/// The request must be a PKCS #10 one, signed with its own key.
fn check_request(base64: &str) -> Result<(), String> {
    let first = pem_blocks(base64).into_iter().next();
    let block = first.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    pki::Csr::from_der(&block.der).map(drop).map_err(why)
}

/// What signers issue: certificates in PEM and nothing else.
fn check_certificate(base64: &str) -> Result<(), String> {
    if base64.is_empty() {
        return Ok(());
    }
    let blocks = pem_blocks(base64);
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    for block in blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found \"{}\"", block.label));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".into());
        }
        pki::Certificate::from_der(&block.der).map_err(why)?;
    }
    Ok(())
}

/// What is wrong, without the name of what it is wrong with.
fn why(error: PkiError) -> String {
    match error {
        PkiError::Csr(why) | PkiError::Certificate(why) => why,
        error => error.to_string(),
    }
}

struct PemBlock {
    label: String,
    has_headers: bool,
    der: Vec<u8>,
}

/// The well-formed blocks of a PEM text in base64; what stands between them does not count.
fn pem_blocks(base64: &str) -> Vec<PemBlock> {
    let Ok(text) = STANDARD.decode(base64) else { return Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let end = format!("-----END {label}-----");
        let (mut has_headers, mut body, mut rest) = (false, String::new(), lines.clone());
        let complete = loop {
            match rest.next() {
                Some(line) if line == end => break true,
                Some(line) if line.starts_with("-----BEGIN ") => break false,
                Some(line) if line.contains(':') => has_headers = true,
                Some(line) => body.push_str(line.trim()),
                None => break false,
            }
        };
        if complete && let Ok(der) = STANDARD.decode(&body) {
            blocks.push(PemBlock { label: label.into(), has_headers, der });
            lines = rest;
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json, lines, update, update_status};

    const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIcU1JR1JBZ0VBTUM4eEZUQVRCZ05WQkFvTURITjVjM1JsYlRwdWIyUmxjekVXTUJRR0ExVUVBd3dOYzNsegpkR1Z0T201dlpHVTZZVEJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSEEwSUFCSFJ5cnpnTy9LYkdjOEtpCk82SFBISE5nOHRibjM2UWRGVXBPaXUvWEVtUmZBRmZWellWRDlvV1lPdmM1QzM5Q09jVW50YkExNXl1L0pqTjQKRkhxVDc5Q2dBREFLQmdncWhrak9QUVFEQWdOSUFEQkZBaUFNamc0R3oyZ2lnNldGMldlUzFNN3BYNXlrbVdTVwpGaUJsVHBnRE1WbGxrZ0loQU1ZLzFhMFlteGx2aVdPdTFRVmlrSXoySmtwUkhDVENyVnFDZjJYZVZVcUQKLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";

    const CERTIFICATE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJXekNDQVFFQ0ZFNEtCN1o5WHhOcVlXbkVhWHp3NWFCS1NwMEFNQW9HQ0NxR1NNNDlCQU1DTUM4eEZUQVQKQmdOVkJBb01ESE41YzNSbGJUcHViMlJsY3pFV01CUUdBMVVFQXd3TmMzbHpkR1Z0T201dlpHVTZZVEFnRncweQpOakV4TWpNeE5qQXpNVGxhR0E4eU1USTJNVEF6TURFMk1ETXhPVm93THpFVk1CTUdBMVVFQ2d3TWMzbHpkR1Z0Ck9tNXZaR1Z6TVJZd0ZBWURWUVFEREExemVYTjBaVzA2Ym05a1pUcGhNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkkKemowREFRY0RRZ0FFZEhLdk9BNzhwc1p6d3FJN29jOGNjMkR5MXVmZnBCMFZTazZLNzljU1pGOEFWOVhOaFVQMgpoWmc2OXprTGYwSTV4U2Uxc0RYbks3OG1NM2dVZXBQdjBEQUtCZ2dxaGtqT1BRUURBZ05JQURCRkFpQkx0Q3YyCm1kR2puUXB1Y25Tbm5CZmkrWWsrZEkxTlZVWWE0d05zdVJWQ09RSWhBTGpkZlBsWG1VVlJHZmxzSlk0UDJkSkEKSG9YbE9ZYXN4VXhSS2ppWmUzRkQKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

    const KIND: &dyn Kind = &CertificateSigningRequest;

    fn object(status: &str) -> String {
        format!(
            r#"{{"spec":{{"request":"{REQUEST}","signerName":"example.com/a","usages":["client auth"],"username":"u"}},
                "status":{status}}}"#
        )
    }

    #[test]
    fn requests_are_signed_and_say_what_for() {
        for (spec, expect) in [
            (
                format!(r#"{{"request":"{REQUEST}","signerName":"example.com/a","usages":["client auth"]}}"#),
                String::new(),
            ),
            (
                r#"{"request":"","signerName":"kubernetes.io/legacy-unknown","usages":[],"expirationSeconds":599}"#
                    .into(),
                "spec.request: Invalid value: \"\": PEM block type must be CERTIFICATE REQUEST\n\
                 spec.usages: Required value\n\
                 spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not \
                 allowed via this API version\n\
                 spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 \
                 minutes)"
                    .into(),
            ),
            (
                format!(r#"{{"request":"{CERTIFICATE}","signerName":"a","usages":["any","any","all"]}}"#),
                format!(
                    "spec.request: Invalid value: \"{CERTIFICATE}\": PEM block type must be CERTIFICATE REQUEST\n\
                     spec.usages[2]: Unsupported value: \"all\": supported values: {}\n\
                     spec.usages[1]: Duplicate value: \"any\"\n\
                     spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form \
                     'example.com/signer-name'",
                    USAGES.map(|usage| format!("\"{usage}\"")).join(", ")
                ),
            ),
        ] {
            create(KIND, &format!(r#"{{"spec":{spec}}}"#), &expect);
        }
    }

    #[test]
    fn what_is_asked_for_stays() {
        let mut new = json(r#"{"spec":{"usages":["any"]},"status":{"certificate":"eA=="}}"#);
        let old = json(&object("{}"));
        KIND.prepare_update(&mut new, &old);
        assert_eq!(new, old);
        update(KIND, &object("{}"), &object(r#"{"certificate":"eA=="}"#), "");
    }

    #[test]
    fn only_the_signer_sets_the_certificate_and_once() {
        let with = |certificate: &str| object(&format!(r#"{{"certificate":"{certificate}"}}"#));
        for (old, new, expect) in [
            (object("{}"), with(CERTIFICATE), ""),
            (with(CERTIFICATE), with(CERTIFICATE), ""),
            (
                with(CERTIFICATE),
                object("{}"),
                "status.certificate: Forbidden: updates may not modify existing certificate content",
            ),
            (
                object("{}"),
                with("eA=="),
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM \
                 block",
            ),
            (
                object("{}"),
                with(REQUEST),
                "status.certificate: Invalid value: \"<certificate data>\": only CERTIFICATE PEM blocks are allowed, \
                 found \"CERTIFICATE REQUEST\"",
            ),
        ] {
            update_status(KIND, &old, &new, expect);
        }
    }

    #[test]
    fn the_status_path_keeps_decisions() {
        let approved = r#"{"conditions":[{"type":"Approved","status":"True","reason":"a"}]}"#;
        for (old, new, expect) in [
            (approved, r#"{"conditions":[{"type":"Approved","status":"True","reason":"b"}]}"#, ""),
            (approved, "{}", "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""),
            ("{}", approved, "status.conditions: Forbidden: updates may not add a condition of type \"Approved\""),
            (
                "{}",
                r#"{"conditions":[{"type":"Failed","status":"False"},{"type":"","status":""},{"type":"Odd","status":"x"},
                    {"type":"Odd","status":"True"}]}"#,
                "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"\n\
                 status.conditions[1].type: Required value\n\
                 status.conditions[1].status: Required value\n\
                 status.conditions[2].status: Unsupported value: \"x\": supported values: \"False\", \"True\", \
                 \"Unknown\"\n\
                 status.conditions[3].type: Duplicate value: \"Odd\"",
            ),
        ] {
            update_status(KIND, &object(old), &object(new), expect);
        }
    }

    #[test]
    fn approvers_decide_one_way_and_nothing_else() {
        let (approved, denied) = (r#"{"type":"Approved","status":"True"}"#, r#"{"type":"Denied","status":"True"}"#);
        for (old, new, expect) in [
            ("{}".into(), format!(r#"{{"conditions":[{approved}],"certificate":"eA=="}}"#), ""),
            (
                format!(r#"{{"conditions":[{approved}]}}"#),
                format!(r#"{{"conditions":[{approved},{denied}]}}"#),
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            ),
            (
                format!(r#"{{"conditions":[{approved}]}}"#),
                format!(r#"{{"conditions":[{denied}]}}"#),
                "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\"",
            ),
        ] {
            let (old, mut new) = (json(&object(&old)), json(&object(&new)));
            KIND.prepare_subresource_update("approval", &mut new, &old);
            assert_eq!(lines(&KIND.validate_subresource_update("approval", &new, &old)), expect);
        }
    }

    #[test]
    fn conditions_get_their_times() {
        let old = json(r#"{"status":{"conditions":[{"type":"A","status":"True","lastTransitionTime":"t0"}]}}"#);
        let mut new = json(
            r#"{"status":{"conditions":[{"type":"A","status":"True"},{"type":"B","status":"True"},
                {"type":"C","lastUpdateTime":"t1","lastTransitionTime":"t1"}]}}"#,
        );
        KIND.stamp(&mut new, Some(&old), "t2");
        let expect = json(
            r#"{"status":{"conditions":[
                {"type":"A","status":"True","lastUpdateTime":"t2","lastTransitionTime":"t0"},
                {"type":"B","status":"True","lastUpdateTime":"t2","lastTransitionTime":"t2"},
                {"type":"C","lastUpdateTime":"t1","lastTransitionTime":"t1"}]}}"#,
        );
        assert_eq!(new, expect);
    }

    #[test]
    fn cells_tell_who_and_how_far() {
        for (status, state) in [
            ("{}", "Pending"),
            (r#"{"conditions":[{"type":"Denied"},{"type":"Approved"}]}"#, "Denied"),
            (
                r#"{"conditions":[{"type":"Approved"},{"type":"Failed"}],"certificate":"eA=="}"#,
                "Approved,Failed,Issued",
            ),
        ] {
            cells(
                KIND,
                &format!(
                    r#"{{"metadata":{{"name":"a","creationTimestamp":"1969-12-31T23:59:50Z"}},
                        "spec":{{"signerName":"s","username":"u","expirationSeconds":3600}},"status":{status}}}"#
                ),
                &format!(r#"["a","10s","s","u","60m","{state}"]"#),
            );
        }
    }
}
