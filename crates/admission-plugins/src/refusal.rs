//! How admission says no.

use std::fmt::Display;

use admission::{Attributes, BoxFuture, Operation};
use api_semantics::status::{GroupResource, Status};

/// How many characters a generated name has after its `generateName`.
const GENERATED_LENGTH: usize = 5;

/// A refusal that names the object as the client did: a generated name was not known to it.
pub(crate) fn forbidden(attributes: &Attributes<'_>, why: impl Display) -> Status {
    let base = attributes.object.as_deref().map(|object| object.str_at(&["metadata", "generateName"]));
    let is_generated = |base: &&str| {
        attributes.operation == Operation::Create
            && !base.is_empty()
            && attributes.name.strip_prefix(*base).is_some_and(|suffix| suffix.len() == GENERATED_LENGTH)
    };
    let name = match base.filter(is_generated) {
        Some(base) => base,
        None if attributes.name.is_empty() => "Unknown",
        None => attributes.name,
    };
    Status::forbidden(attributes.resource, name, why)
}

/// `pod "x" not found`: that an object is missing, as caches upstream say it, with the kind in small letters.
pub(crate) fn not_cached(group: &str, kind: &str, name: &str) -> Status {
    Status::not_found(&GroupResource::new(group, kind), name)
}

/// Several sentences as one: one plain, more in brackets, each once. `None` if there is none.
pub(crate) fn aggregate(errors: Vec<String>) -> Option<String> {
    let mut seen: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        if !seen.contains(&error) {
            seen.push(error);
        }
    }
    match seen.len() {
        0 => None,
        1 => seen.pop(),
        _ => Some(format!("[{}]", seen.join(", "))),
    }
}

/// An answer that needed no waiting.
pub(crate) fn ready<'a>(result: Result<(), Status>) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(std::future::ready(result))
}
