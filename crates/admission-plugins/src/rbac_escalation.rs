//! Nobody grants more than they hold: changes of roles and bindings.
//!
//! Upstream checks this in the storage of these kinds: behind the plugins that change objects, before validation.

use std::sync::Arc;

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_semantics::status::{GroupResource, Status};
use authz::escalation::Change;
use authz::{Authorizer, Rbac, rbac};

use crate::refusal::ready;

/// See the module.
pub(crate) struct RbacEscalation {
    pub(crate) rbac: Arc<Rbac>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
}

impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RbacEscalation"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        resource.group == rbac::GROUP
            && subresource.is_empty()
            && matches!(operation, Operation::Create | Operation::Update)
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a mut Attributes<'_>,
        _view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let Some(new) = attributes.object.as_deref() else { return ready(Ok(())) };
        let change = Change {
            user: attributes.user,
            resource: &attributes.resource.resource,
            namespace: attributes.namespace,
            // The path of a creation names nothing, so rights by name do not count.
            name: if attributes.old.is_some() { attributes.name } else { "" },
            new,
            old: attributes.old,
        };
        ready(change.check(&self.rbac, &*self.authorizer))
    }
}
