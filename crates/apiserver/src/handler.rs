//! The request chain: who asks, may they, what is it about, and the answer's headers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use admission::View as _;
use api_schema::{SmolStr, format_smolstr};
use api_semantics::field::quoted;
use api_semantics::status::{GroupResource, Status};
use arc_swap::ArcSwap;
use authn::impersonation::{Check, Impersonation, LastWays};
use authn::{Authenticator, UserInfo};
use authz::{Attributes, Authorizer, Decision};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use registry::{Context, WriteOptions};

use crate::api::{Answer, Api, ApiRequest, Content, not_allowed};
use crate::body::{Body, Chunks, RequestBody};
use crate::encode::typed;
use crate::health::Health;
use crate::listing::WHOLE_BYTES_MAX;
use crate::metrics::{LongRunning, Metrics};
use crate::negotiate::{ACCEPTED, Encoding, Form, LISTED, Offer, STREAMED, negotiate, not_acceptable, route_accepts};
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::serve::{Handler, Peer};
use crate::{discovery::Discovery, proxy, virtuals::Virtuals};

/// The largest body of a request (upstream's limit), in bytes.
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// So much of a body that is too large is read and dropped before it is refused.
const BODY_BYTES_DROPPED: usize = 256 * 1024;
/// And for so long.
const BODY_DROPPED_WITHIN: Duration = Duration::from_secs(1);
/// Warnings are cut to this many characters in all (upstream's limit) once there are many of them.
const WARNING_CHARS_MAX: usize = 4 * 1024;
const WARNING_CHARS_EACH: usize = 256;

/// Everything that a request may need.
pub struct Chain {
    /// The stored resources.
    pub api: Api,
    /// Who asks.
    pub authenticator: Arc<ArcSwap<Authenticator>>,
    /// May they.
    pub authorizer: Arc<dyn Authorizer>,
    /// Groups, versions, resources.
    pub discovery: Discovery,
    /// Reviews, tokens and other resources that are not stored.
    pub virtuals: Virtuals,
    /// Health checks.
    pub health: Health,
    /// What is counted.
    pub metrics: Metrics,
    /// How to reach nodes, pods and services.
    pub proxy: Arc<proxy::Proxy>,
    /// Gates on requests in flight.
    pub in_flight: InFlight,
    /// Requests that are no watch may take this long.
    pub request_timeout: Duration,
    /// How users last came to act as others.
    pub impersonations: LastWays,
}

/// How many requests may run at once (`--max-requests-inflight` and its mutating twin).
#[derive(Debug)]
pub struct InFlight {
    reads_max: u64,
    writes_max: u64,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl InFlight {
    /// At most so many reads and writes; 0 is no limit.
    pub fn new(reads_max: u64, writes_max: u64) -> Self {
        Self { reads_max, writes_max, reads: AtomicU64::new(0), writes: AtomicU64::new(0) }
    }

    fn enter(&self, write: bool) -> Option<Permit<'_>> {
        let (count, max) = if write { (&self.writes, self.writes_max) } else { (&self.reads, self.reads_max) };
        let before = count.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { count };
        (max == 0 || before < max).then_some(permit)
    }

    /// Reads and writes that run now.
    pub fn current(&self) -> (u64, u64) {
        (self.reads.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed))
    }
}

struct Permit<'a> {
    count: &'a AtomicU64,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handler for Chain {
    fn handle(
        self: Arc<Self>,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        Box::pin(async move { self.respond(&peer, request.map(RequestBody::Network)).await })
    }
}

/// A stream that counts as running until it is dropped.
struct Counted {
    chunks: Box<dyn Chunks>,
    _running: LongRunning,
}

impl Chunks for Counted {
    fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> {
        self.chunks.poll_next(context)
    }
}

/// What is known of a request before it is routed.
struct Head {
    info: RequestInfo,
    query: Query,
    query_text: SmolStr,
    method: Method,
    headers: HeaderMap,
}

