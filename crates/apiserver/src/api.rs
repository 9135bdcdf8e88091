//! Requests for resources: from a routed request to the registry and back to an answer.

use std::sync::Arc;

use api_schema::{Map, SmolStr, Value};
use api_semantics::status::Status;
use authn::UserInfo;
use bytes::Bytes;
use http::HeaderMap;
use registry::body::{self, Expected, Layout};
use registry::table::{self, IncludeObject};
use registry::{
    Context, DeleteOptions, Deleted, FieldValidation, ListOptions, PatchType, Registry, Served, WriteOptions, Written,
    codec, dry_run_errors, field_manager_errors,
};

use crate::encode::{ListMeta, Show, Source, typed};
use crate::listing::{Item, ListBody};
use crate::negotiate::{Encoding, Form, Offer, Transform, body_encoding, negotiate};
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::watching::{WatchBody, WatchPlan};

/// A request that has passed authorization.
#[derive(Debug)]
pub struct ApiRequest {
    /// What it is about.
    pub info: RequestInfo,
    /// Its query.
    pub query: Query,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Who asks.
    pub user: Arc<UserInfo>,
}

/// What the server answers.
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The media type; empty for none.
    pub content_type: SmolStr,
    /// The body.
    pub content: Content,
}

/// The body of an answer.
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// A long list.
    List(Box<ListBody>),
    /// A watch.
    Watch(Box<WatchBody>),
}

impl Answer {
    /// A whole answer in a form.
    pub fn whole(code: u16, form: Form, body: Bytes) -> Self {
        Self::new(code, form, Content::Whole(body))
    }

    /// An answer in a form.
    fn new(code: u16, form: Form, content: Content) -> Self {
        Self { code, content_type: form.encoding.media_type().into(), content }
    }
}

/// The API of all stored resources.
pub struct Api {
    /// The resources.
    pub registry: Arc<Registry>,
    /// Watches without a timeout of their own end after this many seconds, up to twice as many.
    pub min_request_timeout_seconds: u64,
    /// Becomes true when the server ends: so do its watches.
    pub ending: tokio::sync::watch::Receiver<bool>,
}

impl ApiRequest {
    fn header(&self, name: http::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The form of the answer.
    pub(crate) fn form(&self, offer: Offer) -> Result<Form, Status> {
        negotiate(
            self.header(http::header::ACCEPT),
            self.query.optional_flag("pretty"),
            self.header(http::header::USER_AGENT).unwrap_or_default(),
            offer,
        )
    }

    /// What the rows of a table carry.
    fn include_object(&self, form: Form) -> Result<IncludeObject, Status> {
        let Transform::Table { .. } = form.transform else { return Ok(IncludeObject::default()) };
        let text = self.query.text("includeObject");
        IncludeObject::parse(text).ok_or_else(|| {
            let path = api_semantics::field::Path::new("includeObject");
            let why = "must be 'Metadata', 'Object', 'None', or empty";
            let error = api_semantics::field::Error::invalid(&path, text, why);
            Status::bad_request(format!("Unable to convert to Table as requested: {error}"))
        })
    }

    fn write_options(&self, patch: bool) -> Result<WriteOptions, Status> {
        let kind = match &*self.info.verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            _ => "PatchOptions",
        };
        let dry_run: Vec<&str> = self.query.all("dryRun").collect();
        let manager = self.query.text("fieldManager");
        let mut errors = dry_run_errors(&dry_run);
        errors.extend(field_manager_errors(manager));
        let field_validation = match self.query.text("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                errors.push(api_semantics::field::Error::not_supported(
                    &api_semantics::field::Path::new("fieldValidation"),
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", kind, "", &errors));
        }
        let field_manager = if manager.is_empty() && !patch { self.user_agent_manager() } else { manager.into() };
        Ok(WriteOptions {
            dry_run: !dry_run.is_empty(),
            field_manager,
            field_validation,
            force: self.query.optional_flag("force"),
        })
    }

    /// The manager of who names none: the user agent up to its first slash, printable, at most 128 bytes.
    fn user_agent_manager(&self) -> SmolStr {
        let agent = self.header(http::header::USER_AGENT).unwrap_or_default();
        let name = agent.split('/').next().unwrap_or_default();
        let mut end = name.len().min(128);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &name[..end];
        if name.is_empty() { "unknown".into() } else { name.into() }
    }

