//! The client: sends requests, again where that is safe, and reads refusals.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{self, HeaderValue};
use ::http::{Method, Request, Response, StatusCode};
use api_codec::TypeCodec;
use api_schema::{SmolStr, Value};
use bytes::Bytes;
use world::World;

use crate::api::Api;
use crate::config::Config;
use crate::error::Error;
use crate::http::Http;
use crate::limit::{Bucket, Rate};
use crate::resource::ApiResource;
use crate::transport::{Body, BoxError, Transport, TransportError};
use crate::wire;

/// Answers larger than this are refused.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Refusals are read so far.
const REFUSAL_BYTES_MAX: usize = 1 << 20;
/// A request is sent again so often when the server says to come back later (client-go's figure).
const COME_BACK_MAX: u32 = 10;
/// And so often when the connection broke.
const LOST_MAX: u32 = 3;
/// How long to wait before the first of these; doubled each time, and up to half of it less.
const LOST_PAUSE: Duration = Duration::from_millis(100);
/// The head of a watch or a followed log has to come in this time.
const STREAM_HEAD_MAX: Duration = Duration::from_secs(60);

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose time and chance.
    pub world: World,
    /// Who asks, for people: the name before the first `/` becomes the field manager of writes that name none.
    pub user_agent: SmolStr,
    /// The field manager of all writes; empty lets the server take it from the user agent. Apply needs one: there the
    /// name in the user agent is sent.
    pub field_manager: SmolStr,
    /// How often it may ask; `None` leaves that to the server's own fairness.
    pub rate: Option<Rate>,
    /// How long an answer may take; watches and logs are not limited.
    pub timeout: Duration,
}

impl Options {
    /// The usual options for a component of this name.
    pub fn new(component: &str) -> Self {
        let (major, minor) = api_types::KUBERNETES_VERSION;
        Self {
            world: World::system(),
            user_agent: api_schema::format_smolstr!("{component}/v{major}.{minor} (linux/{})", std::env::consts::ARCH),
            field_manager: SmolStr::default(),
            rate: None,
            timeout: Duration::from_secs(70),
        }
    }
}

