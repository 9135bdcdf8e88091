//! Validation errors with their field paths, in upstream's words (apimachinery `field.Error`).

use std::fmt;

use api_schema::{SmolStr, ToSmolStr, Value};

/// A field path under construction. It lives on the stack and borrows its parents, so that validation of a good
/// object allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The path of the object itself: it prints as nothing.
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    /// A path that starts with a field name (dots allowed: `spec.template`).
    pub const fn new(name: &'a str) -> Self {
        Self { parent: None, segment: Segment::Name(name) }
    }

    /// The field `name` of this (dots allowed: `securityContext.runAsUser`).
    pub fn child<'b>(&'b self, name: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Name(name) }
    }

    /// The item at `index` of this list.
    pub fn index(&self, index: usize) -> Path<'_> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// The entry of `key` of this map.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_start = match self.parent {
            Some(parent) => {
                parent.fmt(f)?;
                matches!(parent.segment, Segment::Root)
            }
            None => true,
        };
        match self.segment {
            Segment::Root => Ok(()),
            // Upstream's path of an empty name: the object as a whole.
            Segment::Name("") => f.write_str("[]"),
            Segment::Name(name) if is_start => f.write_str(name),
            Segment::Name(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// The sort of a field error; its name is the cause's `reason` in a Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The value refers to something that does not exist.
    NotFound,
    /// The value is missing.
    Required,
    /// The value must be unique.
    Duplicate,
    /// The value is malformed.
    Invalid,
    /// The value is none of an enumeration.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// The value is too long.
    TooLong,
    /// The value is too short.
    TooShort,
    /// The list has too many items.
    TooMany,
    /// The list has too few items.
    TooFew,
    /// Something that is not the client's fault.
    Internal,
    /// The value has the wrong type.
    TypeInvalid,
}

impl ErrorType {
    /// The reason of a Status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// The sort.
    pub ty: ErrorType,
    /// The field's path.
    pub field: String,
    /// The offending value, already in the form that the message shows; empty where none is shown.
    pub value: String,
    /// What is expected.
    pub detail: String,
}

/// All that is wrong with an object.
pub type ErrorList = Vec<Error>;

/// A value as the messages show it: strings quoted, numbers and booleans plain, the rest as JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Str(text) => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Map(map) => format!(
            "{{{}}}",
            map.iter().map(|(key, value)| format!("{}:{}", quoted(key), shown(value))).collect::<Vec<_>>().join(",")
        ),
        Value::Raw(text) => text.to_string(),
        Value::Bytes(_) => String::new(),
    }
}

/// A string in double quotes with Go's `%q` escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if ('\u{80}'..'\u{a0}').contains(&c) || c == '\u{ad}' || c == '\u{feff}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl Error {
    fn new(ty: ErrorType, path: &Path<'_>, value: String, detail: impl Into<String>) -> Self {
        Self { ty, field: path.to_string(), value, detail: detail.into() }
    }

    /// A value is missing.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, String::new(), detail)
    }

    /// A value is malformed.
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, shown(&value.into()), detail)
    }

    /// A value is none of the supported ones. They are listed in the order given (upstream sorts most).
    pub fn not_supported(path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|value| quoted(value)).collect();
        let detail =
            if supported.is_empty() { String::new() } else { format!("supported values: {}", supported.join(", ")) };
        Self::new(ErrorType::NotSupported, path, shown(&value.into()), detail)
    }

    /// A value may not be set here.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, String::new(), detail)
    }

    /// A value stands twice.
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, path, shown(&value.into()), "")
    }

    /// A value refers to something that does not exist.
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, path, shown(&value.into()), "")
    }

    /// A string is longer than `max` bytes.
    pub fn too_long(path: &Path<'_>, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(ErrorType::TooLong, path, String::new(), format!("may not be more than {max} {unit}"))
    }

    /// A string is longer than `max` characters.
    pub fn too_long_characters(path: &Path<'_>, max: usize) -> Self {
        let unit = if max == 1 { "character" } else { "characters" };
        Self::new(ErrorType::TooLong, path, String::new(), format!("may not be more than {max} {unit}"))
    }

    /// A string is shorter than `min` characters.
    pub fn too_short(path: &Path<'_>, min: usize) -> Self {
        let unit = if min == 1 { "character" } else { "characters" };
        Self::new(ErrorType::TooShort, path, String::new(), format!("must be at least {min} {unit}"))
    }

    /// A list has `actual` items where `max` are allowed.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooMany, path, actual.to_string(), format!("must have at most {max} {items}"))
    }

    /// A list has `actual` items where `min` are needed.
    pub fn too_few(path: &Path<'_>, actual: usize, min: usize) -> Self {
        let items = if min == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooFew, path, actual.to_string(), format!("must have at least {min} {items}"))
    }

    /// A value has the wrong type.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, shown(&value.into()), detail)
    }

    /// Something went wrong on our side.
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, path, String::new(), detail)
    }

    /// The message without the path: a Status cause's `message`.
    pub fn body(&self) -> SmolStr {
        let mut text = self.ty.words().to_string();
        let shows_value = !matches!(
            self.ty,
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::TooShort | ErrorType::Internal
        );
        if shows_value {
            text.push_str(": ");
            text.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text.to_smolstr()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { write!(f, "{}", self.body()) } else { write!(f, "{}: {}", self.field, self.body()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_upstream_prints_them() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        assert_eq!(first.child("image").to_string(), "spec.containers[0].image");
        assert_eq!(Path::new("metadata.labels").key("a/b").to_string(), "metadata.labels[a/b]");
        assert_eq!(Path::ROOT.child("spec").to_string(), "spec");
        assert_eq!(Path::new("").to_string(), "[]");
    }

    #[test]
    fn errors_print_as_upstream_prints_them() {
        let path = Path::new("spec.x");
        for (error, text) in [
            (Error::required(&path, ""), "spec.x: Required value"),
            (Error::required(&path, "must be set"), "spec.x: Required value: must be set"),
            (Error::invalid(&path, "a\"b", "bad"), "spec.x: Invalid value: \"a\\\"b\": bad"),
            (Error::invalid(&path, 7, "bad"), "spec.x: Invalid value: 7: bad"),
            (
                Error::not_supported(&path, "c", &["a", "b"]),
                "spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\"",
            ),
            (Error::too_long(&path, 9), "spec.x: Too long: may not be more than 9 bytes"),
            (Error::duplicate(&path, "a"), "spec.x: Duplicate value: \"a\""),
            (Error::forbidden(&path, "no"), "spec.x: Forbidden: no"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
