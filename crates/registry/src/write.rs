//! Create, update and patch: one flow each, for every kind.

use std::sync::Arc;

use admission::{Attributes, Operation};
use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::status::Status;
use authn::UserInfo;
use bytes::Bytes;
use kinds::{Kind, meta};
use store::{Revision, Txn, TxnResponse};

use crate::codec;
use crate::hooks::Claim;
use crate::options::WriteOptions;
use crate::ownership;
use crate::registry::{Registry, store_status};
use crate::storage::{Served, Storage};

/// Generated names are cut to this length before the suffix (63 less the suffix).
const GENERATED_BASE_MAX: usize = 58;
/// How often a generated name may be taken before the client is told (KEP-4420).
const GENERATED_TRIES: usize = 8;
/// How often a patch or an unconditional update is tried again when somebody else was faster.
const CONFLICT_TRIES: usize = 100;
const OTHER_NAMESPACE: &str = "the namespace of the provided object does not match the namespace sent on the request";

/// A request that changes objects.
#[derive(Debug)]
pub struct Context {
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// How it shall be done.
    pub options: WriteOptions,
    /// Sentences for the client, sent as `Warning` headers.
    pub warnings: Vec<String>,
    /// Whether this is server-side apply, which notes its fields itself.
    pub(crate) applies: bool,
    /// Whether this is a patch: its UID is a field like others, and no precondition.
    pub(crate) patches: bool,
}

impl Context {
    /// A request by `user`.
    pub fn new(user: Arc<UserInfo>, options: WriteOptions) -> Self {
        Self { user, options, warnings: Vec::new(), applies: false, patches: false }
    }
}

/// What a write led to.
#[derive(Debug)]
pub struct Written {
    /// The object, in its stored version, with its resourceVersion. Of a dry run, it is what would be read.
    pub value: Value,
    /// Its stored bytes.
    pub bytes: Bytes,
    /// Its revision; 0 for a dry run of a creation.
    pub revision: u64,
    /// Whether it was created.
    pub created: bool,
}

/// An object as it is before a change.
#[derive(Clone, Debug)]
pub(crate) struct Existing {
    pub(crate) value: Value,
    pub(crate) bytes: Bytes,
    pub(crate) revision: u64,
}

/// What a change is made through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The resource itself.
    Main,
    /// The `status` subresource.
    Status,
    /// The `scale` subresource, which changes the number of replicas.
    Scale,
    /// Another subresource; only its hook knows what may change.
    Other(&'a str),
}

impl<'a> Part<'a> {
    pub(crate) fn new(subresource: &'a str) -> Self {
        match subresource {
            "" => Self::Main,
            "status" => Self::Status,
            "scale" => Self::Scale,
            other => Self::Other(other),
        }
    }

    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Other(name) => name,
        }
    }
}

impl Registry {
    /// Creates an object. `object` is decoded, in the served version.
    ///
    /// # Errors
    /// Any of the API's errors; nothing is stored then.
    pub async fn create(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        object: Value,
    ) -> Result<Written, Status> {
        let storage = &*served.storage;
        let mut object = codec::to_stored(served, object)?;
        match_namespace(&mut object, namespace)?;
        storage.kind.default(&mut object);
        let generate =
            object.str_at(&["metadata", "name"]).is_empty() && !object.str_at(&["metadata", "generateName"]).is_empty();
        if !generate {
            return self.create_named(served, cx, namespace, object).await;
        }
        let base = SmolStr::new(object.str_at(&["metadata", "generateName"]));
        for tried in 1.. {
            let mut object = object.clone();
            let name = self.generated_name(&base);
            object.set(&["metadata", "name"], name.clone());
            match self.create_named(served, cx, namespace, object).await {
                Err(status) if status.reason == "AlreadyExists" && status.name == name => {
                    if tried == GENERATED_TRIES {
                        return Err(Status::generate_name_conflict(&storage.group_resource, &name));
                    }
                }
                done => return done,
            }
        }
        unreachable!("the loop above only ends by returning")
    }

    fn generated_name(&self, base: &str) -> SmolStr {
        let mut end = base.len().min(GENERATED_BASE_MAX);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        api_schema::format_smolstr!("{}{}", &base[..end], self.world.random.name_suffix())
    }

