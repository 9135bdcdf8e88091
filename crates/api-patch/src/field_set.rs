//! A set of fields of an object, as a trie: who owns what, what a change touched.

use std::cmp::Ordering;
use std::fmt;

use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::field::quoted;

use crate::go;

/// One step from a value to a value inside it.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of a struct, or an entry of a map.
    Name(SmolStr),
    /// An item of a keyed list: the names and values of its key fields, sorted by name.
    Key(Vec<(SmolStr, Value)>),
    /// An item of a set.
    Value(Value),
    /// An item of any other list.
    Index(i64),
}

impl PathElement {
    /// A field or entry by name.
    pub fn name(name: impl Into<SmolStr>) -> Self {
        Self::Name(name.into())
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Name(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Name(l), Self::Name(r)) => l.as_str().cmp(r.as_str()),
            (Self::Key(l), Self::Key(r)) => {
                for ((l_name, l), (r_name, r)) in l.iter().zip(r) {
                    let order = l_name.as_str().cmp(r_name.as_str()).then_with(|| value_order(l, r));
                    if order.is_ne() {
                        return order;
                    }
                }
                l.len().cmp(&r.len())
            }
            (Self::Value(l), Self::Value(r)) => value_order(l, r),
            (Self::Index(l), Self::Index(r)) => l.cmp(r),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}
impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for PathElement {}

/// structured-merge-diff's order of values: numbers, strings, booleans, lists, maps, null.
fn value_order(left: &Value, right: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Int(_) | Value::Float(_) => 0,
        Value::Str(_) => 1,
        Value::Bool(_) => 2,
        Value::List(_) => 3,
        Value::Map(_) => 4,
        Value::Raw(_) => 5,
        Value::Bytes(_) => 6,
        Value::Null => 7,
    };
    match (left, right) {
        (Value::Int(l), Value::Int(r)) => l.cmp(r),
        (Value::Int(l), Value::Float(r)) => (*l as f64).total_cmp(r),
        (Value::Float(l), Value::Int(r)) => l.total_cmp(&(*r as f64)),
        (Value::Float(l), Value::Float(r)) => l.total_cmp(r),
        (Value::Str(l), Value::Str(r)) => l.as_str().cmp(r.as_str()),
        (Value::Bool(l), Value::Bool(r)) => l.cmp(r),
        (Value::List(l), Value::List(r)) => {
            let items = l.iter().zip(r).map(|(l, r)| value_order(l, r));
            items.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| l.len().cmp(&r.len()))
        }
        (Value::Map(l), Value::Map(r)) => {
            let entries = l.iter().zip(r.iter());
            let orders = entries.map(|((lk, l), (rk, r))| lk.as_str().cmp(rk.as_str()).then_with(|| value_order(l, r)));
            orders.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| l.len().cmp(&r.len()))
        }
        (Value::Raw(l), Value::Raw(r)) => l.cmp(r),
        (Value::Bytes(l), Value::Bytes(r)) => l.cmp(r),
        _ => rank(left).cmp(&rank(right)),
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={}", if at == 0 { "[" } else { "," }, shown(value))?;
                }
                f.write_str(if fields.is_empty() { "[]" } else { "]" })
            }
            Self::Value(value) => write!(f, "[={}]", shown(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A value inside a path.
fn shown(value: &Value) -> SmolStr {
    match value {
        Value::Null | Value::Bytes(_) => "null".into(),
        Value::Bool(flag) => format_smolstr!("{flag}"),
        Value::Int(number) => format_smolstr!("{number}"),
        Value::Float(number) => go::float(*number).into(),
        Value::Str(text) => quoted(text).into(),
        Value::List(items) => format_smolstr!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Map(map) => map.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect::<String>().into(),
        Value::Raw(text) => text.as_ref().into(),
    }
}

/// The way from an object to a value in it. Prints as `.spec.containers[name="c"].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<PathElement>);

impl Path {
    /// A path of field names.
    pub fn of_names(names: &[&str]) -> Self {
        Self(names.iter().map(|name| PathElement::name(*name)).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}

/// A set of fields. A field may be in the set, or hold fields that are, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Sorted by element; each is a member or has children.
    pub(crate) nodes: Vec<Node>,
}

/// A field and what of it is in the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) element: PathElement,
    /// Whether the field itself is in the set.
    pub(crate) member: bool,
    pub(crate) children: FieldSet,
}

impl FieldSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// The set of these paths of field names.
    pub fn of_paths(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            set.insert(&Path::of_names(path));
        }
        set
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many fields are in the set.
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|node| usize::from(node.member) + node.children.len()).sum()
    }

    fn find(&self, element: &PathElement) -> Result<usize, usize> {
        match self.nodes.last() {
            Some(last) if last.element < *element => Err(self.nodes.len()),
            _ => self.nodes.binary_search_by(|node| node.element.cmp(element)),
        }
    }

    pub(crate) fn node(&self, element: &PathElement) -> Option<&Node> {
        self.find(element).ok().map(|at| &self.nodes[at])
    }

    /// The node of an element, made if absent; the caller makes it a member or gives it children.
    pub(crate) fn node_mut(&mut self, element: PathElement) -> &mut Node {
        let at = match self.find(&element) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, Node { element, member: false, children: Self::new() });
                at
            }
        };
        &mut self.nodes[at]
    }

    /// Adds a field and what of it is in a set; nothing happens if that is nothing.
    pub(crate) fn attach(&mut self, element: impl FnOnce() -> PathElement, member: bool, children: Self) {
        if !member && children.is_empty() {
            return;
        }
        let node = self.node_mut(element());
        node.member |= member;
        if node.children.is_empty() { node.children = children } else { node.children.add(children) }
    }

    /// Adds one field. The object itself (the empty path) is never in a set.
    pub fn insert(&mut self, path: &Path) {
        let Some((last, parents)) = path.0.split_last() else { return };
        let mut set = self;
        for element in parents {
            set = &mut set.node_mut(element.clone()).children;
        }
        set.node_mut(last.clone()).member = true;
    }

    /// Whether a field is in the set.
    pub fn has(&self, path: &Path) -> bool {
        let Some((last, parents)) = path.0.split_last() else { return false };
        let set = parents.iter().try_fold(self, |set, element| set.node(element).map(|node| &node.children));
        set.and_then(|set| set.node(last)).is_some_and(|node| node.member)
    }

    /// The fields of this set inside the field `element`, seen from there.
    pub fn within(&self, element: &PathElement) -> Option<&Self> {
        self.node(element).map(|node| &node.children).filter(|set| !set.is_empty())
    }

    /// Adds all fields of another set.
    pub fn add(&mut self, other: Self) {
        if self.nodes.is_empty() {
            *self = other;
            return;
        }
        if other.nodes.is_empty() {
            return;
        }
        let mut nodes = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        let mut left = std::mem::take(&mut self.nodes).into_iter().peekable();
        let mut right = other.nodes.into_iter().peekable();
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(l), Some(r)) => l.element.cmp(&r.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            match order {
                Ordering::Less => nodes.extend(left.next()),
                Ordering::Greater => nodes.extend(right.next()),
                Ordering::Equal => {
                    if let (Some(mut node), Some(other)) = (left.next(), right.next()) {
                        node.member |= other.member;
                        node.children.add(other.children);
                        nodes.push(node);
                    }
                }
            }
        }
        self.nodes = nodes;
    }

    /// The fields of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.add(other.clone());
        union
    }

    /// The fields of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut nodes = Vec::new();
        for (node, same) in self.beside(other) {
            let Some(same) = same else { continue };
            let member = node.member && same.member;
            let children = node.children.intersection(&same.children);
            if member || !children.is_empty() {
                nodes.push(Node { element: node.element.clone(), member, children });
            }
        }
        Self { nodes }
    }

    /// Each node of this set with that of equal element of another.
    fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Node, Option<&'a Node>)> {
        let mut at = 0;
        self.nodes.iter().map(move |node| {
            while other.nodes.get(at).is_some_and(|other| other.element < node.element) {
                at += 1;
            }
            (node, other.nodes.get(at).filter(|other| other.element == node.element))
        })
    }

    /// Whether the sets share a field.
    pub fn intersects(&self, other: &Self) -> bool {
        self.beside(other).any(|(node, same)| {
            same.is_some_and(|same| (node.member && same.member) || node.children.intersects(&same.children))
        })
    }

    /// Removes all fields of another set, and says whether there were any. A field stays when only its parent or
    /// its children are removed.
    pub fn subtract(&mut self, other: &Self) -> bool {
        if other.nodes.is_empty() {
            return false;
        }
        let (mut at, mut changed) = (0, false);
        self.nodes.retain_mut(|node| {
            while other.nodes.get(at).is_some_and(|other| other.element < node.element) {
                at += 1;
            }
            let Some(same) = other.nodes.get(at).filter(|other| other.element == node.element) else { return true };
            if node.member && same.member {
                node.member = false;
                changed = true;
            }
            changed |= node.children.subtract(&same.children);
            node.member || !node.children.is_empty()
        });
        changed
    }

    /// The fields of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut difference = self.clone();
        difference.subtract(other);
        difference
    }

    /// Removes all fields of another set, with everything inside them.
    pub fn subtract_recursively(&mut self, other: &Self) {
        if other.nodes.is_empty() {
            return;
        }
        let mut at = 0;
        self.nodes.retain_mut(|node| {
            while other.nodes.get(at).is_some_and(|other| other.element < node.element) {
                at += 1;
            }
            let Some(same) = other.nodes.get(at).filter(|other| other.element == node.element) else { return true };
            if same.member {
                return false;
            }
            node.children.subtract_recursively(&same.children);
            node.member || !node.children.is_empty()
        });
    }

    /// The fields of this set that are neither in the other nor inside a field that is.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut difference = self.clone();
        difference.subtract_recursively(other);
        difference
    }

    /// All fields in upstream's order: at each level the fields themselves, then what is inside them.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.collect(&mut Path::default(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Path, paths: &mut Vec<Path>) {
        for node in self.nodes.iter().filter(|node| node.member) {
            prefix.0.push(node.element.clone());
            paths.push(prefix.clone());
            prefix.0.pop();
        }
        for node in self.nodes.iter().filter(|node| !node.children.is_empty()) {
            prefix.0.push(node.element.clone());
            node.children.collect(prefix, paths);
            prefix.0.pop();
        }
    }
}

impl fmt::Display for FieldSet {
    /// One path per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, path) in self.paths().iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            path.fmt(f)?;
        }
        Ok(())
    }
}
