//! How a Pod finds names: its resolv.conf, hostname and hosts file.

use std::fmt::Write as _;

use api_schema::Value;
use cri::v1::DnsConfig;
use smol_str::SmolStr;

use crate::pod::Pod;

/// What the node knows of names.
#[derive(Clone, Debug, Default)]
pub struct NodeDns {
    /// The cluster's name servers (`clusterDNS`).
    pub cluster_servers: Vec<String>,
    /// The cluster's domain (`clusterDomain`), such as `cluster.local`; may be empty.
    pub cluster_domain: String,
    /// The node's own resolver, as its resolv.conf has it.
    pub host: DnsConfig,
}

/// Reads a resolv.conf.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            // The last one counts.
            Some("search") => config.searches = words.map(|word| word.trim_end_matches('.').to_owned()).collect(),
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

/// The resolver of a Pod, by its `dnsPolicy` and `dnsConfig`.
pub fn pod_dns(pod: &Pod, node: &NodeDns) -> DnsConfig {
    let policy = match pod.spec_str("dnsPolicy") {
        "ClusterFirst" | "" if pod.is_host_network() => "Default",
        "ClusterFirstWithHostNet" | "" => "ClusterFirst",
        policy => policy,
    };
    let mut config = match policy {
        "None" => DnsConfig::default(),
        // Without a cluster DNS nothing better is known than the node's.
        "ClusterFirst" if !node.cluster_servers.is_empty() => {
            let mut searches = Vec::new();
            if !node.cluster_domain.is_empty() {
                let domain = &node.cluster_domain;
                searches.push(format!("{}.svc.{domain}", pod.key().namespace));
                searches.push(format!("svc.{domain}"));
                searches.push(domain.clone());
            }
            searches.extend(node.host.searches.iter().cloned());
            searches = unique(searches);
            DnsConfig { servers: node.cluster_servers.clone(), searches, options: vec!["ndots:5".to_owned()] }
        }
        _ => node.host.clone(),
    };
    if let Some(own) = pod.spec(&["dnsConfig"]) {
        let texts =
            |field: &str| own.list_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        config.servers = unique([config.servers, texts("nameservers")].concat());
        config.searches = unique([config.searches, texts("searches")].concat());
        for option in own.list_at(&["options"]) {
            let (name, value) = (option.str_at(&["name"]), option.str_at(&["value"]));
            config.options.retain(|existing| existing.split(':').next() != Some(name));
            config.options.push(if value.is_empty() { name.to_owned() } else { format!("{name}:{value}") });
        }
    }
    config
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut seen = Vec::with_capacity(list.len());
    for item in list {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// A Pod's names: its hostname, and its domain name if it has a subdomain.
pub struct Names {
    /// What `hostname` prints in the Pod.
    pub hostname: String,
    /// The full name; empty without a subdomain.
    pub fqdn: String,
}

/// The longest hostname that the kernel takes.
const HOSTNAME_LENGTH_MAX: usize = 63;

/// The names of a Pod.
///
/// # Errors
/// If the full name is to be the hostname and is too long for it.
pub fn names(pod: &Pod, cluster_domain: &str) -> Result<Names, String> {
    let mut hostname = match pod.spec_str("hostnameOverride") {
        "" => pod.spec_str("hostname").to_owned(),
        name => return Ok(Names { hostname: name.to_owned(), fqdn: String::new() }),
    };
    if hostname.is_empty() {
        hostname = pod.key().name.to_string();
        hostname.truncate(HOSTNAME_LENGTH_MAX);
        hostname.truncate(hostname.trim_end_matches(['-', '.']).len());
    }
    let subdomain = pod.spec_str("subdomain");
    if subdomain.is_empty() {
        return Ok(Names { hostname, fqdn: String::new() });
    }
    let fqdn = format!("{hostname}.{subdomain}.{}.svc.{cluster_domain}", pod.key().namespace);
    if pod.spec_bool("setHostnameAsFQDN") {
        if fqdn.len() > HOSTNAME_LENGTH_MAX + 1 {
            return Err(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long \
                 ({HOSTNAME_LENGTH_MAX} characters is the max, {} characters requested)",
                fqdn.len()
            ));
        }
        return Ok(Names { hostname: fqdn.clone(), fqdn });
    }
    Ok(Names { hostname, fqdn })
}

/// The hosts file of a Pod; `host` is the node's own, for Pods in the node's network.
pub fn hosts_file(pod: &Pod, ips: &[SmolStr], names: &Names, host: Option<&str>) -> String {
    let mut text = match host {
        Some(host) => format!("# Kubernetes-managed hosts file (host network).\n{host}"),
        None => {
            let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n\
                            ::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                            fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
                .to_owned();
            for ip in ips {
                let all = if names.fqdn.is_empty() || names.fqdn == names.hostname {
                    names.hostname.clone()
                } else {
                    format!("{}\t{}", names.fqdn, names.hostname)
                };
                let _ = writeln!(text, "{ip}\t{all}");
            }
            text
        }
    };
    let aliases = pod.spec(&["hostAliases"]).and_then(Value::as_list).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names: Vec<&str> = alias.list_at(&["hostnames"]).iter().filter_map(Value::as_str).collect();
            let _ = writeln!(text, "{}\t{}", alias.str_at(&["ip"]), names.join("\t"));
        }
    }
    text
}