    /// The options of a list or watch.
    pub(crate) fn list_options(&self) -> Result<ListOptions, Status> {
        let query = &self.query;
        let mut field_selector = SmolStr::new(query.text("fieldSelector"));
        if self.info.named {
            // A watch of one object by its path.
            let own = api_schema::format_smolstr!("metadata.name={}", self.info.name);
            field_selector = match field_selector.as_str() {
                "" => own,
                other => api_schema::format_smolstr!("{other},{own}"),
            };
        }
        // Upstream takes a negative limit for none.
        let limit = query.number("limit")?.unwrap_or(0).max(0);
        Ok(ListOptions {
            label_selector: query.text("labelSelector").into(),
            field_selector,
            watch: self.info.verb == "watch",
            allow_bookmarks: query.flag("allowWatchBookmarks"),
            resource_version: query.text("resourceVersion").into(),
            version_match: query.text("resourceVersionMatch").into(),
            timeout_seconds: query.number("timeoutSeconds")?,
            limit,
            continue_token: query.text("continue").into(),
            send_initial_events: query.optional_flag("sendInitialEvents"),
        })
    }

    fn layout(&self) -> Result<Layout, Status> {
        Ok(match body_encoding(self.header(http::header::CONTENT_TYPE))? {
            Encoding::Json => Layout::Json,
            Encoding::Yaml => Layout::Yaml,
            Encoding::Protobuf => Layout::Protobuf,
        })
    }

    /// Decodes the body as an Eviction: the old version is the same type and is still taken.
    fn decode_eviction(&self, cx: &mut Context) -> Result<Value, Status> {
        let stated = body_api_version(&self.body, self.layout()?);
        let api_version = if stated == "policy/v1beta1" { "policy/v1beta1" } else { "policy/v1" };
        let type_id = api_types::struct_id(&api_types::type_name("policy", "v1", "Eviction"));
        let expected = Expected { ty: Some(api_codec::builtin().of(type_id)), api_version, kind: "Eviction" };
        body::decode(expected, self.layout()?, &self.body, cx.options.field_validation, &mut cx.warnings)
    }

    /// Decodes the body as an object of a built-in type that is not the resource's own.
    pub(crate) fn decode_as(&self, api_version: &str, kind: &str, cx: &mut Context) -> Result<Value, Status> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let type_id = api_types::struct_id(&api_types::type_name(group, version, kind));
        let expected = Expected { ty: Some(api_codec::builtin().of(type_id)), api_version, kind };
        body::decode(expected, self.layout()?, &self.body, cx.options.field_validation, &mut cx.warnings)
    }
}

impl Api {
    fn show(&self, request: &ApiRequest, served: &Arc<Served>) -> Result<Show, Status> {
        let protobuf = served.storage.stored_as == registry::StoredAs::Protobuf;
        let form = request.form(Offer { transforms: true, protobuf })?;
        let include = request.include_object(form)?;
        let now = self.registry.world().clock.now().seconds;
        Ok(Show { served: Arc::clone(served), form, include, now })
    }

    /// Answers a request for a stored resource. Warnings are left in `cx`, whatever the answer is.
    ///
    /// # Errors
    /// The Status to answer with.
    pub async fn answer(&self, request: &ApiRequest, served: &Arc<Served>, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        let namespaced = served.storage.namespaced;
        if namespaced && info.namespace.is_empty() && !matches!(&*info.verb, "list" | "watch") {
            // The path of all namespaces takes lists; a path of one object there does not exist.
            return Err(if info.named { Status::path_not_found() } else { not_allowed() });
        }
        if !namespaced && !info.namespace.is_empty() && info.resource != "namespaces" {
            return Err(Status::path_not_found());
        }
        let verbs = match &*info.subresource {
            "" => &served.info.verbs,
            name => match served.info.subresource(name) {
                Some(subresource) => &subresource.verbs,
                None => return Err(Status::path_not_found()),
            },
        };
        if !verbs.contains(&info.verb) {
            return Err(not_allowed());
        }
        if !info.named && matches!(&*info.verb, "update" | "patch") {
            return Err(not_allowed());
        }
        self.answer_verb(request, served, cx).await
    }

