//! Proxies, from the environment as Go's client reads it: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`.

use std::net::IpAddr;

use base64::Engine;

use super::url::{Origin, Url};

/// A proxy and how it wants to be spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) origin: Origin,
    pub(crate) authorization: Option<String>,
}

/// Which proxy is for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    plain: Option<Proxy>,
    secure: Option<Proxy>,
    /// Hosts, domains, addresses and blocks that are spoken to directly.
    direct: Vec<String>,
}

impl Proxies {
    /// What the environment says.
    pub fn from_environment() -> Proxies {
        Proxies::from_variables(|name| {
            [name.to_owned(), name.to_lowercase()]
                .iter()
                .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        })
    }

    /// What some variables say, looked up by their upper-case names.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let direct = variable("NO_PROXY").unwrap_or_default();
        Proxies {
            plain: variable("HTTP_PROXY").as_deref().and_then(parse_proxy),
            secure: variable("HTTPS_PROXY").as_deref().and_then(parse_proxy),
            direct: direct
                .split(',')
                .map(|entry| entry.trim().to_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        }
    }

    /// The proxy between us and a host, if there is one.
    pub(crate) fn for_origin(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = if origin.secure { &self.secure } else { &self.plain };
        proxy.as_ref().filter(|_| !origin.is_loopback() && !self.direct.iter().any(|entry| covers(entry, origin)))
    }
}

fn parse_proxy(text: &str) -> Option<Proxy> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme)?;
    // TLS to the proxy itself is rare and not spoken.
    if url.origin.secure {
        tracing::warn!(proxy = %url.origin, "proxies are spoken to over plain HTTP only; this one is left out");
        return None;
    }
    let authority = with_scheme.split("://").nth(1)?.split('/').next()?;
    let authorization = authority
        .rsplit_once('@')
        .map(|(credentials, _)| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials)));
    Some(Proxy { origin: url.origin, authorization })
}

/// Does an entry of `NO_PROXY` mean this host?
fn covers(entry: &str, origin: &Origin) -> bool {
    if entry == "*" {
        return true;
    }
    let host = origin.host.to_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        if let Some((network, length)) = entry.split_once('/') {
            return network
                .parse()
                .is_ok_and(|network| length.parse().is_ok_and(|length| in_block(address, network, length)));
        }
        let (entry, port) = split_port(entry);
        return entry.trim_matches(['[', ']']).parse() == Ok(address) && port.is_none_or(|port| port == origin.port);
    }
    let (entry, port) = split_port(entry);
    let domain = entry.trim_start_matches("*.").trim_start_matches('.');
    let fits =
        host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') || rest.is_empty() && !entry.starts_with('.'));
    fits && port.is_none_or(|port| port == origin.port)
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()),
        _ => (entry, None),
    }
}

fn in_block(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32u32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let Some(shift) = bits.checked_sub(length) else { return false };
    address.checked_shr(shift).unwrap_or(0) == network.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(no_proxy: &str, url: &str, expect: bool) {
        let proxies = Proxies::from_variables(|name| match name {
            "NO_PROXY" => Some(no_proxy.to_owned()),
            "HTTPS_PROXY" => Some("http://u:p@proxy:3128".to_owned()),
            _ => None,
        });
        let proxy = proxies.for_origin(&Url::parse(url).unwrap().origin);
        assert_eq!(proxy.is_some(), expect, "{url} with NO_PROXY={no_proxy}");
        assert!(
            proxy.is_none_or(|proxy| proxy.authorization.as_deref() == Some("Basic dTpw") && proxy.origin.port == 3128)
        );
    }

    #[test]
    fn hosts_are_spoken_to_directly_as_go_does() {
        check("", "https://a.io", true);
        check("", "http://a.io", false);
        check("", "https://localhost:5000", false);
        check("", "https://127.0.0.1", false);
        check("a.io", "https://a.io", false);
        check("a.io", "https://b.a.io", false);
        check(".a.io", "https://a.io", true);
        check(".a.io", "https://b.a.io", false);
        check("a.io", "https://ba.io", true);
        check("a.io:5000", "https://a.io", true);
        check("a.io:5000", "https://a.io:5000", false);
        check("10.0.0.0/8, 1.2.3.4", "https://10.9.8.7", false);
        check("10.0.0.0/8, 1.2.3.4", "https://1.2.3.4", false);
        check("10.0.0.0/8, 1.2.3.4", "https://11.0.0.1", true);
        check("fd00::/8", "https://[fd01::1]", false);
        check("*", "https://a.io", false);
    }
}
