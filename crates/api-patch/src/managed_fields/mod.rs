//! Who owns which field: keeping `metadata.managedFields` true on every write, and server-side apply.
//!
//! A [`FieldManager`] stands for one resource or subresource in one version, as upstream's does. [`FieldManager::update`]
//! is called on every create, update and classic patch, with the object as the client wants it: after defaulting,
//! before admission. [`FieldManager::apply`] makes that object from an applied configuration.

use std::borrow::Cow;

use api_schema::{Map, Value};

use crate::field_set::FieldSet;
use crate::typed::{self, Comparison, ObjectType, ValidationErrors};

mod apply;
mod entry;
mod last_applied;
mod reset;
pub mod scale;

pub use apply::{ApplyError, Conflict};
pub use entry::{Entry, Manager, Operation, UPDATE_MANAGERS_MAX, check, decode, encode, keep_times_of_unchanged};
pub use reset::ResetFields;

use entry::PATH;

/// The manager that gets what was in an object before its fields were tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The other versions of a kind.
pub trait Versions {
    /// The type of objects in a version; `None` if there is no such version (any more).
    fn object_type(&self, api_version: &str) -> Option<ObjectType<'_>>;
    /// An object in another version than it is in; `None` if there is no such version.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// Keeps the managed fields of objects that are written through one resource or subresource in one version.
#[derive(Clone, Copy)]
pub struct FieldManager<'a> {
    /// The type of the objects.
    pub ty: ObjectType<'a>,
    /// The version of the request, `group/version`, which the objects are in.
    pub api_version: &'a str,
    /// The kind of the objects.
    pub kind: &'a str,
    /// The subresource; empty for the resource itself.
    pub subresource: &'a str,
    /// What a write through this door resets.
    pub reset: &'a ResetFields,
    /// The kind's other versions. Without them, entries in other versions are obsolete and dropped.
    pub versions: Option<&'a dyn Versions>,
}

impl<'a> FieldManager<'a> {
    /// Notes in `new.metadata.managedFields` that `manager` made `new` out of `live` (`None` if it created it).
    ///
    /// Clients may send managed fields themselves: an empty list or one empty entry stops the tracking, malformed
    /// ones are ignored. An object that cannot be compared keeps the entries that it had.
    pub fn update(&self, live: Option<&Value>, new: &mut Value, manager: &str, now: &str) {
        let sent = new.remove(PATH);
        let known = live.map(|live| live.list_at(PATH)).unwrap_or_default();
        let (chosen, is_known) = match sent.as_ref().and_then(Value::as_list) {
            Some(_) if !self.subresource.is_empty() => (known, true),
            Some([]) => (&[][..], false),
            Some([Value::Map(entry)]) if entry.iter().all(|(_, value)| value.is_zero()) => (&[][..], false),
            Some(sent) if sent != known && decode(sent).is_ok() => (sent, false),
            _ => (known, true),
        };
        let is_create = live.is_none_or(|live| live.str_at(&["metadata", "uid"]).is_empty());
        if chosen.is_empty() && !is_create {
            return;
        }
        let entries = match self.updated(live, new, chosen, manager, now) {
            Ok(Updated::Same) if is_known => (!chosen.is_empty()).then(|| Value::List(chosen.to_vec())),
            Ok(Updated::Same) => {
                // What a client sends is written in our own form.
                let mut entries = decode(chosen).unwrap_or_default();
                entries.retain(|entry| !entry.fields.is_empty());
                encode(entries)
            }
            Ok(Updated::Entries(entries)) => encode(entries),
            Err(_) => (!known.is_empty()).then(|| Value::List(known.to_vec())),
        };
        if let Some(entries) = entries {
            new.set(PATH, entries);
        }
    }

    fn updated(
        &self,
        live: Option<&Value>,
        new: &Value,
        chosen: &[Value],
        manager: &str,
        now: &str,
    ) -> Result<Updated, ValidationErrors> {
        let live = live.unwrap_or(&NO_OBJECT);
        let mut comparison = typed::compare_objects(self.ty.ty(), live, new)?;
        comparison.for_each(|set| self.reset.filter(set));
        if comparison.is_empty() {
            return Ok(Updated::Same);
        }
        // What cannot be read was never tracked; an object in store is left untracked then.
        let Ok(mut entries) = decode(chosen) else { return Ok(Updated::Entries(Vec::new())) };
        let me = entry::manager(manager, Operation::Update, self.api_version, self.subresource);
        self.take_from_others(&mut entries, &me, &comparison, live, new)?;
        let Comparison { mut added, modified, removed } = comparison;
        added.add(modified);
        let mine = entries.iter_mut().find(|entry| entry.manager.is(&me));
        match mine {
            Some(entry) => {
                typed::reconcile(self.ty.ty(), &mut entry.fields);
                entry.fields.subtract(&removed);
                if !added.is_empty() {
                    entry.fields.add(added);
                    entry.time = now.into();
                }
            }
            None if added.is_empty() => {}
            None => entries.push(Entry { manager: me, time: now.into(), fields: added }),
        }
        entries.retain(|entry| !entry.fields.is_empty());
        entry::cap(&mut entries);
        Ok(Updated::Entries(entries))
    }

