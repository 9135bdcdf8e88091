//! What controllers are made of: a work queue, workers, events, expectations, owners, leader election.
//!
//! A controller is a function from a key to the world as it should be. Informers put keys into a [`Queue`]; a
//! [`Controller`]'s workers take them out, one worker to a key at a time, and try again ever more slowly what fails.
//!
//! ```no_run
//! use client::{Client, Value};
//! use informer::{Change, Informer, Informers, Key};
//! use reconcile::{BoxError, Controller, Outcome, Queue, Reconciler, Recorder, Reference};
//!
//! struct Greeter {
//!     client: Client,
//!     maps: Informer<Value>,
//!     recorder: Recorder,
//! }
//!
//! impl Reconciler<Key> for Greeter {
//!     async fn reconcile(&self, key: &Key) -> Result<Outcome, BoxError> {
//!         // The level, not the edge: what is there now?
//!         let Some(map) = self.maps.get_key(key) else { return Ok(Outcome::Done) };
//!         if map.str_at(&["data", "greeting"]) == "hello" {
//!             return Ok(Outcome::Done);
//!         }
//!         let mut greeted = map.content.clone();
//!         greeted.set(&["data", "greeting"], "hello");
//!         self.client.resource("", "v1", "configmaps").update(&greeted).await?; // an error: the key comes again
//!         self.recorder.normal(&Reference::of(&map.content), "Greeted", "said hello");
//!         Ok(Outcome::Done)
//!     }
//! }
//!
//! # async fn example(client: Client, informers: Informers) {
//! let queue = Queue::new(client.world());
//! let maps = informers.of::<Value>("", "v1", "configmaps");
//! maps.subscribe({
//!     let queue = queue.clone();
//!     move |change: &Change<Value>| queue.add(change.key())
//! });
//! let recorder = Recorder::start(&client, "greeter", "");
//! let greeter = Greeter { client, maps, recorder };
//! let running = Controller::new("greeter", queue).workers(2).spawn(async move { informers.synced().await }, greeter);
//! // Dropping `running` stops the workers; `running.stop().await` lets them finish their keys.
//! # drop(running); }
//! ```
//!
//! All time and chance is the client's [`world`]: under tokio's paused time and a seeded random source a whole control
//! plane runs the same way each time (see the crate `testkit`).

mod controller;
mod correlate;
mod election;
mod events;
mod expectations;
mod lru;
mod owners;
mod queue;

pub use controller::{Controller, Counts, Outcome, Reconciler, Running};
pub use election::{Election, ElectionTimes, LostLease};
pub use events::{EventType, Recorder, Reference};
pub use expectations::Expectations;
pub use owners::{Claim, Owner};
pub use queue::{Claimed, Queue, Retry};

pub use client::BoxError;
