//! A container's environment: services, ConfigMaps, Secrets, the downward API and plain values, in that order, the
//! later ones over the earlier ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_schema::{Map, Value};
use api_semantics::quantity::Quantity;
use smol_str::SmolStr;

use crate::pod::{Container, Pod};

/// The objects that a Pod refers to, at hand.
pub trait Lookups: Send + Sync {
    /// A ConfigMap of the Pod's namespace.
    fn config_map(&self, name: &str) -> Option<Arc<Value>>;
    /// A Secret of the Pod's namespace.
    fn secret(&self, name: &str) -> Option<Arc<Value>>;
    /// The Services whose addresses a Pod is told: those of its namespace, and `kubernetes` of `default`.
    fn services(&self) -> Vec<Arc<Value>>;
    /// A number that changes when any of the objects does: what failed for want of one is tried again then.
    fn version(&self) -> u64 {
        0
    }
    /// The runtime's handler for the Pod's RuntimeClass; empty for the default one.
    ///
    /// # Errors
    /// If there is no such class, in upstream's words.
    fn runtime_handler(&self) -> Result<String, String> {
        Ok(String::new())
    }
    /// A PersistentVolumeClaim of the Pod's namespace.
    fn claim(&self, _name: &str) -> Option<Arc<Value>> {
        None
    }
    /// A PersistentVolume.
    fn persistent_volume(&self, _name: &str) -> Option<Arc<Value>> {
        None
    }
}

/// What the downward API needs beside the Pod.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The Pod's addresses, the first one first.
    pub pod_ips: Vec<SmolStr>,
    /// The node's addresses.
    pub host_ips: Vec<SmolStr>,
    /// What the node can give away: stands for limits that a container does not set.
    pub allocatable: Map,
}

/// The environment, by name.
pub type Env = BTreeMap<String, String>;

/// Makes a container's environment.
///
/// # Errors
/// In upstream's words, for the message of `CreateContainerConfigError`: an object or a key that is not optional is not
/// there, or a field cannot be shown.
pub fn environment(pod: &Pod, container: Container<'_>, facts: &Facts, lookups: &dyn Lookups) -> Result<Env, String> {
    let services = service_env(pod, lookups);
    let mut env = Env::new();
    for source in container.value().list_at(&["envFrom"]) {
        env_from(&mut env, source, lookups)?;
    }
    // References see what stands before them, and the services.
    let mut known = services.clone();
    known.extend(env.clone());
    for entry in container.value().list_at(&["env"]) {
        let name = entry.str_at(&["name"]).to_owned();
        let value = match entry.get("valueFrom") {
            None => Some(expand(entry.str_at(&["value"]), &known)),
            Some(from) => value_from(pod, container, from, facts, lookups)?,
        };
        if let Some(value) = value {
            known.insert(name.clone(), value.clone());
            env.insert(name, value);
        }
    }
    for (name, value) in services {
        env.entry(name).or_insert(value);
    }
    Ok(env)
}

fn env_from(env: &mut Env, source: &Value, lookups: &dyn Lookups) -> Result<(), String> {
    let prefix = source.str_at(&["prefix"]);
    let mut take = |reference: &Value, object: Option<Arc<Value>>, what: &str, secret: bool| {
        let name = reference.str_at(&["name"]);
        let Some(object) = object else {
            let is_optional = reference.bool_at(&["optional"]).unwrap_or(false);
            return if is_optional { Ok(()) } else { Err(format!("{what} {name:?} not found")) };
        };
        for (key, value) in object.map_at(&["data"]).into_iter().flat_map(Map::iter) {
            let text = if secret { decoded(value) } else { value.as_str().unwrap_or_default().to_owned() };
            // A name with `=` in it would be cut there; upstream leaves such keys out.
            if !key.contains('=') && !key.is_empty() {
                env.insert(format!("{prefix}{key}"), text);
            }
        }
        Ok(())
    };
    if let Some(reference) = source.get("configMapRef") {
        take(reference, lookups.config_map(reference.str_at(&["name"])), "configmap", false)?;
    }
    if let Some(reference) = source.get("secretRef") {
        take(reference, lookups.secret(reference.str_at(&["name"])), "secret", true)?;
    }
    Ok(())
}