impl Chain {
    /// Answers one request.
    pub(crate) async fn respond(&self, peer: &Peer, request: Request<RequestBody>) -> Response<Body> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        if !crate::query::escapes_are_whole(parts.uri.path()) {
            return bad_request_line();
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let path = crate::query::unescape_path(parts.uri.path());
        let selector = query.text("fieldSelector");
        let info =
            RequestInfo::parse(parts.method.as_str(), &path, query.flag("watch"), name_selector(selector).as_deref());
        let audit_id = audit_id(&parts.headers, || self.api.registry.world().random.uuid_v4());
        let upgrade = parts.extensions.get::<hyper::upgrade::OnUpgrade>().is_some();
        let mut head = Head {
            info,
            query_text: parts.uri.query().unwrap_or_default().into(),
            query,
            method: parts.method,
            headers: parts.headers,
        };
        let mut warnings = Vec::new();
        let mut body = Some(body);
        let outcome = self.run(peer, &mut head, &mut body, upgrade.then_some(parts.extensions), &mut warnings).await;
        if let Some(body) = body {
            drop_rest(body).await;
        }
        let response = match outcome {
            Ok(Outcome::Answer(answer)) => self.render(answer, &head),
            Ok(Outcome::Response(response)) => response,
            Err(status) => self.render_status(&status, &head),
        };
        let mut response = response.map(|body| match body {
            Body::Stream(chunks) => {
                let running = self.metrics.long_running(&head.info, head.method.as_str());
                Body::Stream(Box::new(Counted { chunks, _running: running }))
            }
            body => body,
        });
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&audit_id) {
            headers.insert(HeaderName::from_static("audit-id"), value);
        }
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        }
        add_warnings(headers, &warnings);
        self.metrics.observe(&head.info, head.method.as_str(), response.status().as_u16(), started.elapsed());
        response
    }

    async fn run(
        &self,
        peer: &Peer,
        head: &mut Head,
        body: &mut Option<RequestBody>,
        upgrade: Option<http::Extensions>,
        warnings: &mut Vec<String>,
    ) -> Result<Outcome, Status> {
        let user = self.identify(peer, head, warnings)?;
        self.authorize(&user, head)?;
        let long_running = head.info.verb == "watch"
            || matches!(&*head.info.subresource, "exec" | "attach" | "portforward" | "proxy" | "log");
        if head.info.is_resource {
            check_name_parameter(&head.info)?;
        }
        let permit = if long_running {
            None
        } else {
            let write = !matches!(head.method, Method::GET | Method::HEAD);
            match self.in_flight.enter(write) {
                Some(permit) => Some(permit),
                None => {
                    return Err(Status::too_many_requests("Too many requests, please try again later.", 1));
                }
            }
        };
        if !head.info.is_resource {
            return self.non_resource(head);
        }
        if !self.discovery.has_group(&self.api.registry, &head.info.group) || head.info.path.starts_with("//") {
            return Ok(Outcome::Response(page_not_found()));
        }
        if matches!(&*head.info.subresource, "exec" | "attach" | "portforward" | "proxy" | "log")
            && matches!(&*head.info.resource, "pods" | "nodes" | "services")
        {
            return self.pass_through(peer, head, &user, take(body), upgrade).await;
        }
        if head.method == Method::HEAD {
            return Err(not_allowed());
        }
        let (info, resource) =
            (&head.info, api_types::resource(&head.info.group, &head.info.version, &head.info.resource));
        if info.subresource.is_empty()
            && resource.is_some_and(|resource| resource.allows(&info.verb))
            && let Some(kind) = kinds::all::find(&info.group, &info.resource)
        {
            warnings.extend(kind.deprecation().map(str::to_owned));
        }
        let body = if long_running { Bytes::new() } else { read_body(take(body), self.request_timeout).await? };
        let request = ApiRequest {
            info: head.info.clone(),
            query: head.query.clone(),
            headers: std::mem::take(&mut head.headers),
            body,
            user,
        };
        let result = if long_running {
            self.dispatch(&request, warnings).await
        } else {
            match tokio::time::timeout(self.request_timeout, self.dispatch(&request, warnings)).await {
                Ok(result) => result,
                Err(_) => Err(Status::timeout("request did not complete within the allotted timeout", 0)),
            }
        };
        drop(permit);
        head.headers = request.headers;
        result.map(Outcome::Answer)
    }

    async fn dispatch(&self, request: &ApiRequest, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let info = &request.info;
        let served = self.api.registry.served(&info.group, &info.version, &info.resource);
        if api_types::resource(&info.group, &info.version, &info.resource).is_some() {
            check_accept(request)?;
        }
        if info.verb == "get" && request.query.flag("export") {
            let message = "the export parameter, deprecated since v1.14, is no longer supported";
            return Err(Status::bad_request(message));
        }
        let mut cx = Context::new(Arc::clone(&request.user), WriteOptions::default());
        let result = match (self.virtuals.answer(self, request, &mut cx).await, served) {
            (Some(result), _) => result,
            (None, Some(served)) => self.api.answer(request, &served, &mut cx).await,
            (None, None) => Err(Status::path_not_found()),
        };
        // Clients are warned of a request that is refused, too.
        warnings.append(&mut cx.warnings);
        result
    }

    /// Who asks, and on whose behalf.
    fn identify(&self, peer: &Peer, head: &mut Head, warnings: &mut Vec<String>) -> Result<Arc<UserInfo>, Status> {
        let user = match &peer.known {
            Some(user) => Arc::clone(user),
            None => self.authenticate(peer, head, warnings)?,
        };
        let wanted = Impersonation::from_headers(&mut head.headers).map_err(|e| Status::bad_request(e.to_string()))?;
        let Some(wanted) = wanted else { return Ok(user) };
        let result = wanted.resolve(&user, &head.info.verb, &self.impersonations, |user, check| {
            let decision = match check {
                Check::Request { verb } => {
                    let mut attributes = attributes(user, &head.info, head.query.text("fieldSelector"));
                    attributes.verb = verb;
                    self.authorizer.authorize(&attributes)
                }
                Check::Resource(a) => self.authorizer.authorize(&impersonation_attributes(user, a)),
            };
            if decision.is_allowed() { Ok(()) } else { Err(decision.reason().to_owned()) }
        });
        match result {
            Ok(acting) => Ok(Arc::new(acting.user)),
            Err(refusal) => Err(match &refusal.check {
                Check::Resource(a) => forbidden(
                    &impersonation_attributes(&refusal.requestor, a),
                    &Decision::NoOpinion(refusal.reason.as_str().into()),
                ),
                Check::Request { verb } => {
                    let mut attributes = attributes(&refusal.requestor, &head.info, head.query.text("fieldSelector"));
                    attributes.verb = verb;
                    forbidden(&attributes, &Decision::NoOpinion(refusal.reason.as_str().into()))
                }
            }),
        }
    }

    /// Who asks, by what they show.
    fn authenticate(&self, peer: &Peer, head: &mut Head, warnings: &mut Vec<String>) -> Result<Arc<UserInfo>, Status> {
        let now = self.api.registry.now();
        let path = head.info.path.clone();
        let request = authn::Request { headers: &mut head.headers, path: &path, client: Some(&peer.client) };
        let found = match self.authenticator.load().authenticate(request, now) {
            Ok(found) => found,
            Err(refused) => {
                warnings.extend(refused.warning.map(str::to_owned));
                if !refused.reasons.is_empty() {
                    tracing::info!(reason = %refused, path = %path, "unable to authenticate the request");
                }
                return Err(Status::unauthorized());
            }
        };
        warnings.extend(found.warning.map(str::to_owned));
        if let Some(notes) = &found.notes {
            warnings.extend(notes.warnings.iter().cloned());
        }
        Ok(found.user)
    }

    fn authorize(&self, user: &UserInfo, head: &Head) -> Result<(), Status> {
        let attributes = attributes(user, &head.info, head.query.text("fieldSelector"));
        if !head.info.is_resource && self.health.is_open(&head.info.path) {
            return Ok(());
        }
        let decision = self.authorizer.authorize(&attributes);
        if decision.is_allowed() { Ok(()) } else { Err(forbidden(&attributes, &decision)) }
    }

    fn non_resource(&self, head: &Head) -> Result<Outcome, Status> {
        let path = &*head.info.path;
        if matches!(path, "/version" | "/version/") {
            if head.method != Method::GET {
                return Err(not_allowed());
            }
            route_accepts(head.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()), &ACCEPTED[..1])?;
        }
        if let Some(response) = self.health.respond(path, &head.query) {
            return Ok(Outcome::Response(response));
        }
        if path == "/metrics" {
            return Ok(Outcome::Response(self.metrics.respond(&self.api.registry, &self.in_flight)));
        }
        let routed = path == "/api" || path.starts_with("/api/") || path == "/apis" || path.starts_with("/apis/");
        let reads = head.method == Method::GET || (head.method == Method::HEAD && !routed);
        if !reads && self.discovery.knows(&self.api.registry, path) {
            return Err(not_allowed());
        }
        let paths = if path == "/" { self.health.paths() } else { Vec::new() };
        self.discovery
            .respond(&self.api.registry, path, &head.query, &head.headers, &head.method, paths)
            .map(Outcome::Response)
    }

    async fn pass_through(
        &self,
        peer: &Peer,
        head: &mut Head,
        user: &Arc<UserInfo>,
        body: RequestBody,
        upgrade: Option<http::Extensions>,
    ) -> Result<Outcome, Status> {
        let info = &head.info;
        let Some(served) = self.api.registry.served(&info.group, &info.version, &info.resource) else {
            return Err(Status::path_not_found());
        };
        let verbs = served.info.subresource(&info.subresource).map(|s| s.verbs.as_slice()).unwrap_or_default();
        if !verbs.contains(&info.verb) {
            return Err(not_allowed());
        }
        if matches!(&*info.subresource, "exec" | "attach" | "portforward") && info.verb != "create" {
            // A WebSocket starts as a GET, but what it does is no reading.
            let attributes = Attributes { verb: "create", ..attributes(user, info, head.query.text("fieldSelector")) };
            let decision = self.authorizer.authorize(&attributes);
            if !decision.is_allowed() {
                let resource = GroupResource::new(&*info.group, &*info.resource);
                return Err(Status::forbidden(&resource, &info.name, decision.reason()));
            }
        }
        let passage = proxy::Passage {
            info,
            query: &head.query,
            query_text: &head.query_text,
            method: &head.method,
            headers: &head.headers,
            client: peer.address.map(|address| address.ip()),
            user,
            upgrade,
        };
        self.proxy.pass(&self.api.registry, passage, body).await.map(Outcome::Response)
    }

    /// Whether a user may do something, for review kinds and escalation checks.
    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        self.authorizer.authorize(attributes)
    }

    fn render(&self, answer: Answer, head: &Head) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Ok(value) = HeaderValue::from_str(&answer.content_type) {
            response.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        *response.body_mut() = match answer.content {
            Content::Watch(watch) => Body::Stream(watch),
            Content::List(mut list) => {
                if accepts_gzip(head) {
                    list.compress();
                    say_gzip(response.headers_mut());
                }
                Body::List(list)
            }
            Content::Whole(bytes) => whole(bytes, head, response.headers_mut()),
        };
        response
    }

    fn render_status(&self, status: &Status, head: &Head) -> Response<Body> {
        let accept = head.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
        let offer = Offer { transforms: false, protobuf: true };
        let agent = head.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Errors are told in JSON to those who accept nothing else that we have.
        let form = negotiate(accept, head.query.optional_flag("pretty"), agent, offer).unwrap_or(Form::JSON);
        let body = typed(&status.to_value(), form);
        let mut response = Response::new(Body::Full(body));
        *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.encoding.media_type()));
        if status.retry_after_seconds > 0 {
            headers.insert(header::RETRY_AFTER, status.retry_after_seconds.into());
        }
        if status.code == 403 {
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        response
    }
}

