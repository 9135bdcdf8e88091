//! What a cluster has from its first moment: namespaces, priority classes, the `kubernetes` Service, RBAC's defaults.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use api_schema::{Map, Value, format_smolstr};
use api_semantics::status::Status;
use authn::UserInfo;
use registry::{Context, Registry, Served, WriteOptions};

use crate::options::RequestHeader;

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The server's own user for what it keeps up itself.
pub fn loopback_user() -> Arc<UserInfo> {
    Arc::new(UserInfo::new("system:apiserver", &[authn::user::MASTERS, authn::user::AUTHENTICATED]))
}

/// What the server keeps up.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The address that the `kubernetes` Service leads to; none if the server has only loopback addresses.
    pub advertise_address: Option<IpAddr>,
    /// The port there.
    pub secure_port: u16,
    /// The CA bundle that extension servers and pods trust, as PEM.
    pub client_ca: String,
    /// The front proxy CA, as PEM.
    pub request_header_ca: String,
    /// Which proxies may name the user, and how.
    pub request_header: RequestHeader,
}

fn context() -> Context {
    let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
    Context::new(loopback_user(), options)
}

/// Creates an object unless it exists. `Ok(false)` if it did.
async fn ensure(registry: &Registry, object: Value) -> Result<bool, Status> {
    let Some(served) = served_as(registry, &object) else { return Ok(false) };
    let namespace = object.str_at(&["metadata", "namespace"]).to_owned();
    let name = object.str_at(&["metadata", "name"]).to_owned();
    if registry.cached(&served.info.group, &served.info.resource, &namespace, &name).is_some() {
        return Ok(false);
    }
    let object = registry::codec::normalize_served(&served, object)?;
    match registry.create(&served, &mut context(), &namespace, object).await {
        Ok(_) => Ok(true),
        Err(status) if status.reason == "AlreadyExists" => Ok(false),
        Err(status) => Err(status),
    }
}

/// The resource that an object says it is of, if it is served.
fn served_as(registry: &Registry, object: &Value) -> Option<Arc<Served>> {
    let api_version = object.str_at(&["apiVersion"]);
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let kind = object.str_at(&["kind"]);
    let resource =
        api_types::resources().iter().find(|r| r.group == group && r.version == version && r.kind == kind)?;
    registry.served(group, version, &resource.resource)
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = Value::from([("apiVersion", api_version), ("kind", kind)]);
    if !namespace.is_empty() {
        object.set(&["metadata", "namespace"], namespace);
    }
    object.set(&["metadata", "name"], name);
    object
}

/// Makes what is missing. Doing it twice is doing it once.
///
/// # Errors
/// The first refusal, which only a broken store explains.
pub async fn run(registry: &Registry, wanted: &Wanted) -> Result<(), Status> {
    let mut all: Vec<Value> = NAMESPACES.iter().map(|name| object("v1", "Namespace", "", name)).collect();
    for (name, value) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)] {
        let mut class = object("scheduling.k8s.io/v1", "PriorityClass", "", name);
        class.set(&["value"], value);
        let what = name.trim_start_matches("system-").trim_end_matches("-critical");
        class.set(&["description"], format!("For what the {what} cannot do without."));
        all.push(class);
    }
    let mut authentication = object("v1", "ConfigMap", "kube-system", "extension-apiserver-authentication");
    let proxies = &wanted.request_header;
    for (key, text) in [
        ("client-ca-file", wanted.client_ca.clone()),
        ("requestheader-client-ca-file", wanted.request_header_ca.clone()),
        ("requestheader-allowed-names", json_list(&proxies.allowed_names)),
        ("requestheader-extra-headers-prefix", json_list(&proxies.extra_headers_prefix)),
        ("requestheader-group-headers", json_list(&proxies.group_headers)),
        ("requestheader-uid-headers", json_list(&proxies.uid_headers)),
        ("requestheader-username-headers", json_list(&proxies.username_headers)),
    ] {
        authentication.set(&["data", key], text);
    }
    let cidrs: Vec<Value> = registry.services().cidrs().iter().map(|cidr| format_smolstr!("{cidr}").into()).collect();
    let mut service_cidr = object("networking.k8s.io/v1", "ServiceCIDR", "", "kubernetes");
    service_cidr.set(&["spec", "cidrs"], cidrs);
    all.push(service_cidr);
    let served = |group: &str, version: &str| {
        api_types::resources()
            .iter()
            .any(|r| r.group == group && r.version == version && registry.served(group, version, &r.resource).is_some())
    };
    all.extend(crate::api_services::objects(served));
    // Namespaces come before what is in them; otherwise all at once, so that they share a few commits.
    let (namespaces, rest): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|o| o.str_at(&["kind"]) == "Namespace");
    for group in [namespaces, rest] {
        let making = group.into_iter().map(|one| Box::pin(ensure(registry, one)) as Pending<'_, bool>).collect();
        together(making).await?;
    }
    // Extension servers read there whom to trust: it must be what this server does, not what it did.
    put(registry, authentication, "data").await?;
    kubernetes_service(registry, wanted).await
}