    async fn create_named(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        mut object: Value,
    ) -> Result<Written, Status> {
        let storage = &*served.storage;
        let kind = &*storage.kind;
        let now = self.world.clock.now();
        let name = SmolStr::new(object.str_at(&["metadata", "name"]));
        let states_version =
            object.str_at(&["metadata", "resourceVersion"]).parse::<u64>().is_ok_and(|version| version != 0);
        if !cx.patches {
            unite_owners(&mut object, false, &mut cx.warnings);
        }
        ownership::on_create(served, cx, &mut object, now)?;
        self.admit(storage, cx, Operation::Create, "", namespace, &name, Some(&mut object), None).await?;
        unite_owners(&mut object, true, &mut cx.warnings);
        kind.default(&mut object);
        // Metadata that only the system sets.
        let meta = object.entry(&["metadata"]).make_map();
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
            meta.remove(field);
        }
        meta.insert("creationTimestamp", codec::time(now));
        meta.insert("uid", self.world.random.uuid_v4());
        if kind.has_generation() {
            meta.insert("generation", 1);
        }
        if storage.has_status && !kind.keeps_status_on_create() {
            codec::clear_status(storage, &mut object);
        }
        kind.prepare_create(&mut object);
        kind.stamp(&mut object, None, &codec::time(now));
        // What is derived has defaults, too.
        kind.default(&mut object);
        let mut claim = self.hooks.before_create(self, storage, cx, &mut object).await?;
        let name = SmolStr::new(object.str_at(&["metadata", "name"]));
        refuse_invalid(storage, &name, creation_errors(served, &object)?)?;
        cx.warnings.extend(kind.warnings(&object, None));
        self.admit_validating(storage, cx, Operation::Create, "", namespace, &name, Some(&object), None).await?;
        let bytes = codec::encode_stored(storage, &object)?;
        if states_version && !cx.options.dry_run {
            return Err(Status::plain("resourceVersion should not be set on objects to be created"));
        }
        if cx.options.dry_run {
            let key = storage.key(namespace, &name);
            let there = self.store.get(key.as_bytes(), None).await.map_err(|e| store_status(&e))?;
            if there.record.is_some() {
                return Err(Status::already_exists(&storage.group_resource, &name));
            }
            // Shown as it would be read; only what is stored has a version.
            let mut value = codec::decode_stored(storage, &bytes, 0)?;
            value.remove(&["metadata", "resourceVersion"]);
            return Ok(Written { value, bytes, revision: 0, created: true });
        }
        let mut txn = Txn::create(storage.key(namespace, &name), bytes.clone());
        if is_event(storage)
            && let Some(lease) = self.event_lease().await.map_err(|e| store_status(&e))?
        {
            txn = txn.with_lease(lease);
        }
        let committed = self.commit(txn, &mut claim).await?;
        match committed {
            Some(revision) => {
                claim.done();
                codec::set_version(&mut object, revision);
                Ok(Written { value: object, bytes, revision, created: true })
            }
            None => Err(Status::already_exists(&storage.group_resource, &name)),
        }
    }

    /// Commits a change of one object with what its hook claims beside it; `None` if the object is not as expected.
    pub(crate) async fn commit(&self, txn: Txn, claim: &mut Claim) -> Result<Option<u64>, Status> {
        let txn = claim.join(txn);
        match self.store.txn(txn).await.map_err(|e| store_status(&e))? {
            TxnResponse::Committed { revision, .. } => Ok(Some(revision.0)),
            TxnResponse::Refused { .. } => Ok(None),
        }
    }

    /// Replaces an object (PUT). `object` is decoded, in the served version.
    ///
    /// # Errors
    /// Any of the API's errors; nothing is changed then.
    pub async fn update(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: Value,
    ) -> Result<Written, Status> {
        let storage = &*served.storage;
        let mut object = codec::to_stored(served, object)?;
        match_namespace(&mut object, namespace)?;
        check_name(&object, namespace, name)?;
        storage.kind.default(&mut object);
        let part = Part::new(subresource);
        if part == Part::Main
            && storage.kind.create_on_update()
            && self.existing(storage, namespace, name).await?.is_none()
        {
            if !object.str_at(&["metadata", "uid"]).is_empty() {
                let uid = object.str_at(&["metadata", "uid"]);
                return Err(uid_conflict(storage, namespace, name, uid, ""));
            }
            return self.create_named(served, cx, namespace, object).await;
        }
        self.modify(served, cx, namespace, name, part, |_, _| Ok(object.clone())).await
    }

    /// Changes an object: reads it, makes the new object of it, writes it unless somebody else was faster, in which
    /// case it starts again (unless the new object names the version that it replaces).
    pub(crate) async fn modify(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        part: Part<'_>,
        mut make: impl FnMut(&Existing, &mut Context) -> Result<Value, Status>,
    ) -> Result<Written, Status> {
        let storage = &*served.storage;
        let warnings = cx.warnings.len();
        for _ in 0..CONFLICT_TRIES {
            cx.warnings.truncate(warnings);
            let Some(existing) = self.existing(storage, namespace, name).await? else {
                return Err(Status::not_found(&storage.group_resource, name));
            };
            let new = make(&existing, cx)?;
            if let Some(written) = self.try_update(served, cx, namespace, name, part, &existing, new).await? {
                return Ok(written);
            }
        }
        Err(Status::modified(&storage.group_resource, name))
    }

    /// The stored object, decoded in its stored version; `None` if there is none.
    pub(crate) async fn existing(
        &self,
        storage: &Storage,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Existing>, Status> {
        let key = storage.key(namespace, name);
        let response = self.store.get(key.as_bytes(), None).await.map_err(|e| store_status(&e))?;
        let Some(record) = response.record else { return Ok(None) };
        let revision = record.mod_revision.0;
        let value = codec::decode_stored(storage, &record.value, revision)?;
        Ok(Some(Existing { value, bytes: record.value.clone(), revision }))
    }

    /// Tries to replace `existing` by `new`; `None` if somebody else was faster.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    async fn try_update(
        &self,
        served: &Served,
        cx: &mut Context,
        namespace: &str,
        name: &str,
        part: Part<'_>,
        existing: &Existing,
        mut new: Value,
    ) -> Result<Option<Written>, Status> {
        let storage = &*served.storage;
        let kind = &*storage.kind;
        let now = self.world.clock.now();
        let old = &existing.value;
        check_version(storage, cx, namespace, name, existing, &mut new)?;
        keep_system_meta(&mut new, old);
        self.keep_other_parts(storage, part, &mut new, old);
        if !cx.patches {
            unite_owners(&mut new, false, &mut cx.warnings);
        }
        ownership::on_update(served, cx, old, &mut new, part.name(), now)?;
        self.admit(storage, cx, Operation::Update, part.name(), namespace, name, Some(&mut new), Some(old)).await?;
        unite_owners(&mut new, true, &mut cx.warnings);
        kind.default(&mut new);
        match part {
            Part::Main | Part::Scale => kind.prepare_update(&mut new, old),
            Part::Status => kind.prepare_status_update(&mut new, old),
            Part::Other(name) => self.hooks.prepare_subresource(storage, name, &mut new, old),
        }
        kind.stamp(&mut new, Some(old), &codec::time(now));
        kind.default(&mut new);
        // A Pod that is bound is the same that was asked for.
        if kind.has_generation() && part != Part::Other("binding") {
            count_generation(&mut new, old, storage.has_status);
        }
        let mut claim = match part {
            Part::Main => self.hooks.before_update(self, storage, cx, &mut new, old).await?,
            _ => Claim::default(),
        };
        let errors = match part {
            Part::Main | Part::Scale => update_errors(served, &new, old)?,
            Part::Status | Part::Other(_) => {
                let mut errors = metadata_errors(storage, kind, &new, old, false);
                errors.extend(match part {
                    Part::Other(name) => self.hooks.validate_subresource(storage, name, &new, old),
                    _ => kind.validate_status_update(&new, old),
                });
                errors
            }
        };
        refuse_invalid(storage, name, errors)?;
        cx.warnings.extend(kind.warnings(&new, Some(old)));
        self.admit_validating(storage, cx, Operation::Update, part.name(), namespace, name, Some(&new), Some(old))
            .await?;
        ownership::keep_times(old, &mut new);
        let bytes = codec::encode_stored(storage, &new)?;
        let unchanged = bytes == existing.bytes;
        if unchanged || cx.options.dry_run {
            let value = codec::decode_stored(storage, &bytes, existing.revision)?;
            return Ok(Some(Written { value, bytes, revision: existing.revision, created: false }));
        }
        let key = storage.key(namespace, name);
        let ends = ends_deletion(storage, &new, old);
        let mut txn = if ends {
            claim = self.hooks.before_delete(self, storage, old);
            Txn::delete_if(key, Revision(existing.revision))
        } else {
            Txn::update(key, bytes.clone(), Revision(existing.revision))
        };
        if is_event(storage)
            && !ends
            && let Some(lease) = self.event_lease().await.map_err(|e| store_status(&e))?
        {
            txn = txn.with_lease(lease);
        }
        let Some(revision) = self.commit(txn, &mut claim).await? else { return Ok(None) };
        claim.done();
        // Who takes away the last finalizer sees the object as it was stored last.
        let revision = if ends { existing.revision } else { revision };
        codec::set_version(&mut new, revision);
        Ok(Some(Written { value: new, bytes, revision, created: false }))
    }

    /// Puts back what this part of the API may not change.
    fn keep_other_parts(&self, storage: &Storage, part: Part<'_>, new: &mut Value, old: &Value) {
        match part {
            Part::Main | Part::Scale if storage.has_status => keep_field(new, old, "status"),
            Part::Status => {
                let fields: Vec<SmolStr> = old
                    .as_map()
                    .into_iter()
                    .chain(new.as_map())
                    .flat_map(|map| map.keys().cloned().collect::<Vec<_>>())
                    .filter(|field| !matches!(&**field, "status" | "metadata" | "apiVersion" | "kind"))
                    .collect();
                for field in fields {
                    keep_field(new, old, &field);
                }
            }
            _ => {}
        }
    }

    /// Asks admission about the body of a subresource that is no part of the object (a TokenRequest).
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit_subresource(
        &self,
        cx: &mut Context,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
        body: &mut Value,
    ) -> Result<(), Status> {
        let Some(storage) = self.storage("", resource) else { return Ok(()) };
        self.admit(&storage, cx, Operation::Create, subresource, namespace, name, Some(body), None).await?;
        self.admit_validating(&storage, cx, Operation::Create, subresource, namespace, name, Some(body), None).await
    }

    /// Asks the admission plugins that may change the object.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    pub(crate) async fn admit(
        &self,
        storage: &Storage,
        cx: &mut Context,
        operation: Operation,
        subresource: &str,
        namespace: &str,
        name: &str,
        object: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let mut attributes = Attributes {
            operation,
            resource: &storage.group_resource,
            kind: &storage.kind_name,
            subresource,
            namespace,
            name,
            user: &cx.user,
            dry_run: cx.options.dry_run,
            object,
            old,
            warnings: Vec::new(),
        };
        let result = self.admission.admit(&mut attributes, self).await;
        let warnings = std::mem::take(&mut attributes.warnings);
        cx.warnings.extend(warnings);
        result
    }

    /// Asks the admission plugins that only look.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    pub(crate) async fn admit_validating(
        &self,
        storage: &Storage,
        cx: &mut Context,
        operation: Operation,
        subresource: &str,
        namespace: &str,
        name: &str,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        // Validating plugins see the object as it will be; what they would change is dropped with the copy.
        let mut copy = if self.admission.validates(&storage.group_resource, subresource, operation) {
            object.cloned()
        } else {
            return Ok(());
        };
        let mut attributes = Attributes {
            operation,
            resource: &storage.group_resource,
            kind: &storage.kind_name,
            subresource,
            namespace,
            name,
            user: &cx.user,
            dry_run: cx.options.dry_run,
            object: copy.as_mut(),
            old,
            warnings: Vec::new(),
        };
        let result = self.admission.validate(&attributes, self).await;
        let warnings = std::mem::take(&mut attributes.warnings);
        cx.warnings.extend(warnings);
        result
    }
}

