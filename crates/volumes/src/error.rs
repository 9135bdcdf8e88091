//! Why a volume is not ready.

/// A failure of one volume, in the words that the event `FailedMount` shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct VolumeError {
    /// The volume's name in the Pod.
    pub volume: String,
    /// The whole message.
    pub message: String,
}

impl VolumeError {
    pub(crate) fn set_up(volume: &str, why: impl std::fmt::Display) -> VolumeError {
        let message = format!("MountVolume.SetUp failed for volume {volume:?} : {why}");
        VolumeError { volume: volume.to_owned(), message }
    }

    pub(crate) fn tear_down(volume: &str, why: impl std::fmt::Display) -> VolumeError {
        let message = format!("UnmountVolume.TearDown failed for volume {volume:?} : {why}");
        VolumeError { volume: volume.to_owned(), message }
    }
}