    async fn answer_verb(
        &self,
        request: &ApiRequest,
        served: &Arc<Served>,
        cx: &mut Context,
    ) -> Result<Answer, Status> {
        let info = &request.info;
        match (&*info.verb, &*info.subresource) {
            ("get", "scale") => self.get_scale(request, served).await,
            ("update" | "patch", "scale") => self.change_scale(request, served, cx).await,
            ("get", _) => self.get(request, served).await,
            ("list", _) => self.list(request, served).await,
            ("watch", _) => self.watch(request, served).await,
            ("create", "") => self.create(request, served, cx).await,
            ("create", "binding") => self.bind(request, served, cx).await,
            ("create", "eviction") => self.evict(request, served, cx).await,
            ("update", _) => self.update(request, served, cx).await,
            ("patch", _) => self.patch(request, served, cx).await,
            ("delete", _) => self.delete(request, served, cx).await,
            ("deletecollection", _) => self.delete_collection(request, served, cx).await,
            _ => Err(not_allowed()),
        }
    }

    async fn get(&self, request: &ApiRequest, served: &Arc<Served>) -> Result<Answer, Status> {
        let show = self.show(request, served)?;
        let info = &request.info;
        let version = request.query.text("resourceVersion");
        let found = self.registry.get(served, &info.namespace, &info.name, version).await?;
        Ok(Answer::whole(200, show.form, show.object(Source::Stored(&found.bytes, found.revision, None))?))
    }

    async fn list(&self, request: &ApiRequest, served: &Arc<Served>) -> Result<Answer, Status> {
        let show = self.show(request, served)?;
        let options = request.list_options()?;
        let answer = self.registry.list(served, &request.info.namespace, &options).await?;
        let metadata = ListMeta::new(answer.revision, answer.continue_token, answer.remaining);
        let form = show.form;
        let content = show.list(answer.objects.into_iter().map(Item::Stored).collect(), metadata)?;
        Ok(Answer::new(200, form, content))
    }

    async fn watch(&self, request: &ApiRequest, served: &Arc<Served>) -> Result<Answer, Status> {
        let show = self.show(request, served)?;
        let options = request.list_options()?;
        let started = self.registry.watch(served, &request.info.namespace, &options).await?;
        let seconds = match options.timeout_seconds {
            Some(seconds) if seconds > 0 => seconds.unsigned_abs(),
            _ => {
                let mut dice = [0; 4];
                self.registry.world().random.fill(&mut dice);
                let least = self.min_request_timeout_seconds;
                least + u64::from(u32::from_le_bytes(dice)) % least.max(1)
            }
        };
        let content_type = match show.form.encoding {
            Encoding::Json => show.form.encoding.media_type().into(),
            encoding => api_schema::format_smolstr!("{};stream=watch", encoding.media_type()),
        };
        let plan = WatchPlan {
            show,
            bookmarks: options.allow_bookmarks,
            deadline: std::time::Duration::from_secs(seconds),
            progress: Arc::clone(self.registry.progress()),
            ending: self.ending.clone(),
        };
        let content = Content::Watch(Box::new(WatchBody::new(plan, started)));
        Ok(Answer { code: 200, content_type, content })
    }

    fn decode(&self, request: &ApiRequest, served: &Served, cx: &mut Context) -> Result<Value, Status> {
        let expected = codec::expected(served);
        let layout = request.layout()?;
        let mut object = body::decode(expected, layout, &request.body, cx.options.field_validation, &mut cx.warnings)?;
        registry::keep_untracked_body(layout, &request.body, &mut object);
        Ok(object)
    }

    /// What was stored is shown as it was stored; the store forgets the difference between an empty list and none.
    fn written(show: &Show, code: u16, written: &Written, cx: &Context) -> Result<Answer, Status> {
        let source = match cx.options.dry_run {
            true => Source::Tree(&written.value),
            false => Source::Stored(&written.bytes, written.revision, None),
        };
        Ok(Answer::whole(code, show.form, show.object(source)?))
    }

