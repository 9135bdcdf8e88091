//! What mutating and validating webhooks have in common, and where webhooks of any sort are called.

use std::collections::HashSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::selector::{self, Leniency};

use super::{FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES};
use crate::checks::{default_field, items_mut, same, supported, texts};

const TIMEOUT_SECONDS_DEFAULT: i64 = 10;
const TIMEOUT_SECONDS_MAX: i64 = 30;
pub(crate) const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn default(object: &mut Value, mutating: bool) {
    for hook in items_mut(object, &["webhooks"]) {
        default_field(hook, &["failurePolicy"], "Fail");
        super::default_matching(hook);
        default_field(hook, &["timeoutSeconds"], TIMEOUT_SECONDS_DEFAULT);
        if mutating {
            default_field(hook, &["reinvocationPolicy"], "Never");
        }
        default_service(hook, &["clientConfig", "service"]);
        super::default_rules(hook, &["rules"]);
    }
}

/// The port of a service that webhooks are called at.
pub(crate) fn default_service(object: &mut Value, path: &[&str]) {
    if let Some(service) = object.at_mut(path).filter(|service| !service.is_null()) {
        default_field(service, &["port"], 443);
    }
}

/// What an older object was allowed stays allowed.
#[derive(Default)]
struct Tolerated {
    match_conditions: bool,
    side_effects: bool,
    unknown_versions: bool,
    same_names: bool,
    invalid_label_values: bool,
}

impl Tolerated {
    fn of(new: &Value, old: &Value) -> Self {
        let (new, old) = (new.list_at(&["webhooks"]), old.list_at(&["webhooks"]));
        let mut seen = HashSet::new();
        let has_no_effects = |hook: &Value| matches!(hook.str_at(&["sideEffects"]), "None" | "NoneOnDryRun");
        let has_unknown_versions = |hook: &Value| {
            let versions = texts(hook, &["admissionReviewVersions"]);
            !versions.is_empty() && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version))
        };
        let has_invalid = |hook: &Value, field: &str| {
            !selector::validate(hook.get(field), &Path::new(""), Leniency::default()).is_empty()
        };
        Self {
            match_conditions: new.len() == old.len()
                && new.iter().zip(old).all(|(a, b)| same(a.get("matchConditions"), b.get("matchConditions"))),
            side_effects: !old.iter().all(has_no_effects),
            unknown_versions: old.iter().any(has_unknown_versions),
            same_names: old.iter().any(|hook| !seen.insert(hook.str_at(&["name"]))),
            invalid_label_values: old
                .iter()
                .any(|hook| has_invalid(hook, "namespaceSelector") || has_invalid(hook, "objectSelector")),
        }
    }
}

pub(super) fn check(object: &Value, old: Option<&Value>) -> ErrorList {
    let tolerated = old.map(|old| Tolerated::of(object, old)).unwrap_or_default();
    let mut errors = ErrorList::new();
    let path = Path::new("webhooks");
    let mut seen = HashSet::new();
    for (index, hook) in object.list_at(&["webhooks"]).iter().enumerate() {
        let item = path.index(index);
        check_hook(&mut errors, &item, hook, &tolerated);
        let versions = texts(hook, &["admissionReviewVersions"]);
        let versions_path = item.child("admissionReviewVersions");
        if versions.is_empty() {
            errors.push(Error::required(&versions_path, "must specify one of v1, v1beta1"));
        }
        check_versions(&mut errors, &versions_path, &versions, tolerated.unknown_versions);
        let name = hook.str_at(&["name"]);
        if !name.is_empty() && !seen.insert(name) && !tolerated.same_names {
            errors.push(Error::duplicate(&item.child("name"), name));
        }
    }
    errors
}

