//! Small checks and cells that the kinds of many groups share.

use std::collections::HashSet;

use api_codec::json;
use api_schema::{Map, SmolStr, StructId, Type, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

const REASON_LEN_MAX: usize = 1024;
const MESSAGE_LEN_MAX: usize = 32 * 1024;

/// The cell with the object's name.
pub(crate) fn name(object: &Value) -> Value {
    text(object, &["metadata", "name"])
}

/// A cell with the string at a path, empty where absent.
pub(crate) fn text(object: &Value, path: &[&str]) -> Value {
    SmolStr::new(object.str_at(path)).into()
}

/// A cell with the string at a path, or with `other` where it is absent.
pub(crate) fn text_or(object: &Value, path: &[&str], other: &str) -> Value {
    object.at(path).and_then(Value::as_str).unwrap_or(other).into()
}

/// The first `shown` of many, and how many more there are: `a,b,c + 2 more...`; `<unset>` for none.
pub(crate) fn list_with_more(items: &[String], shown: usize) -> String {
    match items.len() {
        0 => "<unset>".into(),
        count if count <= shown => items.join(","),
        count => format!("{} + {} more...", items[..shown].join(","), count - shown),
    }
}

/// One error for each thing that a name check found.
pub(crate) fn invalid_text(errors: &mut ErrorList, path: &Path<'_>, value: &str, messages: Vec<String>) {
    errors.extend(messages.into_iter().map(|message| Error::invalid(path, value, message)));
}

/// The string must not be empty; gives it for further checks if it is not.
pub(crate) fn required_text<'a>(errors: &mut ErrorList, path: &Path<'_>, object: &'a Value, field: &str) -> &'a str {
    let text = object.str_at(&[field]);
    if text.is_empty() {
        errors.push(Error::required(&path.child(field), ""));
    }
    text
}

/// A whole number must not be negative.
pub(crate) fn not_negative(errors: &mut ErrorList, path: &Path<'_>, number: Option<i64>) {
    if let Some(number) = number.filter(|number| *number < 0) {
        errors.push(Error::invalid(path, number, names::NEGATIVE));
    }
}

/// The value must be one of those listed.
pub(crate) fn supported(errors: &mut ErrorList, path: &Path<'_>, value: &str, values: &[&str]) {
    if !values.contains(&value) {
        errors.push(Error::not_supported(path, value, values));
    }
}

/// The value must be the same as before.
pub(crate) fn immutable(errors: &mut ErrorList, path: &Path<'_>, new: Option<&Value>, old: Option<&Value>) {
    if !same(new, old) {
        errors.push(Error::invalid(path, new.cloned().unwrap_or_default(), names::IMMUTABLE));
    }
}

/// Whether Go's semantic equality holds: no list and an empty one are the same, no struct and an empty one are not.
/// (Empty maps that Go would take for absent ones are not in the tree.)
pub(crate) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let is_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::List(items) => items.is_empty(),
        _ => false,
    };
    match (a.filter(|value| !is_nothing(value)), b.filter(|value| !is_nothing(value))) {
        (None, None) => true,
        (Some(Value::List(a)), Some(Value::List(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(Value::Map(a)), Some(Value::Map(b))) => {
            a.keys().all(|key| same(a.get(key), b.get(key)))
                && b.keys().filter(|key| !a.contains_key(key)).all(|key| same(None, b.get(key)))
        }
        (a, b) => a == b,
    }
}

/// A value of a versioned type as upstream's messages show it: there it is of an internal type, which has no JSON
/// names, so that fields go by their Go names, and nothing is left out.
pub(crate) fn internal(value: Option<&Value>, ty: &str) -> Value {
    let mut text = String::new();
    write_internal(value, &Type::Struct(api_types::struct_id(ty)), false, &mut text);
    Value::Raw(text.into())
}

fn write_internal(value: Option<&Value>, ty: &Type, pointer: bool, out: &mut String) {
    let value = value.filter(|value| !value.is_null());
    match (ty, value) {
        (Type::List(_) | Type::Wrapped(_) | Type::Map(_) | Type::Bytes | Type::Time | Type::MicroTime, None) => {
            out.push_str("null");
        }
        (_, None) if pointer => out.push_str("null"),
        (Type::Struct(id), value) => write_internal_struct(value, *id, out),
        (Type::List(item) | Type::Wrapped(item), Some(Value::List(items))) => {
            write_each(out, ['[', ']'], items.iter(), |item_value, out| {
                write_internal(Some(item_value), item, false, out);
            });
        }
        (Type::Map(item), Some(Value::Map(map))) => {
            write_each(out, ['{', '}'], map.iter(), |(key, item_value), out| {
                out.push_str(&json_text(&Value::Str(key.clone())));
                out.push(':');
                write_internal(Some(item_value), item, false, out);
            });
        }
        (_, Some(value)) => out.push_str(&json_text(value)),
        (Type::Bool, None) => out.push_str("false"),
        (Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString, None) => out.push('0'),
        (Type::Quantity, None) => out.push_str("\"0\""),
        (_, None) => out.push_str("\"\""),
    }
}

fn write_internal_struct(value: Option<&Value>, id: StructId, out: &mut String) {
    let ty = api_types::schema().get(id);
    // The types of meta/v1 are what they are everywhere.
    if ty.name.starts_with("io.k8s.apimachinery.") {
        let codec = api_codec::builtin().of(id);
        let zero = codec.zero();
        let mut text = Vec::new();
        json::encode(Some(codec), value.unwrap_or(&zero), &mut text);
        out.push_str(&String::from_utf8_lossy(&text));
        return;
    }
    let fields = ty.fields.iter().filter(|field| !field.json.is_empty()).filter_map(|field| {
        let value = value.and_then(|value| value.get(&field.json));
        let mut text = String::new();
        if is_meta(&field.ty) {
            // Metadata is embedded: its fields stand beside the others, those that are set.
            write_internal(value, &field.ty, false, &mut text);
            let inner = text.trim_start_matches('{').strip_suffix('}').unwrap_or_default();
            return (!inner.is_empty()).then(|| inner.to_owned());
        }
        text.push_str(&format!("\"{}\":", go_name(&field.json)));
        write_internal(value, &field.ty, field.pointer, &mut text);
        Some(text)
    });
    write_each(out, ['{', '}'], fields, |field, out| out.push_str(&field));
}

fn is_meta(ty: &Type) -> bool {
    matches!(ty, Type::Struct(id) if api_types::schema().get(*id).name.ends_with(".meta.v1.ObjectMeta"))
}

fn write_each<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = T>,
    write: impl Fn(T, &mut String),
) {
    out.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

fn json_text(value: &Value) -> String {
    let mut text = Vec::new();
    json::encode(None, value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The Go name of a field: `apiGroup` is `APIGroup`, `nodeName` is `NodeName`.
fn go_name(json: &str) -> String {
    const WORDS: [(&str, &str); 11] = [
        ("api", "API"),
        ("cel", "CEL"),
        ("cidr", "CIDR"),
        ("cidrs", "CIDRs"),
        ("fs", "FS"),
        ("http", "HTTP"),
        ("ip", "IP"),
        ("se", "SE"),
        ("tls", "TLS"),
        ("uid", "UID"),
        ("url", "URL"),
    ];
    let end = json.find(|c: char| c.is_ascii_uppercase()).unwrap_or(json.len());
    let (first, rest) = json.split_at(end);
    match WORDS.iter().find(|(word, _)| *word == first) {
        Some((_, go)) => format!("{go}{rest}"),
        None => first.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(json.chars().skip(1)).collect(),
    }
}

/// Checks metav1.Conditions.
pub(crate) fn check_conditions(errors: &mut ErrorList, path: &Path<'_>, conditions: &[Value]) {
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let (condition_type, status) = (condition.str_at(&["type"]), condition.str_at(&["status"]));
        let (reason, message) = (condition.str_at(&["reason"]), condition.str_at(&["message"]));
        if !seen.insert(condition_type) {
            errors.push(Error::duplicate(&path.child("type"), condition_type));
        }
        invalid_text(errors, &path.child("type"), condition_type, names::qualified_name(condition_type));
        supported(errors, &path.child("status"), status, &["False", "True", "Unknown"]);
        if let Some(generation) = condition.int_at(&["observedGeneration"]).filter(|generation| *generation < 0) {
            let why = "must be greater than or equal to zero";
            errors.push(Error::invalid(&path.child("observedGeneration"), generation, why));
        }
        if condition.get("lastTransitionTime").is_none() {
            errors.push(Error::required(&path.child("lastTransitionTime"), ""));
        }
        if reason.is_empty() {
            errors.push(Error::required(&path.child("reason"), ""));
        } else {
            invalid_text(errors, &path.child("reason"), reason, names::condition_reason(reason));
            if reason.len() > REASON_LEN_MAX {
                errors.push(Error::too_long(&path.child("reason"), REASON_LEN_MAX));
            }
        }
        if message.len() > MESSAGE_LEN_MAX {
            errors.push(Error::too_long(&path.child("message"), MESSAGE_LEN_MAX));
        }
    }
}

/// Sets a field of a struct where it is absent.
pub(crate) fn default_field(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    if object.at(path).is_none() {
        object.set(path, value);
    }
}

/// Sets a string field where it is absent or empty.
pub(crate) fn default_text(object: &mut Value, path: &[&str], value: &str) {
    if object.str_at(path).is_empty() {
        object.set(path, value);
    }
}

/// The items of the list at a path, to change; none where absent.
pub(crate) fn items_mut<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut [Value] {
    object.at_mut(path).and_then(Value::as_list_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// The strings of the list at a path.
pub(crate) fn texts<'a>(object: &'a Value, path: &[&str]) -> Vec<&'a str> {
    object.list_at(path).iter().filter_map(Value::as_str).collect()
}

/// The map at a path, empty where absent.
pub(crate) fn map<'a>(object: &'a Value, path: &[&str]) -> &'a Map {
    static EMPTY: Map = Map::new();
    object.map_at(path).unwrap_or(&EMPTY)
}