/// Sends requests to an API server. Clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    transport: Arc<dyn Transport>,
    options: Options,
    agent: HeaderValue,
    bucket: Option<Bucket>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) accept: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(method: Method, path: String) -> Self {
        Self { method, path, accept: wire::ACCEPT, content_type: "", body: Bytes::new() }
    }

    /// What to call the request in errors.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap_or_default())
    }

    fn is_idempotent(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

impl Client {
    /// A client over a transport of your own, such as one within the process.
    pub fn new(transport: Arc<dyn Transport>, options: Options) -> Self {
        let agent = HeaderValue::from_str(&options.user_agent).unwrap_or(HeaderValue::from_static("kubox"));
        let bucket = options.rate.map(Bucket::new);
        Self { inner: Arc::new(Inner { transport, options, agent, bucket }) }
    }

    /// A client that speaks HTTP with the server that `config` names. Connects when it is first used.
    ///
    /// # Errors
    /// If the credentials or certificates cannot be used.
    pub fn http(config: &Config, options: Options) -> Result<Self, Error> {
        let transport = Http::new(config, options.world.clone())?;
        Ok(Self::new(Arc::new(transport), options))
    }

    /// The requests about a resource that Kubernetes itself has, in all namespaces.
    ///
    /// # Panics
    /// If there is no such resource, which only a misspelling in our own code can cause.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Api {
        let resource = ApiResource::builtin(group, version, plural);
        self.api(resource.unwrap_or_else(|| panic!("no built-in resource {group}/{version} {plural}")))
    }

    /// The requests about any resource, built-in or custom, in all namespaces.
    pub fn api(&self, resource: ApiResource) -> Api {
        Api::new(self.clone(), resource)
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Whose time and chance it uses.
    pub fn world(&self) -> &World {
        &self.inner.options.world
    }

    /// The same client under another name: user agent and field manager of `component`.
    #[must_use]
    pub fn named(&self, component: &str) -> Self {
        let named = Options::new(component);
        let options = Options { user_agent: named.user_agent, ..self.inner.options.clone() };
        Self::new(Arc::clone(&self.inner.transport), options)
    }

    /// Reads a path that is no resource, such as `/version` or `/readyz`, as text.
    ///
    /// # Errors
    /// If there is no answer, or it is a refusal.
    pub async fn text(&self, path: &str) -> Result<String, Error> {
        let call = Call { accept: "application/json, */*", ..Call::new(Method::GET, path.to_owned()) };
        let (_, bytes) = self.whole(&call).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn field_manager(&self) -> &str {
        &self.inner.options.field_manager
    }

    /// The field manager for apply, which must say one.
    pub(crate) fn applier(&self) -> &str {
        let options = &self.inner.options;
        let agent = options.user_agent.split('/').next().unwrap_or_default();
        if options.field_manager.is_empty() { agent } else { &options.field_manager }
    }

    /// Sends a request and reads the object in the answer.
    pub(crate) async fn object(&self, call: &Call, codec: Option<TypeCodec<'static>>) -> Result<Value, Error> {
        let (content_type, bytes) = self.whole(call).await?;
        wire::decode(&content_type, &bytes, codec).map_err(|source| Error::Answer { request: call.name(), source })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn whole(&self, call: &Call) -> Result<(SmolStr, Bytes), Error> {
        let mut lost = 0;
        loop {
            let timeout = self.inner.options.timeout;
            let answer = async {
                let response = self.send(call).await?;
                let content_type = content_type(&response);
                let body = response.into_body().collect(ANSWER_BYTES_MAX).await.map_err(TransportError::Lost)?;
                Ok::<_, Error>((content_type, body))
            };
            let answer = world::timer::timeout(&*self.world().clock, timeout, answer).await;
            match answer.unwrap_or(Err(Error::Timeout(timeout))) {
                Err(Error::Transport(error @ TransportError::Lost(_))) => {
                    self.pause_lost(call, error, &mut lost).await?
                }
                result => return result,
            }
        }
    }

    /// Sends a request whose answer goes on.
    pub(crate) async fn stream(&self, call: &Call) -> Result<Response<Body>, Error> {
        let mut lost = 0;
        loop {
            let answer = world::timer::timeout(&*self.world().clock, STREAM_HEAD_MAX, self.send(call)).await;
            match answer.unwrap_or(Err(Error::Timeout(STREAM_HEAD_MAX))) {
                Err(Error::Transport(error @ TransportError::Lost(_))) => {
                    self.pause_lost(call, error, &mut lost).await?
                }
                result => return result,
            }
        }
    }

    /// Waits a little before a request is sent again because the connection broke.
    async fn pause_lost(&self, call: &Call, error: TransportError, lost: &mut u32) -> Result<(), Error> {
        *lost += 1;
        if !call.is_idempotent() || *lost > LOST_MAX {
            return Err(error.into());
        }
        let world = self.world();
        let pause = LOST_PAUSE * (1 << (*lost - 1));
        let less = Duration::from_nanos(world.random.u64() % (pause.as_nanos() as u64 / 2));
        world::timer::sleep(&*world.clock, pause - less).await;
        Ok(())
    }

    /// Sends a request, again when the server says to come back; refusals are errors.
    async fn send(&self, call: &Call) -> Result<Response<Body>, Error> {
        let clock = &*self.world().clock;
        let mut came_back = 0;
        loop {
            if let Some(bucket) = &self.inner.bucket {
                bucket.wait(clock).await;
            }
            let request = self.request(call)?;
            let response = self.inner.transport.send(request).await?;
            for warning in response.headers().get_all(header::WARNING) {
                let warning = String::from_utf8_lossy(warning.as_bytes());
                tracing::warn!(request = %call.name(), %warning, "the API server warns");
            }
            let code = response.status();
            if code.is_success() {
                return Ok(response);
            }
            let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|text| text.parse::<u64>().ok());
            let status = refusal(response).await;
            match retry_after {
                Some(seconds)
                    if (code == StatusCode::TOO_MANY_REQUESTS || code.is_server_error())
                        && came_back < COME_BACK_MAX
                        && !is_for_the_caller(&status) =>
                {
                    came_back += 1;
                    world::timer::sleep(clock, Duration::from_secs(seconds)).await;
                }
                _ => return Err(status.into()),
            }
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Bytes>, Error> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(call.path.as_str())
            .header(header::ACCEPT, HeaderValue::from_static(call.accept))
            .header(header::USER_AGENT, self.inner.agent.clone());
        if !call.content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static(call.content_type));
        }
        request
            .body(call.body.clone())
            .map_err(|error| Error::Request { request: call.name(), source: BoxError::from(error) })
    }
}

/// A disruption budget says when to come back, too, and so does a server that lags behind; whether to wait for these
/// is for the caller to decide.
fn is_for_the_caller(status: &api_semantics::status::Status) -> bool {
    status.causes.iter().any(|cause| matches!(&*cause.reason, "DisruptionBudget" | "ResourceVersionTooLarge"))
}

pub(crate) fn content_type(response: &Response<Body>) -> SmolStr {
    response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().into()
}

/// The Status in a refusal, or one made from what there is.
async fn refusal(response: Response<Body>) -> api_semantics::status::Status {
    let code = response.status().as_u16();
    let content_type = content_type(&response);
    let bytes = response.into_body().collect(REFUSAL_BYTES_MAX).await.unwrap_or_default();
    wire::decode_status(code, &content_type, &bytes)
}
