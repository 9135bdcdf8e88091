//! Field sets that were written when the schema said otherwise: what has become one value since is owned as one.

use super::{Atom, Relation, Ty};
use crate::field_set::{FieldSet, PathElement};

/// Replaces what a set has inside a value that is atomic now by the value itself; says whether anything was.
pub(crate) fn reconcile(ty: Ty<'_>, set: &mut FieldSet) -> bool {
    let mut changed = false;
    for node in &mut set.nodes {
        let inner = match (&node.element, ty) {
            // Nothing is known here, now as then.
            (_, Ty::Deduced | Ty::Untyped) => None,
            (PathElement::Name(name), _) => ty.entry(name).and_then(|entry| entry.ty),
            _ => ty.list_item(),
        };
        let Some(inner) = inner.filter(|_| !node.children.is_empty()) else { continue };
        let is_atomic = match inner.atom(&api_schema::Value::Null) {
            Atom::Map(atom) => atom.atomic,
            Atom::List(atom) => matches!(atom.relation, Relation::Atomic),
            Atom::Scalar(_) => false,
        };
        if is_atomic {
            node.member = true;
            node.children = FieldSet::new();
            changed = true;
        } else {
            changed |= reconcile(inner, &mut node.children);
        }
    }
    changed
}
