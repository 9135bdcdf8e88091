//! What browsers are told, around all other handlers: who may call from other origins, and to come back by TLS only.

use std::pin::Pin;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use regex_lite::Regex;

use crate::body::Body;
use crate::serve::{Handler, Peer};

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE, PATCH");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since",
);
const EXPOSED: HeaderValue = HeaderValue::from_static("Date");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// A handler with headers for browsers around it.
pub(crate) struct Edge<H> {
    inner: Arc<H>,
    rules: Rules,
}

/// What is said to browsers.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// `--cors-allowed-origins`.
    origins: Vec<Regex>,
    /// `--strict-transport-security-directives`.
    transport: Option<HeaderValue>,
}

impl Rules {
    /// The rules of the flags' values.
    pub(crate) fn new(origins: &[String], directives: &[String]) -> Result<Self, String> {
        let compile = |text: &String| Regex::new(text).map_err(|error| format!("--cors-allowed-origins: {error}"));
        let transport = (!directives.is_empty())
            .then(|| HeaderValue::from_str(&directives.join("; ")))
            .transpose()
            .map_err(|error| format!("--strict-transport-security-directives: {error}"))?;
        Ok(Self { origins: origins.iter().map(compile).collect::<Result<_, _>>()?, transport })
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.origins.is_empty() && self.transport.is_none()
    }

    /// The origin of a request, if it is welcome.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok().filter(|text| !text.is_empty())?;
        self.origins.iter().any(|allowed| allowed.is_match(text)).then(|| origin.clone())
    }

    fn add(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        if let Some(transport) = &self.transport {
            headers.insert(HeaderName::from_static("strict-transport-security"), transport.clone());
        }
    }
}

impl<H> Edge<H> {
    /// Puts the rules around a handler.
    pub(crate) fn new(inner: Arc<H>, rules: Rules) -> Self {
        Self { inner, rules }
    }
}

impl<H: Handler> Handler for Edge<H> {
    fn handle(
        self: Arc<Self>,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        let origin = self.rules.origin(request.headers());
        if origin.is_some() && request.method() == Method::OPTIONS {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NO_CONTENT;
            self.rules.add(origin, response.headers_mut());
            return Box::pin(std::future::ready(response));
        }
        let answer = Arc::clone(&self.inner).handle(peer, request);
        Box::pin(async move {
            let mut response = answer.await;
            self.rules.add(origin, response.headers_mut());
            response
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_that_match_are_welcome() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let rules = Rules::new(&texts(&[r"//a\.example(:|$)", "^https://b$"]), &[]).expect("good patterns");
        for (origin, welcome) in [
            ("https://a.example", true),
            ("http://a.example:8443", true),
            ("https://a.example.org", false),
            ("https://b", true),
            ("http://b", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(rules.origin(&headers).is_some(), welcome, "{origin}");
        }
        assert!(Rules::new(&texts(&["("]), &[]).is_err());
        assert!(Rules::new(&[], &texts(&["a\nb"])).is_err());
    }
}
