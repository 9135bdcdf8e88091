//! The addresses of registries: `http` and `https` only.

use std::fmt;

/// Who is spoken to: a scheme, a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) secure: bool,
    /// Without the brackets of IPv6 addresses.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    fn default_port(&self) -> u16 {
        if self.secure { 443 } else { 80 }
    }

    /// Host and, where it is not the scheme's own, port: the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Host and port, always.
    pub(crate) fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// This machine itself?
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }
}

/// A whole address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// Path and query, with its leading slash.
    pub(crate) path: String,
}

impl Url {
    pub(crate) fn new(origin: &Origin, path: impl Into<String>) -> Url {
        Url { origin: origin.clone(), path: path.into() }
    }

    /// Reads an absolute address; none if it is none, or of another scheme.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // Credentials within an address are not used.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
        let origin = parse_authority(authority, secure)?;
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        if path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return None;
        }
        Some(Url { origin, path: format!("{slash}{path}") })
    }

    /// Where a redirection from here leads.
    pub(crate) fn join(&self, location: &str) -> Option<Url> {
        if location.contains("://") && !location.starts_with(['/', '?']) {
            return Url::parse(location);
        }
        let scheme = if self.origin.secure { "https:" } else { "http:" };
        if location.starts_with("//") {
            return Url::parse(&format!("{scheme}{location}"));
        }
        let path = self.path.split('?').next().unwrap_or_default();
        let base = match location.chars().next()? {
            '/' => "",
            '?' => path,
            _ => &path[..=path.rfind('/').unwrap_or_default()],
        };
        Url::parse(&format!("{}{base}{location}", self.origin))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// Reads `host[:port]`.
pub(crate) fn parse_authority(authority: &str, secure: bool) -> Option<Origin> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    if host.is_empty() || host.bytes().any(|b| b <= b' ' || b == 0x7f || b"/\\?#@".contains(&b)) {
        return None;
    }
    let default = if secure { 443 } else { 80 };
    let port = if port.is_empty() { default } else { port.parse().ok()? };
    Some(Origin { secure, host: host.to_owned(), port })
}

/// Escapes a value of a query.
pub(crate) fn query_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(Url::parse(text).map(|url| url.to_string()).as_deref(), expect, "{text}");
        };
        check("https://a.io", Some("https://a.io/"));
        check("HTTP://a.io:80/v2/?x=1#y", Some("http://a.io/v2/?x=1"));
        check("https://user:secret@a.io:5000/x", Some("https://a.io:5000/x"));
        check("http://[::1]:5000", Some("http://[::1]:5000/"));
        check("https://a.io?x", Some("https://a.io/?x"));
        check("ftp://a.io", None);
        check("a.io/x", None);
        check("http://:80/", None);
        check("http://a.io:x/", None);
        check("http://a.io/a b", None);
    }

    #[test]
    fn redirections_lead_on_from_where_they_were_met() {
        let from = Url::parse("https://a.io/v2/x/blobs/1?q").unwrap();
        let check =
            |location: &str, expect: &str| assert_eq!(from.join(location).unwrap().to_string(), expect, "{location}");
        check("https://cdn.io/y", "https://cdn.io/y");
        check("//cdn.io/y", "https://cdn.io/y");
        check("/y?to=http://z", "https://a.io/y?to=http://z");
        check("2", "https://a.io/v2/x/blobs/2");
        check("?z", "https://a.io/v2/x/blobs/1?z");
    }
}
