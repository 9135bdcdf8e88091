//! Which fields differ between two objects of one type.

use api_schema::{Map, UNKNOWN, Value};

use super::validate::{ValidationError, ValidationErrors};
use super::{Atom, ListAtom, MapAtom, Relation, Ty};
use crate::field_set::{FieldSet, PathElement};
use crate::json;

/// The fields in which two objects differ; no field is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only in the new object.
    pub added: FieldSet,
    /// In both, with different values.
    pub modified: FieldSet,
    /// Only in the old object.
    pub removed: FieldSet,
}

/// Fields at the root that have no owner.
const ROOT_UNOWNED: &[&str] = &["apiVersion", "kind"];
/// Fields of `metadata` that have no owner.
const META_UNOWNED: &[&str] = &[
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// In which of the sets a field itself is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Added,
    Modified,
    Removed,
}

/// Where in the object a map stands, which decides what of it is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Metadata,
    Inner,
}

impl Comparison {
    /// Whether the objects are equal, but for the order of items in lists that have none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Changes all three sets alike.
    pub(crate) fn for_each(&mut self, mut change: impl FnMut(&mut FieldSet)) {
        change(&mut self.added);
        change(&mut self.modified);
        change(&mut self.removed);
    }

    /// Puts what was found inside a field under its element.
    fn attach(&mut self, element: impl Fn() -> PathElement, inside: Self, mark: Mark) {
        self.added.attach(&element, mark == Mark::Added, inside.added);
        self.modified.attach(&element, mark == Mark::Modified, inside.modified);
        self.removed.attach(&element, mark == Mark::Removed, inside.removed);
    }
}

/// Compares all fields of two values.
pub(crate) fn compare(ty: Ty<'_>, old: &Value, new: &Value) -> Result<Comparison, ValidationErrors> {
    let mut out = Comparison::default();
    compare_at(ty, Some(old), Some(new), Level::Inner, &mut out)?;
    Ok(out)
}

/// Compares two objects, but for the fields that have no owner.
pub(crate) fn compare_objects(ty: Ty<'_>, old: &Value, new: &Value) -> Result<Comparison, ValidationErrors> {
    let mut out = Comparison::default();
    compare_at(ty, Some(old), Some(new), Level::Root, &mut out)?;
    Ok(out)
}

fn compare_at(
    ty: Ty<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    level: Level,
    out: &mut Comparison,
) -> Result<Mark, ValidationErrors> {
    // Where the type is open, each side has its own form; where both are maps or one is absent, they agree.
    let forms = match (old, new) {
        (Some(old), Some(new)) => (Some(ty.atom(old)), Some(ty.atom(new))),
        (Some(one), None) | (None, Some(one)) => (Some(ty.atom(one)), None),
        (None, None) => return Ok(Mark::None),
    };
    let (map, list, leaf) = match forms {
        (Some(Atom::Map(map)), None) => (Some(map), None, false),
        (Some(Atom::List(list)), None) => (None, Some(list), false),
        (Some(Atom::Map(map)), Some(Atom::Map(_))) => (Some(map), None, false),
        (Some(Atom::Map(map)), Some(_)) | (Some(_), Some(Atom::Map(map))) => (Some(map), None, true),
        (Some(Atom::List(list)), Some(Atom::List(_))) => (None, Some(list), false),
        _ => (None, None, true),
    };
    let mut is_leaf = leaf;
    if let Some(map) = map {
        is_leaf |= !compare_maps(&map, old.and_then(Value::as_map), new.and_then(Value::as_map), level, out)?;
    }
    if let Some(list) = list {
        is_leaf |= !compare_lists(&list, old.and_then(Value::as_list), new.and_then(Value::as_list), out)?;
    }
    Ok(match (old, new) {
        (None, _) => Mark::Added,
        (_, None) => Mark::Removed,
        (Some(old), Some(new)) if is_leaf && !json::same(old, new) => Mark::Modified,
        _ => Mark::None,
    })
}

/// Compares maps entry by entry; `false` if they are one value, or both empty.
fn compare_maps(
    atom: &MapAtom<'_>,
    old: Option<&Map>,
    new: Option<&Map>,
    level: Level,
    out: &mut Comparison,
) -> Result<bool, ValidationErrors> {
    let is_empty = |map: Option<&Map>| map.is_none_or(Map::is_empty);
    if atom.atomic || (is_empty(old) && is_empty(new)) {
        return Ok(false);
    }
    static NOTHING: Map = Map::new();
    let mut olds = old.unwrap_or(&NOTHING).iter().peekable();
    let mut news = new.unwrap_or(&NOTHING).iter().peekable();
    loop {
        // The smaller key comes next, from one side or from both.
        let (key, old_value, new_value) = match (olds.peek(), news.peek()) {
            (None, None) => return Ok(true),
            (Some(_), None) => (None, olds.next(), None),
            (None, Some(_)) => (None, None, news.next()),
            (Some((l, _)), Some((r, _))) => match l.as_str().cmp(r.as_str()) {
                std::cmp::Ordering::Less => (None, olds.next(), None),
                std::cmp::Ordering::Greater => (None, None, news.next()),
                std::cmp::Ordering::Equal => (Some(*r), olds.next(), news.next()),
            },
        };
        let Some(key) = key.or(old_value.or(new_value).map(|(key, _)| key)) else { return Ok(true) };
        let unowned: &[&str] = match level {
            Level::Inner => &[],
            Level::Root => ROOT_UNOWNED,
            Level::Metadata => META_UNOWNED,
        };
        if key == UNKNOWN || unowned.contains(&key.as_str()) {
            continue;
        }
        let entry = atom.entry(key);
        let is_metadata = level == Level::Root && key == "metadata";
        let inner = if is_metadata { Level::Metadata } else { Level::Inner };
        // What Go always has is not added or removed, though the tree may leave it out.
        let old_value = old_value.map(|(_, value)| value).or_else(|| old.and_then(|_| entry.zero()));
        let new_value = new_value.map(|(_, value)| value).or_else(|| new.and_then(|_| entry.zero()));
        let mut inside = Comparison::default();
        let mark = compare_at(entry.ty.unwrap_or(Ty::Deduced), old_value, new_value, inner, &mut inside)
            .map_err(|errors| errors.within(format!(".{key}")))?;
        let mark = if is_metadata { Mark::None } else { mark };
        out.attach(|| PathElement::Name(key.clone()), inside, mark);
    }
}

