//! What values mean, and which of them make no sense: upstream's rules, in upstream's words where it has some.

use std::ops::RangeInclusive;

use api_types::KUBERNETES_VERSION;
use registry::Cidr;

use crate::flags::Given;

/// The features of Kubernetes and how they are here: name, default, stage.
const FEATURE_GATES: &str = include_str!("feature-gates.tsv");

/// A number that says how many.
pub(super) fn not_negative(flag: &str, number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("--{flag} can not be negative value"))
}

/// Requests at once on one connection: 0 is the default.
pub(super) fn streams(number: i64) -> Result<u32, String> {
    match u32::try_from(number) {
        Ok(0) => Ok(100),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("--http2-max-streams-per-connection {number} must be between 0 and {}", u32::MAX)),
    }
}

/// A share of requests.
pub(super) fn goaway_chance(chance: f64) -> Result<f64, String> {
    if (0.0..=0.02).contains(&chance) {
        Ok(chance)
    } else {
        Err("--goaway-chance can not be less than 0 or greater than 0.02".into())
    }
}

/// A version of TLS, by Go's name.
pub(super) fn tls_version(name: &str) -> Result<pki::TlsVersion, String> {
    match name {
        "" | "VersionTLS12" => Ok(pki::TlsVersion::Tls12),
        "VersionTLS13" => Ok(pki::TlsVersion::Tls13),
        "VersionTLS10" | "VersionTLS11" => {
            Err(format!("--tls-min-version={name} cannot be honoured: TLS 1.2 is the oldest version that is spoken"))
        }
        other => Err(format!("unknown tls version {other:?}")),
    }
}

/// Numbers of key exchanges.
pub(super) fn curves(given: &Given) -> Result<Vec<u16>, String> {
    let parts = given.all().iter().flat_map(|value| value.split(','));
    parts
        .map(|part| part.parse().map_err(|_| format!("--tls-curve-preferences: {part} is no key exchange of TLS")))
        .collect()
}

/// Patterns of origins, which must say where a host's name begins and ends.
pub(super) fn origins(patterns: Vec<String>) -> Result<Vec<String>, String> {
    for pattern in &patterns {
        if pattern.is_empty() {
            return Err("empty value in --cors-allowed-origins".into());
        }
        let begins = ["^", "//"].iter().any(|mark| pattern.contains(mark));
        let ends = ["$", ":"].iter().any(|mark| pattern.contains(mark));
        if !(begins && ends) {
            return Err(
                "--cors-allowed-origins has an invalid regular expression: regular expression does not pin to \
                        start/end of host in the origin header"
                    .into(),
            );
        }
    }
    Ok(patterns)
}

/// Directives of the header `Strict-Transport-Security`.
pub(super) fn transport_security(directives: Vec<String>) -> Result<Vec<String>, String> {
    for directive in &directives {
        if directive.is_empty() {
            return Err("empty value in strict-transport-security-directives".into());
        }
        let known = directive.split_once('=').map_or(directive.as_str(), |(name, _)| name);
        if !matches!(known, "max-age" | "includeSubDomains" | "preload") {
            return Err("--strict-transport-security-directives invalid, allowed values: max-age=expireTime, \
                        includeSubDomains, preload. see https://tools.ietf.org/html/rfc6797#section-6.1 for more \
                        information"
                .into());
        }
    }
    Ok(directives)
}

/// Names of headers.
pub(super) fn headers(flag: &str, names: Vec<String>) -> Result<Vec<String>, String> {
    if names.iter().any(|name| name.trim().is_empty()) {
        return Err(format!("empty value in {flag:?}"));
    }
    let is_usual = |name: &String| name.eq_ignore_ascii_case("X-Remote-Uid");
    if flag == "requestheader-uid-headers" && !names.is_empty() && !names.iter().any(is_usual) {
        return Err("--requestheader-uid-headers is set without specifying the standard X-Remote-Uid header - API \
                    aggregation will not work"
            .into());
    }
    Ok(names)
}

/// Issuers of tokens, each once.
pub(super) fn issuers(names: &[String]) -> Result<Vec<String>, String> {
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err("service-account-issuer should not be an empty string".into());
        }
        if names[..at].contains(name) {
            return Err(format!("service-account-issuer {name:?} is already specified"));
        }
    }
    Ok(names.to_vec())
}

/// A place to read keys from.
pub(super) fn jwks_uri(uri: &str) -> Result<String, String> {
    if uri.is_empty() || uri.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https")) {
        Ok(uri.to_owned())
    } else {
        Err(format!("service-account-jwks-uri requires https scheme, parsed as: {uri}"))
    }
}