/// What upstream's mux says of a path that nobody serves.
pub(crate) fn page_not_found() -> Response<Body> {
    let mut response = Response::new(Body::from("404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What Go's HTTP server says of a request line that it cannot read.
fn bad_request_line() -> Response<Body> {
    let mut response = Response::new(Body::from("400 Bad Request"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

enum Outcome {
    Answer(Answer),
    Response(Response<Body>),
}

fn accepts_gzip(head: &Head) -> bool {
    let accepts = head.headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accepts.split(',').any(|part| part.trim().split(';').next() == Some("gzip"))
}

fn say_gzip(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// A whole body, compressed if that is wanted and worth it.
fn whole(bytes: Bytes, head: &Head, headers: &mut HeaderMap) -> Body {
    if bytes.len() > WHOLE_BYTES_MAX && accepts_gzip(head) {
        let mut encoder =
            flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 4), flate2::Compression::fast());
        if std::io::Write::write_all(&mut encoder, &bytes).is_ok()
            && let Ok(packed) = encoder.finish()
        {
            say_gzip(headers);
            return Body::Full(packed.into());
        }
    }
    Body::Full(bytes)
}

/// The body, for whoever reads it.
fn take(body: &mut Option<RequestBody>) -> RequestBody {
    body.take().unwrap_or_else(|| RequestBody::Whole(Bytes::new()))
}

/// Reads what is left of a body that nobody wanted. Clients that are still sending it when a refusal comes (HTTP/2 would
/// reset the stream) do not all look at the refusal.
async fn drop_rest(mut body: RequestBody) {
    let mut received = 0;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            received += frame.data_ref().map_or(0, Bytes::len);
            if received > BODY_BYTES_DROPPED {
                break;
            }
        }
    };
    // Whoever is that slow has to take it as it comes.
    let _ = tokio::time::timeout(BODY_DROPPED_WITHIN, read).await;
}

async fn read_body(mut body: RequestBody, timeout: Duration) -> Result<Bytes, Status> {
    let too_large = || Status::request_entity_too_large(BODY_BYTES_MAX);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut received = 0;
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Status::bad_request(format!("reading the body failed: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            received += data.len();
            if received > BODY_BYTES_MAX {
                // A client that is still sending would not read the answer: a little more is taken and dropped.
                (first, rest) = (None, BytesMut::new());
                if received > BODY_BYTES_MAX + BODY_BYTES_DROPPED {
                    break;
                }
                continue;
            }
            match &first {
                None => first = Some(data),
                Some(_) => rest.extend_from_slice(&data),
            }
        }
        Ok::<(), Status>(())
    };
    match tokio::time::timeout(timeout, read).await {
        Ok(result) => result?,
        Err(_) => return Err(Status::timeout("the request's body did not arrive in time", 0)),
    }
    if received > BODY_BYTES_MAX {
        return Err(too_large());
    }
    let first = first.unwrap_or_default();
    if rest.is_empty() {
        return Ok(first);
    }
    Ok([&first[..], &rest[..]].concat().into())
}

/// A name that cannot be part of a path is refused before anybody looks for it.
fn check_name_parameter(info: &RequestInfo) -> Result<(), Status> {
    let why = match &*info.name {
        "." => "may not be '.'",
        ".." => "may not be '..'",
        name if name.contains('/') => "may not contain '/'",
        name if name.contains('%') => "may not contain '%'",
        _ => return Ok(()),
    };
    if !info.named {
        return Ok(());
    }
    Err(Status::bad_request(format!("Name parameter invalid: {}: {why}", quoted(&info.name))))
}

/// What the route of a built-in kind refuses before anything is done.
fn check_accept(request: &ApiRequest) -> Result<(), Status> {
    let accept = request.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let lists = matches!(&*request.info.verb, "list" | "watch");
    route_accepts(accept, if lists { &LISTED } else { &ACCEPTED })?;
    if request.info.verb == "watch" {
        let form = request.form(Offer { transforms: true, protobuf: true })?;
        if form.encoding == Encoding::Yaml {
            return Err(not_acceptable(&STREAMED));
        }
    }
    Ok(())
}

fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo, field_selector: &'a str) -> Attributes<'a> {
    Attributes {
        user,
        verb: &info.verb,
        is_resource: info.is_resource,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
        field_selector,
    }
}

fn impersonation_attributes<'a>(user: &'a UserInfo, wanted: &'a authn::impersonation::Attributes) -> Attributes<'a> {
    Attributes {
        user,
        verb: &wanted.verb,
        is_resource: true,
        group: &wanted.api_group,
        version: &wanted.api_version,
        resource: &wanted.resource,
        subresource: &wanted.subresource,
        namespace: &wanted.namespace,
        name: &wanted.name,
        path: "",
        field_selector: "",
    }
}

/// The sentence that says who may not do what (apiserver `responsewriters.Forbidden`).
pub fn forbidden_message(attributes: &Attributes<'_>) -> String {
    let user = quoted(&attributes.user.name);
    if !attributes.is_resource {
        return format!("User {user} cannot {} path {}", attributes.verb, quoted(attributes.path));
    }
    let resource = if attributes.subresource.is_empty() {
        attributes.resource.to_owned()
    } else {
        format!("{}/{}", attributes.resource, attributes.subresource)
    };
    let scope = if attributes.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {}", quoted(attributes.namespace))
    };
    format!(
        "User {user} cannot {} resource {} in API group {} {scope}",
        attributes.verb,
        quoted(&resource),
        quoted(attributes.group)
    )
}

fn forbidden(attributes: &Attributes<'_>, decision: &Decision) -> Status {
    let mut why = forbidden_message(attributes);
    if !decision.reason().is_empty() {
        why = format!("{why}: {}", decision.reason());
    }
    if attributes.is_resource {
        Status::forbidden(&GroupResource::new(attributes.group, attributes.resource), attributes.name, why)
    } else {
        let mut status = Status::forbidden(&GroupResource::default(), "", why);
        status.generic = true;
        status
    }
}

/// The name that a field selector pins by `metadata.name=`.
fn name_selector(selector: &str) -> Option<SmolStr> {
    if selector.is_empty() {
        return None;
    }
    let parsed = api_semantics::selector::FieldSelector::parse(selector).ok()?;
    parsed.exact("metadata.name").filter(|name| !name.is_empty()).map(SmolStr::new)
}

fn audit_id(headers: &HeaderMap, make: impl FnOnce() -> String) -> SmolStr {
    match headers.get("audit-id").and_then(|value| value.to_str().ok()) {
        Some(id) if !id.is_empty() => id.into(),
        _ => make().into(),
    }
}

fn add_warnings(headers: &mut HeaderMap, warnings: &[String]) {
    let total: usize = warnings.iter().map(|text| text.chars().count()).sum();
    let mut said: Vec<String> = Vec::new();
    let mut budget = WARNING_CHARS_MAX;
    for text in warnings {
        let text: String =
            if total > WARNING_CHARS_MAX { text.chars().take(WARNING_CHARS_EACH).collect() } else { text.clone() };
        if said.contains(&text) || budget < text.chars().count() {
            continue;
        }
        budget -= text.chars().count();
        let escaped: String = text
            .chars()
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                c if c.is_control() => vec![' '],
                c => vec![c],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format_smolstr!("299 - \"{escaped}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
        said.push(text);
    }
}

/// A tree of a built-in kind as an answer in the form that the client accepts.
pub(crate) fn typed_answer(request: &ApiRequest, code: u16, value: &api_schema::Value) -> Result<Answer, Status> {
    let form = request.form(Offer { transforms: false, protobuf: true })?;
    Ok(Answer::whole(code, form, typed(value, form)))
}
