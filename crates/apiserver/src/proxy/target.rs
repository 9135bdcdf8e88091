//! Whom a request is passed on to: containers, kubelets, pods and the endpoints of services.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, Path, quoted};
use api_semantics::status::{GroupResource, Status};
use api_semantics::time::Timestamp;

use super::{Objects, unknown};
use crate::query::Query;
use crate::request_info::RequestInfo;

/// Where kubelets listen unless their node says otherwise.
const KUBELET_PORT: u16 = 10250;

/// Whose certificate is shown and which are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// No TLS at all.
    Plain,
    /// Our client certificate is shown, the server's is verified if an authority is known.
    Kubelet,
    /// Our client certificate is shown, the server's may be any.
    UnverifiedKubelet,
    /// No certificate is shown, any is accepted: pods and services.
    Anyone,
}

/// A place to connect to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// IP addresses and names; the first that resolves is used.
    pub(super) hosts: Vec<SmolStr>,
    pub(super) port: u16,
    pub(super) trust: Trust,
}

impl Target {
    /// `host:port`, as in a URL.
    pub(super) fn authority(&self) -> String {
        join(self.hosts.first().map_or("", SmolStr::as_str), self.port)
    }

    /// Whether addresses of this machine and this link are out of bounds: others choose where this leads.
    pub(super) fn is_guarded(&self) -> bool {
        !matches!(self.trust, Trust::Kubelet | Trust::UnverifiedKubelet)
    }
}

/// Go's `net.JoinHostPort`.
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether requests may be passed on to an address: never to this machine itself or its link.
pub(super) fn is_proxyable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let link_local_multicast = ip.octets()[..3] == [224, 0, 0];
            !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || link_local_multicast)
        }
        IpAddr::V6(ip) => {
            // ff01::/16 is interface-local, ff02::/16 link-local multicast.
            let near_multicast = matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02);
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || near_multicast)
        }
    }
}

// === names ===

/// `name`, `name:port` or `scheme:name:port`.
pub(super) fn split(id: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return None,
    };
    (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some((scheme, name, port))
}

fn outside(scheme: &str, host: &str, port: &str) -> Result<Target, Status> {
    let (default, trust) = if scheme == "https" { (443, Trust::Anyone) } else { (80, Trust::Plain) };
    let port = if port.is_empty() {
        default
    } else {
        port.parse().map_err(|_| {
            Status::service_unavailable(format!(
                "error trying to reach service: dial tcp: lookup tcp/{port}: unknown port"
            ))
        })?
    };
    Ok(Target { hosts: vec![host.into()], port, trust })
}

fn not_found(resource: &str, name: &str) -> Status {
    Status::not_found(&GroupResource::new("", resource), name)
}

// === proxy ===

