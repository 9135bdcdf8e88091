//! The volumes of Pods: each type is one file in [`kinds`] and one row in [`kinds::ALL`].
//!
//! [`PodVolumes`] sets up, brings up to date and takes down all volumes of one Pod, in the folders where kubelet has
//! them: `<pod>/volumes/<type>/<name>`. What a volume shows comes through [`Objects`], so that this crate knows neither
//! the API nor the network.

mod atomic;
mod error;
pub mod kinds;
mod mounts;
mod ownership;
mod pod;
mod sub_path;

use std::path::PathBuf;
use std::sync::Arc;

use api_schema::Value;

pub use atomic::{File, Files};
pub use error::VolumeError;
pub use pod::PodVolumes;

/// The objects and facts that volumes show, at hand. All are of the Pod's namespace.
pub trait Objects: Send + Sync {
    /// A ConfigMap.
    fn config_map(&self, name: &str) -> Option<Arc<Value>>;
    /// A Secret.
    fn secret(&self, name: &str) -> Option<Arc<Value>>;
    /// A PersistentVolumeClaim.
    fn claim(&self, name: &str) -> Option<Arc<Value>>;
    /// A PersistentVolume.
    fn persistent_volume(&self, name: &str) -> Option<Arc<Value>>;
    /// A field of the downward API.
    ///
    /// # Errors
    /// If it cannot be shown.
    fn field(&self, path: &str) -> Result<String, String>;
    /// A resource of the downward API.
    ///
    /// # Errors
    /// If it cannot be shown.
    fn resource(&self, reference: &Value) -> Result<String, String>;
    /// A service account token for an audience (empty: the API's), that lives so many seconds.
    ///
    /// # Errors
    /// If there is none.
    fn token(&self, audience: &str, expiration_seconds: i64) -> Result<String, String>;
    /// A named bundle of certificates, or all of a signer with these labels.
    ///
    /// # Errors
    /// If there is none.
    fn trust_bundle(&self, source: &Value) -> Result<Vec<u8>, String>;
}

/// A volume that containers can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Where it is on the node.
    pub path: PathBuf,
    /// Whether no container may write into it.
    pub read_only: bool,
}
