//! The seam between kubox and what a program cannot decide for itself: time, chance and the disk.
//!
//! Code asks a [`Clock`], a [`Random`] or a [`Disk`] it was handed. Shipped binaries hand out the system's
//! ([`SystemClock`], [`SystemRandom`], [`SystemDisk`]); tests and the simulator hand out ones they control
//! ([`ManualClock`], [`SeededRandom`], [`SimDisk`]), so that a seed replays any failure.

mod clock;
mod disk;
mod random;
mod sim_disk;
pub mod timer;

pub use clock::{Clock, ManualClock, Monotonic, SystemClock, Timestamp};
pub use disk::{Disk, DiskFile, DiskLock, OpenMode, SystemDisk};
pub use random::{NAME_SUFFIX_ALPHABET, NAME_SUFFIX_LENGTH, Random, SeededRandom, SystemRandom};
pub use sim_disk::{Fault, SimDisk, SimOp, SimOpKind};
pub use timer::TokioClock;

use std::sync::Arc;

/// Everything of the outside world that a component is handed at its start.
#[derive(Clone, Debug)]
pub struct World {
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Unpredictable bytes, and the names made of them.
    pub random: Arc<dyn Random>,
    /// Files.
    pub disk: Arc<dyn Disk>,
}

impl World {
    /// The world a shipped binary lives in.
    pub fn system() -> World {
        World { clock: Arc::new(SystemClock::new()), random: Arc::new(SystemRandom), disk: Arc::new(SystemDisk) }
    }
}
