//! The Node authorizer: what a kubelet may do, down to the objects that its own Pods need.
//!
//! Users `system:node:NAME` in the group `system:nodes` are nodes. Which object belongs to a node follows from its Pods, as
//! they are when the request comes.

use std::sync::{Arc, OnceLock};

use admission::View;
use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::field::quoted;
use api_semantics::selector::FieldSelector;
use authn::UserInfo;
use authn::user::NODES;

use crate::references::{claims, config_maps, is_mirror, secrets};
use crate::rule::Rule;
use crate::{Attributes, Authorizer, Decision};

const NODE_USER_PREFIX: &str = "system:node:";
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Decides on requests of nodes.
pub struct NodeAuthorizer {
    view: OnceLock<Arc<dyn View>>,
    rules: Vec<Rule>,
}

impl std::fmt::Debug for NodeAuthorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeAuthorizer(view: {})", self.view.get().is_some())
    }
}

impl Default for NodeAuthorizer {
    fn default() -> Self {
        Self::new()
    }
}

/// A sort of object that nodes may reach through their Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    ConfigMap,
    Secret,
    Claim,
    Volume,
    ResourceClaim,
    ResourceSlice,
    Attachment,
    ServiceAccount,
    Pod,
}

impl NodeAuthorizer {
    /// An authorizer that sees no object yet.
    pub fn new() -> Self {
        Self { view: OnceLock::new(), rules: crate::bootstrap::node_rules() }
    }

    /// Lets the authorizer see the cluster. Only the first view counts.
    pub fn set_view(&self, view: Arc<dyn View>) {
        // A second view is a second server around one authorizer: the first stays.
        let _ = self.view.set(view);
    }

