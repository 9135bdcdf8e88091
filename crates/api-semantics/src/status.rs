//! The error answer of the API: metav1.Status with upstream's codes, reasons and messages.

use std::fmt;
use std::ops::{Deref, DerefMut};

use api_schema::{Map, SmolStr, Value, format_smolstr};

use crate::field;

/// A group and resource, as messages name it: `deployments.apps`, or `pods` for core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupResource {
    /// The API group; empty for core.
    pub group: SmolStr,
    /// The plural name.
    pub resource: SmolStr,
}

impl GroupResource {
    /// The resource `resource` of `group`.
    pub fn new(group: impl Into<SmolStr>, resource: impl Into<SmolStr>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

/// One cause of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// What sort of cause.
    pub reason: SmolStr,
    /// A sentence about it.
    pub message: SmolStr,
    /// The field's path; empty if none.
    pub field: SmolStr,
}

/// A failed request. In a box: it is the error of nearly everything, and success should not carry its size along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status(Box<Failure>);

/// What a [`Status`] says. `details.kind` is the resource (plural) for most reasons, the kind for Invalid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: SmolStr,
    /// The sentence that users see.
    pub message: String,
    /// The object's name, if one is concerned.
    pub name: SmolStr,
    /// The API group.
    pub group: SmolStr,
    /// The resource or kind.
    pub kind: SmolStr,
    /// The object's UID, if known.
    pub uid: SmolStr,
    /// The causes.
    pub causes: Vec<Cause>,
    /// When to come back, in seconds; 0 if unsaid. Sent as the Retry-After header, too.
    pub retry_after_seconds: u32,
    /// `metadata.continue`: where an expired list may go on, at the newest version; empty otherwise.
    pub continue_token: SmolStr,
    /// Made from a bare HTTP code (upstream's NewGenericServerResponse): `details` is there even if it says nothing.
    pub generic: bool,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Status {}

impl Deref for Status {
    type Target = Failure;
    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl DerefMut for Status {
    fn deref_mut(&mut self) -> &mut Failure {
        &mut self.0
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self(Box::new(failure))
    }
}

impl Status {
    /// A failure with a code, a reason and a sentence.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Failure { code, reason: reason.into(), message: message.into(), ..Failure::default() }.into()
    }

    /// The failure, asking the client to come back later.
    fn after(mut self, retry_after_seconds: u32) -> Self {
        self.retry_after_seconds = retry_after_seconds;
        self
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        self.group = resource.group.clone();
        self.kind = resource.resource.clone();
        self.name = name.into();
        self
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: who are you?
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: `why` is the sentence after "is forbidden: ".
    pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {} is forbidden: {why}", field::quoted(name)),
        };
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// 404: no such object.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {} not found", field::quoted(name))).about(resource, name)
    }

    /// 404: no such path.
    pub fn path_not_found() -> Self {
        Self::generic(404, "NotFound", "the server could not find the requested resource")
    }

    /// A failure that is known by its code alone.
    pub fn generic(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let mut status = Self::new(code, reason, message);
        status.generic = true;
        status
    }

    /// 500 without a reason: an error that nothing foresees, shown as its bare text.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 405: the resource does not do that.
    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            format!("{action} is not supported on resources of kind {}", field::quoted(&resource.to_string())),
        )
        .about(resource, "")
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{resource} {} already exists", field::quoted(name)))
            .about(resource, name)
    }

    /// 409: a generated name is taken, eight times over.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            field::quoted(name)
        );
        Self::new(409, "AlreadyExists", message).about(resource, name).after(1)
    }

    /// 409: somebody else was faster, or a precondition does not hold.
    pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", field::quoted(name));
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 409: the resourceVersion of an update is not the newest.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 410: the resourceVersion is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413: the body is larger than `limit` bytes.
    pub fn request_entity_too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 422: the object breaks its kind's rules.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let causes: Vec<Cause> = errors
            .iter()
            .map(|e| Cause { reason: e.ty.reason().into(), message: e.body(), field: e.field.as_str().into() })
            .collect();
        // Upstream aggregates: equal messages are said once, several stand in brackets.
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(ToString::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let all = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut status = Self::new(422, "Invalid", format!("{qualified} {} is invalid: {all}", field::quoted(name)));
        (status.group, status.kind, status.name, status.causes) = (group.into(), kind.into(), name.into(), causes);
        status
    }

    /// 429: come back later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).after(retry_after_seconds)
    }

    /// 500: our fault.
    pub fn internal(why: impl fmt::Display) -> Self {
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        status.causes = vec![Cause { message: format_smolstr!("{why}"), ..Cause::default() }];
        status
    }

    /// 503: not now.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: it took too long.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {message}")).after(retry_after_seconds)
    }

    /// 504: the client has seen a resourceVersion that this server has not reached.
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        let mut status = Self::timeout(format!("Too large resource version: {wanted}, current: {current}"), 1);
        status.causes = vec![Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: SmolStr::default(),
        }];
        status
    }

    /// The Status object that a client reads.
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(8);
        map.insert("apiVersion", "v1");
        map.insert("code", i64::from(self.code));
        let details = self.details();
        if self.generic || !details.is_empty() {
            map.insert("details", details);
        }
        map.insert("kind", "Status");
        map.insert("message", self.message.as_str());
        let mut metadata = Map::new();
        if !self.continue_token.is_empty() {
            metadata.insert("continue", self.continue_token.clone());
        }
        map.insert("metadata", metadata);
        map.insert("reason", self.reason.clone());
        map.insert("status", "Failure");
        map.into()
    }

    fn details(&self) -> Map {
        let mut details = Map::new();
        if !self.causes.is_empty() {
            details.insert("causes", self.causes.iter().map(Cause::to_value).collect::<Vec<_>>());
        }
        for (key, text) in [("group", &self.group), ("kind", &self.kind), ("name", &self.name), ("uid", &self.uid)] {
            if !text.is_empty() {
                details.insert(key, text.clone());
            }
        }
        if self.retry_after_seconds > 0 {
            details.insert("retryAfterSeconds", i64::from(self.retry_after_seconds));
        }
        details
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut cause = Map::new();
        for (key, text) in [("field", &self.field), ("message", &self.message), ("reason", &self.reason)] {
            if !text.is_empty() {
                cause.insert(key, text.clone());
            }
        }
        cause.into()
    }
}
