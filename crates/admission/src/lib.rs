//! Admission: what may change or refuse a request between authorization and the store.
//!
//! The registry asks an [`Admission`], the chain of plugins; each [`Plugin`] is one row of
//! `admission-plugins`' table. Plugins see the cluster through a [`View`] only.

use std::pin::Pin;

use api_schema::Value;
use api_semantics::status::{GroupResource, Status};
use authn::UserInfo;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// It makes one.
    Create,
    /// It changes one.
    Update,
    /// It deletes one.
    Delete,
    /// It connects to one (exec, attach, port-forward, proxy).
    Connect,
}

impl Operation {
    /// The name in webhooks and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One request, as plugins see it. Objects are in their stored version.
#[derive(Debug)]
pub struct Attributes<'a> {
    /// What is done.
    pub operation: Operation,
    /// To what sort of object.
    pub resource: &'a GroupResource,
    /// Its kind.
    pub kind: &'a str,
    /// Through which subresource; empty for the object itself.
    pub subresource: &'a str,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The object's name (already generated where it is).
    pub name: &'a str,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The object as it shall become; for subresources with a body of their own (eviction, binding, token) that body;
    /// none for deletions.
    pub object: Option<&'a mut Value>,
    /// The object as it is, for updates and deletions.
    pub old: Option<&'a Value>,
    /// Sentences for the client.
    pub warnings: Vec<String>,
}

impl Attributes<'_> {
    /// Whether the request is about this resource itself (no subresource).
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource && self.subresource.is_empty()
    }

    /// A refusal in the form `pods "x" is forbidden: why`.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(self.resource, self.name, why)
    }
}

/// What plugins see of the cluster: the newest cached state of its objects, in their stored version; and the one change
/// that they may make.
pub trait View: Send + Sync {
    /// One object. A fresh look at the store is not taken: a miss may be a race.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value>;

    /// All objects of a resource, of one namespace or (empty) of all.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value>;

    /// The objects of a resource whose selectable field `field` has the value `value` (`spec.nodeName` of Pods), of one
    /// namespace or (empty) of all.
    fn list_where(&self, group: &str, resource: &str, namespace: &str, field: &str, value: &str) -> Vec<Value>;

    /// One object by a read of the store itself, for when a cached miss must be sure.
    fn get_fresh<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Value>>;

    /// One object that somebody is likely making just now: where it is missing, it is waited for so long. A view that
    /// cannot wait takes a fresh look.
    fn get_soon<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
        _wait_ms_max: u64,
    ) -> BoxFuture<'a, Option<Value>> {
        self.get_fresh(group, resource, namespace, name)
    }

    /// Changes the status of an object: reads it from the store, lets `change` say what it becomes (`None`: it stays),
    /// and writes that unless somebody else was faster, in which case it starts again. The server does so itself:
    /// whoever asked for the request need not be allowed to, and nobody becomes the owner of the fields.
    fn change_status<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
        change: &'a mut (dyn FnMut(&Value) -> Result<Option<Value>, Status> + Send),
    ) -> BoxFuture<'a, Result<(), Status>>;

    /// The time, in Unix seconds.
    fn now(&self) -> i64;
}

/// A future that borrows its arguments.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One admission plugin.
pub trait Plugin: Send + Sync {
    /// Upstream's name, as `--enable-admission-plugins` takes it.
    fn name(&self) -> &'static str;

    /// Whether the plugin looks at changes of this resource and subresource at all: cheap, asked for every request.
    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool;

    /// May change the object or refuse the request.
    ///
    /// # Errors
    /// The refusal.
    fn admit<'a>(
        &'a self,
        _attributes: &'a mut Attributes<'_>,
        _view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// May refuse the request; sees the object as it will be stored.
    ///
    /// # Errors
    /// The refusal.
    fn validate<'a>(
        &'a self,
        _attributes: &'a Attributes<'_>,
        _view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether [`Plugin::admit`] may change objects.
    fn mutates(&self) -> bool {
        false
    }

    /// Whether [`Plugin::validate`] does anything.
    fn validates(&self) -> bool {
        false
    }
}

/// The chain of plugins, in order.
#[derive(Default)]
pub struct Admission {
    plugins: Vec<Box<dyn Plugin>>,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.plugins.iter().map(|plugin| plugin.name())).finish()
    }
}

impl Admission {
    /// A chain of plugins, asked in this order.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// The names of the plugins, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|plugin| plugin.name())
    }

    /// Whether any plugin validates this operation on objects of this resource.
    pub fn validates(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        self.plugins.iter().any(|plugin| plugin.validates() && plugin.handles(resource, subresource, operation))
    }

    /// Asks every plugin that may change the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn admit(&self, attributes: &mut Attributes<'_>, view: &dyn View) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.handles(attributes.resource, attributes.subresource, attributes.operation) {
                plugin.admit(attributes, view).await?;
            }
        }
        Ok(())
    }

    /// Asks every plugin that only looks.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, attributes: &Attributes<'_>, view: &dyn View) -> Result<(), Status> {
        for plugin in &self.plugins {
            if plugin.validates() && plugin.handles(attributes.resource, attributes.subresource, attributes.operation) {
                plugin.validate(attributes, view).await?;
            }
        }
        Ok(())
    }
}