/// How long tokens may be good, in seconds: an hour at least.
pub(super) fn token_expiration(given: &Given) -> Result<Option<i64>, String> {
    const NANOS: i64 = 1_000_000_000;
    match given.nanos() / NANOS {
        0 if given.nanos() == 0 => Ok(None),
        seconds if (3600..=1 << 32).contains(&seconds) => Ok(Some(seconds)),
        _ => Err("the service-account-max-token-expiration must be between 1 hour and 2^32 seconds".into()),
    }
}

/// Names of authorizers, each once.
pub(super) fn authorization_modes(modes: Vec<String>) -> Result<Vec<String>, String> {
    if modes.is_empty() {
        return Err("at least one authorization-mode must be passed".into());
    }
    for (at, mode) in modes.iter().enumerate() {
        match mode.as_str() {
            "Node" | "RBAC" | "AlwaysAllow" | "AlwaysDeny" => {}
            "ABAC" | "Webhook" => {
                return Err(format!(
                    "--authorization-mode={mode} cannot be honoured: there are Node, RBAC, AlwaysAllow and AlwaysDeny"
                ));
            }
            other => return Err(format!("authorization-mode {other:?} is not a valid mode")),
        }
        if modes[..at].contains(mode) {
            let quoted: Vec<String> = modes.iter().map(|mode| format!("{mode:?}")).collect();
            return Err(format!("authorization-mode [{}] has mode specified more than once", quoted.join(" ")));
        }
    }
    Ok(modes)
}

/// Whether a version is that of this program, or so many minor versions older; `kube=` may stand before it.
pub(super) fn is_version(text: &str, older: u32) -> bool {
    let (major, minor) = KUBERNETES_VERSION;
    text.strip_prefix("kube=").unwrap_or(text) == format!("{major}.{}", u64::from(minor) - u64::from(older))
}

/// What is served and what not.
pub(super) fn runtime_config(switches: &[(String, Option<String>)]) -> Result<Vec<(String, bool)>, String> {
    let mut config = Vec::new();
    for (key, value) in switches {
        let on = match value.as_deref() {
            None | Some("") => true,
            Some(value) => switch(value).map_err(|why| format!("invalid value of {key}: {value}, err: {why}"))?,
        };
        if !matches!(key.as_str(), "api/all" | "api/ga" | "api/beta" | "api/alpha" | "v1") {
            check_group_version(key)?;
        }
        config.push((key.clone(), on));
    }
    if matches!(config.as_slice(), [(key, false)] if key == "api/all") {
        return Err("invalid runtime-config with only api/all=false".into());
    }
    Ok(config)
}

/// `group/version` or `group/version/resource`, of which there must be the former two.
fn check_group_version(key: &str) -> Result<(), String> {
    let mut parts = key.split('/');
    let (Some(group), Some(version), resource, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(format!("runtime-config invalid key {key}"));
    };
    if group.is_empty() || version.is_empty() {
        return Err(format!("runtime-config invalid key {key}"));
    }
    let mut of_group = api_types::resources().iter().filter(|known| known.group == group).peekable();
    if of_group.peek().is_none() {
        return Err(format!("unknown api groups {group}/{version}"));
    }
    if !of_group.any(|known| known.version == version) {
        return Err(format!("group version {group}/{version} that has not been registered"));
    }
    match resource {
        Some(resource) if resource.to_ascii_lowercase() != resource => Err(format!(
            "invalid key {key}: group/version/resource and resource is always lowercase plural, not {resource:?}"
        )),
        _ => Ok(()),
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {value:?}: invalid syntax")),
    }
}

