//! Who makes a request: the authenticators, service account tokens, and impersonation.
//!
//! [`Authenticator`] finds the user of a request from a client certificate, a bearer token or a front proxy's headers.
//! [`service_account`] issues and verifies service account tokens. [`impersonation`] is what `kubectl --as` needs. All
//! of it takes the time from its caller, as unix seconds, and none of it does I/O.
//!
//! Without the default feature `authenticators` only [`UserInfo`] and its helpers remain, which is what authorization
//! needs.

pub mod user;

#[cfg(feature = "authenticators")]
pub mod authenticator;
#[cfg(feature = "authenticators")]
mod bearer;
#[cfg(feature = "authenticators")]
pub mod bootstrap_token;
#[cfg(feature = "authenticators")]
pub mod cache;
#[cfg(feature = "authenticators")]
pub mod client_certificate;
#[cfg(feature = "authenticators")]
pub mod discovery;
#[cfg(feature = "authenticators")]
pub mod front_proxy;
#[cfg(feature = "authenticators")]
mod headers;
#[cfg(feature = "authenticators")]
pub mod impersonation;
#[cfg(feature = "authenticators")]
pub mod jwt;
#[cfg(feature = "authenticators")]
pub mod service_account;
#[cfg(feature = "authenticators")]
pub mod token_file;
#[cfg(feature = "authenticators")]
pub mod token_request;

pub use user::UserInfo;

#[cfg(feature = "authenticators")]
pub use authenticator::{Anonymous, Authenticated, Authenticator, Config, Request, Unauthorized};
#[cfg(feature = "authenticators")]
pub use client_certificate::ClientChain;
