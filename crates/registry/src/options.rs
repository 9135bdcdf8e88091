//! The options of requests, checked as upstream checks them (apimachinery `ListOptions` and friends).

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::status::Status;

/// How a list's or watch's resourceVersion is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMatch {
    /// Not said.
    #[default]
    Unset,
    /// Exactly this version.
    Exact,
    /// This version or a later one.
    NotOlderThan,
}

/// What a list or watch asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// The label selector's text.
    pub label_selector: SmolStr,
    /// The field selector's text.
    pub field_selector: SmolStr,
    /// Whether this is a watch.
    pub watch: bool,
    /// Whether the watch wants bookmarks.
    pub allow_bookmarks: bool,
    /// The resourceVersion as given.
    pub resource_version: SmolStr,
    /// How it is meant; text that is none of upstream's values is kept for the error.
    pub version_match: SmolStr,
    /// When a watch ends by itself, in seconds.
    pub timeout_seconds: Option<i64>,
    /// The page size; 0 for all.
    pub limit: i64,
    /// Where the next page starts.
    pub continue_token: SmolStr,
    /// Whether a watch starts with the present objects.
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// How the resourceVersion is meant.
    pub fn matching(&self) -> VersionMatch {
        match &*self.version_match {
            "Exact" => VersionMatch::Exact,
            "NotOlderThan" => VersionMatch::NotOlderThan,
            _ => VersionMatch::Unset,
        }
    }

    /// Applies upstream's defaults: a watch without a start replays (KEP-3157).
    pub fn default_watch(&mut self) {
        if self.watch
            && matches!(&*self.resource_version, "" | "0")
            && self.send_initial_events.is_none()
            && self.version_match.is_empty()
        {
            self.send_initial_events = Some(true);
            self.version_match = "NotOlderThan".into();
        }
    }

    /// Checks what may go together.
    ///
    /// # Errors
    /// 422 with upstream's fields and texts.
    pub fn validate(&self) -> Result<(), Status> {
        let errors = self.errors();
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors)) }
    }

    fn errors(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("resourceVersionMatch");
        let initial = Path::new("sendInitialEvents");
        if self.watch {
            let not_older = self.version_match == "NotOlderThan";
            if self.send_initial_events.is_some() && !not_older {
                errors.push(Error::forbidden(
                    &path,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            if !self.version_match.is_empty() {
                if self.send_initial_events.is_none() {
                    errors.push(Error::forbidden(
                        &path,
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                    ));
                }
                if !not_older {
                    errors.push(Error::not_supported(&path, self.version_match.clone(), &["NotOlderThan"]));
                }
                if !self.continue_token.is_empty() {
                    errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
                }
            }
            return errors;
        }
        if !self.version_match.is_empty() {
            if self.resource_version.is_empty() {
                errors.push(Error::forbidden(
                    &path,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            if !self.continue_token.is_empty() {
                errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
            }
            if self.matching() == VersionMatch::Unset {
                errors.push(Error::not_supported(&path, self.version_match.clone(), &["Exact", "NotOlderThan", ""]));
            }
            if self.matching() == VersionMatch::Exact && self.resource_version == "0" {
                errors.push(Error::forbidden(
                    &path,
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
        }
        if self.send_initial_events.is_some() {
            errors.push(Error::forbidden(&initial, "sendInitialEvents is forbidden for list"));
        }
        errors
    }
}

/// How unknown and duplicate fields are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped with a warning.
    #[default]
    Warn,
    /// Refused.
    Strict,
}

/// What create, update and patch take beside the body.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Whether nothing is stored.
    pub dry_run: bool,
    /// Who owns the fields: the parameter, or the start of the user agent.
    pub field_manager: SmolStr,
    /// How unknown fields are treated.
    pub field_validation: FieldValidation,
    /// Apply only: take fields from other managers.
    pub force: Option<bool>,
}

/// What happens to dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// What a deletion asks for.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// The grace period in seconds.
    pub grace_period_seconds: Option<i64>,
    /// Only an object with this UID.
    pub uid: Option<SmolStr>,
    /// Only an object at this version.
    pub resource_version: Option<SmolStr>,
    /// What happens to dependents.
    pub propagation: Option<Propagation>,
    /// The old form of `propagation`.
    pub orphan_dependents: Option<bool>,
    /// Whether nothing is deleted.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Reads a DeleteOptions object.
    ///
    /// # Errors
    /// 422 as upstream's ValidateDeleteOptions.
    pub fn from_value(value: &Value) -> Result<Self, Status> {
        let mut errors = ErrorList::new();
        let policy = value.at(&["propagationPolicy"]).and_then(Value::as_str);
        let orphan_dependents = value.bool_at(&["orphanDependents"]);
        let propagation = match policy {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                errors.push(Error::not_supported(
                    &Path::new("propagationPolicy"),
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
                None
            }
        };
        if policy.is_some() && orphan_dependents.is_some() {
            errors.push(Error::invalid(
                &Path::new("propagationPolicy"),
                policy.unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let dry_run: Vec<&str> = value.list_at(&["dryRun"]).iter().filter_map(Value::as_str).collect();
        errors.extend(dry_run_errors(&dry_run));
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        let text = |path: &[&str]| value.at(path).and_then(Value::as_str).map(SmolStr::new);
        Ok(Self {
            grace_period_seconds: value.int_at(&["gracePeriodSeconds"]),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
            propagation,
            orphan_dependents,
            dry_run: !dry_run.is_empty(),
        })
    }
}

/// What is wrong with the values of `dryRun`.
pub fn dry_run_errors(values: &[&str]) -> ErrorList {
    if values.iter().all(|value| *value == "All") {
        return ErrorList::new();
    }
    let items: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
    vec![Error::not_supported(&Path::new("dryRun"), items, &["All"])]
}

/// A character as Go's `%#U` shows it.
fn shown_rune(rune: char) -> String {
    if rune.is_control() { format!("U+{:04X}", u32::from(rune)) } else { format!("U+{:04X} '{rune}'", u32::from(rune)) }
}

/// What is wrong with a field manager's name.
pub fn field_manager_errors(name: &str) -> ErrorList {
    let path = Path::new("fieldManager");
    let mut errors = ErrorList::new();
    if name.len() > 128 {
        errors.push(Error::too_long(&path, 128));
    }
    if let Some((at, _)) = name.char_indices().find(|(_, c)| c.is_control()) {
        errors.push(Error::invalid(
            &path,
            name,
            format!(
                "invalid character {} (at position {at})",
                shown_rune(name[at..].chars().next().unwrap_or_default())
            ),
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: ListOptions, expected: &str) {
        let text: Vec<String> = options.errors().iter().map(ToString::to_string).collect();
        assert_eq!(text.join("; "), expected);
    }

    #[test]
    fn only_some_versions_and_matches_go_together() {
        let list = |rv: &str, m: &str| ListOptions {
            resource_version: rv.into(),
            version_match: m.into(),
            ..ListOptions::default()
        };
        check(list("5", "Exact"), "");
        check(list("0", "NotOlderThan"), "");
        check(
            list("", "NotOlderThan"),
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        );
        check(
            list("0", "Exact"),
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        );
        check(
            list("5", "x"),
            "resourceVersionMatch: Unsupported value: \"x\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        );
    }

    #[test]
    fn watches_match_only_with_initial_events() {
        let watch = |initial: Option<bool>, m: &str, token: &str| ListOptions {
            watch: true,
            send_initial_events: initial,
            version_match: m.into(),
            continue_token: token.into(),
            ..ListOptions::default()
        };
        check(watch(Some(true), "NotOlderThan", ""), "");
        check(
            watch(Some(false), "Exact", ""),
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan; \
             resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"",
        );
        check(
            watch(None, "NotOlderThan", "t"),
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
             provided; resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        );
    }
}
