//! Strategic merge patch: a merge patch that knows from the schema which lists merge, and by which key.

use api_schema::{Map, PatchStrategy, Schema, SmolStr, StructId, Type, Value};
use api_semantics::field::quoted;

use crate::error::PatchError;
use crate::{go, json};

/// In a map: what to do with the whole of it.
const DIRECTIVE: &str = "$patch";
/// In a map: the keys that stay.
const RETAIN_KEYS: &str = "$retainKeys";
/// Before a slash and a list's name: the scalars to take out of it.
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList";
/// Before a slash and a list's name: the order of its items.
const ORDER_PREFIX: &str = "$setElementOrder";

const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ORDER_LIST: &str = "invalid patch format of setElementOrder list";

/// Applies a strategic merge patch to an object of a built-in type.
///
/// The result has the shape that the patch gave it, directives inside newly added maps included; decode it by its
/// schema before use.
pub fn apply(schema: &Schema, ty: StructId, original: Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Map(patch) = patch else {
        if patch.is_null() {
            return Ok(original);
        }
        return Err(PatchError::Malformed(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            patch.type_name()
        )));
    };
    let original = match original {
        Value::Map(map) => map,
        _ => Map::new(),
    };
    Context { schema, shape: Shape::Struct(ty) }.merge_maps(original, patch.clone()).map(Value::Map)
}

/// What Go type the value under the cursor has: only structs have fields with patch strategies.
#[derive(Clone, Copy)]
enum Shape {
    /// A struct of the schema.
    Struct(StructId),
    /// A Go struct that JSON does not show as one, by its name.
    Opaque(&'static str),
    /// Anything else, by its Go kind.
    Other(&'static str),
}

#[derive(Clone, Copy)]
struct Context<'s> {
    schema: &'s Schema,
    shape: Shape,
}

impl<'s> Context<'s> {
    fn at(self, ty: &Type) -> Self {
        let shape = match ty {
            Type::Struct(id) => Shape::Struct(*id),
            Type::RawExtension => Shape::Opaque("RawExtension"),
            Type::Json => Shape::Opaque("JSON"),
            Type::FieldsV1 => Shape::Opaque("FieldsV1"),
            Type::Time => Shape::Opaque("Time"),
            Type::MicroTime => Shape::Opaque("MicroTime"),
            Type::Duration => Shape::Opaque("Duration"),
            Type::Quantity => Shape::Opaque("Quantity"),
            Type::IntOrString => Shape::Opaque("IntOrString"),
            Type::SchemaOrArray(_) => Shape::Opaque("JSONSchemaPropsOrArray"),
            Type::SchemaOrBool(_) => Shape::Opaque("JSONSchemaPropsOrBool"),
            Type::SchemaOrStrings(_) => Shape::Opaque("JSONSchemaPropsOrStringArray"),
            Type::List(_) | Type::Wrapped(_) | Type::Bytes => Shape::Other("slice"),
            Type::Map(_) => Shape::Other("map"),
            Type::Any => Shape::Other("interface"),
            Type::String => Shape::Other("string"),
            Type::Bool => Shape::Other("bool"),
            Type::Int32 => Shape::Other("int32"),
            Type::Int64 => Shape::Other("int64"),
            Type::Double => Shape::Other("float64"),
        };
        Self { shape, ..self }
    }

    fn kind(self) -> &'static str {
        match self.shape {
            Shape::Struct(_) | Shape::Opaque(_) => "struct",
            Shape::Other(kind) => kind,
        }
    }

    /// The type and strategy of a field of this struct.
    fn field(self, key: &str) -> Result<(&'s Type, &'s PatchStrategy), PatchError> {
        let name = match self.shape {
            Shape::Struct(id) => match self.schema.json_field(id, key) {
                Some(field) => return Ok((&field.ty, &field.patch)),
                None => self.schema.get(id).name.rsplit('.').next().unwrap_or_default(),
            },
            Shape::Opaque(name) => name,
            Shape::Other(kind) => {
                return Err(PatchError::Failed(format!(
                    "merging an object in json but data type is not struct, instead is: {kind}"
                )));
            }
        };
        Err(PatchError::Failed(format!("unable to find api field in struct {name} for the json field {}", quoted(key))))
    }

