//! Authorization: who may do what.
//!
//! An [`Authorizer`] decides on [`Attributes`]; several are asked in order by a [`Union`]. Authorizers see the
//! cluster through `admission::View` only.

use api_schema::{SmolStr, Value};
use authn::UserInfo;

pub mod aggregation;
pub mod bootstrap;
pub mod escalation;
pub mod node;
pub mod rbac;
pub mod references;
pub mod rule;

pub use aggregation::aggregate;
pub use node::NodeAuthorizer;
pub use rbac::Rbac;

/// A request, as authorizers see it.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// The verb; for paths that are no resource the method in lower case.
    pub verb: &'a str,
    /// Whether this is about a resource, not a path.
    pub is_resource: bool,
    /// The API group; empty for core.
    pub group: &'a str,
    /// The API version.
    pub version: &'a str,
    /// The plural resource name.
    pub resource: &'a str,
    /// The subresource.
    pub subresource: &'a str,
    /// The namespace; empty for cluster-scoped requests and for all namespaces.
    pub namespace: &'a str,
    /// The object's name; empty for all.
    pub name: &'a str,
    /// The path, for requests that are about no resource.
    pub path: &'a str,
    /// The field selector of a list, watch or deletecollection, as its text.
    pub field_selector: &'a str,
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; the reason is for the audit log.
    Allow(SmolStr),
    /// No, and nobody else is asked.
    Deny(SmolStr),
    /// Ask somebody else; no if there is nobody.
    NoOpinion(SmolStr),
}

impl Decision {
    /// Whether this is a yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The reason given.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// Decides who may do what.
pub trait Authorizer: Send + Sync {
    /// Decides on one request.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

impl<A: Authorizer + ?Sized> Authorizer for std::sync::Arc<A> {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        (**self).authorize(attributes)
    }
}

/// Several authorizers: the first that has an opinion decides.
#[derive(Default)]
pub struct Union {
    authorizers: Vec<Box<dyn Authorizer>>,
}

impl std::fmt::Debug for Union {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Union({} authorizers)", self.authorizers.len())
    }
}

impl Union {
    /// Asks these, in order.
    pub fn new(authorizers: Vec<Box<dyn Authorizer>>) -> Self {
        Self { authorizers }
    }
}

impl Authorizer for Union {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut reasons: Vec<SmolStr> = Vec::new();
        for authorizer in &self.authorizers {
            match authorizer.authorize(attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n").into())
    }
}

/// Members of `system:masters` may do anything (upstream's privileged group authorizer).
#[derive(Debug)]
pub struct PrivilegedGroup;

impl Authorizer for PrivilegedGroup {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(authn::user::MASTERS) {
            Decision::Allow(SmolStr::default())
        } else {
            Decision::NoOpinion(SmolStr::default())
        }
    }
}

/// `--authorization-mode=AlwaysAllow`.
#[derive(Debug)]
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow(SmolStr::default())
    }
}

/// `--authorization-mode=AlwaysDeny`.
#[derive(Debug)]
pub struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::NoOpinion("Everything is forbidden.".into())
    }
}

/// What a SelfSubjectRulesReview shows of a user in a namespace, asked of RBAC and (where it is on) the Node authorizer: the
/// resource rules, the path rules, whether there may be more, and what went wrong.
pub fn rules_for(
    rbac: &Rbac,
    with_nodes: bool,
    user: &UserInfo,
    namespace: &str,
) -> (Vec<Value>, Vec<Value>, bool, String) {
    let (resources, paths, incomplete, error) = rbac.rules_for(user, namespace);
    match NodeAuthorizer::rules_error(user).filter(|_| with_nodes) {
        None => (resources, paths, incomplete, error),
        Some(why) => {
            let errors = [why.to_string(), error].into_iter().filter(|error| !error.is_empty());
            (resources, paths, true, rbac::aggregate_errors(errors))
        }
    }
}