pub(crate) fn is_event(storage: &Storage) -> bool {
    storage.group_resource.group.is_empty() && storage.group_resource.resource == "events"
}

fn keep_field(new: &mut Value, old: &Value, field: &str) {
    match old.as_map().and_then(|map| map.get(field)) {
        Some(value) => drop(new.make_map().insert(field, value.clone())),
        None => drop(new.make_map().remove(field)),
    }
}

/// The body's namespace is the request's, or is left out.
fn match_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let stated = object.str_at(&["metadata", "namespace"]);
    if stated == namespace {
        return Ok(());
    }
    if stated.is_empty() {
        object.set(&["metadata", "namespace"], namespace);
        return Ok(());
    }
    if namespace.is_empty() {
        object.remove(&["metadata", "namespace"]);
        return Ok(());
    }
    Err(Status::bad_request(OTHER_NAMESPACE))
}

/// The body's name and namespace are those of the URL.
pub(crate) fn check_name(object: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    let (stated, stated_namespace) = (object.str_at(&["metadata", "name"]), object.str_at(&["metadata", "namespace"]));
    if stated.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if stated != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({stated}) does not match the name on the URL ({name})"
        )));
    }
    if !namespace.is_empty() && !stated_namespace.is_empty() && stated_namespace != namespace {
        return Err(Status::bad_request(OTHER_NAMESPACE));
    }
    Ok(())
}