    /// The context of the items of a list field, and the field's strategy.
    fn list_field(self, key: &str) -> Result<(Self, &'s PatchStrategy), PatchError> {
        let (ty, strategy) = self.field(key)?;
        match ty {
            Type::List(item) | Type::Wrapped(item) => match **item {
                Type::List(_) | Type::Wrapped(_) | Type::Bytes => {
                    Err(PatchError::Failed("unexpected slice of slice".into()))
                }
                ref item => Ok((self.at(item), strategy)),
            },
            _ => Err(PatchError::Failed(format!("expected slice or array type, but got: {}", self.kind()))),
        }
    }

    fn merge_maps(self, mut original: Map, mut patch: Map) -> Result<Map, PatchError> {
        match patch.get(DIRECTIVE) {
            None => {}
            Some(Value::Str(directive)) if directive == "replace" => {
                patch.remove(DIRECTIVE);
                return Ok(patch);
            }
            Some(Value::Str(directive)) if directive == "delete" => return Ok(Map::new()),
            Some(other) => return Err(bad_directive(other, &patch)),
        }
        retain_keys(&mut original, &mut patch)?;
        self.merge_ordered_lists(&mut original, &mut patch)?;
        for (key, change) in patch {
            self.merge_entry(&mut original, key, change)?;
        }
        Ok(original)
    }

    fn merge_entry(self, original: &mut Map, key: SmolStr, change: Value) -> Result<(), PatchError> {
        let is_deletion = key.starts_with(DELETE_PREFIX);
        let key = if is_deletion { list_name(&key, DELETE_PREFIX, BAD_PRIMITIVE_LIST)? } else { key };
        if change.is_null() {
            original.remove(&key);
            return Ok(());
        }
        let Some(current) = original.get_mut(&key) else {
            if !is_deletion {
                set_without_directives(original, key, change);
            }
            return Ok(());
        };
        if matches!(change, Value::Map(_)) {
            json::expand(current);
        }
        match (current, change) {
            (Value::Map(map), Value::Map(changes)) => {
                let (ty, strategy) = self.field(&key)?;
                let changes = match strategy.replace {
                    true => changes,
                    false => self.at(ty).merge_maps(std::mem::take(map), changes)?,
                };
                original.insert(key, changes);
            }
            (Value::List(items), Value::List(changes)) => {
                let (context, strategy) = self.list_field(&key)?;
                let merged = context.merge_list_field(std::mem::take(items), changes, strategy, is_deletion)?;
                original.insert(key, merged);
            }
            (_, _) if is_deletion => {}
            (_, change) => set_without_directives(original, key, change),
        }
        Ok(())
    }

    fn merge_list_field(
        self,
        original: Vec<Value>,
        patch: Vec<Value>,
        strategy: &PatchStrategy,
        is_deletion: bool,
    ) -> Result<Vec<Value>, PatchError> {
        if strategy.merge || is_deletion {
            self.merge_lists(original, patch, &strategy.merge_key, is_deletion)
        } else {
            Ok(patch)
        }
    }

    /// Merges two lists; `self` is the context of their items.
    fn merge_lists(
        self,
        original: Vec<Value>,
        patch: Vec<Value>,
        merge_key: &str,
        is_deletion: bool,
    ) -> Result<Vec<Value>, PatchError> {
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        if item_kind(&original, &patch)? != Kind::Map {
            if is_deletion {
                return Ok(original.into_iter().filter(|item| !patch.contains(item)).collect());
            }
            let mut all = original.clone();
            all.extend(patch.iter().cloned());
            if let (false, Some(item)) = (merge_key.is_empty(), all.first()) {
                return Err(bad_type("map[string]interface {}", item));
            }
            let (in_patch, live_only) = all.into_iter().partition(|item| patch.contains(item));
            return Ok(Order { by: None, list: &original }
                .weave(deduplicated(live_only), sorted(deduplicated(in_patch), &Order { by: None, list: &patch })));
        }
        if merge_key.is_empty() {
            return Err(PatchError::Failed(format!("cannot merge lists without merge key for {}", self.kind())));
        }
        let (original, patch) = apply_item_directives(original, patch, merge_key)?;
        let merged = self.merge_items(original.clone(), &patch, merge_key)?;
        let (in_patch, live_only) = partition(merged, &patch, merge_key)?;
        ordered(in_patch, live_only, &patch, &original, Some(merge_key))
    }

