//! What the agent's core asks of its surroundings: the API, events, volumes. Each is small, so that the core can be
//! tested without them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api_schema::Value;

use crate::env::Lookups;
use crate::make::ReadyVolume;
use crate::pod::{Container, Pod};

/// A future of a trait's method.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether an event is worth worrying about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Things go as they should.
    Normal,
    /// Something went wrong.
    Warning,
}

impl Severity {
    /// As the API writes it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

/// Where events go.
pub trait Events: Send + Sync {
    /// Tells of a Pod, or of one of its containers.
    fn event(&self, pod: &Pod, container: Option<Container<'_>>, severity: Severity, reason: &str, message: String);
}

/// Where statuses go.
pub trait Statuses: Send + Sync {
    /// The Pod's status is now this; it is written to the API soon, the newest one only.
    fn report(&self, pod: &Pod, status: Arc<Value>);

    /// Nothing of a deleted Pod is left on the node: once its last status is written, the API may forget it.
    fn finished(&self, pod: &Pod);
}

/// Where the objects come from that a Pod refers to.
pub trait Sources: Send + Sync {
    /// Every ConfigMap, Secret and Service that the Pod's containers and volumes name, as of now or later.
    ///
    /// # Errors
    /// If the API cannot be asked. An object that is not there is no error here.
    fn lookups<'a>(&'a self, pod: &'a Pod) -> Task<'a, Result<Arc<dyn Lookups>, String>>;
}

/// Why a volume is not ready, for the event `FailedMount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeError {
    /// The volume's name in the Pod.
    pub volume: String,
    /// The whole message.
    pub message: String,
}

/// The volumes of Pods.
pub trait Volumes: Send + Sync {
    /// Makes every volume of the Pod ready, or brings it up to date; those that are ready already cost next to nothing.
    fn set_up<'a>(
        &'a self,
        pod: &'a Pod,
        lookups: &'a Arc<dyn Lookups>,
    ) -> Task<'a, Result<BTreeMap<String, ReadyVolume>, VolumeError>>;

    /// The folder of a sub-path of a volume, for the mount of this number of a container; made if it is not there, and
    /// never outside the volume.
    fn sub_path<'a>(
        &'a self,
        pod: &'a Pod,
        container: &'a str,
        number: usize,
        mount: &'a Value,
        volume: &'a ReadyVolume,
        sub_path: &'a str,
    ) -> Task<'a, Result<std::path::PathBuf, String>>;

    /// Takes every volume of a Pod down.
    fn tear_down<'a>(&'a self, pod: &'a Pod) -> Task<'a, Result<(), VolumeError>>;

    /// When a volume of the Pod wants to be brought up to date next, such as a token that expires.
    fn refresh_after(&self, pod: &Pod) -> Option<Duration>;
}
