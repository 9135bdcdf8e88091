//! The fields that a resource resets on every write, which therefore nobody owns through it.

use api_schema::SmolStr;

use crate::field_set::{FieldSet, PathElement};

/// Which fields a write through a resource or subresource never owns.
#[derive(Clone, Debug, Default)]
pub enum ResetFields {
    /// All may be owned.
    #[default]
    None,
    /// These, with everything inside them, are reset: `status` by a main resource, `spec` by its status.
    Exclude(FieldSet),
    /// Only what lies on or under these patterns may be owned; `*` stands for any one step.
    Include(Vec<Vec<SmolStr>>),
}

impl ResetFields {
    /// Resets the fields at these paths of names.
    pub fn exclude(paths: &[&[&str]]) -> Self {
        Self::Exclude(FieldSet::of_paths(paths))
    }

    /// Resets all but the fields at these patterns.
    pub fn include(patterns: &[&[&str]]) -> Self {
        Self::Include(patterns.iter().map(|steps| steps.iter().map(SmolStr::new).collect()).collect())
    }

    /// Takes the reset fields out of a set.
    pub(crate) fn filter(&self, set: &mut FieldSet) {
        match self {
            Self::None => {}
            Self::Exclude(fields) => set.subtract_recursively(fields),
            Self::Include(patterns) => {
                let patterns: Vec<&[SmolStr]> = patterns.iter().map(Vec::as_slice).collect();
                include(set, &patterns);
            }
        }
    }
}

fn include(set: &mut FieldSet, patterns: &[&[SmolStr]]) {
    set.nodes.retain_mut(|node| {
        let fits = |step: &str| step == "*" || matches!(&node.element, PathElement::Name(name) if name == step);
        let rest: Vec<&[SmolStr]> = patterns
            .iter()
            .filter_map(|pattern| pattern.split_first().filter(|(step, _)| fits(step)).map(|(_, rest)| rest))
            .collect();
        if rest.is_empty() {
            return false;
        }
        if rest.iter().all(|rest| !rest.is_empty()) {
            include(&mut node.children, &rest);
        }
        node.member || !node.children.is_empty()
    });
}