    /// Merges the items of a patch into the items of equal key; those without a match go to the end.
    fn merge_items(self, mut items: Vec<Value>, patch: &[Value], merge_key: &str) -> Result<Vec<Value>, PatchError> {
        for item in patch {
            let Value::Map(changes) = item else { return Err(bad_type("map[string]interface {}", item)) };
            let Some(key) = changes.get(merge_key) else { return Err(no_merge_key(changes, merge_key)) };
            match position(&items, merge_key, key)? {
                Some(at) => {
                    let Value::Map(map) = std::mem::take(&mut items[at]) else { continue };
                    items[at] = Value::Map(self.merge_maps(map, changes.clone())?);
                }
                None => items.push(item.clone()),
            }
        }
        Ok(items)
    }

    /// Does what `$setElementOrder/...` asks for, together with the lists that it orders.
    fn merge_ordered_lists(self, original: &mut Map, patch: &mut Map) -> Result<(), PatchError> {
        let orders: Vec<SmolStr> = patch.keys().filter(|key| key.starts_with(ORDER_PREFIX)).cloned().collect();
        for directive in orders {
            let order = match patch.remove(&directive).unwrap_or_default() {
                Value::List(order) => order,
                other => return Err(bad_type("[]interface {}", &other)),
            };
            let name = list_name(&directive, ORDER_PREFIX, BAD_ORDER_LIST)?;
            let current = list_or_none(original.get(&name))?;
            let changes = list_or_none(patch.get(&name))?;
            let (context, strategy) = self.list_field(&name)?;
            let merge_key = strategy.merge_key.as_str();
            check_order(changes.unwrap_or_default(), &order, merge_key)?;
            let merged = match (current, changes) {
                (None, None) => continue,
                (Some(current), None) => current.to_vec(),
                (None, Some(changes)) => changes.iter().cloned().filter_map(without_directives).collect(),
                (Some(current), Some(changes)) => {
                    context.merge_list_field(current.to_vec(), changes.to_vec(), strategy, false)?
                }
            };
            let (current, changes) = (current.unwrap_or_default(), changes.unwrap_or_default());
            let (in_order, live_only) = if merge_key.is_empty() {
                merged.into_iter().partition(|item| order.contains(item))
            } else {
                partition(merged, &order, merge_key)?
            };
            let kind = item_kind(current, changes)?;
            let by = (kind == Kind::Map).then_some(merge_key);
            let live_order = match strategy.merge && kind == Kind::Map {
                true => live_order(current, changes, merge_key),
                false => current.to_vec(),
            };
            let list = ordered(in_order, live_only, &order, &live_order, by)?;
            original.insert(name.clone(), list);
            patch.remove(&name);
        }
        Ok(())
    }
}

fn set_without_directives(original: &mut Map, key: SmolStr, change: Value) {
    match without_directives(without_null_entries(change)) {
        Some(value) => {
            original.insert(key, value);
        }
        None => {
            original.remove(&key);
        }
    }
}

fn list_or_none(value: Option<&Value>) -> Result<Option<&[Value]>, PatchError> {
    match value {
        None => Ok(None),
        Some(Value::List(items)) => Ok(Some(items)),
        Some(other) => Err(bad_type("[]interface {}", other)),
    }
}

/// The name of the list that `$prefix/name` speaks of.
fn list_name(key: &str, prefix: &str, problem: &str) -> Result<SmolStr, PatchError> {
    match key.split_once('/') {
        Some((before, name)) if before == prefix => Ok(name.into()),
        _ => Err(PatchError::Malformed(problem.into())),
    }
}

/// Does what `$retainKeys` asks for.
fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::Malformed(BAD_RETAIN_KEYS.into());
    let Value::List(keys) = keys else { return Err(bad()) };
    let kept = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let is_free = |key: &str| key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_free(key) && !kept(key)) {
        return Err(bad());
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// Takes deletions and replacement out of a patch of a list of maps; gives what is left of both lists.
fn apply_item_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replaces = false;
    for item in patch {
        let Value::Map(map) = &item else { return Err(bad_type("map[string]interface {}", &item)) };
        match map.get(DIRECTIVE) {
            None => rest.push(item),
            Some(Value::Str(directive)) if directive == "delete" => {
                let Some(key) = map.get(merge_key) else { return Err(no_merge_key(map, merge_key)) };
                while let Some(at) = position(&original, merge_key, key)? {
                    original.remove(at);
                }
            }
            Some(Value::Str(directive)) if directive == "replace" => replaces = true,
            Some(Value::Str(directive)) if directive == "merge" => {
                return Err(PatchError::Failed("merging lists cannot yet be specified in the patch".into()));
            }
            Some(other) => return Err(bad_directive(other, map)),
        }
    }
    if replaces { Ok((rest, Vec::new())) } else { Ok((original, rest)) }
}