fn check_hook(errors: &mut ErrorList, path: &Path<'_>, hook: &Value, tolerated: &Tolerated) {
    let name = hook.str_at(&["name"]);
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else if let Some(why) = names::fully_qualified_name(name) {
        errors.push(Error::invalid(&path.child("name"), name, why));
    }
    let rules = path.child("rules");
    for (index, rule) in hook.list_at(&["rules"]).iter().enumerate() {
        super::check_rule(errors, &rules.index(index), rule);
    }
    let mut one_of = |field: &str, values: &[&str]| {
        if let Some(value) = hook.get(field).and_then(Value::as_str) {
            supported(errors, &path.child(field), value, values);
        }
    };
    one_of("failurePolicy", &FAILURE_POLICIES);
    one_of("matchPolicy", &MATCH_POLICIES);
    let effects: &[&str] =
        if tolerated.side_effects { &["None", "NoneOnDryRun", "Some", "Unknown"] } else { &["None", "NoneOnDryRun"] };
    one_of("sideEffects", effects);
    if hook.get("sideEffects").is_none() {
        let why = format!("must specify one of {}", effects.join(", "));
        errors.push(Error::required(&path.child("sideEffects"), why));
    }
    if let Some(seconds) = hook.int_at(&["timeoutSeconds"]).filter(|s| !(1..=TIMEOUT_SECONDS_MAX).contains(s)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(Error::invalid(&path.child("timeoutSeconds"), seconds, why));
    }
    let leniency = Leniency { invalid_values: tolerated.invalid_label_values, ..Leniency::default() };
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = hook.get(field) {
            errors.extend(selector::validate(Some(selector), &path.child(field), leniency));
        }
    }
    if let Some(policy) = hook.get("reinvocationPolicy").and_then(Value::as_str) {
        supported(errors, &path.child("reinvocationPolicy"), policy, &REINVOCATION_POLICIES);
    }
    check_client_config(errors, &path.child("clientConfig"), hook.get("clientConfig"));
    if !tolerated.match_conditions {
        super::check_match_conditions(errors, &path.child("matchConditions"), hook.list_at(&["matchConditions"]));
    }
}

/// The versions of reviews that a webhook understands; one of them must be ours.
pub(crate) fn check_versions(errors: &mut ErrorList, path: &Path<'_>, versions: &[&str], unknown_allowed: bool) {
    let mut seen = HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        if !seen.insert(*version) {
            errors.push(Error::invalid(&path.index(index), *version, "duplicate version"));
            continue;
        }
        for why in names::dns1035_label(version, false) {
            errors.push(Error::invalid(&path.index(index), *version, why));
        }
    }
    if !versions.is_empty() && !unknown_allowed && !REVIEW_VERSIONS.iter().any(|version| seen.contains(version)) {
        errors.push(Error::invalid(path, super::shown(versions), "must include at least one of v1, v1beta1"));
    }
}

/// Where a webhook is called: at a URL or at a Service.
pub(crate) fn check_client_config(errors: &mut ErrorList, path: &Path<'_>, config: Option<&Value>) {
    let nothing = Value::Null;
    let config = config.unwrap_or(&nothing);
    match (config.get("url").and_then(Value::as_str), config.get("service")) {
        (Some(url), None) => check_url(errors, &path.child("url"), url),
        (None, Some(service)) => check_service(errors, &path.child("service"), service),
        _ => errors.push(Error::required(path, "exactly one of url or service is required")),
    }
}