fn value_from(
    pod: &Pod,
    container: Container<'_>,
    from: &Value,
    facts: &Facts,
    lookups: &dyn Lookups,
) -> Result<Option<String>, String> {
    if let Some(field) = from.get("fieldRef") {
        return field_value(pod, field.str_at(&["fieldPath"]), facts).map(Some);
    }
    if let Some(resource) = from.get("resourceFieldRef") {
        return resource_value(pod, Some(container), resource, facts).map(Some);
    }
    let (reference, object, what, kind, secret) = if let Some(reference) = from.get("configMapKeyRef") {
        (reference, lookups.config_map(reference.str_at(&["name"])), "configmap", "ConfigMap", false)
    } else if let Some(reference) = from.get("secretKeyRef") {
        (reference, lookups.secret(reference.str_at(&["name"])), "secret", "Secret", true)
    } else {
        return Err("invalid valueFrom: no source that this node knows".to_owned());
    };
    let (name, key) = (reference.str_at(&["name"]), reference.str_at(&["key"]));
    let is_optional = reference.bool_at(&["optional"]).unwrap_or(false);
    let Some(object) = object else {
        return if is_optional { Ok(None) } else { Err(format!("{what} {name:?} not found")) };
    };
    match object.map_at(&["data"]).and_then(|data| data.get(key)) {
        Some(value) if secret => Ok(Some(decoded(value))),
        Some(value) => Ok(Some(value.as_str().unwrap_or_default().to_owned())),
        None if is_optional => Ok(None),
        None => Err(format!("couldn't find key {key} in {kind} {}/{name}", pod.key().namespace)),
    }
}

/// The text of a Secret's value.
fn decoded(value: &Value) -> String {
    String::from_utf8_lossy(&bytes_of(value)).into_owned()
}

/// The bytes of a Secret's value, which the tree keeps as base64 text.
pub fn bytes_of(value: &Value) -> Vec<u8> {
    use base64::Engine;
    match value {
        Value::Bytes(bytes) => bytes.to_vec(),
        value => {
            base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
        }
    }
}

