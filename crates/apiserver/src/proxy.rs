//! Requests that are passed on to a node, a pod or a service: logs, exec, attach, port-forward, proxy.

use std::sync::Arc;

use api_semantics::status::Status;
use authn::UserInfo;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use registry::Registry;

use crate::body::Body;
use crate::query::Query;
use crate::request_info::RequestInfo;

/// A request to pass on.
pub struct Passage<'a> {
    /// What it is about.
    pub info: &'a RequestInfo,
    /// Its query.
    pub query: &'a Query,
    /// Its query as it came.
    pub query_text: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its headers, without credentials.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub user: &'a Arc<UserInfo>,
    /// The request's extensions if it can be upgraded.
    pub upgrade: Option<http::Extensions>,
}

/// How to reach nodes.
#[derive(Debug, Default)]
pub struct Proxy {}

impl Proxy {
    /// Passes a request on.
    ///
    /// # Errors
    /// The Status to answer with.
    pub async fn pass(
        &self,
        registry: &Registry,
        passage: Passage<'_>,
        body: Incoming,
    ) -> Result<Response<Body>, Status> {
        let _ = (registry, body, passage.info);
        Err(Status::service_unavailable("no node can be reached"))
    }
}
