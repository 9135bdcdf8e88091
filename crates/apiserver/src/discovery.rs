//! Discovery: which groups, versions and resources there are, in the legacy and the aggregated form.

use std::sync::Arc;

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::status::Status;
use arc_swap::ArcSwapOption;
use base64::Engine as _;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use registry::Registry;

use crate::body::Body;
use crate::encode::typed;
use crate::handler::page_not_found;
use crate::negotiate::{ACCEPTED, Clause, Encoding, Form, Offer, clauses, negotiate, route_accepts};
use crate::query::Query;

/// Answers discovery paths.
pub struct Discovery {
    /// The resources that are served: stored ones and virtual ones.
    served: Box<dyn Fn(&api_types::Resource) -> bool + Send + Sync>,
    /// `host:port` that clients inside the cluster are told.
    server_address: String,
    groups: ArcSwapOption<Vec<Group>>,
    /// Other paths: OpenAPI, OIDC discovery.
    others: Vec<Box<dyn PathHandler>>,
}

/// Answers some paths that are no resources.
pub trait PathHandler: Send + Sync {
    /// The answer, if the path is one of its own.
    fn respond(
        &self,
        path: &str,
        query: &Query,
        headers: &HeaderMap,
        method: &Method,
    ) -> Option<Result<Response<Body>, Status>>;

    /// The paths that `/` lists.
    fn paths(&self) -> Vec<SmolStr>;
}

/// A group with its versions, the preferred one first.
struct Group {
    name: SmolStr,
    versions: Vec<(SmolStr, Vec<Arc<api_types::Resource>>)>,
}

impl Discovery {
    /// Discovery of what `served` says; `server_address` is what the legacy form tells clients.
    pub fn new(
        served: impl Fn(&api_types::Resource) -> bool + Send + Sync + 'static,
        server_address: String,
        others: Vec<Box<dyn PathHandler>>,
    ) -> Self {
        Self { served: Box::new(served), server_address, groups: ArcSwapOption::empty(), others }
    }

    /// Looks again at what is served, at the next request.
    pub fn refresh(&self) {
        self.groups.store(None);
    }