/// For kinds whose generation is set once and never counts: upstream sets 1 on create and leaves it.
pub(crate) fn first_generation(object: &mut Value) {
    object.set(&["metadata", "generation"], 1);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Kind;

    /// Reads JSON into the tree, as the codec would for a type without surprises.
    pub(crate) fn json(text: &str) -> Value {
        fn tree(value: serde_json::Value) -> Value {
            match value {
                serde_json::Value::Null => Value::Null,
                serde_json::Value::Bool(flag) => flag.into(),
                serde_json::Value::Number(number) => match number.as_i64() {
                    Some(whole) => Value::Int(whole),
                    None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
                },
                serde_json::Value::String(text) => text.into(),
                serde_json::Value::Array(items) => Value::List(items.into_iter().map(tree).collect()),
                serde_json::Value::Object(map) => Value::Map(map.into_iter().map(|(k, v)| (k, tree(v))).collect()),
            }
        }
        tree(serde_json::from_str(text).unwrap_or_else(|why| panic!("{why} in {text}")))
    }

    /// The errors of a list, one a line.
    pub(crate) fn lines(errors: &ErrorList) -> String {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Compares what creating `object` says with `expect`, one error a line.
    #[track_caller]
    pub(crate) fn create(kind: &dyn Kind, object: &str, expect: &str) {
        let mut object = json(object);
        kind.default(&mut object);
        kind.prepare_create(&mut object);
        assert_eq!(lines(&kind.validate(&object)), expect);
    }

    /// Compares what changing `old` to `new` says with `expect`, one error a line.
    #[track_caller]
    pub(crate) fn update(kind: &dyn Kind, old: &str, new: &str, expect: &str) {
        let (mut old, mut new) = (json(old), json(new));
        kind.default(&mut old);
        kind.default(&mut new);
        kind.prepare_update(&mut new, &old);
        assert_eq!(lines(&kind.validate_update(&new, &old)), expect);
    }

    /// Compares what changing the status of `old` to that of `new` says with `expect`, one error a line.
    #[track_caller]
    pub(crate) fn update_status(kind: &dyn Kind, old: &str, new: &str, expect: &str) {
        let (mut old, mut new) = (json(old), json(new));
        kind.default(&mut old);
        kind.default(&mut new);
        kind.prepare_status_update(&mut new, &old);
        assert_eq!(lines(&kind.validate_status_update(&new, &old)), expect);
    }

    /// Compares an object after defaulting (once and twice) with the `expect`ed one.
    #[track_caller]
    pub(crate) fn defaults(kind: &dyn Kind, object: &str, expect: &str) {
        let mut object = json(object);
        kind.default(&mut object);
        assert_eq!(object, json(expect));
        kind.default(&mut object);
        assert_eq!(object, json(expect), "twice is not once");
    }

    /// Compares the cells at Unix second 0 with the `expect`ed JSON list.
    #[track_caller]
    pub(crate) fn cells(kind: &dyn Kind, object: &str, expect: &str) {
        assert_eq!(kind.cells(&json(object), 0).map(Value::List), Some(json(expect)));
    }

    #[test]
    fn lists_with_more_count_what_they_leave_out() {
        let items = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        for (count, expect) in [(0, "<unset>"), (1, "0"), (3, "0,1,2"), (5, "0,1,2 + 2 more...")] {
            assert_eq!(list_with_more(&items(count), 3), expect);
        }
    }

    #[test]
    fn internal_types_show_go_names_and_all_fields() {
        for (ty, value, expect) in [
            ("rbac.v1.RoleRef", r#"{"kind":"Role","name":"r"}"#, r#"{"APIGroup":"","Kind":"Role","Name":"r"}"#),
            (
                "policy.v1.PodDisruptionBudgetSpec",
                r#"{"minAvailable":1,"selector":{"matchLabels":{"a":"b"}}}"#,
                r#"{"MinAvailable":1,"Selector":{"matchLabels":{"a":"b"}},"MaxUnavailable":null,"#,
            ),
            ("networking.v1.ServiceCIDRSpec", r#"{"cidrs":["a"]}"#, r#"{"CIDRs":["a"]}"#),
        ] {
            let Value::Raw(text) = internal(Some(&json(value)), &format!("io.k8s.api.{ty}")) else { panic!("no text") };
            assert!(text.starts_with(expect), "{text}");
        }
    }

    #[test]
    fn no_list_and_an_empty_one_are_the_same() {
        for (a, b, expect) in [
            ("{}", "null", false),
            ("[]", "null", true),
            (r#"{"a":[]}"#, "{}", true),
            (r#"{"a":[1]}"#, "{}", false),
            (r#"{"a":{"b":null}}"#, r#"{"a":{}}"#, true),
            (r#"{"a":{}}"#, "{}", false),
            (r#"[1,2]"#, r#"[2,1]"#, false),
            (r#"{"a":""}"#, r#"{}"#, false),
        ] {
            assert_eq!(same(Some(&json(a)), Some(&json(b))), expect, "{a} {b}");
            assert_eq!(same(Some(&json(b)), Some(&json(a))), expect, "{b} {a}");
        }
    }
}
