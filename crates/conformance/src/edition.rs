//! Where the target version answers differently from the reference server everywhere, said once.
//!
//! Expectations are recorded from Kubernetes 1.24 and hold for 1.36. A difference that shows in many answers is a
//! rule here, applied while recording; one that shows in a single answer is a `cite:` in the script.

use serde_json::Value;

/// A masked answer while it is being recorded.
pub(crate) struct Draft<'a> {
    /// The request's method, for rules that concern writes only.
    pub(crate) method: &'a str,
    /// The documents of the body (one, or one for each watch event).
    pub(crate) documents: &'a mut [Value],
}

/// One systematic difference.
pub(crate) struct Edition {
    /// The name that recorded answers carry.
    pub(crate) name: &'static str,
    /// Changes the draft; `true` if there was something to change.
    pub(crate) apply: fn(&mut Draft<'_>) -> bool,
}

/// Every rule.
pub(crate) const ALL: &[Edition] = &[];

/// Applies all rules and names those that changed something.
pub(crate) fn apply(draft: &mut Draft<'_>) -> Vec<String> {
    ALL.iter().filter(|edition| (edition.apply)(draft)).map(|edition| edition.name.to_owned()).collect()
}
