//! Which fields a value has: its leaves, and the items of lists and entries of maps.

use api_schema::{UNKNOWN, Value};

use super::compare::{Item, take_equal};
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
            // What cannot be told apart cannot be owned.
            let mut sorted: Vec<Item<'_>> =
                items.iter().filter_map(|item| Some((atom.element(item).ok()?, item))).collect();
            sorted.sort_by(|l, r| l.0.cmp(&r.0));
            let mut rest = sorted.as_slice();
            while let Some((element, item)) = rest.first() {
                // Duplicates are owned together, without what is inside.
                let inside = match take_equal(&mut rest, element) {
                    [_] => collect(atom.item, item).0,
                    _ => FieldSet::new(),
                };
                set.attach(|| element.clone(), true, inside);
            }
        }
    }
    (set, false)
}
