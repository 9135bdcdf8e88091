//! Which paths and operations a resource has.

use std::collections::BTreeMap;

use api_schema::Value;
use api_types::{Resource, Subresource, type_name};

use crate::names::{group_id, group_tag, group_version_id, group_version_tag, title};
use crate::operations::{ANYTHING, JSON, LOG, OBJECT, Operation, PATCHES, STREAM, path_item};
use crate::parameters::{DELETE, LIST, PATCH, Parameter, WRITE, common, in_path, object_name, of_options};
use crate::schemas::{Schemas, VERSION_INFO};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Paths and their operations, not yet values of one version.
#[derive(Debug, Default)]
pub(crate) struct Paths(BTreeMap<String, Vec<Operation>>);

impl Paths {
    /// The path items, and the parameters that they share in v2.
    pub(crate) fn values(
        self,
        schemas: &mut Schemas<'_>,
        encode: impl Fn(&Value) -> Vec<u8>,
    ) -> (BTreeMap<String, Vec<u8>>, BTreeMap<String, Value>) {
        let mut shared = BTreeMap::new();
        let items = self
            .0
            .into_iter()
            .map(|(path, operations)| {
                let item = path_item(operations, schemas, &mut shared);
                (path, encode(&item))
            })
            .collect();
        (items, shared)
    }

    /// A path that no resource has: discovery, the version, the token issuer.
    pub(crate) fn plain(&mut self, path: &str) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (id, tag, description, answer, produces) = match parts[..] {
            ["api"] => {
                ("getCoreAPIVersions".into(), "core".into(), "get available API versions", "APIVersions", OBJECT)
            }
            ["apis"] => ("getAPIVersions".into(), "apis".into(), "get available API versions", "APIGroupList", OBJECT),
            ["apis", group] => {
                let id = format!("get{}APIGroup", group_id(group));
                (id, group_tag(group), "get information of a group", "APIGroup", OBJECT)
            }
            ["version"] => {
                ("getCodeVersion".into(), "version".into(), "get the version of the server", VERSION_INFO, JSON)
            }
            ["openid", ..] => (
                "getServiceAccountIssuerOpenIDKeyset".into(),
                "openid".into(),
                "get the public keys that verify service account tokens",
                "",
                &["application/jwk-set+json"][..],
            ),
            _ => (
                "getServiceAccountIssuerOpenIDConfiguration".into(),
                "WellKnown".into(),
                "get the OpenID configuration of the service account issuer",
                "",
                JSON,
            ),
        };
        let answer = match answer {
            "" | VERSION_INFO => answer.to_owned(),
            kind => format!("{META}.{kind}"),
        };
        self.add(path, get(id, tag, description.into(), answer, produces));
    }

    /// The discovery document of a group and version.
    pub(crate) fn group_version(&mut self, group: &str, version: &str) {
        let id = format!("get{}APIResources", group_version_id(group, version));
        let tag = group_version_tag(group, version);
        let answer = format!("{META}.APIResourceList");
        let operation = get(id, tag, "get available resources".into(), answer, OBJECT);
        self.add(&format!("{}/", base(group, version)), operation);
    }

    /// Everything about one resource.
    pub(crate) fn resource(&mut self, resource: &Resource, schemas: &Schemas<'_>) {
        let base = base(&resource.group, &resource.version);
        let scope = if resource.namespaced() { "namespaces/{namespace}/" } else { "" };
        let plural = &resource.resource;
        let about = About { resource, scoped: true };
        for verb in ["get", "list", "create", "update", "patch", "delete", "deletecollection"] {
            if resource.allows(verb) {
                let name = if matches!(verb, "list" | "create" | "deletecollection") { "" } else { "/{name}" };
                self.add(&format!("{base}/{scope}{plural}{name}"), about.main(verb));
            }
        }
        let watched = resource.allows("watch");
        if watched {
            self.add(&format!("{base}/watch/{scope}{plural}"), about.watch(false));
            if resource.allows("get") {
                self.add(&format!("{base}/watch/{scope}{plural}/{{name}}"), about.watch(true));
            }
        }
        if resource.namespaced() {
            let everywhere = About { resource, scoped: false };
            if resource.allows("list") {
                self.add(&format!("{base}/{plural}"), everywhere.main("list"));
            }
            if watched {
                self.add(&format!("{base}/watch/{plural}"), everywhere.watch(false));
            }
        }
        for sub in &resource.subresources {
            let path = format!("{base}/{scope}{plural}/{{name}}/{}", sub.name);
            if sub.kind.ends_with("Options") {
                self.connect(&path, &about, sub, schemas);
            } else {
                for verb in &sub.verbs {
                    if let Some(operation) = about.sub(sub, verb, schemas) {
                        self.add(&path, operation);
                    }
                }
            }
        }
    }

    /// A subresource that hands the connection through: exec, proxy and their like.
    fn connect(&mut self, path: &str, about: &About<'_>, sub: &Subresource, schemas: &Schemas<'_>) {
        let proxied = sub.name == "proxy";
        let mut methods: Vec<&'static str> = sub
            .verbs
            .iter()
            .filter_map(|verb| match verb.as_str() {
                "get" => Some("get"),
                "create" => Some("post"),
                "update" => Some("put"),
                "patch" => Some("patch"),
                "delete" => Some("delete"),
                _ => None,
            })
            .collect();
        if proxied {
            methods.extend(["options", "head"]);
        }
        for method in methods {
            self.add(path, about.connect(sub, method, false, schemas));
            if proxied {
                self.add(&format!("{path}/{{path}}"), about.connect(sub, method, true, schemas));
            }
        }
    }

    fn add(&mut self, path: &str, operation: Operation) {
        self.0.entry(path.to_owned()).or_default().push(operation);
    }
}

