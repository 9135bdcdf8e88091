//! The Container Runtime Interface, version 1 (KEP-2040), as one Rust interface with two ends.
//!
//! [`RuntimeService`] and [`ImageService`] are what a node agent asks of a runtime. The embedded runtime implements them,
//! [`GrpcClient`] implements them by asking another runtime over a unix socket, and [`serve`] offers an implementation
//! to others (upstream's kubelet, `crictl`). The messages in [`v1`] are the protocol's, by name and number.

mod client;
mod error;
mod server;
mod service;
#[expect(missing_docs, reason = "the fields of the protocol's messages are documented by the CRI itself")]
pub mod v1;

pub use client::GrpcClient;
pub use error::{Code, Error};
pub use server::serve;
pub use service::{ImageService, Reply, ReplyStream, RuntimeService};

/// The greatest message that either end takes, in bytes: kubelet's and containerd's limit.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