    fn groups(&self, registry: &Registry) -> Arc<Vec<Group>> {
        if let Some(groups) = self.groups.load_full() {
            return groups;
        }
        let mut resources: Vec<Arc<api_types::Resource>> =
            api_types::resources().iter().filter(|r| (self.served)(r)).map(|r| Arc::new(r.clone())).collect();
        for served in registry.all_served() {
            let info = &served.info;
            let known = |r: &Arc<api_types::Resource>| {
                r.group == info.group && r.version == info.version && r.resource == info.resource
            };
            if !resources.iter().any(known) {
                resources.push(Arc::clone(info));
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        for resource in resources {
            let group = match groups.iter().position(|g| g.name == resource.group) {
                Some(at) => &mut groups[at],
                None => {
                    groups.push(Group { name: resource.group.clone(), versions: Vec::new() });
                    let at = groups.len() - 1;
                    &mut groups[at]
                }
            };
            match group.versions.iter_mut().find(|(version, _)| *version == resource.version) {
                Some((_, list)) => list.push(resource),
                None => group.versions.push((resource.version.clone(), vec![resource])),
            }
        }
        for group in &mut groups {
            group.versions.sort_by_key(|(version, _)| std::cmp::Reverse(version_rank(version)));
            for (_, list) in &mut group.versions {
                list.sort_by(|a, b| a.resource.cmp(&b.resource));
            }
        }
        let rank = |name: &SmolStr| crate::api_services::rank(name);
        groups.sort_by(|a, b| {
            (!a.name.is_empty(), rank(&a.name), &a.name).cmp(&(!b.name.is_empty(), rank(&b.name), &b.name))
        });
        let groups = Arc::new(groups);
        self.groups.store(Some(Arc::clone(&groups)));
        groups
    }

    /// Whether there is a group of this name.
    pub fn has_group(&self, registry: &Registry, group: &str) -> bool {
        self.groups(registry).iter().any(|g| g.name == group)
    }

    /// Whether a path that is no resource is served.
    pub fn knows(&self, registry: &Registry, path: &str) -> bool {
        let groups = self.groups(registry);
        let parts: Vec<&str> = path.trim_matches('/').split('/').filter(|p| !p.is_empty()).collect();
        match parts.as_slice() {
            [] | ["api" | "apis"] => true,
            ["api", version] => find(&groups, "", version).is_ok(),
            ["apis", group] => groups.iter().any(|g| g.name == *group && !g.name.is_empty()),
            ["apis", group, version] => find(&groups, group, version).is_ok(),
            _ => self.others.iter().any(|other| other.paths().iter().any(|p| p == path)),
        }
    }

    /// Answers a path that is no resource; `/` lists `more_paths`, too.
    ///
    /// # Errors
    /// 404 for paths that there are not, 406 for forms that there are not.
    pub fn respond(
        &self,
        registry: &Registry,
        path: &str,
        query: &Query,
        headers: &HeaderMap,
        method: &Method,
        more_paths: Vec<SmolStr>,
    ) -> Result<Response<Body>, Status> {
        for other in &self.others {
            if let Some(answer) = other.respond(path, query, headers, method) {
                return answer;
            }
        }
        if path.starts_with("//") {
            return Ok(page_not_found());
        }
        let groups = self.groups(registry);
        let parts: Vec<&str> = path.trim_matches('/').split('/').filter(|p| !p.is_empty()).collect();
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
        if !parts.is_empty() && self.knows(registry, path) {
            route_accepts(accept, &ACCEPTED)?;
        }
        let value = match parts.as_slice() {
            [] => return Ok(self.root(&groups, more_paths)),
            ["api"] => {
                if let Some(clause) = aggregated(headers) {
                    return aggregated_answer(&groups[..], true, &clause, headers);
                }
                self.api_versions()
            }
            ["apis"] => {
                if let Some(clause) = aggregated(headers) {
                    return aggregated_answer(&groups[..], false, &clause, headers);
                }
                let list: Vec<Value> =
                    groups.iter().filter(|g| !g.name.is_empty()).map(|g| self.api_group(g, false)).collect();
                let mut value = Value::from([("kind", "APIGroupList"), ("apiVersion", "v1")]);
                value.set(&["groups"], list);
                value
            }
            ["api", version] => resource_list(find(&groups, "", version)?, "", version),
            ["apis", group] => match groups.iter().find(|g| g.name == *group && !g.name.is_empty()) {
                Some(group) => self.api_group(group, true),
                None => return Ok(page_not_found()),
            },
            ["apis", group, _] if !groups.iter().any(|g| g.name == *group) => return Ok(page_not_found()),
            ["apis", group, version] => resource_list(find(&groups, group, version)?, group, version),
            _ => return Ok(page_not_found()),
        };
        let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let offer = Offer { transforms: false, protobuf: true };
        let form = negotiate(accept, query.optional_flag("pretty"), agent, offer)?;
        let mut response = Response::new(Body::Full(typed(&value, form)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(form.encoding.media_type()));
        Ok(response)
    }

    fn root(&self, groups: &[Group], more_paths: Vec<SmolStr>) -> Response<Body> {
        let mut paths = more_paths;
        paths.extend(["/api", "/apis", "/apis/", "/metrics", "/version"].map(SmolStr::new));
        for group in groups {
            let base: SmolStr =
                if group.name.is_empty() { "/api".into() } else { format_smolstr!("/apis/{}", group.name) };
            if !group.name.is_empty() {
                paths.push(base.clone());
            }
            paths.extend(group.versions.iter().map(|(version, _)| format_smolstr!("{base}/{version}")));
        }
        paths.extend(self.others.iter().flat_map(|other| other.paths()));
        paths.sort();
        paths.dedup();
        let lines: Vec<String> =
            paths.iter().map(|path| format!("    {}", api_semantics::field::quoted(path))).collect();
        let mut response = Response::new(Body::from(format!("{{\n  \"paths\": [\n{}\n  ]\n}}", lines.join(",\n"))));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn server_addresses(&self) -> Vec<Value> {
        vec![Value::from([("clientCIDR", "0.0.0.0/0"), ("serverAddress", &*self.server_address)])]
    }

    fn api_versions(&self) -> Value {
        let mut value = Value::from([("kind", "APIVersions")]);
        value.set(&["versions"], vec![Value::from("v1")]);
        value.set(&["serverAddressByClientCIDRs"], self.server_addresses());
        value
    }

    fn api_group(&self, group: &Group, whole: bool) -> Value {
        let version = |version: &SmolStr| {
            let group_version = format_smolstr!("{}/{version}", group.name);
            Value::from([("groupVersion", group_version), ("version", version.clone())])
        };
        let mut value = Value::Map(Map::new());
        if whole {
            value.set(&["kind"], "APIGroup");
            value.set(&["apiVersion"], "v1");
        }
        value.set(&["name"], group.name.clone());
        value.set(&["versions"], group.versions.iter().map(|(v, _)| version(v)).collect::<Vec<_>>());
        if let Some((first, _)) = group.versions.first() {
            value.set(&["preferredVersion"], version(first));
        }
        value
    }
}

fn find<'a>(groups: &'a [Group], group: &str, version: &str) -> Result<&'a [Arc<api_types::Resource>], Status> {
    groups
        .iter()
        .find(|g| g.name == group)
        .and_then(|g| g.versions.iter().find(|(v, _)| v == version))
        .map(|(_, list)| list.as_slice())
        .ok_or_else(Status::path_not_found)
}

/// Stable before beta before alpha, newer before older (apimachinery `CompareKubeAwareVersionStrings`).
fn version_rank(version: &str) -> (u8, u32, u32) {
    let rest = version.strip_prefix('v').unwrap_or(version);
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let major = digits(rest);
    match (rest.find("alpha"), rest.find("beta")) {
        (Some(at), _) => (0, major, digits(&rest[at + 5..])),
        (_, Some(at)) => (1, major, digits(&rest[at + 4..])),
        _ => (2, major, 0),
    }
}

fn strings(list: &[SmolStr]) -> Vec<Value> {
    list.iter().cloned().map(Value::from).collect()
}

/// The hash that tells clients which version a resource is stored in.
fn storage_version_hash(resource: &api_types::Resource) -> Option<String> {
    let stores = resource.allows("list") && resource.resource != "componentstatuses";
    let (group, version) = kinds::convert::storage_version(&resource.group, &resource.resource)
        .unwrap_or((&resource.group, &resource.version));
    // Clients know this kind by the hash of the version that it was first stored in.
    let version = if resource.kind == "CustomResourceDefinition" { "v1beta1" } else { version };
    let text = format!("{group}/{version}/{}", resource.kind);
    stores.then(|| {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
    })
}

fn resource_list(resources: &[Arc<api_types::Resource>], group: &str, version: &str) -> Value {
    let mut items = Vec::new();
    for resource in resources {
        let mut item = Value::Map(Map::new());
        item.set(&["name"], resource.resource.clone());
        item.set(&["singularName"], resource.singular.clone());
        item.set(&["namespaced"], resource.namespaced());
        item.set(&["kind"], resource.kind.clone());
        item.set(&["verbs"], strings(&resource.verbs));
        if !resource.short_names.is_empty() {
            item.set(&["shortNames"], strings(&resource.short_names));
        }
        if !resource.categories.is_empty() {
            item.set(&["categories"], strings(&resource.categories));
        }
        if let Some(hash) = storage_version_hash(resource) {
            item.set(&["storageVersionHash"], hash);
        }
        items.push(item);
        for subresource in &resource.subresources {
            let mut item = Value::Map(Map::new());
            item.set(&["name"], format_smolstr!("{}/{}", resource.resource, subresource.name));
            item.set(&["singularName"], "");
            item.set(&["namespaced"], resource.namespaced());
            if (&*subresource.group, &*subresource.version) != (group, version) {
                item.set(&["group"], subresource.group.clone());
                item.set(&["version"], subresource.version.clone());
            }
            item.set(&["kind"], subresource.kind.clone());
            item.set(&["verbs"], strings(&subresource.verbs));
            items.push(item);
        }
    }
    let group_version: SmolStr = if group.is_empty() { version.into() } else { format_smolstr!("{group}/{version}") };
    let mut value = Value::from([("kind", "APIResourceList")]);
    if !group.is_empty() {
        value.set(&["apiVersion"], "v1");
    }
    value.set(&["groupVersion"], group_version);
    value.set(&["resources"], items);
    value
}

/// The clause of the Accept header that asks for aggregated discovery, if it is the first that can be had.
fn aggregated(headers: &HeaderMap) -> Option<Clause> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    for clause in clauses(accept) {
        let wants = clause.parameter("as") == Some("APIGroupDiscoveryList")
            && clause.parameter("g") == Some("apidiscovery.k8s.io")
            && clause.parameter("v") == Some("v2");
        let known = matches!(&*clause.media_type, "application/json" | "application/vnd.kubernetes.protobuf");
        match (wants && known, clause.parameter("as").is_some()) {
            (true, _) => return Some(clause),
            // An unknown transformation is skipped; a plain clause means the legacy form.
            (false, true) => {}
            (false, false) => return None,
        }
    }
    None
}

fn aggregated_answer(
    groups: &[Group],
    core: bool,
    clause: &Clause,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    let items: Vec<Value> = groups.iter().filter(|g| g.name.is_empty() == core).map(group_discovery).collect();
    let mut value = Value::from([("kind", "APIGroupDiscoveryList"), ("apiVersion", "apidiscovery.k8s.io/v2")]);
    value.set(&["metadata"], Map::new());
    value.set(&["items"], items);
    let json = typed(&value, Form::JSON);
    let tag = sha512_upper(&json);
    let protobuf = &*clause.media_type == "application/vnd.kubernetes.protobuf";
    let encoding = if protobuf { Encoding::Protobuf } else { Encoding::Json };
    let body: Bytes = if protobuf { typed(&value, Form { encoding, ..Form::JSON }) } else { json };
    let quoted = format!("\"{tag}\"");
    let mut response = Response::new(Body::Empty);
    let matches = headers.get(header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == quoted.as_bytes());
    if matches {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::Full(body);
    }
    let content_type = format!("{};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", encoding.media_type());
    let out = response.headers_mut();
    for (name, text) in [
        (header::ETAG, quoted.as_str()),
        (header::CONTENT_TYPE, content_type.as_str()),
        (header::VARY, "Accept"),
        (header::CACHE_CONTROL, "public"),
    ] {
        if let Ok(text) = HeaderValue::from_str(text) {
            out.insert(name, text);
        }
    }
    Ok(response)
}

/// The upper-case hexadecimal SHA-512 of some bytes: ETags and hashes of documents.
pub(crate) fn sha512_upper(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn group_discovery(group: &Group) -> Value {
    let mut versions = Vec::new();
    for (version, resources) in &group.versions {
        let response_kind = |own_group: &str, own_version: &str, kind: &str| {
            // What is the same as in the version itself is left empty; clients fill it in.
            let same = own_group == group.name && own_version == version;
            let (own_group, own_version) = if same { ("", "") } else { (own_group, own_version) };
            Value::from([("group", own_group), ("version", own_version), ("kind", kind)])
        };
        let items: Vec<Value> = resources
            .iter()
            .map(|resource| {
                let mut item = Value::Map(Map::new());
                item.set(&["resource"], resource.resource.clone());
                item.set(&["responseKind"], response_kind(&group.name, version, &resource.kind));
                item.set(&["scope"], if resource.namespaced() { "Namespaced" } else { "Cluster" });
                item.set(&["singularResource"], resource.singular.clone());
                item.set(&["verbs"], strings(&resource.verbs));
                if !resource.short_names.is_empty() {
                    item.set(&["shortNames"], strings(&resource.short_names));
                }
                if !resource.categories.is_empty() {
                    item.set(&["categories"], strings(&resource.categories));
                }
                let subresources: Vec<Value> = resource
                    .subresources
                    .iter()
                    .map(|s| {
                        let mut item = Value::Map(Map::new());
                        item.set(&["subresource"], s.name.clone());
                        item.set(&["responseKind"], response_kind(&s.group, &s.version, &s.kind));
                        item.set(&["verbs"], strings(&s.verbs));
                        item
                    })
                    .collect();
                if !subresources.is_empty() {
                    item.set(&["subresources"], subresources);
                }
                item
            })
            .collect();
        let mut entry = Value::from([("version", version.clone()), ("freshness", "Current".into())]);
        entry.set(&["resources"], items);
        versions.push(entry);
    }
    let mut value = Value::Map(Map::new());
    value.set(&["metadata"], Map::new());
    if !group.name.is_empty() {
        value.set(&["metadata", "name"], group.name.clone());
    }
    value.set(&["versions"], versions);
    value
}