/// What `proxy` of a node, pod or service leads to.
pub(super) fn proxied(
    objects: &impl Objects,
    info: &RequestInfo,
    turn: &AtomicUsize,
    types: &[String],
) -> Result<Target, Status> {
    let what = info.resource.trim_end_matches('s');
    let (scheme, name, port) = split(&info.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {what} request {}", quoted(&info.name))))?;
    match what {
        "node" => {
            let kubelet = kubelet(objects, name, Trust::Kubelet, types)?;
            if port.is_empty() || port == kubelet.port.to_string() {
                return Ok(kubelet);
            }
            Ok(Target { hosts: kubelet.hosts, ..outside(scheme, "", port)? })
        }
        "pod" => {
            let pod = objects.object("", "pods", &info.namespace, name).ok_or_else(|| not_found("pods", name))?;
            let ports = pod.list_at(&["spec", "containers"]).iter().flat_map(|c| c.list_at(&["ports"]));
            let first = ports.filter_map(|port| port.int_at(&["containerPort"])).next();
            let port = match (port, first) {
                ("", Some(first)) => first.to_string(),
                (port, _) => port.to_owned(),
            };
            let ip = pod_ips(&pod).next().unwrap_or_default();
            if ip.parse::<IpAddr>().is_err() {
                return Err(Status::bad_request("address not allowed"));
            }
            outside(scheme, ip, &port)
        }
        _ => service(objects, info, (scheme, name, port), turn),
    }
}

fn pod_ips(pod: &Value) -> impl Iterator<Item = &str> {
    let listed = pod.list_at(&["status", "podIPs"]).iter().map(|entry| entry.str_at(&["ip"]));
    listed.chain([pod.str_at(&["status", "podIP"])]).filter(|ip| !ip.is_empty())
}

fn service(
    objects: &impl Objects,
    info: &RequestInfo,
    (scheme, name, port): (&str, &str, &str),
    turn: &AtomicUsize,
) -> Result<Target, Status> {
    let found = objects.object("", "services", &info.namespace, name);
    // Endpoints know ports by name only.
    let port: SmolStr = match port.parse::<i64>() {
        Err(_) => port.into(),
        Ok(number) => {
            let service = found.as_ref().ok_or_else(|| not_found("services", name))?;
            let ports = service.list_at(&["spec", "ports"]);
            let port = ports.iter().find(|port| port.int_at(&["port"]) == Some(number)).ok_or_else(|| {
                Status::service_unavailable(format!("no service port {number} found for service {}", quoted(name)))
            })?;
            port.str_at(&["name"]).into()
        }
    };
    let slices: Vec<Value> = objects
        .objects("discovery.k8s.io", "endpointslices", &info.namespace)
        .into_iter()
        .filter(|slice| slice.str_at(&["metadata", "labels", "kubernetes.io/service-name"]) == name)
        .collect();
    let mut places = Vec::new();
    if slices.is_empty() {
        let Some(endpoints) = objects.object("", "endpoints", &info.namespace, name) else {
            return Err(match found {
                Some(_) => no_endpoints(name),
                None => not_found("endpoints", name),
            });
        };
        for subset in endpoints.list_at(&["subsets"]) {
            for number in ports_named(subset, &port) {
                let addresses = subset.list_at(&["addresses"]).iter();
                places
                    .extend(addresses.map(|a| (SmolStr::new(a.str_at(&["ip"])), number, a.get("targetRef").cloned())));
            }
        }
    }
    for slice in slices.iter().filter(|slice| slice.str_at(&["addressType"]) != "FQDN") {
        for number in ports_named(slice, &port) {
            for endpoint in slice.list_at(&["endpoints"]) {
                if endpoint.bool_at(&["conditions", "ready"]) == Some(false) {
                    continue;
                }
                let addresses = endpoint.list_at(&["addresses"]).iter().filter_map(Value::as_str);
                places.extend(addresses.map(|a| (SmolStr::new(a), number, endpoint.get("targetRef").cloned())));
            }
        }
    }
    let start = turn.fetch_add(1, Ordering::Relaxed);
    for offset in 0..places.len() {
        let (ip, number, reference) = &places[(start.wrapping_add(offset)) % places.len()];
        if is_of_pod(objects, &info.namespace, ip, reference.as_ref()) {
            return outside(scheme, ip, &number.to_string());
        }
    }
    Err(no_endpoints(if slices.is_empty() { name } else { &info.name }))
}

fn no_endpoints(name: &str) -> Status {
    Status::service_unavailable(format!("no endpoints available for service {}", quoted(name)))
}

fn ports_named<'a>(of: &'a Value, name: &'a str) -> impl Iterator<Item = i64> + 'a {
    let ports = of.list_at(&["ports"]).iter().filter(move |port| port.str_at(&["name"]) == name);
    ports.filter_map(|port| port.int_at(&["port"]))
}

/// Whether an endpoint is what it says: users who may write endpoints must not reach any place through the server.
fn is_of_pod(objects: &impl Objects, namespace: &str, ip: &str, reference: Option<&Value>) -> bool {
    let Some(reference) = reference else { return false };
    reference.str_at(&["namespace"]) == namespace
        && objects
            .object("", "pods", namespace, reference.str_at(&["name"]))
            .is_some_and(|pod| pod_ips(&pod).any(|own| own == ip))
}

/// Where a node's kubelet listens.
fn kubelet(objects: &impl Objects, name: &str, trust: Trust, types: &[String]) -> Result<Target, Status> {
    let node = objects.object("", "nodes", "", name).ok_or_else(|| not_found("nodes", name))?;
    let addresses = node.list_at(&["status", "addresses"]);
    let of_type = |wanted: &String| -> Vec<SmolStr> {
        let found = addresses.iter().filter(|a| a.str_at(&["type"]) == wanted);
        found.map(|a| a.str_at(&["address"]).into()).collect()
    };
    let hosts: Vec<SmolStr> = types.iter().flat_map(of_type).collect();
    if hosts.is_empty() {
        let known: Vec<String> =
            addresses.iter().map(|a| format!("{{{} {}}}", a.str_at(&["type"]), a.str_at(&["address"]))).collect();
        return Err(unknown(format!("no preferred addresses found; known addresses: [{}]", known.join(" "))));
    }
    let port = node.int_at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).unwrap_or_default();
    let port = u16::try_from(port).ok().filter(|port| *port > 0).unwrap_or(KUBELET_PORT);
    Ok(Target { hosts, port, trust })
}

