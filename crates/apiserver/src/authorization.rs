//! Joins the authorizers to the cluster: which of them decide, what they watch, and RBAC's first objects.

use std::sync::Arc;

use api_schema::{SmolStr, Value};
use api_semantics::status::Status;
use authn::UserInfo;
use authz::{AlwaysAllow, AlwaysDeny, Authorizer, NodeAuthorizer, PrivilegedGroup, Rbac, Union};
use registry::{Context, DeleteOptions, Observers, Registry, WriteOptions};

use crate::bootstrap::{Pending, loopback_user, together};
use crate::start::StartError;
use crate::virtuals::RuleLister;

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
const RBAC_RESOURCES: [&str; 4] = ["roles", "clusterroles", "rolebindings", "clusterrolebindings"];

/// The authorizers of `--authorization-mode`.
pub struct Authorization {
    union: Arc<Union>,
    rbac: Option<Arc<Rbac>>,
    node: Option<Arc<NodeAuthorizer>>,
}

struct Rules {
    rbac: Option<Arc<Rbac>>,
    with_nodes: bool,
}

impl RuleLister for Rules {
    fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Value>, Vec<Value>, bool, String) {
        match &self.rbac {
            Some(rbac) => authz::rules_for(rbac, self.with_nodes, user, namespace),
            None => (Vec::new(), Vec::new(), true, "the authorizer cannot list rules".into()),
        }
    }
}

impl Authorization {
    /// The authorizers of these modes, asked in this order.
    ///
    /// # Errors
    /// For a mode that there is not.
    pub fn new(modes: &[String]) -> Result<Self, StartError> {
        let mut authorizers: Vec<Box<dyn Authorizer>> = vec![Box::new(PrivilegedGroup)];
        let (mut rbac, mut node) = (None, None);
        for mode in modes {
            match mode.as_str() {
                "AlwaysAllow" => authorizers.push(Box::new(AlwaysAllow)),
                "AlwaysDeny" => authorizers.push(Box::new(AlwaysDeny)),
                "RBAC" => {
                    let one = Arc::clone(rbac.get_or_insert_with(|| Arc::new(Rbac::new())));
                    authorizers.push(Box::new(one));
                }
                "Node" => {
                    let one = Arc::clone(node.get_or_insert_with(|| Arc::new(NodeAuthorizer::new())));
                    authorizers.push(Box::new(one));
                }
                "ABAC" | "Webhook" => {
                    return Err(StartError::Flag(format!("--authorization-mode: {mode} is not there yet")));
                }
                other => {
                    return Err(StartError::Flag(format!("--authorization-mode: {other:?} is not a valid mode")));
                }
            }
        }
        Ok(Self { union: Arc::new(Union::new(authorizers)), rbac, node })
    }

    /// What the authorizers watch.
    pub fn observers(&self) -> Observers {
        let Some(rbac) = &self.rbac else { return Vec::new() };
        let observe = |resource: &'static str| {
            let rbac = Arc::clone(rbac);
            let observer = move |key: &str, object: Option<&Value>| {
                let (namespace, name) = key.rsplit_once('/').unwrap_or(("", key));
                rbac.apply(resource, namespace, name, object);
            };
            ((RBAC_GROUP, resource), Arc::new(observer) as registry::Observer)
        };
        RBAC_RESOURCES.into_iter().map(observe).collect()
    }

    /// Gives the authorizers the cluster to look at.
    pub fn attach(&self, registry: &Arc<Registry>) {
        if let Some(node) = &self.node {
            node.set_view(Arc::clone(registry) as Arc<dyn admission::View>);
        }
    }

    /// Makes and completes RBAC's default roles and bindings.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn bootstrap(&self, registry: &Registry) -> Result<(), Status> {
        if self.rbac.is_none() {
            return Ok(());
        }
        let keep = |(resource, wanted)| Box::pin(keep_default(registry, resource, wanted)) as Pending<'_, ()>;
        together(authz::bootstrap::objects().into_iter().map(keep).collect()).await
    }

    /// Decides on requests.
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        Arc::clone(&self.union) as Arc<dyn Authorizer>
    }

    /// The roles, where RBAC is on.
    pub fn rbac(&self) -> Option<Arc<Rbac>> {
        self.rbac.clone()
    }

    /// Lists what users may do.
    pub fn rules(&self) -> Arc<dyn RuleLister> {
        Arc::new(Rules { rbac: self.rbac.clone(), with_nodes: self.node.is_some() })
    }
}

/// Makes or completes one of RBAC's default objects.
async fn keep_default(registry: &Registry, resource: &'static str, wanted: Value) -> Result<(), Status> {
    let Some(served) = registry.served(RBAC_GROUP, "v1", resource) else { return Ok(()) };
    let namespace = SmolStr::new(wanted.str_at(&["metadata", "namespace"]));
    let name = SmolStr::new(wanted.str_at(&["metadata", "name"]));
    let existing = registry.cached(RBAC_GROUP, resource, &namespace, &name);
    let Some(change) = authz::bootstrap::reconcile(existing.as_ref(), &wanted) else { return Ok(()) };
    let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
    let mut cx = Context::new(loopback_user(), options);
    let change = registry::codec::normalize_served(&served, change)?;
    if existing.is_some() && !change.str_at(&["metadata", "uid"]).is_empty() {
        return registry.update(&served, &mut cx, &namespace, &name, "", change).await.map(drop);
    }
    if existing.is_some() {
        registry.delete(&served, &mut cx, &namespace, &name, &DeleteOptions::default()).await?;
    }
    match registry.create(&served, &mut cx, &namespace, change).await {
        Err(status) if status.reason != "AlreadyExists" => Err(status),
        _ => Ok(()),
    }
}