/// The version and the UID that the client expects are those that are there.
fn check_version(
    storage: &Storage,
    cx: &Context,
    namespace: &str,
    name: &str,
    existing: &Existing,
    new: &mut Value,
) -> Result<(), Status> {
    let uid = new.str_at(&["metadata", "uid"]);
    let old_uid = existing.value.str_at(&["metadata", "uid"]);
    if !cx.patches && !uid.is_empty() && uid != old_uid {
        return Err(uid_conflict(storage, namespace, name, uid, old_uid));
    }
    let version = new.str_at(&["metadata", "resourceVersion"]).to_owned();
    match version.as_str() {
        "" | "0" if storage.kind.unconditional_update() => {
            codec::set_version(new, existing.revision);
            Ok(())
        }
        "" | "0" => {
            let path = Path::new("metadata.resourceVersion");
            let error = Error::invalid(&path, 0i64, "must be specified for an update");
            let resource = &storage.group_resource;
            Err(Status::invalid(&resource.group, &resource.resource, name, &[error]))
        }
        version => match version.parse::<u64>() {
            Ok(version) if version == existing.revision => Ok(()),
            Ok(_) => Err(Status::modified(&storage.group_resource, name)),
            Err(_) => Err(Status::plain(format!(
                "strconv.ParseUint: parsing {}: invalid syntax",
                api_semantics::field::quoted(version)
            ))),
        },
    }
}

