//! The API server: HTTP in front of the registry.

mod api;
mod body;
mod encode;
mod negotiate;
mod query;
mod request_info;
mod serve;
mod watching;
