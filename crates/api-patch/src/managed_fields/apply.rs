//! Server-side apply: laying an applied configuration over the live object.

use std::borrow::Cow;

use api_schema::Value;
use api_semantics::status::{Cause, Status};

use super::entry::{self, Entry, Manager, Operation, PATH};
use super::{BEFORE_FIRST_APPLY, ByVersion, FieldManager, NO_OBJECT, last_applied, without_unowned};
use crate::error::plain;
use crate::field_set::{FieldSet, Path};
use crate::typed::{self, ObjectType};

/// A field that somebody else owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: Manager,
    /// The field.
    pub path: Path,
}

/// An applied configuration that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Others own fields that it changes: 409.
    Conflicts(Vec<Conflict>),
    /// It is for something else, or brings managed fields: 400 with the text.
    Refused(String),
    /// It does not fit its type: 500 with the text, without a reason, as upstream answers.
    Failed(String),
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Conflicts(conflicts) => match conflicts.as_slice() {
                [one] => write!(f, "Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.path),
                all => {
                    write!(f, "Apply failed with {} conflicts: ", all.len())?;
                    // Conflicts of one manager stand together.
                    let mut last = None;
                    for (at, conflict) in all.iter().enumerate() {
                        if last != Some(&conflict.manager) {
                            write!(f, "{}conflicts with {}:", if at == 0 { "" } else { "\n" }, conflict.manager)?;
                            last = Some(&conflict.manager);
                        }
                        write!(f, "\n- {}", conflict.path)?;
                    }
                    Ok(())
                }
            },
            Self::Refused(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}
impl std::error::Error for ApplyError {}

impl ApplyError {
    /// The answer to the client.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Conflicts(conflicts) => {
                let cause = |conflict: &Conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.manager).into(),
                    field: conflict.path.to_string().into(),
                };
                let mut status = Status::new(409, "Conflict", self.to_string());
                status.causes = conflicts.iter().map(cause).collect();
                status
            }
            Self::Refused(text) => Status::bad_request(text.as_str()),
            Self::Failed(text) => plain(text),
        }
    }
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Self {
        error.to_status()
    }
}

/// What an apply makes of the object and its entries.
struct Applied {
    /// The object without managed fields; `None` if it stays as it is.
    object: Option<Value>,
    entries: Vec<Entry>,
}

