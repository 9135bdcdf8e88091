//! Caches that follow the API: a list, then a watch, for as long as anybody reads.
//!
//! [`Informers`] keeps one [`Informer`] for each resource, selection and form, shared by all readers in the process.
//! What a reader needs of an object is taken out at the door ([`Extract`]): a small struct instead of the whole tree.
//!
//! ```no_run
//! use client::{Client, Value};
//! use informer::{Change, Extract, Informers};
//!
//! /// What a scheduler might want of a pod.
//! struct PodInfo {
//!     node: client::SmolStr,
//! }
//!
//! impl Extract for PodInfo {
//!     fn extract(pod: Value) -> Self {
//!         PodInfo { node: pod.str_at(&["spec", "nodeName"]).into() }
//!     }
//! }
//!
//! # async fn example(client: Client) {
//! let informers = Informers::new(client);
//! let pods = informers.of::<PodInfo>("", "v1", "pods"); // all of them; `select` takes selectors
//! let nodes = informers.of::<Value>("", "v1", "nodes"); // whole objects
//!
//! // Handlers run for each change, in order; they see what is in the cache already as added. They put keys into a work
//! // queue (see `reconcile`) and do nothing slow.
//! pods.subscribe(|change: &Change<PodInfo>| match change {
//!     Change::Added { object, .. } => println!("{} on {}", object.key(), object.node),
//!     Change::Updated { old, new } => println!("{}: {} -> {}", new.key(), old.node, new.node),
//!     Change::Deleted { object, .. } => println!("{} is gone", object.key()),
//! });
//!
//! // Indexes may be added at any time.
//! let by_node = pods.index(|pod| vec![pod.node.clone()]);
//!
//! informers.synced().await; // all that were there have been seen by all handlers
//! for node in nodes.list() {
//!     println!("{} has {} pods", node.name, by_node.get(&node.name).len());
//! }
//! let web = pods.get("shop", "web-0"); // Option<Arc<Object<PodInfo>>>
//! # }
//! ```
//!
//! What holds:
//! * An object is shown as added once, then as updated with rising resourceVersions, then as deleted; where the watch
//!   missed its end, the next list finds out ([`Change::Deleted`] says so). A new object of an old name (another uid)
//!   is a deletion and an addition.
//! * The cache is changed before the handlers are called.
//! * A broken watch goes on where it was; only when the server no longer knows the changes since, all is listed again.
//!   Failures are tried again ever more slowly, up to half a minute, each client at another time.

mod backoff;
mod cache;
mod flag;
mod informer;
mod informers;
mod object;
mod reflector;

pub use backoff::Backoff;
pub use cache::Index;
pub use flag::Flag;
pub use informer::{Change, Informer, Stats};
pub use informers::{Informers, Selection};
pub use object::{Extract, Key, Labels, Object};
