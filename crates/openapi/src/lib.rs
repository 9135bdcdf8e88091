//! OpenAPI: what `/openapi/v2` and `/openapi/v3` answer.
//!
//! Every document is derived from the tables of `api-types`: [`v2`], [`v3`] and their `_proto` forms build one, [`OpenApi`] answers requests.
//! kubectl reads v3 for `explain`, for merge keys and to learn that the server validates fields; older clients read
//! v2, in protobuf only.

mod answer;
mod document;
mod gnostic;
mod gnostic_v3;
mod json;
mod names;
mod operations;
mod parameters;
mod paths;
mod schemas;

pub use answer::{OpenApi, Reply, Request};
pub use document::{v2, v2_proto, v3, v3_proto};