/// 409: the client means another object of this name.
pub(crate) fn uid_conflict(storage: &Storage, namespace: &str, name: &str, wanted: &str, found: &str) -> Status {
    let key = storage.key(namespace, name);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    );
    Status::conflict(&storage.group_resource, name, why)
}

/// What is wrong with a new object.
fn creation_errors(served: &Served, object: &Value) -> Result<ErrorList, Status> {
    let storage = &*served.storage;
    if let Some(rules) = served.rules {
        let shown = codec::to_served(served, object.clone())?;
        let mut errors = whole_metadata_errors(storage, rules, &shown);
        errors.extend(rules.validate(&shown));
        return Ok(errors);
    }
    let kind = &*storage.kind;
    let mut errors = whole_metadata_errors(storage, kind, object);
    errors.extend(table_errors(storage, object));
    errors.extend(kind.validate(object));
    Ok(errors)
}

/// What is wrong with an update of the main resource.
fn update_errors(served: &Served, new: &Value, old: &Value) -> Result<ErrorList, Status> {
    let storage = &*served.storage;
    if let Some(rules) = served.rules {
        let (new, old) = (codec::to_served(served, new.clone())?, codec::to_served(served, old.clone())?);
        let mut errors = metadata_errors(storage, rules, &new, &old, rules.checks_metadata_on_update());
        errors.extend(rules.validate_update(&new, &old));
        return Ok(errors);
    }
    let kind = &*storage.kind;
    let mut errors = metadata_errors(storage, kind, new, old, kind.checks_metadata_on_update());
    errors.extend(table_errors(storage, new));
    errors.extend(kind.validate_update(new, old));
    Ok(errors)
}

/// What the tables say against an object whose kind does not check everything itself.
fn table_errors(storage: &Storage, object: &Value) -> ErrorList {
    if storage.kind.full_validation() {
        return ErrorList::new();
    }
    kinds::schema_rules::validate(&storage.schema, storage.type_id, object)
}

/// What is wrong with the metadata of an object by the rules of its kind.
fn whole_metadata_errors(storage: &Storage, kind: &dyn Kind, object: &Value) -> ErrorList {
    meta::validate(object, storage.namespaced, &|name, prefix| kind.check_name(name, prefix))
}

