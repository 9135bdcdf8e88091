//! OpenAPI: what `/openapi/v2` and `/openapi/v3` answer.
//!
//! Every document is derived from the tables of `api-types`: [`document`] builds one, [`OpenApi`] answers requests.
//! kubectl reads v3 for `explain`, for merge keys and to learn that the server validates fields; older clients read
//! v2, in protobuf only.

mod answer;
mod document;
mod gnostic;
mod json;
mod names;
mod operations;
mod parameters;
mod paths;
mod schemas;

pub use answer::{OpenApi, Reply, Request};
pub use document::{v2, v2_proto, v3};