    async fn create(&self, request: &ApiRequest, served: &Arc<Served>, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        if info.named {
            return Err(not_allowed());
        }
        let show = self.show(request, served)?;
        cx.options = request.write_options(false)?;
        let object = self.decode(request, served, cx)?;
        let written = self.registry.create(served, cx, &info.namespace, object).await?;
        Self::written(&show, 201, &written, cx)
    }

    async fn update(&self, request: &ApiRequest, served: &Arc<Served>, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        let show = self.show(request, served)?;
        cx.options = request.write_options(false)?;
        let object = self.decode(request, served, cx)?;
        let namespace = object_namespace(info);
        let written = self.registry.update(served, cx, namespace, &info.name, &info.subresource, object).await?;
        Self::written(&show, if written.created { 201 } else { 200 }, &written, cx)
    }

    fn patch_type(request: &ApiRequest, served: &Served) -> Result<PatchType, Status> {
        let text = request.header(http::header::CONTENT_TYPE).unwrap_or_default();
        let custom = served.storage.stored_as == registry::StoredAs::Json;
        if PatchType::from_media_type(text).is_none() && !custom {
            // Routes of built-in kinds refuse before anything looks at the request.
            return Err(Status::generic(415, "UnsupportedMediaType", "415: Unsupported Media Type"));
        }
        match PatchType::from_media_type(text) {
            Some(PatchType::Strategic) if custom => {}
            Some(ty) => return Ok(ty),
            None => {}
        }
        let all = [
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ];
        let accepted: Vec<&str> = all.into_iter().filter(|ty| !custom || !ty.contains("strategic")).collect();
        Err(Status::unsupported_media_type(&accepted))
    }

