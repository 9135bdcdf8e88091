//! The packet filter: one table of our own, replaced as a whole in one transaction.

use std::fmt::Write as _;
use std::io;
use std::process::Stdio;

use runtime::PortMapping;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::addresses::Range;

/// What leads into pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) ip: std::net::Ipv4Addr,
    pub(crate) mapping: PortMapping,
}

/// The table's text: what leaves the pods' range is masqueraded, and ports of the node lead to pods. Maps, not a rule for
/// each port: the kernel's work does not grow with their number. The table is removed first, for to flush it would leave
/// what is in its maps.
pub(crate) fn ruleset(table: &str, range: Range, bridge: &str, forwards: &[Forward]) -> String {
    let cidr = format!("{}/{}", range.network, range.prefix);
    let mut any = String::new();
    let mut one = String::new();
    for Forward { ip, mapping } in forwards.iter().filter(|forward| forward.mapping.host_port != 0) {
        let PortMapping { protocol, host_port, container_port, host_ip } = mapping;
        let entry = match host_ip.as_str() {
            "" | "0.0.0.0" => &mut any,
            _ => &mut one,
        };
        let key = if host_ip.is_empty() || host_ip == "0.0.0.0" { String::new() } else { format!("{host_ip} . ") };
        let _ = writeln!(entry, "      {key}{protocol} . {host_port} : {ip} . {container_port},");
    }
    let elements = |entries: &str| match entries {
        "" => String::new(),
        entries => format!("\n    elements = {{\n{entries}    }}"),
    };
    format!(
        "table ip {table} {{}}
delete table ip {table}
table ip {table} {{
  map ports {{
    type inet_proto . inet_service : ipv4_addr . inet_service;{}
  }}
  map ports-of {{
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;{}
  }}
  chain forward-ports {{
    dnat ip to ip daddr . meta l4proto . th dport map @ports-of
    dnat ip to meta l4proto . th dport map @ports
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    fib daddr type local jump forward-ports
  }}
  chain output {{
    type nat hook output priority -100;
    fib daddr type local jump forward-ports
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {cidr} ip daddr != {cidr} oifname != \"{bridge}\" masquerade
    ip saddr {cidr} ip daddr {cidr} ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade
  }}
}}
",
        elements(&any),
        elements(&one),
    )
}

/// Replaces the table.
pub(crate) async fn apply(ruleset: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("run nft (package nftables): {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(ruleset.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