fn check_url(errors: &mut ErrorList, path: &Path<'_>, text: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(why) => {
            let why = format!("url must be a valid URL: parse \"{text}\": {why}{FORM}");
            errors.push(Error::required(path, why));
            return;
        }
    };
    if url.scheme != "https" {
        errors.push(Error::invalid(path, url.scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if url.host.is_empty() {
        errors.push(Error::invalid(path, "", format!("host must be specified{FORM}")));
    }
    if let Some(user) = url.user {
        errors.push(Error::invalid(path, user, "user information is not permitted in the URL"));
    }
    if !url.fragment.is_empty() {
        errors.push(Error::invalid(path, url.fragment, "fragments are not permitted in the URL"));
    }
    if !url.query.is_empty() {
        errors.push(Error::invalid(path, url.query, "query parameters are not permitted in the URL"));
    }
}

fn check_service(errors: &mut ErrorList, path: &Path<'_>, service: &Value) {
    // Upstream hands over namespace and name in the wrong order; clients see what comes of it.
    for (field, shown) in [("namespace", "name"), ("name", "namespace")] {
        if service.str_at(&[field]).is_empty() {
            errors.push(Error::required(&path.child(shown), ""));
        }
    }
    let port = service.int_at(&["port"]).unwrap_or(0);
    let wrong = names::port_num(port);
    if !wrong.is_empty() {
        errors.push(Error::invalid(&path.child("port"), port, format!("port is not valid: {}", wrong.join(", "))));
    }
    check_service_path(errors, &path.child("path"), service.str_at(&["path"]));
}

fn check_service_path(errors: &mut ErrorList, path: &Path<'_>, text: &str) {
    match text {
        "" | "/" => return,
        "//" => return errors.push(Error::invalid(path, text, "segment[0] may not be empty")),
        _ => {}
    }
    if !text.starts_with('/') {
        errors.push(Error::invalid(path, text, "must start with a '/'"));
    }
    // As upstream, the first character is left out, whatever it is.
    let rest: &str = text.get(text.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
    for (index, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            errors.push(Error::invalid(path, text, format!("segment[{index}] may not be empty")));
            continue;
        }
        for why in names::dns1123_subdomain(segment, false) {
            errors.push(Error::invalid(path, text, format!("segment[{index}]: {why}")));
        }
    }
}

/// The parts of a URL that are looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) scheme: &'a str,
    user: Option<&'a str>,
    pub(crate) host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Url<'a> {
    /// Takes a URL apart as Go does.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        if rest.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err("net/url: invalid control character in URL".into());
        }
        let (scheme, rest) = split_scheme(rest)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some(rest) = rest.strip_prefix("//") else {
            let first = rest.split('/').next().unwrap_or_default();
            if scheme.is_empty() && first.contains(':') {
                return Err("first path segment in URL cannot contain colon".into());
            }
            return Ok(Self { scheme, query, fragment, ..Self::default() });
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        check_host(host)?;
        Ok(Self { scheme, user, host, query, fragment })
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    match text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))) {
        Some(0) if text.starts_with(':') => Err("missing protocol scheme".into()),
        Some(end) if text[end..].starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            Ok((&text[..end], &text[end + 1..]))
        }
        _ => Ok(("", text)),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.rfind(']') {
        Some(end) => &host[end + 1..],
        None if host.starts_with('[') => return Err("missing ']' in host".into()),
        None => host.find(':').map_or("", |colon| &host[colon..]),
    };
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !is_port {
        return Err(format!("invalid port \"{port}\" after host"));
    }
    match host.chars().find(|c| matches!(c, ' ' | '"' | '\\' | '^' | '`' | '{' | '|' | '}')) {
        Some(wrong) => Err(format!("invalid character \"{}\" in host name", wrong.escape_default())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{json, lines};

    #[test]
    fn urls_are_plain_and_safe() {
        let form = "; desired format: https://host[/path]";
        for (url, expect) in [
            ("https://a", String::new()),
            ("https://[::1]:443/b", String::new()),
            ("http://a", format!("u: Invalid value: \"http\": 'https' is the only allowed URL scheme{form}")),
            ("https:///a", format!("u: Invalid value: \"\": host must be specified{form}")),
            ("https://u:p@a", "u: Invalid value: \"u:p\": user information is not permitted in the URL".into()),
            ("https://a#f", "u: Invalid value: \"f\": fragments are not permitted in the URL".into()),
            ("https://a?q", "u: Invalid value: \"q\": query parameters are not permitted in the URL".into()),
            (
                "",
                format!(
                    "u: Invalid value: \"\": 'https' is the only allowed URL scheme{form}\n\
                     u: Invalid value: \"\": host must be specified{form}"
                ),
            ),
            (":a", format!("u: Required value: url must be a valid URL: parse \":a\": missing protocol scheme{form}")),
            (
                "https://a:b",
                format!(
                    "u: Required value: url must be a valid URL: parse \"https://a:b\": invalid port \":b\" after \
                     host{form}"
                ),
            ),
        ] {
            let mut errors = ErrorList::new();
            check_url(&mut errors, &Path::new("u"), url);
            assert_eq!(lines(&errors), expect, "{url}");
        }
    }

    #[test]
    fn services_have_a_name_and_a_path() {
        let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                         '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
                         for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        for (service, expect) in [
            (r#"{"name":"a","namespace":"b","port":443,"path":"/c/d/"}"#, String::new()),
            (
                r#"{"port":0}"#,
                "s.name: Required value\ns.namespace: Required value\ns.port: Invalid value: 0: port is not valid: \
                 must be between 1 and 65535, inclusive"
                    .into(),
            ),
            (
                r#"{"name":"a","namespace":"b","port":1,"path":"c//D"}"#,
                format!(
                    "s.path: Invalid value: \"c//D\": must start with a '/'\n\
                     s.path: Invalid value: \"c//D\": segment[0] may not be empty\n\
                     s.path: Invalid value: \"c//D\": segment[1] may not be empty\n\
                     s.path: Invalid value: \"c//D\": segment[2]: {subdomain}"
                ),
            ),
        ] {
            let mut errors = ErrorList::new();
            check_service(&mut errors, &Path::new("s"), &json(service));
            assert_eq!(lines(&errors), expect, "{service}");
        }
    }
}