    /// Reads the options of a patch.
    fn patch_options(request: &ApiRequest, ty: PatchType, cx: &mut Context) -> Result<(), Status> {
        cx.options = request.write_options(true)?;
        let path = |name| api_semantics::field::Path::new(name);
        if ty == PatchType::Apply {
            if cx.options.field_manager.is_empty() {
                let error = api_semantics::field::Error::required(&path("fieldManager"), "is required for apply patch");
                return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
            }
        } else {
            if cx.options.force.is_some() {
                let error =
                    api_semantics::field::Error::forbidden(&path("force"), "may not be specified for non-apply patch");
                return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]));
            }
            if cx.options.field_manager.is_empty() {
                cx.options.field_manager = request.user_agent_manager();
            }
        }
        Ok(())
    }

    async fn patch(&self, request: &ApiRequest, served: &Arc<Served>, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        let ty = Self::patch_type(request, served)?;
        let show = self.show(request, served)?;
        Self::patch_options(request, ty, cx)?;
        let namespace = object_namespace(info);
        let written =
            self.registry.patch(served, cx, namespace, &info.name, &info.subresource, ty, &request.body).await?;
        Self::written(&show, if written.created { 201 } else { 200 }, &written, cx)
    }

    async fn get_scale(&self, request: &ApiRequest, served: &Arc<Served>) -> Result<Answer, Status> {
        let form = self.scale_form(request)?;
        let scale = self.registry.get_scale(served, &request.info.namespace, &request.info.name).await?;
        self.scale(request, form, scale)
    }

    async fn change_scale(
        &self,
        request: &ApiRequest,
        served: &Arc<Served>,
        cx: &mut Context,
    ) -> Result<Answer, Status> {
        let info = &request.info;
        let form = self.scale_form(request)?;
        let registry = &self.registry;
        let scale = if info.verb == "patch" {
            let ty = Self::patch_type(request, served)?;
            Self::patch_options(request, ty, cx)?;
            let mut inner = Context::new(Arc::clone(&cx.user), cx.options.clone());
            let scale = registry
                .update_scale(served, cx, &info.namespace, &info.name, |scale| {
                    registry.patch_value("autoscaling/v1", "Scale", ty, &request.body, scale, &mut inner)
                })
                .await;
            cx.warnings.extend(inner.warnings);
            scale?
        } else {
            cx.options = request.write_options(false)?;
            let wanted = request.decode_as("autoscaling/v1", "Scale", cx)?;
            registry.update_scale(served, cx, &info.namespace, &info.name, |_| Ok(wanted.clone())).await?
        };
        self.scale(request, form, scale)
    }

    fn scale_form(&self, request: &ApiRequest) -> Result<Form, Status> {
        request.form(Offer { transforms: true, protobuf: true })
    }

    /// Shows a Scale, which is no stored object of its own.
    fn scale(&self, request: &ApiRequest, form: Form, scale: Value) -> Result<Answer, Status> {
        let now = self.registry.world().clock.now().seconds;
        let include = request.include_object(form)?;
        let value = match form.transform {
            Transform::None => scale,
            Transform::PartialObjectMetadata { beta } => table::partial(&scale, beta),
            Transform::PartialObjectMetadataList { .. } => {
                let why = "you requested PartialObjectMetadataList, but the requested object is not a list";
                return Err(Status::new(406, "NotAcceptable", format!("{why} (*autoscaling.Scale)")));
            }
            Transform::Table { beta } => {
                let mut metadata = Map::new();
                metadata.insert("resourceVersion", scale.str_at(&["metadata", "resourceVersion"]));
                let mut row = Map::new();
                row.insert("cells", kinds::autoscaling::scale::cells(&scale, now));
                let shown = match include {
                    IncludeObject::None => Value::Null,
                    IncludeObject::Metadata => table::partial(&scale, beta),
                    IncludeObject::Object => scale,
                };
                row.insert("object", shown);
                table::table(Some(table::columns_of("Scale")), vec![row.into()], metadata, beta)
            }
        };
        Ok(Answer::whole(200, form, typed(&value, form)))
    }

    async fn bind(&self, request: &ApiRequest, served: &Arc<Served>, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        let form = request.form(Offer { transforms: false, protobuf: true })?;
        cx.options = request.write_options(false)?;
        let mut binding = request.decode_as("v1", "Binding", cx)?;
        if info.named {
            let stated = binding.str_at(&["metadata", "name"]);
            if !stated.is_empty() && stated != info.name {
                return Err(Status::bad_request("name in URL does not match name in Binding object"));
            }
            binding.set(&["metadata", "name"], info.name.clone());
        }
        self.registry.bind(served, cx, &info.namespace, &binding).await?;
        Ok(Answer::whole(201, form, typed(&success(201), form)))
    }

    async fn evict(&self, request: &ApiRequest, served: &Arc<Served>, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        let form = request.form(Offer { transforms: false, protobuf: true })?;
        cx.options = request.write_options(false)?;
        let eviction = request.decode_eviction(cx)?;
        let stated = eviction.str_at(&["metadata", "name"]);
        if stated != info.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        self.registry.evict(served, cx, &info.namespace, &info.name, &eviction).await?;
        Ok(Answer::whole(201, form, typed(&success(201), form)))
    }

    fn delete_options(&self, request: &ApiRequest, cx: &mut Context) -> Result<DeleteOptions, Status> {
        let options = if request.body.is_empty() {
            let mut value = Value::Map(Map::new());
            if let Some(seconds) = request.query.number("gracePeriodSeconds")? {
                value.set(&["gracePeriodSeconds"], seconds);
            }
            if let Some(orphan) = request.query.optional_flag("orphanDependents") {
                value.set(&["orphanDependents"], orphan);
            }
            if let Some(policy) = request.query.get("propagationPolicy") {
                value.set(&["propagationPolicy"], policy);
            }
            let dry_run: Vec<Value> = request.query.all("dryRun").map(Value::from).collect();
            if !dry_run.is_empty() {
                value.set(&["dryRun"], dry_run);
            }
            value
        } else {
            let api_version = body_api_version(&request.body, request.layout()?);
            let api_version = if api_version.is_empty() { "meta.k8s.io/v1".into() } else { api_version };
            let expected = Expected {
                ty: Some(api_codec::builtin().of(api_types::meta("DeleteOptions"))),
                api_version: &api_version,
                kind: "DeleteOptions",
            };
            body::decode(expected, request.layout()?, &request.body, FieldValidation::Ignore, &mut cx.warnings)
                .map_err(|status| options_error(status, &request.body))?
        };
        let options = DeleteOptions::from_value(&options)?;
        cx.options.dry_run = options.dry_run;
        Ok(options)
    }

    async fn delete(&self, request: &ApiRequest, served: &Arc<Served>, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        let show = self.show(request, served)?;
        let options = self.delete_options(request, cx)?;
        let namespace = object_namespace(info);
        let deleted = self.registry.delete(served, cx, namespace, &info.name, &options).await?;
        let storage = &served.storage;
        let (code, body) = match &deleted {
            Deleted::Gone(value) if !storage.kind.returns_deleted_object() => {
                let mut status = success(0);
                let resource = &storage.group_resource;
                status.set(&["details", "name"], info.name.clone());
                if !resource.group.is_empty() {
                    status.set(&["details", "group"], resource.group.clone());
                }
                status.set(&["details", "kind"], resource.resource.clone());
                status.set(&["details", "uid"], value.str_at(&["metadata", "uid"]));
                (200, typed(&status, Form { transform: Transform::None, ..show.form }))
            }
            deleted => {
                let pending = matches!(deleted, Deleted::Pending(_));
                let code = if pending && options.orphan_dependents == Some(false) { 202 } else { 200 };
                (code, show.object(Source::Tree(deleted.value()))?)
            }
        };
        Ok(Answer::whole(code, show.form, body))
    }

    async fn delete_collection(
        &self,
        request: &ApiRequest,
        served: &Arc<Served>,
        cx: &mut Context,
    ) -> Result<Answer, Status> {
        let show = self.show(request, served)?;
        let list = ListOptions { watch: false, ..request.list_options()? };
        let options = self.delete_options(request, cx)?;
        let (deleted, revision) =
            self.registry.delete_collection(served, cx, &request.info.namespace, &list, &options).await?;
        let metadata = ListMeta::new(revision, String::new(), None);
        let form = show.form;
        let content = show.list(deleted.into_iter().map(Item::Tree).collect(), metadata)?;
        Ok(Answer::new(200, form, content))
    }
}

