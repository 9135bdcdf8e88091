//! Binding: which node a Pod goes to. It is posted to a Pod's `binding`, never stored.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use crate::Kind;

/// The kind Binding.
pub(crate) struct Binding;

impl Kind for Binding {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "bindings"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let kind = object.str_at(&["target", "kind"]);
        if !matches!(kind, "" | "Node") {
            errors.push(Error::not_supported(&Path::new("target.kind"), kind, &["Node", "<empty>"]));
        }
        if object.str_at(&["target", "name"]).is_empty() {
            errors.push(Error::required(&Path::new("target.name"), ""));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::create;

    #[test]
    fn the_target_is_a_node() {
        create(&Binding, r#"{"target":{"name":"a"}}"#, "");
        create(
            &Binding,
            r#"{"target":{"kind":"Pod"}}"#,
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"\n\
             target.name: Required value",
        );
    }
}
