//! A node changes nothing but its own objects, and nothing of them that would draw work or secrets to it.
//!
//! The Node authorizer decides by names; what needs a look at the objects is decided here.

use std::collections::BTreeSet;
use std::sync::Arc;

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::{Map, SmolStr, Value};
use api_semantics::field::quoted;
use api_semantics::status::{GroupResource, Status};
use authn::UserInfo;
use authz::Authorizer;
use authz::references::{MIRROR_POD, claim, config_maps, is_mirror, secrets};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::PkiError;

use crate::refusal::{aggregate, forbidden, not_cached, ready};

const LEASE_NAMESPACE: &str = "kube-node-lease";
const RESTRICTED_NAMESPACE: &str = "node-restriction.kubernetes.io";

/// Labels that nodes may set on themselves although they are Kubernetes' own.
const NODE_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const NODE_LABEL_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Volume types that CSI drivers serve by now, with the driver of each.
const MIGRATED: [(&str, &str); 7] = [
    ("awsElasticBlockStore", "ebs.csi.aws.com"),
    ("azureDisk", "disk.csi.azure.com"),
    ("azureFile", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gcePersistentDisk", "pd.csi.storage.gke.io"),
    ("portworxVolume", "pxd.portworx.com"),
    ("vsphereVolume", "csi.vsphere.vmware.com"),
];

/// See the module.
pub(crate) struct NodeRestriction {
    pub(crate) authorizer: Arc<dyn Authorizer>,
}

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, resource: &GroupResource, _subresource: &str, operation: Operation) -> bool {
        operation != Operation::Connect
            && matches!(
                (&*resource.group, &*resource.resource),
                ("", "pods" | "nodes" | "persistentvolumeclaims" | "serviceaccounts")
                    | ("coordination.k8s.io", "leases")
                    | ("storage.k8s.io", "csinodes")
                    | ("resource.k8s.io", "resourceslices")
                    | ("certificates.k8s.io", "certificatesigningrequests" | "podcertificaterequests")
            )
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a mut Attributes<'_>,
        view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let Some(node) = node_name(attributes.user) else { return ready(Ok(())) };
        if node.is_empty() {
            let user = quoted(&attributes.user.name);
            return ready(Err(forbidden(attributes, format!("could not determine node from user {user}"))));
        }
        ready(Request { node, attributes, view, authorizer: &*self.authorizer }.check())
    }
}

/// The node's name, even an empty one, if the user is a node.
fn node_name(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.is_in(authn::user::NODES))
}

/// A request of a node.
struct Request<'a> {
    node: &'a str,
    attributes: &'a Attributes<'a>,
    view: &'a dyn View,
    authorizer: &'a dyn Authorizer,
}

