//! JSON patch (RFC 6902) as the API server applies it: the RFC with the leniencies of evanphx/json-patch v4.

use api_schema::Value;

use crate::error::PatchError;
use crate::json;

/// How many operations one patch may hold.
pub const OPERATIONS_MAX: usize = 10_000;

/// How many bytes of JSON the `copy` operations of one patch may add.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A decoded JSON patch, to be applied to any number of objects.
#[derive(Clone, Debug)]
pub struct JsonPatch {
    operations: Vec<Operation>,
    /// Fields of operations that nobody knows, as the messages of strict field validation:
    /// `json patch unknown field "[0].foo"`.
    pub unknown_fields: Vec<String>,
}

/// One operation; what is missing is found out when it is applied, as upstream does.
#[derive(Clone, Debug)]
struct Operation {
    kind: String,
    path: Option<String>,
    from: Option<String>,
    value: Value,
}

impl JsonPatch {
    /// Reads a patch. `checked` is true when field validation is Strict or Warn: then operations of wrong types
    /// are found here, and not only when they are applied.
    pub fn decode(patch: &Value, checked: bool) -> Result<Self, PatchError> {
        let target = if checked { "[]handlers.jsonPatchOp" } else { "jsonpatch.Patch" };
        let items = match patch {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            other => return Err(mismatch(other, target, checked)),
        };
        let mut decoded = Self { operations: Vec::with_capacity(items.len()), unknown_fields: Vec::new() };
        for (at, item) in items.iter().enumerate() {
            decoded.decode_operation(at, item, checked)?;
        }
        if decoded.operations.len() > OPERATIONS_MAX {
            return Err(PatchError::TooManyOperations(format!(
                "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                decoded.operations.len()
            )));
        }
        Ok(decoded)
    }

    fn decode_operation(&mut self, at: usize, item: &Value, checked: bool) -> Result<(), PatchError> {
        let target = if checked { "handlers.jsonPatchOp" } else { "jsonpatch.Operation" };
        if !matches!(item, Value::Map(_) | Value::Null) {
            return Err(mismatch(item, target, checked));
        }
        let text = |name: &str| match item.get(name) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text.to_string())),
            Some(other) if checked => Err(PatchError::Malformed(format!(
                "error decoding patch: json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
                other.type_name()
            ))),
            Some(_) => Ok(None),
        };
        let operation = Operation {
            kind: text("op")?.unwrap_or_else(|| "unknown".into()),
            path: text("path")?,
            from: text("from")?,
            value: item.get("value").cloned().unwrap_or_default(),
        };
        if checked && let Value::Map(fields) = item {
            let unknown = fields.keys().filter(|key| !matches!(key.as_str(), "op" | "path" | "from" | "value"));
            self.unknown_fields.extend(unknown.map(|key| format!("json patch unknown field \"[{at}].{key}\"")));
        }
        self.operations.push(operation);
        Ok(())
    }

    /// Applies the patch. After an error the object is half changed: throw it away.
    ///
    /// The result has the shape that the patch gave it; decode it by its schema before use.
    pub fn apply(&self, object: &mut Value) -> Result<(), PatchError> {
        let mut copied = 0;
        for operation in &self.operations {
            let done = match operation.kind.as_str() {
                "add" => operation.add(object),
                "remove" => operation.remove(object),
                "replace" => operation.replace(object),
                "move" => operation.move_value(object),
                "copy" => operation.copy(object, &mut copied),
                "test" => operation.test(object),
                kind => Err(format!("Unexpected kind: {kind}")),
            };
            done.map_err(PatchError::NotApplicable)?;
        }
        Ok(())
    }
}

fn mismatch(value: &Value, target: &str, checked: bool) -> PatchError {
    let prefix = if checked { "error decoding patch: " } else { "" };
    PatchError::Malformed(format!(
        "{prefix}json: cannot unmarshal {} into Go value of type {target}",
        value.type_name()
    ))
}

impl Operation {
    fn path(&self) -> Result<&str, String> {
        self.path.as_deref().ok_or_else(|| format!("{} operation failed to decode path", self.kind))
    }

    fn from(&self) -> Result<&str, String> {
        self.from.as_deref().ok_or_else(|| format!("{} operation failed to decode from", self.kind))
    }

    fn add(&self, object: &mut Value) -> Result<(), String> {
        insert(object, self.path()?, self.value.clone())
    }

    fn remove(&self, object: &mut Value) -> Result<(), String> {
        take(object, self.path()?).map(drop)
    }

