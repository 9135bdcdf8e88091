//! The requests about one resource.

use ::http::Method;
use api_codec::TypeCodec;
use api_schema::{SmolStr, Value};

use crate::client::{Call, Client, content_type};
use crate::error::Error;
use crate::options::{DeleteOptions, ListOptions, LogOptions, Patch, WatchOptions, WriteOptions};
use crate::resource::{ApiResource, add_query, codec_of};
use crate::transport::Body;
use crate::watch::Watch;
use crate::wire;

/// Objects on a page where all are wanted (client-go's figure).
const PAGE_OBJECTS: u32 = 500;

/// The requests about one resource, in one namespace or in all.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    resource: ApiResource,
    namespace: SmolStr,
    codec: Option<TypeCodec<'static>>,
    list_codec: Option<TypeCodec<'static>>,
}

/// A list of objects, or a page of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// The objects, each with `apiVersion` and `kind`.
    pub items: Vec<Value>,
    /// The state that the list shows: a watch goes on from here.
    pub resource_version: SmolStr,
    /// Where the next page begins; empty on the last.
    pub continue_token: SmolStr,
    /// How many objects the following pages have, if that is known.
    pub remaining_item_count: Option<i64>,
}

impl Api {
    pub(crate) fn new(client: Client, resource: ApiResource) -> Self {
        let (codec, list_codec) = (resource.codec(), resource.list_codec());
        Self { client, resource, namespace: SmolStr::default(), codec, list_codec }
    }