    /// Why a SelfSubjectRulesReview of this user is incomplete, if it is.
    pub fn rules_error(user: &UserInfo) -> Option<&'static str> {
        node_name(user).map(|_| "node authorizer does not support user rule resolution")
    }

    fn decide(&self, node: &str, request: &Attributes<'_>) -> Decision {
        if request.is_resource {
            match (request.group, request.resource) {
                ("", "secrets") => return self.read_namespaced(node, Sort::Secret, request),
                ("", "configmaps") => return self.read_namespaced(node, Sort::ConfigMap, request),
                ("", "persistentvolumeclaims") if request.subresource == "status" => {
                    return match request.verb {
                        "update" | "patch" => self.related(node, Sort::Claim, request),
                        _ => no("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return self.get(node, Sort::Claim, request),
                ("", "persistentvolumes") => return self.get(node, Sort::Volume, request),
                ("resource.k8s.io", "resourceclaims") => return self.get(node, Sort::ResourceClaim, request),
                ("storage.k8s.io", "volumeattachments") => return self.get(node, Sort::Attachment, request),
                ("", "serviceaccounts") => return self.service_account(node, request),
                ("coordination.k8s.io", "leases") => return lease(node, request),
                ("storage.k8s.io", "csinodes") => return csi_node(node, request),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(node, request),
                ("", "nodes") => return node_object(node, request),
                ("", "pods") => return self.pod(node, request),
                // Behind a gate that is off in 1.36.
                ("certificates.k8s.io", "podcertificaterequests") => return no(""),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(request)) { yes() } else { no("") }
    }

    fn get(&self, node: &str, sort: Sort, request: &Attributes<'_>) -> Decision {
        if request.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !request.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(node, sort, request)
    }

    fn read_namespaced(&self, node: &str, sort: Sort, request: &Attributes<'_>) -> Decision {
        if !matches!(request.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !request.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if request.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, sort, request)
    }

    fn service_account(&self, node: &str, request: &Attributes<'_>) -> Decision {
        if request.verb == "get" && request.subresource.is_empty() {
            return self.read_namespaced(node, Sort::ServiceAccount, request);
        }
        if request.verb != "create" || request.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if request.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, Sort::ServiceAccount, request)
    }

    fn resource_slice(&self, node: &str, request: &Attributes<'_>) -> Decision {
        if !request.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match request.verb {
            // NodeRestriction looks at the content.
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(node, Sort::ResourceSlice, request),
            "watch" | "list" | "deletecollection" if selects(request, node) => yes(),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, request: &Attributes<'_>) -> Decision {
        match (request.subresource, request.verb) {
            ("", "get") => self.get(node, Sort::Pod, request),
            ("", "list" | "watch") if selects(request, node) => yes(),
            ("", "list" | "watch") if !request.name.is_empty() => self.related(node, Sort::Pod, request),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            // NodeRestriction sees to it that the Pod is the node's own, and a mirror where it must be.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => yes(),
            _ => no(""),
        }
    }

    fn related(&self, node: &str, sort: Sort, request: &Attributes<'_>) -> Decision {
        if request.name.is_empty() {
            return no("No Object name found");
        }
        let view = self.view.get().map(|view| &**view);
        if view.is_some_and(|view| reaches(view, node, sort, request.namespace, request.name)) {
            yes()
        } else {
            Decision::NoOpinion(format_smolstr!("no relationship found between node '{node}' and this object"))
        }
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match node_name(attributes.user) {
            None => no(""),
            Some("") => Decision::NoOpinion(format_smolstr!("unknown node for user {}", quoted(&attributes.user.name))),
            Some(node) => self.decide(node, attributes),
        }
    }
}

/// The node's name, even an empty one, if the user is a node.
fn node_name(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(NODE_USER_PREFIX).filter(|_| user.is_in(NODES))
}

fn yes() -> Decision {
    Decision::Allow(SmolStr::default())
}

fn no(reason: &str) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn lease(node: &str, request: &Attributes<'_>) -> Decision {
    if !matches!(request.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if request.namespace != LEASE_NAMESPACE {
        let why = format_smolstr!("can only access leases in the {} system namespace", quoted(LEASE_NAMESPACE));
        return Decision::NoOpinion(why);
    }
    // The name of a new object is not known here; NodeRestriction checks it.
    if request.verb != "create" && request.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(node: &str, request: &Attributes<'_>) -> Decision {
    if !matches!(request.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !request.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if request.verb != "create" && request.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

fn node_object(node: &str, request: &Attributes<'_>) -> Decision {
    match (request.subresource, request.verb) {
        // NodeRestriction sees to it that a node changes itself only.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        ("", "get" | "list" | "watch") => match request.name {
            name if name == node => yes(),
            "" => Decision::NoOpinion(format_smolstr!("node '{node}' cannot read all nodes, only its own Node object")),
            other => {
                Decision::NoOpinion(format_smolstr!("node '{node}' cannot read '{other}', only its own Node object"))
            }
        },
        _ => no(""),
    }
}

/// Whether the request is about the objects of this node only, by its field selector.
fn selects(request: &Attributes<'_>, node: &str) -> bool {
    FieldSelector::parse(request.field_selector).is_ok_and(|selector| {
        selector.terms.iter().any(|term| term.equal && term.field == "spec.nodeName" && term.value == node)
    })
}

/// Whether the object is the node's own, or one of the node's Pods needs it.
fn reaches(view: &dyn View, node: &str, sort: Sort, namespace: &str, name: &str) -> bool {
    let is_of_cluster = matches!(sort, Sort::Volume | Sort::Attachment | Sort::ResourceSlice);
    // To a view no namespace means all of them; to a request it names nothing.
    if is_of_cluster != namespace.is_empty() {
        return false;
    }
    let pods = |namespace: &str| view.list_where("", "pods", namespace, "spec.nodeName", node);
    // A node could make a mirror Pod that names anything, so what mirror Pods name gives no access.
    let any_pod = |needs: &dyn Fn(&Value) -> bool| pods(namespace).iter().any(|pod| !is_mirror(pod) && needs(pod));
    let names_node = |object: Option<Value>| object.is_some_and(|object| object.str_at(&["spec", "nodeName"]) == node);
    match sort {
        Sort::Pod => names_node(view.get("", "pods", namespace, name)),
        Sort::Attachment => names_node(view.get("storage.k8s.io", "volumeattachments", "", name)),
        Sort::ResourceSlice => names_node(view.get("resource.k8s.io", "resourceslices", "", name)),
        Sort::ServiceAccount => any_pod(&|pod| pod.str_at(&["spec", "serviceAccountName"]) == name),
        Sort::ConfigMap => any_pod(&|pod| config_maps(pod).any(|own| own == name)),
        Sort::Claim => any_pod(&|pod| claims(pod).any(|claim| claim == name)),
        Sort::ResourceClaim => any_pod(&|pod| mentions_resource_claim(pod, name)),
        Sort::Volume => {
            view.get("", "persistentvolumes", "", name).is_some_and(|volume| is_claimed_by_pod(&volume, pods))
        }
        Sort::Secret => {
            any_pod(&|pod| secrets(pod).any(|own| own == name))
                || view
                    .list("", "persistentvolumes", "")
                    .iter()
                    .any(|volume| volume_needs_secret(volume, namespace, name) && is_claimed_by_pod(volume, pods))
        }
    }
}

fn is_claimed_by_pod(volume: &Value, pods: impl Fn(&str) -> Vec<Value>) -> bool {
    let Some(claim) = volume.at(&["spec", "claimRef"]) else { return false };
    let name = claim.str_at(&["name"]);
    pods(claim.str_at(&["namespace"])).iter().any(|pod| !is_mirror(pod) && claims(pod).any(|claim| claim == name))
}

fn mentions_resource_claim(pod: &Value, name: &str) -> bool {
    pod.str_at(&["status", "extendedResourceClaimStatus", "resourceClaimName"]) == name
        || pod.list_at(&["spec", "resourceClaims"]).iter().any(|claim| {
            if let Some(own) = claim.get("resourceClaimName") {
                return own.as_str() == Some(name);
            }
            claim.get("resourceClaimTemplateName").is_some()
                && pod
                    .list_at(&["status", "resourceClaimStatuses"])
                    .iter()
                    .find(|status| status.str_at(&["name"]) == claim.str_at(&["name"]))
                    .is_some_and(|status| status.str_at(&["resourceClaimName"]) == name)
        })
}

/// Whether a kubelet needs this secret to use the volume.
fn volume_needs_secret(volume: &Value, namespace: &str, name: &str) -> bool {
    const IN_NAMESPACE_OF_CLAIM: [&str; 5] = ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi"];
    const OWN_NAMESPACE: [&[&str]; 5] = [
        &["cinder", "secretRef"],
        &["storageos", "secretRef"],
        &["csi", "nodePublishSecretRef"],
        &["csi", "nodeStageSecretRef"],
        &["csi", "nodeExpandSecretRef"],
    ];
    let Some(spec) = volume.get("spec") else { return false };
    let of_claim = spec.str_at(&["claimRef", "namespace"]);
    let is_wanted = |own_namespace: &str, own: &str, fallback: &str| {
        let own_namespace = if own_namespace.is_empty() { fallback } else { own_namespace };
        own == name && own_namespace == namespace
    };
    let reference = |path: &[&str], fallback: &str| {
        spec.at(path).is_some_and(|secret| is_wanted(secret.str_at(&["namespace"]), secret.str_at(&["name"]), fallback))
    };
    spec.get("azureFile")
        .is_some_and(|azure| is_wanted(azure.str_at(&["secretNamespace"]), azure.str_at(&["secretName"]), of_claim))
        || IN_NAMESPACE_OF_CLAIM.iter().any(|source| reference(&[source, "secretRef"], of_claim))
        || OWN_NAMESPACE.iter().any(|path| reference(path, ""))
}