// === kubelet ===

/// The kubelet to ask for a container's log, and the path; none for a pod that has no node yet.
pub(super) fn log(
    objects: &impl Objects,
    info: &RequestInfo,
    query: &Query,
    types: &[String],
) -> Result<Option<(Target, String)>, Status> {
    let mut parameters = Vec::new();
    for key in ["follow", "previous", "timestamps"] {
        if query.flag(key) {
            parameters.push((key, SmolStr::new_static("true")));
        }
    }
    let numbers = ["limitBytes", "sinceSeconds", "tailLines"];
    let mut values = [None; 3];
    for (value, key) in values.iter_mut().zip(numbers) {
        *value = query.number(key)?;
        parameters.extend(value.map(|n| (key, api_schema::format_smolstr!("{n}"))));
    }
    let since = match query.text("sinceTime") {
        "" | "null" => None,
        text => Some(Timestamp::parse(text).map_err(|error| Status::bad_request(error.to_string()))?),
    };
    parameters.extend(since.map(|time| ("sinceTime", time.to_time())));
    check_log_options(values, since.is_some(), &info.name)?;

    let pod = objects.object("", "pods", &info.namespace, &info.name).ok_or_else(|| not_found("pods", &info.name))?;
    let container = container(&pod, query.text("container"))?;
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        return Ok(None);
    }
    let trust = if query.flag("insecureSkipTLSVerifyBackend") { Trust::UnverifiedKubelet } else { Trust::Kubelet };
    let path = format!("/containerLogs/{}/{}/{container}", info.namespace, info.name);
    Ok(Some((kubelet(objects, node, trust, types)?, with_query(&path, parameters))))
}

