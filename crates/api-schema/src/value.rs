//! The compact dynamic tree.

use smol_str::SmolStr;

/// The key under which a struct keeps protobuf fields that its schema does not know, as [`Value::Bytes`].
/// It cannot be a JSON field name of any API; JSON writers leave it out.
pub const UNKNOWN: &str = "\0";

/// A value of an API object, in its JSON shape: times, quantities and base64 data are strings, embedded structs
/// are flattened.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// JSON null: in an object it means the same as absence, in a patch it deletes.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// Any whole number.
    Int(i64),
    /// A number with a fraction or outside of `i64`.
    Float(f64),
    /// A string.
    Str(SmolStr),
    /// A list.
    List(Vec<Value>),
    /// An object or a map.
    Map(Map),
    /// Embedded JSON that nobody looks into (FieldsV1, RawExtension, JSON), as compact valid text.
    Raw(Box<str>),
    /// Protobuf fields unknown to the schema, only under [`UNKNOWN`].
    Bytes(Box<[u8]>),
}

impl Value {
    /// A string value.
    pub fn str(text: impl Into<SmolStr>) -> Self {
        Self::Str(text.into())
    }

    /// The string, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if this is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The map, if this is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The map, if this is one.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Whether this is [`Value::Null`].
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The field of a map; `None` for other values, absent fields and nulls.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map().and_then(|map| map.get(key)).filter(|value| !value.is_null())
    }

    /// The value at a path of field names; `None` where anything on the way is absent.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    /// The string at a path; empty where absent, as Go's zero value.
    pub fn str_at(&self, path: &[&str]) -> &str {
        self.at(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The whole number at a path, if there is one.
    pub fn int_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path).and_then(Value::as_int)
    }

    /// The boolean at a path, if there is one.
    pub fn bool_at(&self, path: &[&str]) -> Option<bool> {
        self.at(path).and_then(Value::as_bool)
    }

    /// The items of the list at a path; none where absent.
    pub fn list_at(&self, path: &[&str]) -> &[Value] {
        self.at(path).and_then(Value::as_list).unwrap_or_default()
    }

    /// The map at a path, if there is one.
    pub fn map_at(&self, path: &[&str]) -> Option<&Map> {
        self.at(path).and_then(Value::as_map)
    }

    /// The value at a path, if present, to change.
    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(self, |value, key| value.as_map_mut()?.get_mut(key))
    }

    /// Turns this value into a map if it is none, and gives it.
    pub fn make_map(&mut self) -> &mut Map {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Map::new());
        }
        match self {
            Self::Map(map) => map,
            _ => unreachable!("made a map above"),
        }
    }

    /// The value at a path, made (as maps on the way, null at the end) where absent.
    pub fn entry(&mut self, path: &[&str]) -> &mut Value {
        path.iter().fold(self, |value, key| value.make_map().entry(key))
    }

    /// Sets the value at a path, making the maps on the way.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        *self.entry(path) = value.into();
    }

    /// Removes and gives the value at a path.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        self.at_mut(parents)?.as_map_mut()?.remove(last)
    }

    /// Whether Go would call this the zero value: null, false, 0, "", an empty list or map.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(flag) => !flag,
            Self::Int(number) => *number == 0,
            Self::Float(number) => *number == 0.0,
            Self::Str(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Raw(text) => text.is_empty() || &**text == "null",
            Self::Bytes(bytes) => bytes.is_empty(),
        }
    }

    /// What JSON calls this value's type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Float(_) => "number",
            Self::Str(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) | Self::Raw(_) => "object",
            Self::Bytes(_) => "bytes",
        }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}
impl From<SmolStr> for Value {
    fn from(text: SmolStr) -> Self {
        Self::Str(text)
    }
}
impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}
impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(items)
    }
}
impl<V: Into<Value>, const N: usize> From<[(&str, V); N]> for Value {
    fn from(entries: [(&str, V); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (SmolStr::new(key), value.into())).collect())
    }
}

/// A map of names to values, kept sorted by name: small, cheap to compare, binary-searched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<(SmolStr, Value)>,
}

impl Map {
    /// An empty map.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// An empty map with room for `capacity` entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity) }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        // Input is mostly sorted already: look at the end first.
        match self.entries.last() {
            Some((last, _)) if last.as_str() < key => Err(self.entries.len()),
            _ => self.entries.binary_search_by(|(name, _)| name.as_str().cmp(key)),
        }
    }

    /// The value of a key (nulls included).
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.position(key).ok().map(|at| &self.entries[at].1)
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.position(key).ok().map(|at| &mut self.entries[at].1)
    }

    /// Whether the key is present (even with null).
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_ok()
    }

    /// Sets a key, and gives the value it had.
    pub fn insert(&mut self, key: impl Into<SmolStr>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.position(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            Err(at) => {
                self.entries.insert(at, (key, value));
                None
            }
        }
    }

    /// Removes a key, and gives its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.position(key).ok().map(|at| self.entries.remove(at).1)
    }

    /// The value of a key, null and newly inserted where absent.
    pub fn entry(&mut self, key: &str) -> &mut Value {
        let at = match self.position(key) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, (SmolStr::new(key), Value::Null));
                at
            }
        };
        &mut self.entries[at].1
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&SmolStr, &Value)> + ExactSizeIterator {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// All entries in the order of their keys, values to change.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&SmolStr, &mut Value)> + ExactSizeIterator {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &SmolStr> + ExactSizeIterator {
        self.entries.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
    }
}

impl IntoIterator for Map {
    type Item = (SmolStr, Value);
    type IntoIter = std::vec::IntoIter<(SmolStr, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<K: Into<SmolStr>, V: Into<Value>> FromIterator<(K, V)> for Map {
    /// The last of equal keys wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let mut map = Self::with_capacity(entries.size_hint().0);
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_fits_in_four_words() {
        assert!(size_of::<Value>() <= 32, "{}", size_of::<Value>());
    }

    #[test]
    fn a_map_stays_sorted_and_the_last_of_equal_keys_wins() {
        let map: Map = [("b", 1), ("a", 2), ("c", 3), ("a", 4)].into_iter().collect();
        assert_eq!(map.keys().map(SmolStr::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(map.get("a"), Some(&Value::Int(4)));
    }

    #[test]
    fn paths_read_write_and_remove() {
        let mut value = Value::default();
        value.set(&["spec", "replicas"], 3);
        assert_eq!(value.int_at(&["spec", "replicas"]), Some(3));
        assert_eq!(value.str_at(&["spec", "absent"]), "");
        assert_eq!(value.remove(&["spec", "replicas"]), Some(Value::Int(3)));
        assert_eq!(value.at(&["spec", "replicas"]), None);
    }
}
