//! Which fields a value has: its leaves, and the items of lists and entries of maps.

use std::collections::BTreeMap;

use api_schema::{UNKNOWN, Value};

use super::{Atom, Relation, Ty};
use crate::field_set::{FieldSet, PathElement};

/// All fields of a value.
pub(crate) fn fields_of(ty: Ty<'_>, value: &Value) -> FieldSet {
    collect(ty, value).0
}

/// The fields inside a value, and whether the value itself is one by its type.
fn collect(ty: Ty<'_>, value: &Value) -> (FieldSet, bool) {
    let mut set = FieldSet::new();
    match ty.atom(value) {
        Atom::Scalar(_) => return (set, true),
        Atom::Map(atom) if atom.atomic => return (set, true),
        Atom::Map(atom) => {
            let Value::Map(map) = value else { return (set, false) };
            for (key, value) in map.iter().filter(|(key, _)| *key != UNKNOWN) {
                let entry = atom.entry(key);
                let (inside, is_leaf) = collect(entry.ty.unwrap_or(Ty::Deduced), value);
                let is_empty_map = value.as_map().is_some_and(api_schema::Map::is_empty);
                let member = is_leaf || value.is_null() || is_empty_map || entry.field.is_none();
                set.attach(|| PathElement::Name(key.clone()), member, inside);
            }
        }
        Atom::List(atom) if matches!(atom.relation, Relation::Atomic) => return (set, true),
        Atom::List(atom) => {
            let Value::List(items) = value else { return (set, false) };
            let mut by_element: BTreeMap<PathElement, Vec<&Value>> = BTreeMap::new();
            for item in items {
                // What cannot be told apart cannot be owned.
                if let Ok(element) = atom.element(item) {
                    by_element.entry(element).or_default().push(item);
                }
            }
            for (element, items) in by_element {
                // Duplicates are owned together, without what is inside.
                let inside = match items.as_slice() {
                    [item] => collect(atom.item, item).0,
                    _ => FieldSet::new(),
                };
                set.attach(|| element, true, inside);
            }
        }
    }
    (set, false)
}
