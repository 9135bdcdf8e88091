//! Which hosts stand for a registry, in order: mirrors first, the registry itself last.
//!
//! The configuration is containerd's folder, so that what people have keeps working: `<folder>/<registry>/hosts.toml`,
//! else `<folder>/_default/hosts.toml`; without such a file, `*.crt` in the registry's folder are authorities and
//! `*.cert` with `*.key` a client certificate, as Docker has it. It is read at each pull, so changes need no restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::url::{Origin, Url, parse_authority};
use crate::error::{Error, Result};
use crate::reference::DEFAULT_REGISTRY;

/// Where Docker Hub's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// Files and choices of TLS for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) authorities: Vec<PathBuf>,
    pub(crate) client: Vec<(PathBuf, Option<PathBuf>)>,
    pub(crate) skip_verify: bool,
}

/// One host that stands for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) origin: Origin,
    /// What every path begins with: `/v2`.
    pub(crate) prefix: String,
    /// May it tell what a tag means?
    pub(crate) resolves: bool,
    /// May it give content?
    pub(crate) pulls: bool,
    /// Is it a stand-in, which must be told for whom?
    pub(crate) mirror: bool,
    /// Speak plain HTTP if it does not speak TLS? So on this machine itself.
    pub(crate) plain_fallback: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: TlsFiles,
    pub(crate) connect_timeout: Option<Duration>,
}

/// `hosts.toml`.
#[derive(Debug, Default, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: HostTable,
}

/// One table of it, or its top level, which speaks of the registry itself.
#[derive(Debug, Default, Deserialize)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
    dial_timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    Many(Vec<OneOrMany>),
}

impl OneOrMany {
    fn all(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// The hosts of a registry: mirrors given by the caller, then what the folder says, then the registry.
pub(crate) fn hosts(registry: &str, folder: Option<&Path>, mirrors: &[String]) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for mirror in mirrors {
        let url = Url::parse(mirror)
            .ok_or_else(|| Error::Unusable { what: format!("invalid registry mirror {mirror:?}") })?;
        hosts.push(mirror_host(&url, false));
    }
    let registry_folder = folder.map(|folder| folder.join(registry)).filter(|folder| folder.is_dir());
    let default_folder = folder.map(|folder| folder.join("_default")).filter(|folder| folder.is_dir());
    let Some(folder) = registry_folder.or(default_folder) else {
        hosts.push(registry_host(registry)?);
        return Ok(hosts);
    };
    let path = folder.join("hosts.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let parsed = parse(&text, &folder, registry);
            hosts.extend(parsed.map_err(|what| Error::Configuration { path, what })?);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut host = registry_host(registry)?;
            host.tls = docker_files(&folder)?;
            host.plain_fallback &= host.tls == TlsFiles::default();
            hosts.push(host);
        }
        Err(source) => return Err(Error::io("read", path, source)),
    }
    Ok(hosts)
}

fn mirror_host(url: &Url, override_path: bool) -> Host {
    let path = url.path.trim_end_matches('/');
    Host {
        origin: url.origin.clone(),
        prefix: if override_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") },
        resolves: true,
        pulls: true,
        mirror: true,
        plain_fallback: false,
        headers: HeaderMap::new(),
        tls: TlsFiles::default(),
        connect_timeout: None,
    }
}

/// The registry itself: HTTPS, but plain HTTP on this machine where nothing secure answers.
fn registry_host(registry: &str) -> Result<Host> {
    let name = if registry == DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
    let origin = parse_authority(name, true)
        .ok_or_else(|| Error::Unusable { what: format!("invalid registry host {registry:?}") })?;
    let plain_fallback = origin.is_loopback();
    let url = Url::new(&origin, "/");
    Ok(Host { mirror: false, plain_fallback, ..mirror_host(&url, false) })
}