/// What is wrong with the metadata of an updated object. The generic flow asks, the kind asks for what updates may not
/// do (upstream's ValidateObjectMetaUpdate), and `whole` says that it also checks it as that of a new object. What
/// holds for all metadata is part of each question, and of the answer as often.
fn metadata_errors(storage: &Storage, kind: &dyn Kind, new: &Value, old: &Value, whole: bool) -> ErrorList {
    let mut errors = meta::validate_any(new, storage.namespaced);
    let mut update = meta::validate_update(new, old);
    let asked_again = ["metadata.labels", "metadata.annotations", "metadata.ownerReferences", "metadata.managedFields"];
    update
        .extend(errors.iter().filter(|error| asked_again.iter().any(|field| error.field.starts_with(field))).cloned());
    errors.extend(update.iter().cloned());
    errors.extend(update);
    errors.extend(meta::validate_finalizer_names(new));
    if whole {
        errors.extend(whole_metadata_errors(storage, kind, new));
    }
    errors
}

/// Takes away owners that are named twice, with a warning.
fn unite_owners(object: &mut Value, after_admission: bool, warnings: &mut Vec<String>) {
    const OWNERS: &[&str] = &["metadata", "ownerReferences"];
    let Some(Value::List(owners)) = object.at_mut(OWNERS) else { return };
    let (mut united, mut twice): (Vec<Value>, Vec<String>) = (Vec::with_capacity(owners.len()), Vec::new());
    for owner in owners.drain(..) {
        if united.contains(&owner) {
            twice.push(owner.str_at(&["uid"]).to_owned());
        } else {
            united.push(owner);
        }
    }
    *owners = united;
    if !twice.is_empty() {
        let when = if after_admission { " after mutating admission happens" } else { "" };
        warnings.push(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, \
             and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}

/// Metadata that updates leave as it is.
fn keep_system_meta(new: &mut Value, old: &Value) {
    let Some(old) = old.map_at(&["metadata"]) else { return };
    let new = new.entry(&["metadata"]).make_map();
    let keep = |new: &mut Map, field: &str| match old.get(field) {
        Some(value) => drop(new.insert(field, value.clone())),
        None => drop(new.remove(field)),
    };
    keep(new, "generation");
    keep(new, "creationTimestamp");
    if old.contains_key("deletionTimestamp") {
        keep(new, "deletionTimestamp");
        if !new.contains_key("deletionGracePeriodSeconds") {
            keep(new, "deletionGracePeriodSeconds");
        }
    }
    if new.get("uid").is_none_or(Value::is_zero) {
        keep(new, "uid");
    }
    if new.get("selfLink").is_some() {
        keep(new, "selfLink");
    }
}

/// Counts `metadata.generation` up if anything but metadata and status changed.
fn count_generation(new: &mut Value, old: &Value, has_status: bool) {
    let differs = |field: &SmolStr| {
        let counts = match &**field {
            "metadata" | "apiVersion" | "kind" => false,
            "status" => !has_status,
            _ => true,
        };
        counts && new.as_map().and_then(|m| m.get(field)) != old.as_map().and_then(|m| m.get(field))
    };
    let changed = [new.as_map(), old.as_map()].into_iter().flatten().any(|map| map.keys().any(differs));
    if changed {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or(0) + 1;
        new.set(&["metadata", "generation"], generation);
    }
}

/// Whether an update takes away the last thing that kept a deleted object.
fn ends_deletion(storage: &Storage, new: &Value, old: &Value) -> bool {
    let zero_grace = |object: &Value| object.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0;
    old.at(&["metadata", "deletionTimestamp"]).is_some()
        && new.list_at(&["metadata", "finalizers"]).is_empty()
        && zero_grace(old)
        && zero_grace(new)
        && (storage.group_resource.resource != "namespaces" || new.list_at(&["spec", "finalizers"]).is_empty())
}

/// 422 if there are errors.
pub(crate) fn refuse_invalid(storage: &Storage, name: &str, errors: ErrorList) -> Result<(), Status> {
    refuse((&storage.group_resource.group, &storage.kind_name), name, errors)
}

/// [`refuse_invalid`] for an object of a group and kind.
pub(crate) fn refuse((group, kind): (&str, &str), name: &str, errors: ErrorList) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(group, kind, name, &errors)) }
}