/// The live order that upstream goes by when a patch sets the order of a list of maps. Its code works in place: where
/// the patch deletes items, those that it adds take their places, and count as live.
fn live_order(live: &[Value], patch: &[Value], merge_key: &str) -> Vec<Value> {
    let key = |item: &Value| item.as_map().and_then(|map| map.get(merge_key)).cloned();
    let directive = |item: &Value| item.as_map().and_then(|map| map.get(DIRECTIVE)).cloned();
    let is = |item: &Value, name: &str| directive(item).is_some_and(|directive| directive.as_str() == Some(name));
    let mut order: Vec<Value> = live.to_vec();
    order.retain(|item| !patch.iter().any(|change| is(change, "delete") && key(change) == key(item)));
    if !patch.iter().any(|change| is(change, "replace")) {
        for change in patch.iter().filter(|change| directive(change).is_none()) {
            if order.len() < live.len() && !order.iter().any(|item| key(item) == key(change)) {
                order.push(change.clone());
            }
        }
    }
    order
}

/// Where the item with a merge key's value is.
fn position(items: &[Value], merge_key: &str, key: &Value) -> Result<Option<usize>, PatchError> {
    for (at, item) in items.iter().enumerate() {
        let Value::Map(map) = item else {
            return Err(PatchError::Failed(format!("value for key {at} is not a map")));
        };
        if map.get(merge_key) == Some(key) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Parts items of maps by whether their key is in a list.
fn partition(items: Vec<Value>, by: &[Value], merge_key: &str) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for item in items {
        let Value::Map(map) = &item else { return Err(bad_type("map[string]interface {}", &item)) };
        let Some(key) = map.get(merge_key) else { return Err(no_merge_key(map, merge_key)) };
        if position(by, merge_key, key)?.is_some() { inside.push(item) } else { outside.push(item) }
    }
    Ok((inside, outside))
}

/// Checks that a patch of a list follows the order that stands beside it.
fn check_order(patch: &[Value], order: &[Value], merge_key: &str) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let directive = |item: &Value| item.as_map().and_then(|map| map.get(DIRECTIVE)).cloned();
    let mut wanted = Vec::with_capacity(patch.len());
    for item in patch {
        if merge_key.is_empty() {
            wanted.push(item);
        } else if item.as_map().is_none() {
            return Err(bad_type("map[string]interface {}", item));
        } else if directive(item).is_none_or(|directive| directive.as_str() != Some("delete")) {
            wanted.push(item);
        }
    }
    let mut wanted = wanted.into_iter().peekable();
    for place in order {
        // Items that carry a directive have no place.
        while wanted.next_if(|item| directive(item).is_some()).is_some() {}
        let Some(item) = wanted.peek() else { return Ok(()) };
        let equal =
            if merge_key.is_empty() { *item == place } else { key_of(item, merge_key)? == key_of(place, merge_key)? };
        if equal {
            wanted.next();
        }
    }
    match wanted.next() {
        None => Ok(()),
        Some(_) => Err(PatchError::Failed(format!(
            "The order in patch list:\n{}\n doesn't match {ORDER_PREFIX} list:\n{}\n",
            go::plain_list(patch),
            go::plain_list(order)
        ))),
    }
}

fn key_of<'v>(item: &'v Value, merge_key: &str) -> Result<&'v Value, PatchError> {
    let Value::Map(map) = item else { return Err(bad_type("map[string]interface {}", item)) };
    map.get(merge_key).ok_or_else(|| no_merge_key(map, merge_key))
}

/// An order of items: the list that shows it, and the key that items are known by (scalars by themselves).
struct Order<'a> {
    by: Option<&'a str>,
    list: &'a [Value],
}

