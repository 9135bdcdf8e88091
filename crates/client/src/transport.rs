//! How requests get to a server and answers back: the seam between the API and what carries it.

use std::fmt;
use std::pin::Pin;

use ::http::{Request, Response};
use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Full};

/// Any error, as causes are.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The head of an answer and its body to come.
pub type Reply<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + 'a>>;

/// Carries requests to an API server.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request, whose URI is path and query only, and gives the answer once its head is there. The transport
    /// adds who asks; all else is in the request.
    fn send(&self, request: Request<Bytes>) -> Reply<'_>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody was reached; the request was not sent.
    #[error("connect to {server}")]
    Connect {
        /// Whom it was meant for.
        server: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The credentials cannot be used; the request was not sent.
    #[error("credentials")]
    Credentials(#[source] BoxError),
    /// The connection broke. What the server did with the request is not known.
    #[error("the connection was lost")]
    Lost(#[source] BoxError),
}

/// The body of an answer: whole, or a stream that goes on.
pub struct Body(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>);

impl Body {
    /// A body that comes piece by piece.
    pub fn new(body: impl HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static) -> Self {
        Self(Box::pin(body.map_err(Into::into)))
    }

    /// A body that is there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::new(Full::new(bytes.into()))
    }

    /// The next piece; `None` at the end. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BoxError> {
        while let Some(frame) = std::future::poll_fn(|context| self.0.as_mut().poll_frame(context)).await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body, unless it is larger than `bytes_max`.
    ///
    /// # Errors
    /// If the connection broke, or the body is too large.
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes, BoxError> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let hint = usize::try_from(self.0.size_hint().lower()).unwrap_or(0).min(bytes_max);
        let mut all = BytesMut::with_capacity(first.len() + second.len() + hint);
        let mut next = Some(second);
        all.extend_from_slice(&first);
        while let Some(chunk) = next {
            if all.len() + chunk.len() > bytes_max {
                return Err(format!("the answer is larger than {bytes_max} bytes").into());
            }
            all.extend_from_slice(&chunk);
            next = self.chunk().await?;
        }
        Ok(all.freeze())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", self.0.size_hint())
    }
}