impl FieldManager<'_> {
    /// Lays a configuration, as the client sent it, over the live object (`None` if there is none yet).
    ///
    /// The result has the shape that the configuration gave it: decode it by its schema and set the defaults. What
    /// this applier owned, no longer applies and nobody else owns is gone from it. With `force`, fields of others
    /// are taken rather than refused.
    pub fn apply(
        &self,
        live: Option<&Value>,
        applied: &Value,
        manager: &str,
        force: bool,
        now: &str,
    ) -> Result<Value, ApplyError> {
        self.check_configuration(applied)?;
        let mut entries = entry::decode(live.map(|live| live.list_at(PATH)).unwrap_or_default())
            .map_err(|problem| ApplyError::Failed(format!("failed to decode managed fields: {problem}")))?;
        let bare;
        let live = match live {
            Some(live) => {
                let mut copy = live.clone();
                copy.remove(PATH);
                bare = copy;
                &bare
            }
            None => &NO_OBJECT,
        };
        if entries.is_empty() {
            entries.extend(self.before_first_apply(live, now)?);
        }
        let done = match self.lay(live, applied, &entries, manager, force, now) {
            // kubectl moves from client-side apply without conflicts over what it applied that way.
            Err(ApplyError::Conflicts(conflicts)) if manager == last_applied::KUBECTL => {
                match last_applied::allowed(self, live) {
                    None => return Err(ApplyError::Conflicts(conflicts)),
                    Some(allowed) => {
                        let rest: Vec<Conflict> =
                            conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect();
                        if !rest.is_empty() {
                            return Err(ApplyError::Conflicts(rest));
                        }
                        self.lay(live, applied, &entries, manager, true, now)?
                    }
                }
            }
            other => other?,
        };
        let mut object = done.object.unwrap_or_else(|| live.clone());
        if manager == last_applied::KUBECTL {
            last_applied::renew(&mut object, applied);
        }
        object.remove(PATH);
        if let Some(entries) = entry::encode(done.entries) {
            object.set(PATH, entries);
        }
        Ok(object)
    }

    fn check_configuration(&self, applied: &Value) -> Result<(), ApplyError> {
        let (version, kind) = (applied.str_at(&["apiVersion"]), applied.str_at(&["kind"]));
        if version != self.api_version || kind != self.kind {
            return Err(ApplyError::Refused(format!("invalid object type: {}", qualified(version, kind))));
        }
        if applied.at(PATH).is_some_and(|sent| sent.as_list().is_some()) {
            return Err(ApplyError::Refused("metadata.managedFields must be nil".into()));
        }
        typed::validate(self.ty.ty(), applied, false).map_err(|errors| {
            ApplyError::Failed(format!(
                "failed to create typed patch object ({}/{}; {}): {errors}",
                applied.str_at(&["metadata", "namespace"]),
                applied.str_at(&["metadata", "name"]),
                qualified(version, kind)
            ))
        })
    }

    /// The entry for what is in an object whose fields nobody tracked.
    fn before_first_apply(&self, live: &Value, now: &str) -> Result<Option<Entry>, ApplyError> {
        let mut comparison = typed::compare_objects(self.ty.ty(), &NO_OBJECT, live)
            .map_err(|errors| ApplyError::Failed(format!("failed to create manager for existing fields: {errors}")))?;
        comparison.for_each(|set| self.reset.filter(set));
        let mut fields = comparison.added;
        fields.add(comparison.modified);
        let manager = entry::manager(BEFORE_FIRST_APPLY, Operation::Update, self.api_version, self.subresource);
        Ok((!fields.is_empty()).then(|| Entry { manager, time: now.into(), fields }))
    }

    fn lay(
        &self,
        live: &Value,
        applied: &Value,
        entries: &[Entry],
        manager: &str,
        force: bool,
        now: &str,
    ) -> Result<Applied, ApplyError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |errors| ApplyError::Failed(format!("{what}: {errors}"))
        };
        let me = entry::manager(manager, Operation::Apply, self.api_version, self.subresource);
        let mut entries = entries.to_vec();
        for entry in &mut entries {
            if let Some(ty) = self.type_in(&entry.manager.api_version) {
                typed::reconcile(ty.ty(), &mut entry.fields);
            }
        }
        let merged = typed::merge(self.ty.ty(), live, applied).map_err(failed("failed to merge config"))?;

        let mut fields = typed::fields_of(self.ty.ty(), applied);
        self.reset.filter(&mut fields);
        let mine = Entry { manager: me.clone(), time: Default::default(), fields };
        let last = entries.iter().position(|entry| entry.manager.is(&me)).map(|at| entries.remove(at));
        let last_time = last.as_ref().map(|last| last.time.clone()).unwrap_or_default();
        entries.push(mine);
        let new = match last {
            Some(last) if !last.fields.is_empty() => self.prune(merged, &entries, &last),
            _ => merged,
        };

        let mut comparison =
            typed::compare_objects(self.ty.ty(), live, &new).map_err(failed("failed to compare objects"))?;
        comparison.for_each(|set| self.reset.filter(set));
        if !force {
            let conflicts = self.conflicts(&entries, &me, &comparison, live, &new);
            let conflicts = conflicts.map_err(failed("failed to compare objects"))?;
            if !conflicts.is_empty() {
                return Err(ApplyError::Conflicts(conflicts));
            }
        }
        self.take_from_others(&mut entries, &me, &comparison, live, &new)
            .map_err(failed("failed to compare objects"))?;

        let changed = !typed::equal(self.ty.ty(), live, &new);
        for entry in entries.iter_mut().filter(|entry| entry.manager.is(&me)) {
            entry.fields = without_unowned(std::mem::take(&mut entry.fields));
            entry.time = if changed { now.into() } else { last_time.clone() };
        }
        entries.retain(|entry| !entry.fields.is_empty());
        Ok(Applied { object: changed.then_some(new), entries })
    }

    /// The fields that others own and that change, by manager in upstream's order.
    fn conflicts(
        &self,
        entries: &[Entry],
        me: &Manager,
        comparison: &typed::Comparison,
        live: &Value,
        new: &Value,
    ) -> Result<Vec<Conflict>, typed::ValidationErrors> {
        let mut by_version = ByVersion { of: *self, live, new, comparison, others: Vec::new() };
        let mut found: Vec<(String, Vec<Conflict>)> = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.manager.is(me)) {
            let Some((_, comparison)) = by_version.comparison(&entry.manager.api_version)? else { continue };
            let mut fields = entry.fields.intersection(&comparison.modified);
            fields.add(entry.fields.intersection(&comparison.added));
            if fields.is_empty() {
                continue;
            }
            let conflict = |path| Conflict { manager: entry.manager.clone(), path };
            found.push((entry.manager.identifier(), fields.paths().into_iter().map(conflict).collect()));
        }
        found.sort_by(|l, r| l.0.cmp(&r.0));
        Ok(found.into_iter().flat_map(|(_, conflicts)| conflicts).collect())
    }

    /// Takes out of a merged object what `last` owned and no entry of `entries` owns.
    fn prune(&self, merged: Value, entries: &[Entry], last: &Entry) -> Value {
        let version = last.manager.api_version.as_str();
        let (Some(ty), Some(in_last)) =
            (self.type_in(version), self.convert(&merged, self.api_version, version).map(Cow::into_owned))
        else {
            return merged;
        };
        let mut owned_last = last.fields.clone();
        typed::ensure_named(ty.ty(), &mut owned_last);
        let pruned = typed::remove(ty.ty(), &in_last, &owned_last);
        let Some(pruned) = self.with_owned_items(&in_last, pruned, version, entries) else { return merged };

        // Only what this applier owned may go: not what merely lay inside it.
        let fields = |object: &Value| {
            let mut set = typed::fields_of(ty.ty(), object);
            typed::ensure_named(ty.ty(), &mut set);
            set
        };
        let mut gone = fields(&in_last);
        gone.subtract(&fields(&pruned));
        let pruned = typed::remove(ty.ty(), &in_last, &gone.intersection(&owned_last));
        match self.convert(&pruned, version, self.api_version) {
            Some(pruned) => pruned.into_owned(),
            None => merged,
        }
    }

    /// The pruned object (in `version`) with what somebody owns put back, version by version.
    fn with_owned_items(&self, merged: &Value, pruned: Value, version: &str, entries: &[Entry]) -> Option<Value> {
        let mut versions: Vec<&str> = vec![version];
        for entry in entries {
            if !versions.contains(&entry.manager.api_version.as_str()) {
                versions.push(&entry.manager.api_version);
            }
        }
        let mut pruned = pruned;
        for other in versions {
            let Some(ty) = self.type_in(other) else { continue };
            let (Some(merged), Some(without)) =
                (self.convert(merged, version, other), self.convert(&pruned, version, other))
            else {
                continue;
            };
            let mut owned = FieldSet::new();
            for entry in entries.iter().filter(|entry| entry.manager.api_version == other) {
                owned.add(entry.fields.clone());
            }
            let back = put_back(ty, &merged, &without, owned);
            pruned = self.convert(&back, other, version)?.into_owned();
        }
        Some(pruned)
    }
}

/// `merged` without what is neither in `pruned` nor owned.
fn put_back(ty: ObjectType<'_>, merged: &Value, pruned: &Value, mut owned: FieldSet) -> Value {
    let ty = ty.ty();
    let mut gone = typed::fields_of(ty, merged);
    typed::ensure_named(ty, &mut gone);
    let mut kept = typed::fields_of(ty, pruned);
    typed::ensure_named(ty, &mut kept);
    typed::ensure_named(ty, &mut owned);
    kept.add(owned);
    gone.subtract(&kept);
    typed::remove(ty, merged, &gone)
}

/// A kind in a version as Go prints it: `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`.
pub(super) fn qualified(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    format!("{group}/{version}, Kind={kind}")
}
