//! Where the objects of one resource are kept and how they are read: one [`Storage`] for all versions of a resource,
//! built in or registered at run time.

use std::ops::Deref;
use std::sync::Arc;

use api_codec::{Codec, TypeCodec};
use api_schema::{Schema, SmolStr, StructId};
use api_semantics::status::GroupResource;
use kinds::Kind;
use watch_cache::ResourceCache;

use crate::ownership::Resets;

/// Types and their codec, that live as long as the program or as long as the custom resource.
#[derive(Clone, Debug)]
pub enum SchemaRef {
    /// The built-in tables.
    Builtin,
    /// Compiled from a CustomResourceDefinition.
    Custom(Arc<(Schema, Codec)>),
}

impl SchemaRef {
    /// Types made at run time.
    pub fn custom(schema: Schema) -> Self {
        let codec = Codec::new(&schema);
        Self::Custom(Arc::new((schema, codec)))
    }

    /// The codec of a type.
    pub fn codec(&self, id: StructId) -> TypeCodec<'_> {
        match self {
            Self::Builtin => api_codec::builtin().of(id),
            Self::Custom(custom) => custom.1.of(id),
        }
    }
}

impl Deref for SchemaRef {
    type Target = Schema;
    fn deref(&self) -> &Schema {
        match self {
            Self::Builtin => api_types::schema(),
            Self::Custom(custom) => &custom.0,
        }
    }
}

/// The behaviour of a kind, built in or not.
#[derive(Clone)]
pub enum KindRef {
    /// A row of `kinds::all`.
    Builtin(&'static dyn Kind),
    /// Registered at run time.
    Custom(Arc<dyn Kind>),
}

impl Deref for KindRef {
    type Target = dyn Kind;
    fn deref(&self) -> &(dyn Kind + 'static) {
        match self {
            Self::Builtin(kind) => *kind,
            Self::Custom(kind) => &**kind,
        }
    }
}

impl std::fmt::Debug for KindRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({}/{})", self.group(), self.resource())
    }
}

/// How stored bytes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// Upstream's protobuf envelope: built-ins.
    Protobuf,
    /// JSON: custom resources.
    Json,
}

/// The one place where a resource is stored, whatever version it is asked for in.
#[derive(Debug)]
pub struct Storage {
    /// Group and plural name, as messages say it.
    pub group_resource: GroupResource,
    /// The kind.
    pub kind_name: SmolStr,
    /// The apiVersion that is stored.
    pub api_version: SmolStr,
    /// The behaviour.
    pub kind: KindRef,
    /// The types.
    pub schema: SchemaRef,
    /// The stored type.
    pub type_id: StructId,
    /// How stored bytes are laid out.
    pub stored_as: StoredAs,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether there is a `status` subresource, which alone may change `status`.
    pub has_status: bool,
    /// The key prefix in the store, with a trailing slash.
    pub prefix: SmolStr,
    /// Which fields nobody can own, by the way of writing.
    pub resets: Resets,
    /// All objects and recent events.
    pub cache: Arc<ResourceCache>,
}

impl Storage {
    /// The codec of the stored type.
    pub fn codec(&self) -> TypeCodec<'_> {
        self.schema.codec(self.type_id)
    }

    /// What follows the prefix in an object's key.
    pub fn suffix(&self, namespace: &str, name: &str) -> SmolStr {
        if self.namespaced { api_schema::format_smolstr!("{namespace}/{name}") } else { name.into() }
    }

    /// An object's key in the store.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{}{namespace}/{name}", self.prefix) } else { format!("{}{name}", self.prefix) }
    }
}

/// One version of a resource as it is served.
#[derive(Clone)]
pub struct Served {
    /// Names, verbs, subresources.
    pub info: Arc<api_types::Resource>,
    /// `group/version`.
    pub api_version: SmolStr,
    /// The type of this version.
    pub type_id: StructId,
    /// What its group asks of objects in its own version, if the storage is another group's (Events).
    pub rules: Option<&'static dyn Kind>,
    /// Where it is stored.
    pub storage: Arc<Storage>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("info", &self.info).field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Served {
    /// The codec of this version's type.
    pub fn codec(&self) -> TypeCodec<'_> {
        self.storage.schema.codec(self.type_id)
    }

    /// Whether objects must be converted between this version and the stored one.
    pub fn converts(&self) -> bool {
        self.api_version != self.storage.api_version
    }
}