/// Features are as they are: saying so is welcome, saying anything else is not.
pub(super) fn feature_gates(switches: &[(String, Option<String>)]) -> Result<(), String> {
    for (key, value) in switches {
        let name = key.strip_prefix("kube:").unwrap_or(key);
        let Some(value) = value else { return Err(format!("missing bool value for {name}")) };
        let wanted = switch(value).map_err(|why| format!("invalid value of {name}={value}, err: {why}"))?;
        let row = FEATURE_GATES.lines().find_map(|line| {
            let mut fields = line.split('\t');
            (fields.next() == Some(name)).then(|| (fields.next() == Some("true"), fields.next().unwrap_or_default()))
        });
        match row {
            None => return Err(format!("unrecognized feature gate: {name}")),
            Some((is, stage)) if is != wanted => {
                return Err(format!(
                    "--feature-gates={name}={wanted} cannot be honoured: the feature ({stage}) is {} and cannot be \
                     switched",
                    if is { "on" } else { "off" }
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Ranges of Service addresses.
pub(super) fn service_cidrs(text: &str) -> Result<Vec<Cidr>, String> {
    let cidrs = registry::parse_cidrs(text).map_err(|why| format!("--service-cluster-ip-range: {why}"))?;
    match cidrs.as_slice() {
        [_] => {}
        [one, other] if one.nth(0).is_ipv4() != other.nth(0).is_ipv4() => {}
        [_, _] => {
            return Err(
                "--service-cluster-ip-range expected to be of different IP family when two are specified".into()
            );
        }
        _ => return Err("--service-cluster-ip-range must not contain more than two entries".into()),
    }
    match cidrs.iter().find(|cidr| cidr.size() < 6) {
        Some(_) => Err("the service cluster IP range must be at least 8 IP addresses".into()),
        None => Ok(cidrs),
    }
}

/// A range of ports for Services.
pub(super) fn node_ports((first, last): (i64, i64)) -> Result<RangeInclusive<u16>, String> {
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) if first > 0 => Ok(first..=last),
        _ => Err(format!("--service-node-port-range {first}-{last} must be between 1 and 65535")),
    }
}

/// Whether the endpoints of the Service `kubernetes` are kept.
pub(super) fn keeps_endpoints(kind: &str) -> Result<bool, String> {
    match kind {
        "lease" => Ok(true),
        "none" => Ok(false),
        "master-count" => Err("--endpoint-reconciler-type=master-count cannot be honoured: it is deprecated; use \
                               lease or none"
            .into()),
        other => Err(format!("--endpoint-reconciler-type {other:?} is none of lease, none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn switches(text: &str) -> Vec<(String, Option<String>)> {
        let parts = text.split(',').map(|part| match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (part.to_owned(), None),
        });
        parts.collect()
    }

    #[test]
    fn runtime_config_names_what_there_is() {
        for (text, expected) in [
            ("apps/v1=false,api/beta=true,v1", Ok(3)),
            ("batch/v1/cronjobs=false", Ok(1)),
            ("x", Err("runtime-config invalid key x")),
            ("a/b/c/d=true", Err("runtime-config invalid key a/b/c/d")),
            ("example.com/v1=true", Err("unknown api groups example.com/v1")),
            ("apps/v9=true", Err("group version apps/v9 that has not been registered")),
            ("api/all=false", Err("invalid runtime-config with only api/all=false")),
            ("apps/v1=x", Err("invalid value of apps/v1: x, err: strconv.ParseBool: parsing \"x\": invalid syntax")),
            (
                "apps/v1/Deployments=true",
                Err(
                    "invalid key apps/v1/Deployments: group/version/resource and resource is always lowercase plural, \
                     not \"Deployments\"",
                ),
            ),
        ] {
            let found = runtime_config(&switches(text)).map(|config| config.len());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn features_may_be_said_to_be_as_they_are() {
        for (text, expected) in [
            ("WatchList=true,kube:AllAlpha=false", Ok(())),
            ("SidecarContainers=true", Ok(())),
            ("Nothing=true", Err("unrecognized feature gate: Nothing")),
            ("AllAlpha", Err("missing bool value for AllAlpha")),
            ("x=y", Err("invalid value of x=y, err: strconv.ParseBool: parsing \"y\": invalid syntax")),
            (
                "AllAlpha=true",
                Err("--feature-gates=AllAlpha=true cannot be honoured: the feature (alpha) is off and cannot be \
                     switched"),
            ),
        ] {
            assert_eq!(feature_gates(&switches(text)), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn ranges_of_services_are_one_or_two_of_different_families() {
        for (text, expected) in [
            ("10.0.0.0/24", Ok(1)),
            ("10.0.0.0/24,fd00::/112", Ok(2)),
            ("10.0.0.0/30", Err("the service cluster IP range must be at least 8 IP addresses")),
            (
                "10.0.0.0/24,10.1.0.0/24",
                Err("--service-cluster-ip-range expected to be of different IP family when two are specified"),
            ),
            (
                "10.0.0.0/24,fd00::/112,fd01::/112",
                Err("--service-cluster-ip-range must not contain more than two entries"),
            ),
            ("x", Err("--service-cluster-ip-range: \"x\" is no CIDR")),
        ] {
            assert_eq!(service_cidrs(text).map(|cidrs| cidrs.len()), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn authorizers_are_named_once() {
        for (modes, expected) in [
            (&["Node", "RBAC"][..], Ok(2)),
            (&[], Err("at least one authorization-mode must be passed")),
            (&["X"], Err("authorization-mode \"X\" is not a valid mode")),
            (&["RBAC", "RBAC"], Err("authorization-mode [\"RBAC\" \"RBAC\"] has mode specified more than once")),
        ] {
            let found = authorization_modes(texts(modes)).map(|modes| modes.len());
            assert_eq!(found, expected.map_err(str::to_owned), "{modes:?}");
        }
    }

    #[test]
    fn origins_pin_the_host() {
        assert!(origins(texts(&[r"//example\.com(:|$)", "^https://a$"])).is_ok());
        assert!(origins(texts(&["example.com"])).is_err());
        assert!(origins(texts(&[""])).is_err());
    }
}