/// Strings as a list in JSON.
fn json_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| api_semantics::field::quoted(text)).collect();
    format!("[{}]", quoted.join(","))
}

/// Something that is being made.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send + 'a>>;

/// Runs all of them at once.
///
/// # Errors
/// The first error in order, once all have ended.
pub(crate) async fn together<T>(mut pending: Vec<Pending<'_, T>>) -> Result<(), Status> {
    let mut results: Vec<Option<Result<(), Status>>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (one, result) in pending.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(done) = one.as_mut().poll(context)
            {
                *result = Some(done.map(drop));
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// The Service `default/kubernetes`, and the endpoints behind it.
async fn kubernetes_service(registry: &Registry, wanted: &Wanted) -> Result<(), Status> {
    let Some(first) = registry.services().cidrs().first().map(|cidr| cidr.nth(0)) else { return Ok(()) };
    let mut service = object("v1", "Service", "default", "kubernetes");
    service.set(&["metadata", "labels", "component"], "apiserver");
    service.set(&["metadata", "labels", "provider"], "kubernetes");
    service.set(&["spec", "clusterIP"], first.to_string());
    service.set(&["spec", "type"], "ClusterIP");
    service.set(&["spec", "sessionAffinity"], "None");
    let mut port = Value::from([("name", "https"), ("protocol", "TCP")]);
    port.set(&["port"], 443);
    port.set(&["targetPort"], i64::from(wanted.secure_port));
    service.set(&["spec", "ports"], vec![port]);
    ensure(registry, service).await?;
    // A loopback address would lead every pod to itself.
    let Some(address) = wanted.advertise_address.filter(|a| !a.is_loopback() && !a.is_unspecified()) else {
        return Ok(());
    };
    let mut port = Value::from([("name", "https"), ("protocol", "TCP")]);
    port.set(&["port"], i64::from(wanted.secure_port));

    let mut endpoints = object("v1", "Endpoints", "default", "kubernetes");
    endpoints.set(&["metadata", "labels", "endpointslice.kubernetes.io/skip-mirror"], "true");
    let mut subset = Value::Map(Map::new());
    subset.set(&["addresses"], vec![Value::from([("ip", address.to_string())])]);
    subset.set(&["ports"], vec![port.clone()]);
    endpoints.set(&["subsets"], vec![subset]);
    put(registry, endpoints, "subsets").await?;

    let mut slice = object("discovery.k8s.io/v1", "EndpointSlice", "default", "kubernetes");
    slice.set(&["metadata", "labels", "kubernetes.io/service-name"], "kubernetes");
    slice.set(&["addressType"], if address.is_ipv4() { "IPv4" } else { "IPv6" });
    let mut endpoint = Value::Map(Map::new());
    endpoint.set(&["addresses"], vec![Value::from(address.to_string())]);
    endpoint.set(&["conditions", "ready"], true);
    slice.set(&["endpoints"], vec![endpoint]);
    slice.set(&["ports"], vec![port]);
    put(registry, slice, "endpoints").await
}

/// Creates an object, or gives the present one the wanted `field` (and `ports`): the server's address may have changed.
async fn put(registry: &Registry, wanted: Value, field: &str) -> Result<(), Status> {
    if ensure(registry, wanted.clone()).await? {
        return Ok(());
    }
    let Some(served) = served_as(registry, &wanted) else { return Ok(()) };
    let (namespace, name) = (wanted.str_at(&["metadata", "namespace"]), wanted.str_at(&["metadata", "name"]));
    let normal = registry::codec::normalize_served(&served, wanted.clone())?;
    let Some(present) = registry.cached(&served.info.group, &served.info.resource, namespace, name) else {
        return Ok(());
    };
    if present.get(field) == normal.get(field) && present.get("ports") == normal.get("ports") {
        return Ok(());
    }
    let mut changed = present;
    for field in [field, "ports", "addressType"] {
        if let Some(value) = normal.get(field) {
            changed.set(&[field], value.clone());
        }
    }
    changed.remove(&["metadata", "resourceVersion"]);
    registry.update(&served, &mut context(), namespace, name, "", changed).await.map(drop)
}
