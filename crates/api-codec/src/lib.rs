//! Bytes to object trees and back, by table.
//!
//! A [`Codec`] is a schema made ready for coding; [`builtin`] is that of all built-in types. Functions take a
//! [`TypeCodec`], one type of it, and custom resources without a schema go as `None`.
//!
//! * [`json`] reads and writes JSON as Kubernetes does.
//! * [`proto`] reads and writes Kubernetes' protobuf messages and their envelope.
//! * [`yaml`] reads and writes YAML.
//! * [`transcode`] turns protobuf into JSON text without a tree.
//! * [`meta`] reads the metadata of stored bytes, and puts the resourceVersion into them.
//! * [`list`] and [`watch`] put lists and watch events together from the bytes of objects.

mod codec;
mod go_types;
pub mod json;
pub mod list;
pub mod meta;
pub mod proto;
mod scalar;
pub mod transcode;
pub mod watch;
pub mod yaml;

use std::sync::LazyLock;

pub use codec::{Codec, TypeCodec};

static BUILTIN: LazyLock<Codec> = LazyLock::new(|| Codec::new(api_types::schema()));

/// The codec of all built-in types.
pub fn builtin() -> &'static Codec {
    &BUILTIN
}
