//! Taking fields out of a value.

use api_schema::{Map, Value};

use super::{Atom, Relation, Ty};
use crate::field_set::{FieldSet, PathElement};

/// The value without the fields of a set. A map or list that becomes empty by it becomes null.
pub(crate) fn remove(ty: Ty<'_>, value: &Value, set: &FieldSet) -> Value {
    match (ty.atom(value), value) {
        (Atom::Scalar(_), scalar) => scalar.clone(),
        (Atom::Map(atom), Value::Map(map)) if !atom.atomic => {
            let mut out = Map::with_capacity(map.len());
            for (key, value) in map.iter() {
                let node = set.node(&PathElement::Name(key.clone()));
                let value = match node {
                    Some(node) if node.member => continue,
                    Some(node) => remove(atom.entry(key).ty.unwrap_or(Ty::Deduced), value, &node.children),
                    None => value.clone(),
                };
                out.insert(key.clone(), value);
            }
            if out.is_empty() { Value::Null } else { Value::Map(out) }
        }
        (Atom::List(atom), Value::List(items)) if !matches!(atom.relation, Relation::Atomic) => {
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                let element = atom.element(item).ok();
                out.push(match element.as_ref().and_then(|element| set.node(element)) {
                    Some(node) if node.member => continue,
                    Some(node) => remove(atom.item, item, &node.children),
                    None => item.clone(),
                });
            }
            if out.is_empty() { Value::Null } else { Value::List(out) }
        }
        // One value, or one of another type than declared: nothing of it can stay when a part of it goes.
        _ => Value::Null,
    }
}

/// Makes the named fields of structs members of a set wherever something inside them is in it. A struct's field goes
/// with its content; an entry of a map does not.
pub(crate) fn ensure_named(ty: Ty<'_>, set: &mut FieldSet) {
    for node in set.nodes.iter_mut().filter(|node| !node.children.is_empty()) {
        let inner = match &node.element {
            PathElement::Name(name) => match ty.entry(name) {
                Some(entry) => {
                    node.member |= entry.field.is_some();
                    entry.ty
                }
                None => None,
            },
            PathElement::Key(_) => ty.list_item(),
            PathElement::Value(_) | PathElement::Index(_) => None,
        };
        if let Some(inner) = inner {
            ensure_named(inner, &mut node.children);
        }
    }
}
