//! Owners: whose an object is, and how controllers take objects over and let them go (ControllerRefManager).

use std::sync::Arc;

use api_semantics::selector::Selector;
use client::{Api, Error, Map, Patch, SmolStr, Value};
use informer::Object;

/// A controller's object, as what it owns refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `apps/v1`.
    pub api_version: SmolStr,
    /// `ReplicaSet`.
    pub kind: SmolStr,
    /// Its namespace; empty for cluster-wide objects.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
    /// Its uid.
    pub uid: SmolStr,
    /// Whether it is being deleted: then it takes nothing over, and lets nothing go.
    pub deleting: bool,
}

/// What is to be done about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours already.
    Keep,
    /// It is nobody's, and matches: take it over.
    Adopt,
    /// It is ours, and no longer matches: let it go.
    Release,
    /// It is none of our business.
    Leave,
}

impl Owner {
    /// The owner that an object is; it must say its `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Self {
        let text = |path: &[&str]| SmolStr::new(object.str_at(path));
        Self {
            api_version: text(&["apiVersion"]),
            kind: text(&["kind"]),
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"]),
            uid: text(&["metadata", "uid"]),
            deleting: object.at(&["metadata", "deletionTimestamp"]).is_some(),
        }
    }

    /// The reference that makes it the controller of an object; it is deleted only after the object is, if anybody waits
    /// for that.
    pub fn reference(&self) -> Value {
        let mut reference = Map::new();
        for (name, value) in
            [("apiVersion", &self.api_version), ("kind", &self.kind), ("name", &self.name), ("uid", &self.uid)]
        {
            reference.insert(name, value.clone());
        }
        reference.insert("controller", true);
        reference.insert("blockOwnerDeletion", true);
        reference.into()
    }

    /// What is to be done about an object that `matches` (or not) what the owner selects.
    pub fn judge<T>(&self, object: &Object<T>, matches: bool) -> Claim {
        match &*object.controller_uid {
            "" if self.deleting || !matches || object.deleting => Claim::Leave,
            "" if !self.namespace.is_empty() && self.namespace != object.namespace => Claim::Leave,
            "" => Claim::Adopt,
            uid if uid != self.uid => Claim::Leave,
            _ if matches => Claim::Keep,
            _ if self.deleting => Claim::Leave,
            _ => Claim::Release,
        }
    }

    /// The objects that are the owner's, after orphans that match were taken over and what no longer matches was let go.
    /// `may_adopt` is asked once, before the first object is taken over: it should read the owner anew from the server
    /// and see that it is still the same and not being deleted.
    ///
    /// # Errors
    /// The first of those met; the others were tried all the same. Objects that are gone are no error.
    pub async fn claim<T>(
        &self,
        api: &Api,
        selector: &Selector,
        objects: Vec<Arc<Object<T>>>,
        may_adopt: impl Future<Output = Result<(), Error>>,
    ) -> Result<Vec<Arc<Object<T>>>, Error> {
        let mut may_adopt = Some(may_adopt);
        let mut adoption: Result<(), ()> = Ok(());
        let mut claimed = Vec::with_capacity(objects.len());
        let mut first_error = None;
        for object in objects {
            let matches = selector.matches(|label| object.labels.get(label));
            let api = api.namespace(&object.namespace);
            let result = match self.judge(&object, matches) {
                Claim::Leave => continue,
                Claim::Keep => Ok(true),
                Claim::Release => self.release(&api, &object).await.map(|()| false),
                Claim::Adopt => {
                    if let Some(may_adopt) = may_adopt.take()
                        && let Err(error) = may_adopt.await
                    {
                        adoption = Err(());
                        first_error.get_or_insert(error);
                    }
                    match adoption {
                        Ok(()) => self.adopt(&api, &object).await.map(|()| true),
                        Err(()) => continue,
                    }
                }
            };
            match result {
                Ok(true) => claimed.push(object),
                Ok(false) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        first_error.map_or(Ok(claimed), Err)
    }

    /// Takes an object over. The uid in the patch sees to it that no other object of the name is meant.
    ///
    /// # Errors
    /// `is_invalid()` if somebody else has taken it over, or it is another object by now.
    pub async fn adopt<T>(&self, api: &Api, object: &Object<T>) -> Result<(), Error> {
        self.patch(api, object, self.reference()).await
    }

    /// Lets an object go.
    ///
    /// # Errors
    /// Any but that it is gone, or another object by now.
    pub async fn release<T>(&self, api: &Api, object: &Object<T>) -> Result<(), Error> {
        let removal = Value::from([("$patch", "delete"), ("uid", &*self.uid)]);
        match self.patch(api, object, removal).await {
            Err(error) if error.is_not_found() || error.is_invalid() => Ok(()),
            result => result,
        }
    }

    async fn patch<T>(&self, api: &Api, object: &Object<T>, reference: Value) -> Result<(), Error> {
        let mut patch = Value::default();
        patch.set(&["metadata", "uid"], object.uid.clone());
        patch.set(&["metadata", "ownerReferences"], vec![reference]);
        api.patch(&object.name, &Patch::Strategic(&patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(owner_deleting: bool, controller: &str, namespace: &str, deleting: bool, matches: bool, expect: Claim) {
        let owner = Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            namespace: "ns".into(),
            name: "web".into(),
            uid: "u1".into(),
            deleting: owner_deleting,
        };
        let mut object = Value::default();
        object.set(&["metadata", "namespace"], namespace);
        if !controller.is_empty() {
            let mut reference = Value::from([("uid", controller)]);
            reference.set(&["controller"], true);
            object.set(&["metadata", "ownerReferences"], vec![reference]);
        }
        if deleting {
            object.set(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
        }
        assert_eq!(owner.judge(&Object::<()>::new(object), matches), expect, "{owner_deleting} {controller} {matches}");
    }

    #[test]
    fn orphans_that_match_are_adopted_and_strays_released() {
        check(false, "", "ns", false, true, Claim::Adopt);
        check(false, "", "ns", false, false, Claim::Leave);
        check(false, "", "ns", true, true, Claim::Leave);
        check(false, "", "elsewhere", false, true, Claim::Leave);
        check(true, "", "ns", false, true, Claim::Leave);
        check(false, "u1", "ns", true, true, Claim::Keep);
        check(true, "u1", "ns", false, true, Claim::Keep);
        check(false, "u1", "ns", false, false, Claim::Release);
        check(true, "u1", "ns", false, false, Claim::Leave);
        check(false, "u2", "ns", false, true, Claim::Leave);
    }
}