fn parse(text: &str, folder: &Path, registry: &str) -> Result<Vec<Host>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|error| error.to_string().trim().replace('\n', " "))?;
    let mut hosts = Vec::new();
    for (address, table) in file.host {
        let table: HostTable =
            table.try_into().map_err(|error: toml::de::Error| format!("host {address:?}: {error}"))?;
        // Without a scheme it is a host, spoken to securely.
        let whole = if address.contains("://") { address.clone() } else { format!("https://{address}") };
        let url = Url::parse(&whole).ok_or_else(|| format!("invalid host {address:?}"))?;
        hosts.push(apply(mirror_host(&url, table.override_path), &table, folder)?);
    }
    let own = match &file.server {
        None => registry_host(registry).map_err(|error| error.to_string())?,
        Some(server) => {
            let whole = if server.contains("://") { server.clone() } else { format!("https://{server}") };
            let url = Url::parse(&whole).ok_or_else(|| format!("invalid server {server:?}"))?;
            let mut host = mirror_host(&url, file.own.override_path);
            // Docker Hub's own name is not where it is.
            if host.origin.host == DEFAULT_REGISTRY {
                host.origin.host = DOCKER_HUB.to_owned();
            }
            let usual = registry_host(registry).map_err(|error| error.to_string())?;
            host.mirror = host.origin.host != usual.origin.host;
            host
        }
    };
    hosts.push(apply(own, &file.own, folder)?);
    Ok(hosts)
}

fn apply(mut host: Host, table: &HostTable, folder: &Path) -> Result<Host, String> {
    if let Some(capabilities) = &table.capabilities {
        let has = |name: &str| capabilities.iter().any(|capability| capability == name);
        if let Some(unknown) =
            capabilities.iter().find(|name| !["pull", "resolve", "push", "referrers"].contains(&name.as_str()))
        {
            return Err(format!("unknown capability {unknown:?}"));
        }
        (host.pulls, host.resolves) = (has("pull"), has("resolve"));
    }
    let full = |path: &String| folder.join(path);
    host.tls.authorities = table.ca.iter().flat_map(OneOrMany::all).map(full).collect();
    host.tls.skip_verify = table.skip_verify;
    host.tls.client = match &table.client {
        None => Vec::new(),
        Some(Client::One(both)) => vec![(full(both), None)],
        Some(Client::Many(many)) => many
            .iter()
            .map(|pair| match pair.all() {
                [both] => Ok((full(both), None)),
                [certificate, key] if key.is_empty() => Ok((full(certificate), None)),
                [certificate, key] => Ok((full(certificate), Some(full(key)))),
                _ => Err("client wants a file, or pairs of certificate and key".to_owned()),
            })
            .collect::<Result<_, String>>()?,
    };
    host.plain_fallback &= host.tls == TlsFiles::default();
    for (name, values) in &table.header {
        let name: HeaderName = name.parse().map_err(|_| format!("invalid header {name:?}"))?;
        for value in values.all() {
            host.headers
                .append(&name, HeaderValue::from_str(value).map_err(|_| format!("invalid value of header {name:?}"))?);
        }
    }
    if let Some(text) = &table.dial_timeout {
        host.connect_timeout = Some(parse_duration(text).ok_or_else(|| format!("invalid dial_timeout {text:?}"))?);
    }
    Ok(host)
}

/// `*.crt`, `*.cert` and `*.key` of a registry's folder.
fn docker_files(folder: &Path) -> Result<TlsFiles> {
    let read_error = |source| Error::io("read folder", folder, source);
    let mut files = TlsFiles::default();
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => files.authorities.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    let what = format!("missing key {} for this certificate", key.display());
                    return Err(Error::Configuration { path, what });
                }
                files.client.push((path, Some(key)));
            }
            _ => {}
        }
    }
    files.authorities.sort();
    files.client.sort();
    Ok(files)
}