/// Compares lists item by item; `false` if they are one value, or both empty.
fn compare_lists(
    atom: &ListAtom<'_>,
    old: Option<&[Value]>,
    new: Option<&[Value]>,
    out: &mut Comparison,
) -> Result<bool, ValidationErrors> {
    let is_empty = |list: Option<&[Value]>| list.is_none_or(<[Value]>::is_empty);
    if matches!(atom.relation, Relation::Atomic) || (is_empty(old) && is_empty(new)) {
        return Ok(false);
    }
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    // Telling items apart is dear; unchanged lists need none of it.
    if old == new {
        return Ok(true);
    }
    let (olds, news) = (sorted_items(atom, old)?, sorted_items(atom, new)?);
    let (mut olds, mut news) = (olds.as_slice(), news.as_slice());
    loop {
        let element = match (olds.first(), news.first()) {
            (None, None) => return Ok(true),
            (Some((one, _)), None) | (None, Some((one, _))) => one,
            (Some((l, _)), Some((r, _))) => l.min(r),
        };
        compare_items(atom, element, take_equal(&mut olds, element), take_equal(&mut news, element), out)?;
    }
}

/// An item of a list and how it is told apart.
pub(super) type Item<'v> = (PathElement, &'v Value);

/// The items of a list, sorted by how they are told apart.
fn sorted_items<'v>(atom: &ListAtom<'_>, items: &'v [Value]) -> Result<Vec<Item<'v>>, ValidationErrors> {
    let mut sorted = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let problem = |problem| ValidationErrors(vec![ValidationError::here(format!("element {at}: {problem}"))]);
        sorted.push((atom.element(item).map_err(problem)?, item));
    }
    sorted.sort_by(|l, r| l.0.cmp(&r.0));
    Ok(sorted)
}

/// Takes the items of an element off the front.
pub(super) fn take_equal<'s, 'v>(items: &mut &'s [Item<'v>], element: &PathElement) -> &'s [Item<'v>] {
    let count = items.iter().take_while(|(other, _)| other == element).count();
    let (taken, rest) = items.split_at(count);
    *items = rest;
    taken
}

/// Compares the items of one element; more than one are duplicates, which count as one value.
fn compare_items(
    atom: &ListAtom<'_>,
    element: &PathElement,
    old: &[Item<'_>],
    new: &[Item<'_>],
    out: &mut Comparison,
) -> Result<(), ValidationErrors> {
    let mut inside = Comparison::default();
    let mut one_by_one = |old: Option<&Item<'_>>, new: Option<&Item<'_>>| {
        let (old, new) = (old.map(|item| item.1), new.map(|item| item.1));
        compare_at(atom.item, old, new, Level::Inner, &mut inside).map_err(|errors| errors.within(element.to_string()))
    };
    let marks = match (old, new) {
        ([] | [_], [] | [_]) => [one_by_one(old.first(), new.first())?, Mark::None],
        ([_, _, ..], [_, _, ..]) => {
            let same = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| json::same(old.1, new.1));
            [if same { Mark::None } else { Mark::Modified }, Mark::None]
        }
        ([_, _, ..], []) => [Mark::Removed, Mark::None],
        ([_, _, ..], [new]) => [Mark::Removed, one_by_one(None, Some(new))?],
        ([], [_, _, ..]) => [Mark::Added, Mark::None],
        ([old], [_, _, ..]) => [Mark::Added, one_by_one(Some(old), None)?],
    };
    out.attach(|| element.clone(), inside, marks[0]);
    out.attach(|| element.clone(), Comparison::default(), marks[1]);
    Ok(())
}

/// Whether two values are equal in everything, the order of all lists included; what Go always has counts as
/// present.
pub(crate) fn equal(ty: Ty<'_>, left: &Value, right: &Value) -> bool {
    match (ty.atom(left), left, right) {
        (Atom::Map(atom), Value::Map(l), Value::Map(r)) => {
            let covers = |from: &Map, to: &Map, compare_both: bool| {
                from.iter().filter(|(key, _)| *key != UNKNOWN).all(|(key, value)| {
                    let entry = atom.entry(key);
                    match to.get(key) {
                        Some(other) if compare_both => equal(entry.ty.unwrap_or(Ty::Deduced), value, other),
                        Some(_) => true,
                        None => entry.zero().is_some_and(|zero| json::same(zero, value)),
                    }
                })
            };
            covers(l, r, true) && covers(r, l, false)
        }
        (Atom::List(atom), Value::List(l), Value::List(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(l, r)| equal(atom.item, l, r))
        }
        _ => json::same(left, right),
    }
}