    /// The same in one namespace; empty means all.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.into(), ..self.clone() }
    }

    /// What the requests are about.
    pub fn resource(&self) -> &ApiResource {
        &self.resource
    }

    /// The client that sends them.
    pub fn client(&self) -> &Client {
        &self.client
    }

    // === reading ===

    /// Reads an object.
    ///
    /// # Errors
    /// `is_not_found()` if there is none of this name.
    pub async fn get(&self, name: &str) -> Result<Value, Error> {
        self.get_sub(name, "").await
    }

    /// Reads an object that may be absent.
    ///
    /// # Errors
    /// Any but `is_not_found()`.
    pub async fn get_if_exists(&self, name: &str) -> Result<Option<Value>, Error> {
        match self.get(name).await {
            Err(error) if error.is_not_found() => Ok(None),
            result => result.map(Some),
        }
    }

    /// Reads a part of an object: `status`, `scale`.
    ///
    /// # Errors
    /// `is_not_found()` if there is no object of this name.
    pub async fn get_sub(&self, name: &str, subresource: &str) -> Result<Value, Error> {
        let path = self.resource.path(&self.namespace, self.named(name)?, subresource);
        self.client.object(&self.call(Method::GET, path), self.codec_of(subresource)).await
    }

    /// Lists objects: all, or one page if `limit` is set.
    ///
    /// # Errors
    /// `is_expired()` if the wanted state, or the page before, is too long ago.
    pub async fn list(&self, options: &ListOptions) -> Result<List, Error> {
        let mut path = self.resource.path(&self.namespace, "", "");
        options.add_to(&mut path);
        let mut value = self.client.object(&self.call(Method::GET, path), self.list_codec).await?;
        let mut items = match value.remove(&["items"]) {
            Some(Value::List(items)) => items,
            _ => Vec::new(),
        };
        // Items say what they are only in lists of custom resources.
        let api_version = self.resource.api_version();
        for item in &mut items {
            wire::set_type(item, &api_version, &self.resource.kind);
        }
        Ok(List {
            items,
            resource_version: value.str_at(&["metadata", "resourceVersion"]).into(),
            continue_token: value.str_at(&["metadata", "continue"]).into(),
            remaining_item_count: value.int_at(&["metadata", "remainingItemCount"]),
        })
    }

    /// Lists all objects, page by page. If the state of the first page becomes too old on the way, all is listed again
    /// at once.
    ///
    /// # Errors
    /// Those of [`Api::list`].
    pub async fn list_all(&self, options: &ListOptions) -> Result<List, Error> {
        let limit = if options.limit == 0 { PAGE_OBJECTS } else { options.limit };
        let mut page = ListOptions { limit, ..options.clone() };
        let mut all = self.list(&page).await?;
        while !all.continue_token.is_empty() {
            page.continue_token = std::mem::take(&mut all.continue_token);
            // The token says it.
            page.resource_version = SmolStr::default();
            page.version_match = crate::VersionMatch::Unset;
            match self.list(&page).await {
                Ok(next) => {
                    all.items.extend(next.items);
                    all.continue_token = next.continue_token;
                    all.resource_version = next.resource_version;
                }
                Err(error) if error.is_expired() => {
                    let whole = ListOptions { limit: 0, continue_token: SmolStr::default(), ..options.clone() };
                    return self.list(&whole).await;
                }
                Err(error) => return Err(error),
            }
        }
        all.remaining_item_count = None;
        Ok(all)
    }

    /// Watches objects change.
    ///
    /// # Errors
    /// `is_expired()` (here or as the first event) if the changes since `resource_version` are no longer known.
    pub async fn watch(&self, options: &WatchOptions) -> Result<Watch, Error> {
        let mut path = self.resource.path(&self.namespace, "", "");
        options.add_to(&mut path);
        let call = self.call(Method::GET, path);
        let response = self.client.stream(&call).await?;
        let content_type = content_type(&response);
        Ok(Watch::new(call.name(), response.into_body(), &content_type, self.codec))
    }

    /// Reads a container's log as it is, or as it comes.
    ///
    /// # Errors
    /// `is_bad_request()` if there is no such container, or it has not started.
    pub async fn log(&self, name: &str, options: &LogOptions) -> Result<Body, Error> {
        let mut path = self.resource.path(&self.namespace, self.named(name)?, "log");
        options.add_to(&mut path);
        let call = Call { accept: "*/*", ..self.call(Method::GET, path) };
        Ok(self.client.stream(&call).await?.into_body())
    }

    // === writing ===

    /// Creates an object. In an [`Api`] of all namespaces, the object says which.
    ///
    /// # Errors
    /// `is_already_exists()` if the name is taken, `is_invalid()` if the object breaks its kind's rules.
    pub async fn create(&self, object: &Value) -> Result<Value, Error> {
        self.create_with(object, &WriteOptions::default()).await
    }

    /// [`Api::create`] with options.
    ///
    /// # Errors
    /// Those of [`Api::create`].
    pub async fn create_with(&self, object: &Value, options: &WriteOptions) -> Result<Value, Error> {
        let path = self.resource.path(self.namespace_of(object), "", "");
        self.write(Method::POST, path, object, "", options).await
    }

    /// Creates through a part of an object: `binding`, `eviction`, `token`. The answer is what the server shows.
    ///
    /// # Errors
    /// `is_too_many_requests()` if a disruption budget forbids an eviction; `is_conflict()` if a pod is bound already.
    pub async fn create_sub(&self, name: &str, subresource: &str, object: &Value) -> Result<Value, Error> {
        let path = self.resource.path(self.namespace_of(object), self.named(name)?, subresource);
        self.write(Method::POST, path, object, subresource, &WriteOptions::default()).await
    }

    /// Replaces an object, whose namespace and name it has.
    ///
    /// # Errors
    /// `is_conflict()` if the object was changed since its `metadata.resourceVersion`.
    pub async fn update(&self, object: &Value) -> Result<Value, Error> {
        self.update_with(object, &WriteOptions::default()).await
    }

    /// [`Api::update`] with options.
    ///
    /// # Errors
    /// Those of [`Api::update`].
    pub async fn update_with(&self, object: &Value, options: &WriteOptions) -> Result<Value, Error> {
        self.replace(object, "", options).await
    }

    /// Replaces the status of an object.
    ///
    /// # Errors
    /// Those of [`Api::update`].
    pub async fn update_status(&self, object: &Value) -> Result<Value, Error> {
        self.update_sub(object, "status").await
    }

    /// Replaces a part of an object: `status`, `scale`, `approval`.
    ///
    /// # Errors
    /// Those of [`Api::update`].
    pub async fn update_sub(&self, object: &Value, subresource: &str) -> Result<Value, Error> {
        self.replace(object, subresource, &WriteOptions::default()).await
    }

    async fn replace(&self, object: &Value, subresource: &str, options: &WriteOptions) -> Result<Value, Error> {
        let name = self.named(object.str_at(&["metadata", "name"]))?;
        let path = self.resource.path(self.namespace_of(object), name, subresource);
        self.write(Method::PUT, path, object, subresource, options).await
    }

    /// Changes an object.
    ///
    /// # Errors
    /// `is_not_found()` if there is none of this name (apply creates it); `is_conflict()` if another manager owns a
    /// field that is applied without `force`, or if the patch names an old resourceVersion.
    pub async fn patch(&self, name: &str, patch: &Patch<'_>) -> Result<Value, Error> {
        self.patch_with(name, "", patch, &WriteOptions::default()).await
    }

    /// Changes the status of an object.
    ///
    /// # Errors
    /// Those of [`Api::patch`].
    pub async fn patch_status(&self, name: &str, patch: &Patch<'_>) -> Result<Value, Error> {
        self.patch_with(name, "status", patch, &WriteOptions::default()).await
    }

    /// Changes a part of an object (empty: the object itself), with options.
    ///
    /// # Errors
    /// Those of [`Api::patch`].
    pub async fn patch_with(
        &self,
        name: &str,
        subresource: &str,
        patch: &Patch<'_>,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        let mut path = self.resource.path(self.namespace_of(patch.body()), self.named(name)?, subresource);
        let mut manager = self.client.field_manager();
        if let Patch::Apply { force, .. } = patch {
            manager = self.client.applier();
            if *force {
                add_query(&mut path, "force", "true");
            }
        }
        options.add_to(&mut path, manager);
        let body = wire::encode_json(patch.body());
        let call = Call { content_type: patch.content_type(), body, ..self.call(Method::PATCH, path) };
        self.client.object(&call, self.codec_of(subresource)).await
    }

    /// Deletes an object. Gives the object as it is where it goes on for a while (grace period, finalizers), `None`
    /// where it is gone.
    ///
    /// # Errors
    /// `is_not_found()` if there is none of this name; `is_conflict()` if a precondition does not hold.
    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<Option<Value>, Error> {
        let path = self.resource.path(&self.namespace, self.named(name)?, "");
        let call = self.deletion(path, options)?;
        let answer = self.client.object(&call, self.codec).await?;
        let is_status = answer.str_at(&["kind"]) == "Status" && answer.str_at(&["apiVersion"]) == "v1";
        Ok((!is_status).then_some(answer))
    }

    /// Deletes all objects that a list would show.
    ///
    /// # Errors
    /// If one of them cannot be deleted.
    pub async fn delete_collection(&self, options: &DeleteOptions, list: &ListOptions) -> Result<(), Error> {
        let mut path = self.resource.path(&self.namespace, "", "");
        list.add_to(&mut path);
        let call = self.deletion(path, options)?;
        self.client.whole(&call).await.map(drop)
    }

    fn deletion(&self, path: String, options: &DeleteOptions) -> Result<Call, Error> {
        let mut call = self.call(Method::DELETE, path);
        if let Some(options) = options.to_value() {
            let codec = self.codec.and_then(|_| codec_of("", "v1", "DeleteOptions"));
            (call.content_type, call.body) =
                wire::encode(&options, codec).map_err(|source| Error::Request { request: call.name(), source })?;
        }
        Ok(call)
    }

    async fn write(
        &self,
        method: Method,
        mut path: String,
        object: &Value,
        subresource: &str,
        options: &WriteOptions,
    ) -> Result<Value, Error> {
        options.add_to(&mut path, self.client.field_manager());
        let mut call = self.call(method, path);
        let (kind, codec) = self.kind_of(subresource);
        let api_version = object.str_at(&["apiVersion"]);
        let encoded = if api_version.is_empty() || object.str_at(&["kind"]).is_empty() {
            let mut object = object.clone();
            wire::set_type(&mut object, &kind.0, &kind.1);
            wire::encode(&object, codec)
        } else if api_version != kind.0 || object.str_at(&["kind"]) != kind.1 {
            // Not of the kind that the path is for (an Eviction of another version, a mistake): the server judges.
            let codec = codec.and_then(|_| wire::find(api_version, object.str_at(&["kind"]), None));
            wire::encode(object, codec)
        } else {
            wire::encode(object, codec)
        };
        (call.content_type, call.body) = encoded.map_err(|source| Error::Request { request: call.name(), source })?;
        self.client.object(&call, codec).await
    }

    // === helpers ===

    fn call(&self, method: Method, path: String) -> Call {
        let accept = if self.codec.is_some() { wire::ACCEPT } else { wire::JSON };
        Call { accept, ..Call::new(method, path) }
    }

    /// An empty name would make another request of it.
    fn named<'a>(&self, name: &'a str) -> Result<&'a str, Error> {
        if name.is_empty() {
            let request = format!("about a {} without a name", self.resource.kind);
            return Err(Error::Request { request, source: "resource name may not be empty".into() });
        }
        Ok(name)
    }

    fn namespace_of<'a>(&'a self, object: &'a Value) -> &'a str {
        if self.namespace.is_empty() { object.str_at(&["metadata", "namespace"]) } else { &self.namespace }
    }

    fn codec_of(&self, subresource: &str) -> Option<TypeCodec<'static>> {
        if subresource.is_empty() { self.codec } else { self.kind_of(subresource).1 }
    }

    /// apiVersion, kind and layout of the objects that a subresource takes.
    fn kind_of(&self, subresource: &str) -> ((SmolStr, SmolStr), Option<TypeCodec<'static>>) {
        let own = || ((self.resource.api_version(), self.resource.kind.clone()), self.codec);
        if subresource.is_empty() {
            return own();
        }
        let builtin = api_types::resource(&self.resource.group, &self.resource.version, &self.resource.plural);
        match builtin.and_then(|resource| resource.subresource(subresource)) {
            Some(part) => {
                let api_version = ApiResource {
                    group: part.group.clone(),
                    version: part.version.clone(),
                    plural: SmolStr::default(),
                    kind: SmolStr::default(),
                    namespaced: false,
                }
                .api_version();
                ((api_version, part.kind.clone()), codec_of(&part.group, &part.version, &part.kind))
            }
            // The only parts of custom resources.
            None if subresource == "scale" => (("autoscaling/v1".into(), "Scale".into()), None),
            None => own(),
        }
    }
}