/// `30s`, `1m30s`, `500ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit_end] {
            "ms" => number / 1000.0,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = &rest[unit_end..];
    }
    (total > Duration::ZERO).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each host on a line: where, what it may, and what differs from the usual.
    fn shown(hosts: &[Host]) -> Vec<String> {
        hosts
            .iter()
            .map(|host| {
                let mut line = format!("{}{}", host.origin, host.prefix);
                for (set, word) in [
                    (host.resolves, "resolve"),
                    (host.pulls, "pull"),
                    (host.mirror, "mirror"),
                    (host.plain_fallback, "plain-fallback"),
                    (host.tls.skip_verify, "skip-verify"),
                ] {
                    line += &if set { format!(" {word}") } else { String::new() };
                }
                host.tls.authorities.iter().for_each(|path| line += &format!(" ca={}", path.display()));
                host.tls.client.iter().for_each(|pair| line += &format!(" client={pair:?}"));
                host.headers.iter().for_each(|(name, value)| line += &format!(" {name}={value:?}"));
                host.connect_timeout.iter().for_each(|limit| line += &format!(" {limit:?}"));
                line
            })
            .collect()
    }

    fn check(registry: &str, text: &str, expect: &[&str]) {
        assert_eq!(shown(&parse(text, Path::new("/d"), registry).unwrap()), expect, "{text}");
    }

    #[test]
    fn mirrors_come_in_the_files_order_and_the_registry_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."http://z:5000"]
            capabilities = ["pull", "resolve"]
            [host."https://a/proxy/docker"]
            capabilities = ["pull"]
            ca = "a.crt"
            override_path = true
            dial_timeout = "1m1.5s"
            [host."https://a/proxy/docker".header]
            x-token = "t"
            [host."b"]
            skip_verify = true
            client = [["c.cert", "c.key"], ["d.pem"]]
        "#;
        check(
            "docker.io",
            text,
            &[
                "http://z:5000/v2 resolve pull mirror",
                "https://a/proxy/docker pull mirror ca=/d/a.crt x-token=\"t\" 61.5s",
                "https://b/v2 resolve pull mirror skip-verify client=(\"/d/c.cert\", Some(\"/d/c.key\")) client=(\"/d/d.pem\", None)",
                "https://registry-1.docker.io/v2 resolve pull",
            ],
        );
    }

    #[test]
    fn the_top_level_speaks_of_the_registry() {
        check("r.io", "", &["https://r.io/v2 resolve pull"]);
        check("r.io", "server = \"http://r.io:80\"", &["http://r.io/v2 resolve pull"]);
        check(
            "r.io",
            "ca = [\"/x/y.crt\"]\nskip_verify = true",
            &["https://r.io/v2 resolve pull skip-verify ca=/x/y.crt"],
        );
        check("docker.io", "server = \"https://docker.io\"", &["https://registry-1.docker.io/v2 resolve pull"]);
        check("localhost:5000", "", &["https://localhost:5000/v2 resolve pull plain-fallback"]);
        check("localhost:5000", "ca = \"c\"", &["https://localhost:5000/v2 resolve pull ca=/d/c"]);
    }

    #[test]
    fn mistakes_are_told() {
        let wrong = |text: &str| parse(text, Path::new("/d"), "r.io").unwrap_err();
        assert!(wrong("[host.\"ftp://x\"]").contains("invalid host"));
        assert!(wrong("capabilities = [\"fly\"]").contains("unknown capability \"fly\""));
        assert!(wrong("dial_timeout = \"soon\"").contains("invalid dial_timeout"));
        assert!(wrong("server = ").contains("TOML parse error"));
    }

    #[test]
    fn folders_are_looked_for_by_registry_then_default() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let all = |registry| shown(&hosts(registry, Some(folder.path()), &["http://m".to_owned()]).unwrap());
        assert_eq!(all("r.io"), ["http://m/v2 resolve pull mirror", "https://r.io/v2 resolve pull"]);
        put("_default/hosts.toml", "[host.\"https://any\"]");
        assert_eq!(all("r.io")[1..], ["https://any/v2 resolve pull mirror", "https://r.io/v2 resolve pull"]);
        put("r.io/ca.crt", "");
        let ca = folder.path().join("r.io/ca.crt");
        assert_eq!(all("r.io")[1..], [format!("https://r.io/v2 resolve pull ca={}", ca.display())]);
    }
}
