//! Nobody grants more than they hold: checks of changes of roles and bindings.

use std::collections::BTreeSet;

use api_schema::{SmolStr, Value};
use api_semantics::field::quoted;
use api_semantics::status::{GroupResource, Status};
use authn::UserInfo;
use authn::user::MASTERS;

use crate::rbac::{GROUP, Rbac, UserRules};
use crate::rule::{Rule, compact, quoted_list, uncovered};
use crate::{Attributes, Authorizer};

/// A change of a role or a binding.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Who makes it.
    pub user: &'a UserInfo,
    /// `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`.
    pub resource: &'a str,
    /// The namespace; empty for cluster roles and their bindings.
    pub namespace: &'a str,
    /// The name that the request gives; empty for creations.
    pub name: &'a str,
    /// The object as it shall become.
    pub new: &'a Value,
    /// The object as it is, for updates.
    pub old: Option<&'a Value>,
}

impl Change<'_> {
    /// Checks that the user holds what the change grants, or may grant it nevertheless: members of `system:masters`,
    /// holders of the verb `escalate` on the role or `bind` on the role of the binding. Other resources pass.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, rbac: &Rbac, authorizer: &dyn Authorizer) -> Result<(), Status> {
        if self.user.is_in(MASTERS) || self.old.is_some_and(|old| is_bookkeeping(self.new, old)) {
            return Ok(());
        }
        match self.resource {
            "roles" | "clusterroles" => self.check_role(rbac, authorizer),
            "rolebindings" | "clusterrolebindings" => self.check_binding(rbac, authorizer),
            _ => Ok(()),
        }
    }

    fn check_role(&self, rbac: &Rbac, authorizer: &dyn Authorizer) -> Result<(), Status> {
        if self.may(authorizer, "escalate", GROUP, self.resource, self.name) {
            return Ok(());
        }
        self.hold(rbac, &Rule::list(self.new))?;
        if is_aggregating(self.new) || self.old.is_some_and(is_aggregating) {
            let everything = || vec![SmolStr::new_static("*")];
            let all = [
                Rule { verbs: everything(), api_groups: everything(), resources: everything(), ..Rule::default() },
                Rule { verbs: everything(), non_resource_urls: everything(), ..Rule::default() },
            ];
            if self.hold(rbac, &all).is_err() {
                return Err(self.forbidden("must have cluster-admin privileges to use the aggregationRule"));
            }
        }
        Ok(())
    }

    fn check_binding(&self, rbac: &Rbac, authorizer: &dyn Authorizer) -> Result<(), Status> {
        let Some(role_ref) = self.new.get("roleRef") else { return Ok(()) };
        let (group, name) = (role_ref.str_at(&["apiGroup"]), role_ref.str_at(&["name"]));
        let resource = match role_ref.str_at(&["kind"]) {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            _ => "",
        };
        if !resource.is_empty() && self.may(authorizer, "bind", group, resource, name) {
            return Ok(());
        }
        let rules = rbac.role_rules(role_ref, self.namespace).map_err(|error| error.status(self.resource))?;
        self.hold(rbac, &rules)
    }

    fn may(&self, authorizer: &dyn Authorizer, verb: &str, group: &str, resource: &str, name: &str) -> bool {
        let attributes = Attributes {
            user: self.user,
            verb,
            is_resource: true,
            group,
            version: "*",
            resource,
            subresource: "",
            namespace: self.namespace,
            name,
            path: "",
            field_selector: "",
        };
        authorizer.authorize(&attributes).is_allowed()
    }

    /// Checks that the user holds all of these rules in the namespace of the change.
    fn hold(&self, rbac: &Rbac, wanted: &[Rule]) -> Result<(), Status> {
        let UserRules { rules, errors } = rbac.user_rules(self.user, self.namespace);
        let missing: BTreeSet<String> = compact(uncovered(&rules, wanted)).iter().map(ToString::to_string).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut message = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            quoted(&self.user.name),
            quoted_list(&self.user.groups),
            missing.into_iter().collect::<Vec<_>>().join("\n")
        );
        if !errors.is_empty() {
            let errors =
                crate::rbac::aggregate_errors(errors.iter().map(|error| error.status(self.resource).to_string()));
            message.push_str(&format!("; resolution errors: [{errors}]"));
        }
        Err(self.forbidden(message))
    }

    fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&GroupResource::new(GROUP, self.resource), self.new.str_at(&["metadata", "name"]), why)
    }
}

fn is_aggregating(role: &Value) -> bool {
    !role.list_at(&["aggregationRule", "clusterRoleSelectors"]).is_empty()
}

/// Whether only what garbage collection needs is changed, which grants nothing.
fn is_bookkeeping(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "selfLink", "resourceVersion"] {
            object.remove(&["metadata", field]);
        }
        object
    };
    rest(new) == rest(old)
}