    /// Takes changed and removed fields from all managers but `me`. Entries of versions that are gone go, too.
    fn take_from_others(
        &self,
        entries: &mut Vec<Entry>,
        me: &Manager,
        comparison: &Comparison,
        live: &Value,
        new: &Value,
    ) -> Result<(), ValidationErrors> {
        let mut by_version = ByVersion { of: *self, live, new, comparison, others: Vec::new() };
        let mut problem = None;
        entries.retain_mut(|entry| {
            if entry.manager.is(me) {
                return true;
            }
            match by_version.comparison(&entry.manager.api_version) {
                Ok(Some((ty, comparison))) => {
                    typed::reconcile(ty.ty(), &mut entry.fields);
                    entry.fields.subtract(&comparison.added);
                    entry.fields.subtract(&comparison.modified);
                    entry.fields.subtract(&comparison.removed);
                    true
                }
                Ok(None) => false,
                Err(errors) => {
                    problem = Some(errors);
                    true
                }
            }
        });
        problem.map_or(Ok(()), Err)
    }

    /// The type in a version, if there is such a version.
    fn type_in(&self, api_version: &str) -> Option<ObjectType<'a>> {
        if api_version == self.api_version {
            return Some(self.ty);
        }
        self.versions?.object_type(api_version)
    }

    /// An object, which is in the version `from`, in the version `to`.
    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        if from == to {
            return Some(Cow::Borrowed(object));
        }
        self.versions?.convert(object, to).map(Cow::Owned)
    }
}

/// What an update makes of the entries.
enum Updated {
    /// Nothing.
    Same,
    /// These instead.
    Entries(Vec<Entry>),
}

/// What a create starts from.
static NO_OBJECT: Value = Value::Map(Map::new());

/// One comparison of two objects, in as many versions as there are entries in.
struct ByVersion<'c> {
    of: FieldManager<'c>,
    live: &'c Value,
    new: &'c Value,
    comparison: &'c Comparison,
    others: Vec<(api_schema::SmolStr, ObjectType<'c>, Comparison)>,
}

impl<'c> ByVersion<'c> {
    /// The comparison in a version; `None` if there is no such version.
    fn comparison(&mut self, api_version: &str) -> Result<Option<(ObjectType<'c>, &Comparison)>, ValidationErrors> {
        if api_version == self.of.api_version {
            return Ok(Some((self.of.ty, self.comparison)));
        }
        let at = match self.others.iter().position(|(version, ..)| version == api_version) {
            Some(at) => at,
            None => {
                let Some(ty) = self.of.type_in(api_version) else { return Ok(None) };
                let live = match self.live.get("apiVersion") {
                    None => Cow::Borrowed(self.live),
                    Some(_) => match self.of.convert(self.live, self.of.api_version, api_version) {
                        Some(live) => live,
                        None => return Ok(None),
                    },
                };
                let Some(new) = self.of.convert(self.new, self.of.api_version, api_version) else { return Ok(None) };
                let mut comparison = typed::compare_objects(ty.ty(), &live, &new)?;
                comparison.for_each(|set| self.of.reset.filter(set));
                self.others.push((api_version.into(), ty, comparison));
                self.others.len() - 1
            }
        };
        let (_, ty, comparison) = &self.others[at];
        Ok(Some((*ty, comparison)))
    }
}

/// The set without the fields that have no owner.
fn without_unowned(mut set: FieldSet) -> FieldSet {
    static UNOWNED: std::sync::LazyLock<FieldSet> = std::sync::LazyLock::new(|| {
        let mut set = FieldSet::of_paths(&[&["apiVersion"], &["kind"], &["metadata"]]);
        set.add(FieldSet::of_paths(&[
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ]));
        set
    });
    set.subtract(&UNOWNED);
    set
}