/// `/api/v1` or `/apis/apps/v1`.
fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

fn get(id: String, tag: String, description: String, answer: String, kinds: &'static [&'static str]) -> Operation {
    Operation {
        method: "get",
        id,
        tag,
        description,
        action: "",
        gvk: None,
        parameters: Vec::new(),
        body: None,
        consumes: kinds,
        produces: kinds,
        statuses: &[200],
        answer,
    }
}

/// A resource, in one namespace or (if it is not `scoped`) in all of them.
struct About<'a> {
    resource: &'a Resource,
    scoped: bool,
}

impl About<'_> {
    /// `<verb>AppsV1NamespacedDeployment<suffix>`.
    fn id(&self, verb: &str, infix: &str, suffix: &str) -> String {
        let r = self.resource;
        let namespaced = if r.namespaced() && self.scoped { "Namespaced" } else { "" };
        let everywhere = if r.namespaced() && !self.scoped { "ForAllNamespaces" } else { "" };
        format!("{verb}{}{infix}{namespaced}{}{suffix}{everywhere}", group_version_id(&r.group, &r.version), r.kind)
    }

    fn operation(&self, method: &'static str, action: &'static str, id: String, description: String) -> Operation {
        let r = self.resource;
        let mut parameters = vec![common("pretty")];
        if r.namespaced() && self.scoped {
            parameters.push(in_path("namespace", "the namespace of the object"));
        }
        Operation {
            method,
            id,
            tag: group_version_tag(&r.group, &r.version),
            description,
            action,
            gvk: Some([r.group.to_string(), r.version.to_string(), r.kind.to_string()]),
            parameters,
            body: None,
            consumes: ANYTHING,
            produces: OBJECT,
            statuses: &[200],
            answer: r.type_name.to_string(),
        }
    }

    fn main(&self, verb: &str) -> Operation {
        let (r, kind) = (self.resource, &self.resource.kind);
        let object = Some((r.type_name.to_string(), true));
        let mut operation;
        match verb {
            "list" => {
                let text = if r.allows("watch") { "list or watch" } else { "list" };
                let text = format!("{text} objects of kind {kind}");
                operation = self.operation("get", "list", self.id("list", "", ""), text);
                operation.produces = STREAM;
                operation.answer = format!("{}List", r.type_name);
                operation.parameters.extend(LIST.iter().map(|name| common(name)));
                return operation;
            }
            "create" => {
                operation = self.operation("post", "post", self.id("create", "", ""), format!("create a {kind}"));
                operation.body = object;
                operation.statuses = &[200, 201, 202];
                operation.parameters.extend(WRITE.iter().map(|name| common(name)));
                return operation;
            }
            "deletecollection" => {
                let id = self.id("delete", "Collection", "");
                operation = self.operation("delete", "deletecollection", id, format!("delete collection of {kind}"));
                operation.body = Some((format!("{META}.DeleteOptions"), false));
                operation.answer = format!("{META}.Status");
                let listed = LIST.iter().filter(|name| !matches!(**name, "allowWatchBookmarks" | "watch"));
                operation.parameters.extend(listed.chain(DELETE).map(|name| common(name)));
                return operation;
            }
            "get" => {
                operation = self.operation("get", "get", self.id("read", "", ""), format!("read the specified {kind}"));
            }
            "update" => {
                let text = format!("replace the specified {kind}");
                operation = self.operation("put", "put", self.id("replace", "", ""), text);
                operation.body = object;
                operation.statuses = &[200, 201];
                operation.parameters.extend(WRITE.iter().map(|name| common(name)));
            }
            "patch" => {
                let text = format!("partially update the specified {kind}");
                operation = self.operation("patch", "patch", self.id("patch", "", ""), text);
                patched(&mut operation);
            }
            _ => {
                operation = self.operation("delete", "delete", self.id("delete", "", ""), format!("delete a {kind}"));
                operation.body = Some((format!("{META}.DeleteOptions"), false));
                operation.statuses = &[200, 202];
                if !gives_deleted_object(r) {
                    operation.answer = format!("{META}.Status");
                }
                operation.parameters.extend(DELETE.iter().map(|name| common(name)));
            }
        }
        operation.parameters.push(object_name(kind));
        operation
    }

    fn watch(&self, one: bool) -> Operation {
        let kind = &self.resource.kind;
        let (action, suffix, text) = if one {
            ("watch", "", format!("watch one {kind}. Deprecated: watch the list with a fieldSelector"))
        } else {
            ("watchlist", "List", format!("watch a list of {kind}. Deprecated: use the 'watch' parameter of the list"))
        };
        let mut operation = self.operation("get", action, self.id("watch", "", suffix), text);
        operation.produces = STREAM;
        operation.answer = format!("{META}.WatchEvent");
        operation.parameters.extend(LIST.iter().map(|name| common(name)));
        if one {
            operation.parameters.push(object_name(kind));
        }
        operation
    }

    fn sub(&self, sub: &Subresource, verb: &str, schemas: &Schemas<'_>) -> Option<Operation> {
        let (name, kind) = (&sub.name, &self.resource.kind);
        let suffix = title(name);
        let id = |verb: &str| self.id(verb, "", &suffix);
        let ty = type_name(&sub.group, &sub.version, &sub.kind).to_string();
        let mut operation = match verb {
            "get" => self.operation("get", "get", id("read"), format!("read {name} of the specified {kind}")),
            "update" => self.operation("put", "put", id("replace"), format!("replace {name} of the specified {kind}")),
            "patch" => {
                let text = format!("partially update {name} of the specified {kind}");
                self.operation("patch", "patch", id("patch"), text)
            }
            "create" => self.operation("post", "post", id("create"), format!("create {name} of a {kind}")),
            _ => return None,
        };
        operation.gvk = Some([sub.group.to_string(), sub.version.to_string(), sub.kind.to_string()]);
        operation.answer.clone_from(&ty);
        operation.parameters.push(object_name(&sub.kind));
        match verb {
            "get" if name == "log" => {
                operation.produces = LOG;
                operation.answer = String::new();
                operation.parameters.extend(of_options("PodLogOptions", schemas.descriptions));
            }
            "update" | "create" => {
                operation.body = Some((ty, true));
                operation.statuses = if verb == "create" { &[200, 201, 202] } else { &[200, 201] };
                operation.parameters.extend(WRITE.iter().map(|name| common(name)));
            }
            "patch" => patched(&mut operation),
            _ => {}
        }
        Some(operation)
    }

    fn connect(&self, sub: &Subresource, method: &'static str, with_path: bool, schemas: &Schemas<'_>) -> Operation {
        let suffix = format!("{}{}", title(&sub.name), if with_path { "WithPath" } else { "" });
        let id = self.id("connect", &title(method), &suffix);
        let text = format!("connect {} requests to {} of {}", method.to_uppercase(), sub.name, self.resource.kind);
        let mut operation = self.operation(method, "connect", id, text);
        operation.gvk = Some([sub.group.to_string(), sub.version.to_string(), sub.kind.to_string()]);
        operation.answer = String::new();
        operation.produces = ANYTHING;
        operation.parameters.retain(|parameter: &Parameter| parameter.name != "pretty");
        operation.parameters.push(object_name(&sub.kind));
        operation.parameters.extend(of_options(&sub.kind, schemas.descriptions));
        if with_path {
            operation.parameters.push(in_path("path", "path to the resource"));
        }
        operation
    }
}

fn patched(operation: &mut Operation) {
    operation.body = Some((format!("{META}.Patch"), true));
    operation.consumes = PATCHES;
    operation.statuses = &[200, 201];
    operation.parameters.extend(PATCH.iter().map(|name| common(name)));
}

/// Whether a deletion answers with the object instead of a Status.
fn gives_deleted_object(resource: &Resource) -> bool {
    match resource.group.as_str() {
        "" => matches!(
            resource.resource.as_str(),
            "persistentvolumeclaims"
                | "persistentvolumes"
                | "pods"
                | "podtemplates"
                | "resourcequotas"
                | "serviceaccounts"
                | "services"
        ),
        "resource.k8s.io" => resource.resource != "resourcepoolstatusrequests",
        "storage.k8s.io" => resource.resource != "csistoragecapacities",
        _ => false,
    }
}