impl Order<'_> {
    fn place(&self, item: &Value) -> Option<usize> {
        match self.by {
            None => self.list.iter().position(|other| other == item),
            Some(key) => {
                let wanted = item.as_map().and_then(|map| map.get(key));
                self.list.iter().position(|other| other.as_map().and_then(|map| map.get(key)) == wanted)
            }
        }
    }

    /// Puts the items of `left` between those of `right`, each before the first one that this order puts after it.
    /// Both keep their own order.
    fn weave(&self, left: Vec<Value>, right: Vec<Value>) -> Vec<Value> {
        let mut all = Vec::with_capacity(left.len() + right.len());
        let mut left = left.into_iter().peekable();
        let mut right = right.into_iter().peekable();
        loop {
            let take_left = match (left.peek(), right.peek()) {
                (None, None) => return all,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(l), Some(r)) => matches!((self.place(l), self.place(r)), (Some(l), Some(r)) if l < r),
            };
            all.extend(if take_left { left.next() } else { right.next() });
        }
    }
}

fn sorted(mut items: Vec<Value>, order: &Order<'_>) -> Vec<Value> {
    items.sort_by_cached_key(|item| order.place(item).unwrap_or(usize::MAX));
    items
}

/// The final order: the patch's where it says one, else the live list's.
fn ordered(
    in_patch: Vec<Value>,
    live_only: Vec<Value>,
    patch_order: &[Value],
    live_order: &[Value],
    by: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    if let Some(key) = by {
        for item in in_patch.iter().chain(patch_order).chain(&live_only).chain(live_order) {
            key_of(item, key)?;
        }
    }
    let live = Order { by, list: live_order };
    let right = sorted(in_patch, &Order { by, list: patch_order });
    let left = sorted(live_only, &live);
    Ok(live.weave(left, right))
}

fn deduplicated(items: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// Go's dynamic type of an item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    Int,
    Float,
    String,
    List,
    Map,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bytes(_) => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Int(_) => Self::Int,
            Value::Float(_) => Self::Float,
            Value::Str(_) => Self::String,
            Value::List(_) => Self::List,
            Value::Map(_) | Value::Raw(_) => Self::Map,
        }
    }
}

/// The one kind that all items of both lists have.
fn item_kind(left: &[Value], right: &[Value]) -> Result<Kind, PatchError> {
    let mut kinds = left.iter().chain(right).map(Kind::of);
    let Some(first) = kinds.next() else {
        return Err(PatchError::Failed("no elements in any of the given slices".into()));
    };
    if first == Kind::List {
        return Err(PatchError::NotApplicable("lists of lists are not supported".into()));
    }
    if first == Kind::Null || kinds.any(|kind| kind != first) {
        return Err(PatchError::Failed(format!(
            "list element types are not identical: [{} {}]",
            go::plain_list(left),
            go::plain_list(right)
        )));
    }
    Ok(first)
}

/// The value without maps that carry a directive; `None` if it is such a map itself.
fn without_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Map(map) if map.contains_key(DIRECTIVE) => return None,
        Value::Map(map) => {
            Value::Map(map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?))).collect())
        }
        Value::List(items) => Value::List(items.into_iter().filter_map(without_directives).collect()),
        other => other,
    })
}

fn without_null_entries(value: Value) -> Value {
    match value {
        Value::Map(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Map(kept.map(|(key, value)| (key, without_null_entries(value))).collect())
        }
        Value::List(items) => Value::List(items.into_iter().map(without_null_entries).collect()),
        other => other,
    }
}

fn bad_directive(directive: &Value, map: &Map) -> PatchError {
    PatchError::Failed(format!(
        "unknown patch type: {} in map: {}",
        go::plain(directive),
        go::plain(&Value::Map(map.clone()))
    ))
}

fn bad_type(expected: &str, actual: &Value) -> PatchError {
    let actual = if actual.is_null() { "%!s(<nil>)" } else { go::type_name(actual) };
    PatchError::Failed(format!("expected a {expected}, but received a {actual}"))
}

fn no_merge_key(map: &Map, key: &str) -> PatchError {
    PatchError::Failed(format!(
        "map: {} does not contain declared merge key: {key}",
        go::plain(&Value::Map(map.clone()))
    ))
}
