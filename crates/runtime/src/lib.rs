//! The embedded container runtime: pods and containers by the Container Runtime Interface, each pod in the care of a shim
//! process of its own ([`shim`]), images from the store of [`images`].
//!
//! [`Runtime`] implements [`cri::RuntimeService`] and [`cri::ImageService`]; beside them it gives what the CRI leaves to a
//! streaming server: processes with their streams ([`Runtime::exec_streams`]), attaching, and connections into a pod.
//!
//! What is known is in records on disk ([`record`]) and with the shims; the daemon itself holds nothing that it could not
//! find again ([`adopt`]).

mod adopt;
pub mod capabilities;
mod container;
mod devices;
mod error;
mod events;
mod image_service;
mod network;
mod plan;
mod record;
mod runtime;
mod sandbox;
pub mod seccomp;
mod service;
mod shim_client;
mod stats;
mod streams;

pub use network::{LoopbackOnly, NetworkPod, NetworkReply, PodNetwork, PortMapping};
pub use runtime::{Config, OpenError, Runtime, StreamUrls};
pub use streams::{AttachStreams, ExecStreams, ProcessStream, TerminalSize};