    fn replace(&self, object: &mut Value) -> Result<(), String> {
        let path = self.path()?;
        if path.is_empty() {
            if !matches!(self.value, Value::Map(_) | Value::List(_)) {
                return Err("replace operation value must be object or array".into());
            }
            *object = self.value.clone();
            return Ok(());
        }
        let (container, key) = find(object, path)?;
        match container {
            // A key that is not there is added: only the RFC forbids it.
            Value::Map(map) => {
                map.insert(key, self.value.clone());
            }
            Value::List(items) => {
                let at = index(&key, items.len())?;
                items[at] = self.value.clone();
            }
            _ => return Err(missing(path)),
        }
        Ok(())
    }

    fn move_value(&self, object: &mut Value) -> Result<(), String> {
        let value = take(object, self.from()?)?;
        insert(object, self.path()?, value)
    }

    fn copy(&self, object: &mut Value, copied: &mut usize) -> Result<(), String> {
        let value = look_up(object, self.from()?)?.cloned();
        if let Some(value) = &value {
            let mut text = String::new();
            json::write(value, &mut text);
            *copied += text.len();
            if *copied > COPIED_BYTES_MAX {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the \
                     limit {COPIED_BYTES_MAX}"
                ));
            }
        }
        insert(object, self.path()?, value.unwrap_or_default())
    }

    fn test(&self, object: &mut Value) -> Result<(), String> {
        let path = self.path()?;
        let found = if path.is_empty() { Some(&*object) } else { look_up(object, path)? };
        // A missing value and null are the same to this library.
        let equal = match found {
            None => self.value.is_null(),
            Some(found) => same_text(found, &self.value),
        };
        if equal { Ok(()) } else { Err(format!("testing value {path} failed")) }
    }
}

/// Equality as `test` sees it: numbers are equal only if they are written alike.
fn same_text(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Int(_), Value::Float(_)) | (Value::Float(_), Value::Int(_)) => false,
        (Value::List(l), Value::List(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same_text(l, r)),
        (Value::Map(l), Value::Map(r)) => {
            l.len() == r.len() && l.iter().zip(r.iter()).all(|((lk, l), (rk, r))| lk == rk && same_text(l, r))
        }
        _ => json::same(left, right),
    }
}

fn missing(path: &str) -> String {
    format!("doc is missing path: {path}")
}

/// The container that the last part of a path lies in, and that part.
fn find<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    // What stands before the first slash is ignored.
    let mut parts = path.split('/').skip(1);
    let mut key = parts.next().ok_or_else(|| missing(path))?;
    let mut container = object;
    for next in parts {
        let key_here = unescaped(key);
        container = match container {
            Value::Map(map) => map.get_mut(&key_here).ok_or_else(|| missing(path))?,
            Value::List(items) => {
                let at = index(&key_here, items.len()).map_err(|_| missing(path))?;
                &mut items[at]
            }
            _ => return Err(missing(path)),
        };
        json::expand(container);
        key = next;
    }
    match container {
        Value::Map(_) | Value::List(_) => Ok((container, unescaped(key))),
        _ => Err(missing(path)),
    }
}

fn unescaped(part: &str) -> String {
    if !part.contains('~') {
        return part.to_owned();
    }
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        let (text, length) = match rest.as_bytes().get(at + 1) {
            Some(b'0') => ("~", 2),
            Some(b'1') => ("/", 2),
            _ => ("~", 1),
        };
        out.push_str(text);
        rest = &rest[at + length..];
    }
    out + rest
}

/// The index that a path names in a list of `len` items; negative ones count from the end.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let number: i64 = key.parse().map_err(|_| format!("value was not a proper array index: '{key}'"))?;
    let at = if number < 0 { i64::try_from(len).unwrap_or(i64::MAX).saturating_add(number) } else { number };
    usize::try_from(at)
        .ok()
        .filter(|at| *at < len)
        .ok_or_else(|| format!("Unable to access invalid index: {number}: invalid index referenced"))
}

fn look_up<'a>(object: &'a mut Value, path: &str) -> Result<Option<&'a Value>, String> {
    let (container, key) = find(object, path)?;
    Ok(match container {
        Value::Map(map) => map.get(&key).filter(|value| !value.is_null()),
        Value::List(items) => Some(&items[index(&key, items.len())?]).filter(|value| !value.is_null()),
        _ => None,
    })
}

fn insert(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let (container, key) = find(object, path)?;
    match container {
        Value::Map(map) => {
            map.insert(key, value);
        }
        Value::List(items) if key == "-" => items.push(value),
        Value::List(items) => {
            let at = index(&key, items.len() + 1)?;
            items.insert(at, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn take(object: &mut Value, path: &str) -> Result<Value, String> {
    let (container, key) = find(object, path)?;
    match container {
        Value::Map(map) => map.remove(&key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}")),
        Value::List(items) => {
            let at = index(&key, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err(missing(path)),
    }
}