impl Request<'_> {
    fn check(&self) -> Result<(), Status> {
        match &*self.attributes.resource.resource {
            "pods" => match self.attributes.subresource {
                "" => self.check_pod(),
                "status" => self.check_pod_status(),
                "eviction" => self.check_eviction(),
                other => self.refuse(format!(
                    "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                    quoted(other)
                )),
            },
            "nodes" => self.check_node(),
            "persistentvolumeclaims" if self.attributes.subresource == "status" => self.check_claim_status(),
            "persistentvolumeclaims" => self.refuse("may only update PVC status"),
            "serviceaccounts" => self.check_token(),
            "leases" => self.check_lease(),
            "csinodes" => self.check_csi_node(),
            "resourceslices" => self.check_resource_slice(),
            "certificatesigningrequests" => self.check_signing_request(),
            "podcertificaterequests" => self.refuse("PodCertificateRequest feature gate is disabled"),
            _ => Ok(()),
        }
    }

    fn refuse<T>(&self, why: impl std::fmt::Display) -> Result<T, Status> {
        Err(forbidden(self.attributes, why))
    }

    fn object(&self) -> &Value {
        self.attributes.object.as_deref().unwrap_or(&Value::Null)
    }

    fn old(&self) -> &Value {
        self.attributes.old.unwrap_or(&Value::Null)
    }

    fn node_quoted(&self) -> String {
        quoted(self.node)
    }

    fn pod(&self, name: &str) -> Result<Value, Status> {
        let pod = self.view.get("", "pods", self.attributes.namespace, name);
        pod.ok_or_else(|| not_cached("", "pod", name))
    }

    fn is_own(&self, pod: &Value) -> bool {
        pod.str_at(&["spec", "nodeName"]) == self.node
    }

    // === Pods ===

    fn check_pod(&self) -> Result<(), Status> {
        let node = self.node_quoted();
        match self.attributes.operation {
            Operation::Create => self.check_new_pod(),
            Operation::Delete if self.is_own(&self.pod(self.attributes.name)?) => Ok(()),
            Operation::Delete => {
                self.refuse(format!("node {node} can only delete pods with spec.nodeName set to itself"))
            }
            other => self.refuse(format!(
                "unexpected operation {}, node {node} can only create and delete mirror pods",
                quoted(other.name())
            )),
        }
    }

    fn check_new_pod(&self) -> Result<(), Status> {
        let (pod, node) = (self.object(), self.node_quoted());
        if !is_mirror(pod) {
            return self.refuse(format!(
                "pod does not have {} annotation, node {node} can only create mirror pods",
                quoted(MIRROR_POD)
            ));
        }
        if !self.is_own(pod) {
            return self.refuse(format!("node {node} can only create pods with spec.nodeName set to itself"));
        }
        match pod.list_at(&["metadata", "ownerReferences"]) {
            [owner] => self.check_owner(owner)?,
            [] => {
                return self.refuse(format!("node {node} can only create pods with an owner reference set to itself"));
            }
            _ => {
                return self
                    .refuse(format!("node {node} can only create pods with a single owner reference set to itself"));
            }
        }
        match reference(pod) {
            Ok(None) => Ok(()),
            Ok(Some(sort)) => self.refuse(format!("node {node} can not create pods that reference {sort}")),
            Err(why) => self.refuse(format!("error checking mirror pod for API references: {why}")),
        }
    }

    fn check_owner(&self, owner: &Value) -> Result<(), Status> {
        let node = self.node_quoted();
        let is_node = owner.str_at(&["apiVersion"]) == "v1"
            && owner.str_at(&["kind"]) == "Node"
            && owner.str_at(&["name"]) == self.node;
        if !is_node {
            return self.refuse(format!("node {node} can only create pods with an owner reference set to itself"));
        }
        if owner.bool_at(&["controller"]) != Some(true) {
            return self
                .refuse(format!("node {node} can only create pods with a controller owner reference set to itself"));
        }
        if owner.bool_at(&["blockOwnerDeletion"]) == Some(true) {
            return self.refuse(format!("node {node} must not set blockOwnerDeletion on an owner reference"));
        }
        let object = self.view.get("", "nodes", "", self.node).ok_or_else(|| not_cached("", "node", self.node))?;
        let (given, is) = (owner.str_at(&["uid"]), object.str_at(&["metadata", "uid"]));
        if given != is {
            return self.refuse(format!("node {} UID mismatch: expected {given} got {is}", self.node));
        }
        Ok(())
    }

    fn check_pod_status(&self) -> Result<(), Status> {
        let (pod, old, node) = (self.object(), self.old(), self.node_quoted());
        if self.attributes.operation != Operation::Update {
            return self.refuse(format!("unexpected operation {}", quoted(self.attributes.operation.name())));
        }
        if !self.is_own(old) {
            return self
                .refuse(format!("node {node} can only update pod status for pods with spec.nodeName set to itself"));
        }
        if !changed_labels(pod, old).is_empty() {
            return self.refuse(format!("node {node} cannot update labels through pod status"));
        }
        let claims = |pod: &Value| -> Vec<(SmolStr, Option<Value>)> {
            let statuses = pod.list_at(&["status", "resourceClaimStatuses"]).iter();
            statuses.map(|one| (one.str_at(&["name"]).into(), one.get("resourceClaimName").cloned())).collect()
        };
        if claims(pod) != claims(old) {
            return self.refuse(format!("node {node} cannot update resource claim statues"));
        }
        let extended = ["status", "extendedResourceClaimStatus"];
        if pod.at(&extended) != old.at(&extended) {
            return self.refuse(format!("node {node} cannot update extended resource claim status"));
        }
        Ok(())
    }

    fn check_eviction(&self) -> Result<(), Status> {
        if self.attributes.operation != Operation::Create {
            return self.refuse(format!("unexpected operation {}", self.attributes.operation.name()));
        }
        let name = match self.attributes.name {
            "" => self.object().str_at(&["metadata", "name"]),
            name => name,
        };
        if name.is_empty() {
            return self.refuse("could not determine pod from request data");
        }
        if !self.is_own(&self.pod(name)?) {
            return self.refuse(format!("node {} can only evict pods with spec.nodeName set to itself", self.node));
        }
        Ok(())
    }

    // === Nodes ===

    fn check_node(&self) -> Result<(), Status> {
        let (new, old, node) = (self.object(), self.old(), self.node_quoted());
        if self.attributes.name != self.node {
            let name = quoted(self.attributes.name);
            return self.refuse(format!("node {node} is not allowed to modify node {name}"));
        }
        let source = new.at(&["spec", "configSource"]);
        match self.attributes.operation {
            Operation::Create => {
                if source.is_some() {
                    return self
                        .refuse(format!("node {node} is not allowed to create pods with a non-nil configSource"));
                }
                let labels = forbidden_labels(changed_labels(new, &Value::Null));
                if !labels.is_empty() {
                    let labels = labels.join(", ");
                    return self.refuse(format!("node {node} is not allowed to set the following labels: {labels}"));
                }
            }
            Operation::Update => {
                if source.is_some() && source != old.at(&["spec", "configSource"]) {
                    return self.refuse(format!(
                        "node {node} is not allowed to update configSource to a new non-nil configSource"
                    ));
                }
                if new.list_at(&["spec", "taints"]) != old.list_at(&["spec", "taints"]) {
                    return self.refuse(format!("node {node} is not allowed to modify taints"));
                }
                let owners = ["metadata", "ownerReferences"];
                if new.list_at(&owners) != old.list_at(&owners) {
                    return self.refuse(format!("node {node} is not allowed to modify ownerReferences"));
                }
                let labels = forbidden_labels(changed_labels(new, old));
                if !labels.is_empty() {
                    return self.refuse(format!("is not allowed to modify labels: {}", labels.join(", ")));
                }
            }
            Operation::Delete | Operation::Connect => {}
        }
        Ok(())
    }

    // === What belongs to Pods and nodes ===

    fn check_claim_status(&self) -> Result<(), Status> {
        if self.attributes.operation != Operation::Update {
            return self.refuse(format!("unexpected operation {}", quoted(self.attributes.operation.name())));
        }
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            for field in ["resourceVersion", "managedFields"] {
                claim.remove(&["metadata", field]);
            }
            for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
                claim.remove(&["status", field]);
            }
            claim
        };
        let (new, old) = (rest(self.object()), rest(self.old()));
        if new != old {
            let node = self.node_quoted();
            let mut paths = Vec::new();
            differences("", &new, &old, &mut paths);
            return self.refuse(format!(
                "node {node} is not allowed to update fields other than status.quantity and status.conditions: {}",
                paths.join(", ")
            ));
        }
        Ok(())
    }

    fn check_token(&self) -> Result<(), Status> {
        if self.attributes.operation != Operation::Create || self.attributes.subresource != "token" {
            return Ok(());
        }
        let request = self.object();
        let bound = |field: &str| request.str_at(&["spec", "boundObjectRef", field]);
        if bound("apiVersion") != "v1" || bound("kind") != "Pod" || bound("name").is_empty() {
            return self.refuse("node requested token not bound to a pod");
        }
        let uid = bound("uid");
        if uid.is_empty() {
            return self.refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.pod(bound("name"))?;
        if pod.str_at(&["metadata", "uid"]) != uid {
            return self.refuse(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if !self.is_own(&pod) {
            return self.refuse("node requested token bound to a pod scheduled on a different node");
        }
        self.check_audience(request, &pod)
    }

    /// A node gets tokens for the audiences that its Pods name, and for those it may ask for by a rule of its own.
    fn check_audience(&self, request: &Value, pod: &Value) -> Result<(), Status> {
        let audience = match request.list_at(&["spec", "audiences"]) {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return self.refuse("node may only request 0 or 1 audiences"),
        };
        match self.pod_names_audience(pod, audience) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(why) => return self.refuse(format!("error validating audience {}: {why}", quoted(audience))),
        }
        let question = authz::Attributes {
            user: self.attributes.user,
            verb: "request-serviceaccounts-token-audience",
            is_resource: true,
            group: "",
            version: "v1",
            resource: audience,
            subresource: "",
            namespace: self.attributes.namespace,
            name: self.attributes.name,
            path: "",
            field_selector: "",
        };
        if self.authorizer.authorize(&question).is_allowed() {
            return Ok(());
        }
        self.refuse(format!(
            "audience {} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            quoted(audience),
            self.attributes.user.name
        ))
    }

    fn pod_names_audience(&self, pod: &Value, audience: &str) -> Result<bool, String> {
        let is_named = |sources: &[Value], path: &[&str]| sources.iter().any(|source| source.str_at(path) == audience);
        let mut errors = Vec::new();
        for volume in pod.list_at(&["spec", "volumes"]) {
            let mut tokens =
                volume.list_at(&["projected", "sources"]).iter().filter_map(|one| one.get("serviceAccountToken"));
            if tokens.any(|token| token.str_at(&["audience"]) == audience) {
                return Ok(true);
            }
            let driver = match self.driver(pod, volume) {
                Ok(Some(driver)) => driver,
                Ok(None) => continue,
                Err(missing) => {
                    errors.push(missing.to_string());
                    continue;
                }
            };
            match self.view.get("storage.k8s.io", "csidrivers", "", &driver) {
                Some(driver) if is_named(driver.list_at(&["spec", "tokenRequests"]), &["audience"]) => return Ok(true),
                Some(_) => {}
                None => errors.push(not_cached("storage.k8s.io", "csidriver", &driver).to_string()),
            }
        }
        aggregate(errors).map_or(Ok(false), Err)
    }

    /// The CSI driver of a volume of a Pod, also behind a claim.
    fn driver(&self, pod: &Value, volume: &Value) -> Result<Option<SmolStr>, Status> {
        let is_claim =
            volume.get("persistentVolumeClaim").is_some() || volume.at(&["ephemeral", "volumeClaimTemplate"]).is_some();
        let Some(claim) = claim(pod, volume).filter(|_| is_claim) else { return Ok(driver_of(volume)) };
        let object = self
            .view
            .get("", "persistentvolumeclaims", self.attributes.namespace, &claim)
            .ok_or_else(|| not_cached("", "persistentvolumeclaim", &claim))?;
        let name = object.str_at(&["spec", "volumeName"]);
        let volume =
            self.view.get("", "persistentvolumes", "", name).ok_or_else(|| not_cached("", "persistentvolume", name))?;
        Ok(volume.get("spec").and_then(driver_of))
    }

    fn check_lease(&self) -> Result<(), Status> {
        if self.attributes.namespace != LEASE_NAMESPACE {
            return self.refuse(format!("can only access leases in the {} system namespace", quoted(LEASE_NAMESPACE)));
        }
        self.check_own_name("can only access node lease with the same name as the requesting node")
    }

    fn check_csi_node(&self) -> Result<(), Status> {
        self.check_own_name("can only access CSINode with the same name as the requesting node")
    }

    fn check_own_name(&self, why: &str) -> Result<(), Status> {
        let name = match self.attributes.operation {
            Operation::Create => self.object().str_at(&["metadata", "name"]),
            _ => self.attributes.name,
        };
        if name == self.node { Ok(()) } else { self.refuse(why) }
    }

    fn check_resource_slice(&self) -> Result<(), Status> {
        let (slice, verb) = match self.attributes.operation {
            Operation::Create => (self.object(), "create"),
            Operation::Delete => (self.old(), "delete"),
            _ => return Ok(()),
        };
        if self.is_own(slice) {
            return Ok(());
        }
        self.refuse(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
    }

    fn check_signing_request(&self) -> Result<(), Status> {
        let request = self.object();
        let signer = request.str_at(&["spec", "signerName"]);
        if self.attributes.operation != Operation::Create
            || !matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet")
        {
            return Ok(());
        }
        let pem = STANDARD.decode(request.str_at(&["spec", "request"])).unwrap_or_default();
        let parsed = match pki::Csr::from_pem(&pem) {
            Ok(parsed) => parsed,
            Err(PkiError::Csr(why)) => return self.refuse(format!("unable to parse csr: {why}")),
            Err(error) => return self.refuse(format!("unable to parse csr: {error}")),
        };
        if parsed.subject.common_name != format!("system:node:{}", self.node) {
            return self.refuse(format!("can only create a node CSR with CN=system:node:{}", self.node));
        }
        Ok(())
    }
}

/// What sort of API object the Pod names first, if it names any; an error for volumes of unknown types.
fn reference(pod: &Value) -> Result<Option<&'static str>, String> {
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if secrets(pod).next().is_some() {
        return Ok(Some("secrets"));
    }
    if config_maps(pod).next().is_some() {
        return Ok(Some("configmaps"));
    }
    if !pod.list_at(&["spec", "resourceClaims"]).is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in pod.list_at(&["spec", "volumes"]) {
        if let Some(sort) = volume_reference(volume)? {
            return Ok(Some(sort));
        }
    }
    Ok(None)
}

fn volume_reference(volume: &Value) -> Result<Option<&'static str>, String> {
    const HARMLESS: [&str; 22] = [
        "awsElasticBlockStore",
        "azureDisk",
        "cephfs",
        "cinder",
        "downwardAPI",
        "emptyDir",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "hostPath",
        "image",
        "iscsi",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    ];
    const SORTS: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let find = |value: &Value, table: &'static [(&str, &str)]| {
        table.iter().find(|(field, _)| value.get(field).is_some()).map(|(_, sort)| *sort)
    };
    let name = quoted(volume.str_at(&["name"]));
    if let Some(sort) = find(volume, &SORTS) {
        return Ok(Some(sort));
    }
    if let Some(projected) = volume.get("projected") {
        for source in projected.list_at(&["sources"]) {
            if let Some(sort) = find(source, &PROJECTED) {
                return Ok(Some(sort));
            }
            if source.get("downwardAPI").is_none() {
                return Err(format!("unknown source for projected volume {name}"));
            }
        }
        return Ok(None);
    }
    let sources =
        volume.as_map().into_iter().flat_map(Map::iter).filter(|(key, value)| *key != "name" && !value.is_null());
    let mut fields = sources.map(|(key, _)| key.as_str()).peekable();
    if fields.peek().is_some() && fields.all(|field| HARMLESS.contains(&field)) {
        return Ok(None);
    }
    Err(format!("unknown volume type for volume  {name}"))
}