/// The namespace that an object lives in: requests for a namespace itself name it twice.
fn object_namespace(info: &RequestInfo) -> &str {
    if info.resource == "namespaces" && info.group.is_empty() { "" } else { &info.namespace }
}

/// 405 for a path that exists but not for this method.
pub fn not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::generic(405, "MethodNotAllowed", message)
}

/// A Status of success; a code of 0 is left out.
pub fn success(code: i64) -> Value {
    let mut status = Value::from([("apiVersion", "v1"), ("kind", "Status"), ("status", "Success")]);
    status.set(&["metadata"], Map::new());
    if code != 0 {
        status.set(&["code"], code);
    }
    status
}

/// Options are decoded on their own: what is wrong with them is said without naming what they should be.
fn options_error(mut status: Status, body: &[u8]) -> Status {
    if let Ok(stated) = api_codec::meta::type_meta(body)
        && !matches!(stated.kind.as_str(), "" | "DeleteOptions")
    {
        return Status::bad_request(format!(
            "no kind {} is registered for version {} in scheme \
             \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\"",
            api_semantics::field::quoted(&stated.kind),
            api_semantics::field::quoted(&stated.api_version)
        ));
    }
    const UNRECOGNIZED: &str = "the object provided is unrecognized (must be of type DeleteOptions): ";
    if let Some(why) = status.message.strip_prefix(UNRECOGNIZED) {
        status.message = why.rsplit_once(" (").map_or(why, |(why, _)| why).to_owned();
    } else if let Some((_, why)) = status.message.split_once(" cannot be handled as a DeleteOptions: ") {
        status.message = why.to_owned();
    }
    status
}

/// The apiVersion that a DeleteOptions body states: clients send it in the version of the resource.
fn body_api_version(body: &[u8], layout: Layout) -> SmolStr {
    match layout {
        Layout::Protobuf => {
            api_codec::proto::envelope::split(body).map(|e| SmolStr::new(&*e.api_version)).unwrap_or_default()
        }
        _ => api_codec::meta::type_meta(body).map(|stated| stated.api_version.into()).unwrap_or_default(),
    }
}
