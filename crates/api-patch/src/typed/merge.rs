//! Laying a partial object over a whole one, list by list as their types say.

use std::collections::{BTreeMap, BTreeSet};

use api_schema::{Map, UNKNOWN, Value};

use super::validate::{ValidationError, ValidationErrors};
use super::{Atom, ListAtom, MapAtom, Relation, Ty};
use crate::field_set::PathElement;

/// The merge of two values: what only `live` has stays, else `applied` wins. Nothing is removed.
pub(crate) fn merge(ty: Ty<'_>, live: &Value, applied: &Value) -> Result<Value, ValidationErrors> {
    Ok(merge_at(ty, Some(live), Some(applied))?.unwrap_or_default())
}

fn merge_at(ty: Ty<'_>, live: Option<&Value>, applied: Option<&Value>) -> Result<Option<Value>, ValidationErrors> {
    let leaf = || applied.or(live).cloned();
    let Some(one) = applied.or(live) else { return Ok(None) };
    match ty.atom(one) {
        Atom::Scalar(_) => Ok(leaf()),
        Atom::Map(atom) => {
            let (live_map, applied_map) = (live.and_then(Value::as_map), applied.and_then(Value::as_map));
            let is_empty = |map: Option<&Map>| map.is_none_or(Map::is_empty);
            if atom.atomic || (is_empty(live_map) && is_empty(applied_map)) {
                return Ok(leaf());
            }
            merge_maps(&atom, live_map, applied_map)
        }
        Atom::List(atom) => {
            let (live_list, applied_list) = (live.and_then(Value::as_list), applied.and_then(Value::as_list));
            let is_empty = |list: Option<&[Value]>| list.is_none_or(<[Value]>::is_empty);
            if matches!(atom.relation, Relation::Atomic) || (is_empty(live_list) && is_empty(applied_list)) {
                return Ok(leaf());
            }
            merge_lists(&atom, live_list.unwrap_or_default(), applied_list.unwrap_or_default())
        }
    }
}

fn merge_maps(
    atom: &MapAtom<'_>,
    live: Option<&Map>,
    applied: Option<&Map>,
) -> Result<Option<Value>, ValidationErrors> {
    let Some(applied) = applied else { return Ok(live.cloned().map(Value::Map)) };
    let mut out = match live {
        Some(live) => live.clone(),
        None => Map::with_capacity(applied.len()),
    };
    for (key, value) in applied.iter().filter(|(key, _)| *key != UNKNOWN) {
        let ty = atom.entry(key).ty.unwrap_or(Ty::Deduced);
        let merged = merge_at(ty, live.and_then(|live| live.get(key)), Some(value))
            .map_err(|errors| errors.within(format!(".{key}")))?;
        match merged {
            Some(value) => {
                out.insert(key.clone(), value);
            }
            None => {
                out.remove(key);
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Map(out)))
}

/// Merges keyed lists and sets. Items keep the live list's order where the applied one leaves it open.
fn merge_lists(atom: &ListAtom<'_>, live: &[Value], applied: &[Value]) -> Result<Option<Value>, ValidationErrors> {
    let live_elements = elements(atom, live)?;
    let applied_elements = elements(atom, applied)?;
    let mut applied_items: BTreeMap<&PathElement, &Value> = BTreeMap::new();
    for (element, item) in applied_elements.iter().zip(applied) {
        if applied_items.insert(element, item).is_some() {
            return Err(ValidationErrors(vec![ValidationError::duplicate(element)]));
        }
    }
    // Live duplicates do not merge with what is applied: they give way to it.
    static NULL: Value = Value::Null;
    let mut live_items: BTreeMap<&PathElement, &Value> = BTreeMap::new();
    for (element, item) in live_elements.iter().zip(live) {
        live_items.entry(element).and_modify(|known| *known = &NULL).or_insert(item);
    }

    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let mut shared = applied_elements.iter().filter(|element| live_items.contains_key(element));
    let mut next_shared = shared.next();
    let mut merged = BTreeSet::new();
    let mut push = |element: &PathElement, live: Option<&Value>, applied: Option<&Value>| {
        out.extend(merge_at(atom.item, live, applied).map_err(|errors| errors.within(element.to_string()))?);
        Ok::<_, ValidationErrors>(())
    };
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < applied.len() {
        if let (Some(element), Some(other)) = (live_elements.get(l), applied_elements.get(r)) {
            if element == other {
                merged.insert(element);
                push(element, live_items.get(element).copied(), applied_items.get(element).copied())?;
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            // An item of both lists whose turn has not come: it follows with the applied list.
            if applied_items.contains_key(element) && next_shared.is_some_and(|next| next != element) {
                l += 1;
                continue;
            }
        }
        if let Some(element) = live_elements.get(l) {
            if !applied_items.contains_key(element) {
                push(element, Some(&live[l]), None)?;
                l += 1;
                continue;
            }
            if merged.contains(element) {
                l += 1;
            }
        }
        if let Some(element) = applied_elements.get(r) {
            merged.insert(element);
            push(element, live_items.get(element).copied(), applied_items.get(element).copied())?;
            r += 1;
            if next_shared == Some(element) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::List(out)))
}

fn elements(atom: &ListAtom<'_>, items: &[Value]) -> Result<Vec<PathElement>, ValidationErrors> {
    let element = |(at, item)| {
        let problem = |problem| ValidationErrors(vec![ValidationError::here(format!("element {at}: {problem}"))]);
        atom.element(item).map_err(problem)
    };
    items.iter().enumerate().map(element).collect()
}