fn driver_of(source: &Value) -> Option<SmolStr> {
    if let Some(csi) = source.get("csi") {
        return Some(csi.str_at(&["driver"]).into()).filter(|driver: &SmolStr| !driver.is_empty());
    }
    MIGRATED.iter().find(|(field, _)| source.get(field).is_some()).map(|(_, driver)| SmolStr::new_static(driver))
}

// === Labels ===

fn changed_labels(new: &Value, old: &Value) -> BTreeSet<SmolStr> {
    let labels = |object: &Value| -> Map { object.map_at(&["metadata", "labels"]).cloned().unwrap_or_default() };
    let (new, old) = (labels(new), labels(old));
    let keys: BTreeSet<SmolStr> = new.keys().chain(old.keys()).cloned().collect();
    keys.into_iter().filter(|key| new.get(key) != old.get(key)).collect()
}

fn forbidden_labels(changed: BTreeSet<SmolStr>) -> Vec<String> {
    let is_forbidden = |label: &SmolStr| {
        let namespace = label.split_once('/').map(|(namespace, _)| namespace).unwrap_or_default();
        let is_below =
            |parent: &str| namespace.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let is_nodes = NODE_LABELS.contains(&label.as_str()) || NODE_LABEL_NAMESPACES.iter().any(|one| is_below(one));
        is_below(RESTRICTED_NAMESPACE) || (is_below("kubernetes.io") || is_below("k8s.io")) && !is_nodes
    };
    changed.iter().filter(|label| is_forbidden(label)).map(ToString::to_string).collect()
}

// === Differences ===

/// The paths where two objects differ.
fn differences(at: &str, a: &Value, b: &Value, paths: &mut Vec<String>) {
    let (Some(a_map), Some(b_map)) = (a.as_map(), b.as_map()) else {
        if a != b {
            paths.push(at.to_owned());
        }
        return;
    };
    let keys: BTreeSet<&SmolStr> = a_map.keys().chain(b_map.keys()).collect();
    for key in keys {
        let path = if at.is_empty() { key.to_string() } else { format!("{at}.{key}") };
        let value = |map: &Map| map.get(key).cloned().unwrap_or_default();
        differences(&path, &value(a_map), &value(b_map), paths);
    }
}
