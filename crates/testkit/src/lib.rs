//! A world in which a whole control plane can be tried: virtual time, chance by a seed, and an API server with faults.
//!
//! [`simulate`] runs a test in one thread on paused time: hours pass in milliseconds, and one seed runs the same way each
//! time. [`FakeServer`] keeps objects in memory and speaks enough of the API for informers and controllers; it loses
//! connections, answers and watches as [`Faults`] say. All that happens is written down in a [`Trace`]; a test that fails
//! prints its seed.
//!
//! ```no_run
//! use std::time::Duration;
//! use testkit::{Faults, simulate};
//!
//! simulate(42, async |sim| {
//!     sim.server.set_faults(Faults::rough());
//!     let client = sim.client("my-controller");
//!     // ... start informers and controllers with `client`, change objects, ...
//!     sim.server.set_faults(Faults::none());
//!     sim.wait_for("all is as it should be", Duration::from_secs(600), || true).await;
//! });
//! ```

mod path;
mod server;
mod simulation;
mod watcher;

pub use server::{FakeServer, Faults};
pub use simulation::{Simulation, Trace, simulate};
