//! What a few kinds do beside the generic flow: addresses and ports of Services, and the subresources with rules of
//! their own.

use std::sync::{Arc, OnceLock, Weak};

use api_schema::{SmolStr, Value};
use api_semantics::field::ErrorList;
use api_semantics::status::Status;
use authn::UserInfo;
use store::Txn;

use crate::registry::Registry;
use crate::services::Services;
use crate::storage::Storage;
use crate::write::Context;

/// What a write claims beside its object: more changes for the same transaction, and things held in memory that are
/// given back if the write does not happen.
#[derive(Default)]
pub(crate) struct Claim {
    txn: Option<Txn>,
    undo: Option<Box<dyn FnOnce() + Send>>,
    commit: Option<Box<dyn FnOnce() + Send>>,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("txn", &self.txn).finish_non_exhaustive()
    }
}

impl Claim {
    pub(crate) fn new(
        txn: Option<Txn>,
        undo: impl FnOnce() + Send + 'static,
        commit: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { txn, undo: Some(Box::new(undo)), commit: Some(Box::new(commit)) }
    }

    /// Adds the claim's changes to the transaction of its object.
    pub(crate) fn join(&mut self, txn: Txn) -> Txn {
        match self.txn.clone() {
            Some(more) => txn.and(more),
            None => txn,
        }
    }

    /// The write has happened.
    pub(crate) fn done(mut self) {
        self.undo = None;
        if let Some(commit) = self.commit.take() {
            commit();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}

/// A CertificateSigningRequest says who asks, whatever the client wrote there.
fn state_requester(object: &mut Value, user: &UserInfo) {
    let texts = |texts: &[SmolStr]| texts.iter().cloned().map(Value::from).collect::<Vec<_>>();
    for field in ["username", "uid", "groups", "extra"] {
        object.remove(&["spec", field]);
    }
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            object.set(&["spec", field], text.clone());
        }
    }
    if !user.groups.is_empty() {
        object.set(&["spec", "groups"], texts(&user.groups));
    }
    for (key, values) in &user.extra {
        object.set(&["spec", "extra", key], texts(values));
    }
}

/// The hooks of all kinds.
#[derive(Debug)]
pub struct Hooks {
    /// Addresses and ports of Services.
    pub services: Arc<Services>,
    registry: OnceLock<Weak<Registry>>,
}

impl Hooks {
    /// Hooks that allocate from `services`.
    pub fn new(services: Services) -> Self {
        Self { services: Arc::new(services), registry: OnceLock::new() }
    }

    pub(crate) fn attach(&self, registry: Weak<Registry>) {
        let _ = self.registry.set(registry);
    }

    fn is_service(storage: &Storage) -> bool {
        storage.group_resource.group.is_empty() && storage.group_resource.resource == "services"
    }

    /// Before a new object is validated: fills in what is allocated.
    pub(crate) async fn before_create(
        &self,
        registry: &Registry,
        storage: &Storage,
        cx: &Context,
        object: &mut Value,
    ) -> Result<Claim, Status> {
        if Self::is_service(storage) {
            return Services::allocate(&self.services, registry, storage, cx, object, None).await;
        }
        if storage.group_resource.resource == "certificatesigningrequests" {
            state_requester(object, &cx.user);
        }
        Ok(Claim::default())
    }

    /// Before a changed object is validated.
    pub(crate) async fn before_update(
        &self,
        registry: &Registry,
        storage: &Storage,
        cx: &Context,
        new: &mut Value,
        old: &Value,
    ) -> Result<Claim, Status> {
        if Self::is_service(storage) {
            return Services::allocate(&self.services, registry, storage, cx, new, Some(old)).await;
        }
        Ok(Claim::default())
    }

    /// Before an object goes.
    pub(crate) fn before_delete(&self, registry: &Registry, storage: &Storage, object: &Value) -> Claim {
        if Self::is_service(storage) {
            return Services::release(&self.services, registry, object);
        }
        Claim::default()
    }

    /// Prepares an update through a subresource with rules of its own.
    pub(crate) fn prepare_subresource(&self, storage: &Storage, subresource: &str, new: &mut Value, old: &Value) {
        crate::subresources::prepare(storage, subresource, new, old);
    }

    /// Checks an update through a subresource with rules of its own.
    pub(crate) fn validate_subresource(
        &self,
        storage: &Storage,
        subresource: &str,
        new: &Value,
        old: &Value,
    ) -> ErrorList {
        crate::subresources::validate(storage, subresource, new, old)
    }
}
