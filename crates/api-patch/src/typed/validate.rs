//! Whether an applied object fits its type, with upstream's messages.

use std::collections::BTreeSet;

use api_schema::{UNKNOWN, Value};

use super::{Atom, Relation, Scalar, Ty};
use crate::field_set::PathElement;
use crate::go;

/// One thing about a value that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError {
    /// Where, as `.spec.containers[name="c"]`.
    pub path: String,
    /// What.
    pub message: String,
}

impl ValidationError {
    pub(crate) fn here(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    pub(crate) fn duplicate(element: &PathElement) -> Self {
        Self::here(format!("duplicate entries for key {element}"))
    }
}

impl std::fmt::Display for ValidationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// All that does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidationErrors(pub Vec<ValidationError>);

impl ValidationErrors {
    /// The same, seen from the container.
    pub(crate) fn within(mut self, prefix: String) -> Self {
        for error in &mut self.0 {
            error.path.insert_str(0, &prefix);
        }
        self
    }
}

impl std::fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [one] = self.0.as_slice() {
            return one.fmt(f);
        }
        f.write_str("errors:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}
impl std::error::Error for ValidationErrors {}

/// Checks a value; with `allow_duplicates`, items of equal key are let pass.
pub(crate) fn validate(ty: Ty<'_>, value: &Value, allow_duplicates: bool) -> Result<(), ValidationErrors> {
    let mut checker = Checker { allow_duplicates, path: Vec::new(), errors: Vec::new() };
    checker.value(ty, value);
    if checker.errors.is_empty() { Ok(()) } else { Err(ValidationErrors(checker.errors)) }
}

struct Checker {
    allow_duplicates: bool,
    path: Vec<PathElement>,
    errors: Vec<ValidationError>,
}

impl Checker {
    fn error(&mut self, message: impl Into<String>) {
        let path = self.path.iter().map(PathElement::to_string).collect();
        self.errors.push(ValidationError { path, message: message.into() });
    }

    fn value(&mut self, ty: Ty<'_>, value: &Value) {
        if value.is_null() {
            return;
        }
        // Embedded text is valid by itself.
        if matches!(ty, Ty::Deduced | Ty::Untyped) {
            return;
        }
        match ty.atom(value) {
            Atom::Scalar(scalar) => self.scalar(scalar, value),
            Atom::Map(atom) => {
                let Value::Map(map) = value else {
                    return self.error(format!("expected map, got &{{{}}}", go::plain(value)));
                };
                for (key, value) in map.iter().filter(|(key, _)| *key != UNKNOWN) {
                    let entry = atom.entry(key);
                    self.path.push(PathElement::Name(key.clone()));
                    match entry.ty {
                        Some(ty) => self.value(ty, value),
                        None => self.error("field not declared in schema"),
                    }
                    self.path.pop();
                    if entry.ty.is_none() {
                        // Upstream reports one unknown field of each map.
                        break;
                    }
                }
            }
            Atom::List(atom) => {
                let Value::List(items) = value else {
                    return self.error(format!("expected list, got &{{{}}}", go::plain(value)));
                };
                let mut seen = BTreeSet::new();
                for (at, item) in items.iter().enumerate() {
                    let element = match atom.relation {
                        Relation::Atomic => PathElement::Index(i64::try_from(at).unwrap_or(i64::MAX)),
                        Relation::Set | Relation::Keyed(_) => match atom.element(item) {
                            Ok(element) => element,
                            Err(problem) => return self.error(format!("element {at}: {problem}")),
                        },
                    };
                    if !matches!(atom.relation, Relation::Atomic)
                        && !seen.insert(element.clone())
                        && !self.allow_duplicates
                    {
                        self.error(ValidationError::duplicate(&element).message);
                    }
                    self.path.push(element);
                    self.value(atom.item, item);
                    self.path.pop();
                }
            }
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        let is_number = matches!(value, Value::Int(_) | Value::Float(_));
        match scalar {
            Scalar::Numeric if !is_number => {
                self.error(format!("expected numeric (int or float), got {}", go::type_name(value)));
            }
            Scalar::String if !matches!(value, Value::Str(_)) => {
                self.error(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go::syntax(value)));
            }
            Scalar::Boolean if !matches!(value, Value::Bool(_)) => {
                self.error(format!("expected boolean, got &{{{}}}", go::plain(value)));
            }
            Scalar::Untyped if !is_number && !matches!(value, Value::Str(_) | Value::Bool(_)) => {
                self.error(format!("expected any scalar, got &{{{}}}", go::plain(value)));
            }
            _ => {}
        }
    }
}