/// A field of the downward API, as text.
///
/// # Errors
/// If the path is none that can be shown.
pub fn field_value(pod: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let metadata = |field: &str| pod.object().map_at(&["metadata", field]);
    if let Some((field, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let field = match field {
            "metadata.labels" => "labels",
            "metadata.annotations" => "annotations",
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        let value = metadata(field).and_then(|map| map.get(key)).and_then(Value::as_str);
        return Ok(value.unwrap_or_default().to_owned());
    }
    let join = |ips: &[SmolStr]| ips.join(",");
    Ok(match path {
        "metadata.name" => pod.key().name.to_string(),
        "metadata.namespace" => pod.key().namespace.to_string(),
        "metadata.uid" => pod.uid().0.to_string(),
        "metadata.labels" => formatted(metadata("labels")),
        "metadata.annotations" => formatted(metadata("annotations")),
        "spec.nodeName" => pod.spec_str("nodeName").to_owned(),
        "spec.serviceAccountName" => pod.spec_str("serviceAccountName").to_owned(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default().to_string(),
        "status.hostIPs" => join(&facts.host_ips),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default().to_string(),
        "status.podIPs" => join(&facts.pod_ips),
        path => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// A map as the downward API writes it: `key="value"`, a line each, sorted.
fn formatted(map: Option<&Map>) -> String {
    let lines = map.into_iter().flat_map(Map::iter);
    let lines = lines.map(|(key, value)| format!("{key}={:?}", value.as_str().unwrap_or_default()));
    lines.collect::<Vec<_>>().join("\n")
}

/// A `resourceFieldRef`, in units of its divisor, rounded up.
///
/// # Errors
/// If the container or the resource is none that can be shown.
pub fn resource_value(
    pod: &Pod,
    container: Option<Container<'_>>,
    reference: &Value,
    facts: &Facts,
) -> Result<String, String> {
    let name = reference.str_at(&["containerName"]);
    let container = match name {
        "" => container,
        name => pod.container(name),
    };
    let container = container.ok_or_else(|| format!("container {name} not found"))?;
    let resource = reference.str_at(&["resource"]);
    let Some((kind, resource_name)) =
        resource.split_once('.').filter(|(kind, _)| matches!(*kind, "limits" | "requests"))
    else {
        return Err(format!("unsupported container resource : {resource}"));
    };
    let mut value = container.map_at(&["resources", kind]).and_then(|resources| resources.get(resource_name));
    // What is not limited may use all that the node gives away.
    if value.is_none() && kind == "limits" {
        value = facts.allocatable.get(resource_name);
    }
    let parse = |text: &str| Quantity::parse(text).map_err(|error| error.to_string());
    let quantity = parse(value.and_then(Value::as_str).unwrap_or("0"))?;
    let divisor = match reference.str_at(&["divisor"]) {
        "" | "0" => parse("1")?,
        divisor => parse(divisor)?,
    };
    let (amount, unit) = match resource_name {
        "cpu" => (quantity.milli_value(), divisor.milli_value()),
        _ => (quantity.value(), divisor.value()),
    };
    let unit = unit.max(1);
    Ok(amount.div_euclid(unit).saturating_add(i64::from(amount.rem_euclid(unit) > 0)).to_string())
}

/// Replaces `$(NAME)` by what is known; what is not known stays, and `$$` is a plain `$`.
pub fn expand(text: &str, known: &Env) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The variables that tell a Pod where Services are, in the two old styles.
fn service_env(pod: &Pod, lookups: &dyn Lookups) -> Env {
    let has_links = pod.object().bool_at(&["spec", "enableServiceLinks"]).unwrap_or(true);
    let mut env = Env::new();
    for service in lookups.services() {
        let (namespace, name) = (service.str_at(&["metadata", "namespace"]), service.str_at(&["metadata", "name"]));
        let is_api = (namespace, name) == ("default", "kubernetes");
        // A Service named `kubernetes` of the Pod's own namespace stands above the API's.
        let is_shadowed = is_api && env.contains_key("KUBERNETES_SERVICE_HOST") && pod.key().namespace != "default";
        let is_wanted = is_api || (has_links && namespace == pod.key().namespace);
        let ip = service.str_at(&["spec", "clusterIP"]);
        if !is_wanted || is_shadowed || ip.is_empty() || ip == "None" {
            continue;
        }
        let base = name.to_uppercase().replace('-', "_");
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        let ports = service.list_at(&["spec", "ports"]);
        env.insert(format!("{base}_SERVICE_HOST"), ip.to_owned());
        for (place, port) in ports.iter().enumerate() {
            let number = port.int_at(&["port"]).unwrap_or(0);
            let protocol = match port.str_at(&["protocol"]) {
                "" => "TCP",
                protocol => protocol,
            };
            let url = format!("{}://{host}:{number}", protocol.to_lowercase());
            if place == 0 {
                env.insert(format!("{base}_SERVICE_PORT"), number.to_string());
                env.insert(format!("{base}_PORT"), url.clone());
            }
            let port_name = port.str_at(&["name"]);
            if !port_name.is_empty() {
                let port_name = port_name.to_uppercase().replace('-', "_");
                env.insert(format!("{base}_SERVICE_PORT_{port_name}"), number.to_string());
            }
            let prefix = format!("{base}_PORT_{number}_{}", protocol.to_uppercase());
            env.insert(prefix.clone(), url);
            env.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            env.insert(format!("{prefix}_PORT"), number.to_string());
            env.insert(format!("{prefix}_ADDR"), ip.to_owned());
        }
    }
    env
}