fn check_log_options(
    [limit, since_seconds, tail]: [Option<i64>; 3],
    since_time: bool,
    name: &str,
) -> Result<(), Status> {
    let mut errors = Vec::new();
    if let Some(tail) = tail.filter(|n| *n < 0) {
        errors.push(Error::invalid(&Path::new("tailLines"), tail, "must be greater than or equal to 0"));
    }
    if let Some(limit) = limit.filter(|n| *n < 1) {
        errors.push(Error::invalid(&Path::new("limitBytes"), limit, "must be greater than 0"));
    }
    match since_seconds {
        Some(_) if since_time => errors
            .push(Error::forbidden(&Path::new(""), "at most one of `sinceTime` or `sinceSeconds` may be specified")),
        Some(seconds) if seconds < 1 => {
            errors.push(Error::invalid(&Path::new("sinceSeconds"), seconds, "must be greater than 0"));
        }
        _ => {}
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", name, &errors)) }
}

/// The kubelet to ask for exec, attach or port-forward, and the path.
pub(super) fn stream(
    objects: &impl Objects,
    info: &RequestInfo,
    query: &Query,
    types: &[String],
) -> Result<(Target, String), Status> {
    let mut parameters = Vec::new();
    if info.subresource == "portforward" {
        let mut ports = Vec::new();
        for text in query.all("ports").flat_map(|list| list.split(',')) {
            let number: u16 = text.parse().map_err(|error: std::num::ParseIntError| {
                let problem = match error.kind() {
                    std::num::IntErrorKind::PosOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Status::bad_request(format!("strconv.ParseUint: parsing {}: {problem}", quoted(text)))
            })?;
            ports.push(number.to_string());
        }
        if !ports.is_empty() {
            parameters.push(("port", ports.join(",").into()));
        }
    } else {
        for (key, kubelets) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
            if query.flag(key) {
                parameters.push((kubelets, SmolStr::new_static("1")));
            }
        }
        if info.subresource == "exec" {
            parameters.extend(query.all("command").map(|word| ("command", word.into())));
        }
    }
    let pod = objects.object("", "pods", &info.namespace, &info.name).ok_or_else(|| not_found("pods", &info.name))?;
    let (namespace, name) = (&info.namespace, &info.name);
    let path = if info.subresource == "portforward" {
        format!("/portForward/{namespace}/{name}")
    } else {
        format!("/{}/{namespace}/{name}/{}", info.subresource, container(&pod, query.text("container"))?)
    };
    let node = pod.str_at(&["spec", "nodeName"]);
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    Ok((kubelet(objects, node, Trust::Kubelet, types)?, with_query(&path, parameters)))
}

/// The container that is meant.
fn container<'a>(pod: &'a Value, wanted: &'a str) -> Result<&'a str, Status> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let names: Vec<&str> = lists
        .iter()
        .flat_map(|list| pod.list_at(&["spec", list]))
        .map(|container| container.str_at(&["name"]))
        .collect();
    let pod_name = pod.str_at(&["metadata", "name"]);
    if !wanted.is_empty() {
        return match names.iter().find(|name| **name == wanted) {
            Some(name) => Ok(name),
            None => Err(Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}"))),
        };
    }
    match pod.list_at(&["spec", "containers"]) {
        [only] => Ok(only.str_at(&["name"])),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            names.join(" ")
        ))),
    }
}

// === URLs ===

/// A path and its parameters, sorted by key as Go's `url.Values` are.
fn with_query(path: &str, mut parameters: Vec<(&str, SmolStr)>) -> String {
    parameters.sort_by_key(|(key, _)| *key);
    let mut out = escape_path(path);
    for (at, (key, value)) in parameters.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(key);
        out.push('=');
        escape_into(&mut out, value, "", true);
    }
    out
}

/// A path as Go escapes one.
pub(super) fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    escape_into(&mut out, path, "$&+,/:;=@", false);
    out
}

fn escape_into(out: &mut String, text: &str, kept: &str, plus: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b' ' if plus => out.push('+'),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.as_bytes().contains(&byte) => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// Splits a request's path behind the subresource: what leads there, and what is passed on (as it came).
pub(super) fn split_path(info: &RequestInfo) -> (&str, &str) {
    let namespaced = !info.namespace.is_empty() && info.resource != "namespaces";
    let segments = if info.prefix == "apis" { 3 } else { 2 } + if namespaced { 2 } else { 0 } + 3;
    let (path, mut at) = (info.path.as_str(), 0);
    for _ in 0..segments {
        at += path[at..].len() - path[at..].trim_start_matches('/').len();
        at += path[at..].find('/').unwrap_or(path.len() - at);
    }
    path.split_at(at)
}

/// A path without empty segments and dots, never above its root; a slash at its end stays. Empty stays empty.
pub(super) fn clean(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut out = String::new();
    for segment in segments {
        out.push('/');
        out.push_str(segment);
    }
    if path.ends_with('/') {
        out.push('/');
    }
    out
}
