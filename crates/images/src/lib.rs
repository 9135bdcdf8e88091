//! Images of the embedded container runtime: the content store on disk, unpacked layers, snapshots for containers, and
//! how images get here, from registries and archives.
//!
//! [`Images`] is the door to all of it. What is short (look-ups, snapshots, mounts: a few system calls) is called
//! directly; what takes long ([`Images::pull`], [`Images::import`]) is async, and stops when its future is dropped.
//!
//! # The folder
//!
//! ```text
//! lock            one process at a time
//! images.json     the images and their names; replaced as a whole, durably
//! dropped.json    the archives that were imported from a drop folder
//! blobs/          content by digest: documents, and packed layers until they are unpacked
//! ingest/         content on its way in; cleared at each start
//! layers/<n>/     an unpacked layer: fs/ and layer.json; without the latter it is a leftover
//! snapshots/<id>/ a container's view: upper/, work/ and snapshot.json
//! trash/          what is being deleted
//! ```
//!
//! Nothing is visible before it is whole and on the disk: a kill or a power failure at any instant leaves at worst
//! leftovers, which the next [`Images::open`] removes.

mod blobs;
mod cancel;
mod compression;
mod digest;
mod drop_folder;
mod error;
mod files;
mod import;
mod layers;
mod manifest;
mod overlay;
mod platform;
mod pull;
mod reference;
mod registry;
mod snapshots;
mod store;
mod tar;
mod trash;
mod unpack;

pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use drop_folder::{DropFolder, Dropped};
pub use error::{Error, ErrorKind, Result};
pub use files::Usage;
pub use import::ImportOptions;
pub use manifest::{Descriptor, ImageConfig, Index, Manifest, Platform, RootFs, RunConfig, chain_ids, media_type};
pub use overlay::{Overlay, unmount};
pub use platform::host as host_platforms;
pub use pull::{Progress, PullOptions};
pub use reference::{Reference, ReferenceError};
pub use registry::{Credentials, Proxies, RegistryConfig, Timeouts};
pub use snapshots::Snapshot;
pub use store::{Config, Image, Images, Swept};
pub use tar::TarError;
