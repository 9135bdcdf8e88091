//! Requests to the Kubernetes API, over the network or within one process.
//!
//! A [`Client`] sends requests through a [`Transport`]: [`http::Http`] speaks HTTP/2 (or 1.1) over TLS to any API
//! server; `apiserver::in_process::InProcess` calls the server's own request chain, without sockets and TLS, in the
//! name of a given user. Whoever holds a `Client` cannot tell which it is.
//!
//! Objects are [`Value`] trees, normalised by the schema: read them with `str_at`, `int_at`, `list_at`, change them with
//! `set`. Built-in kinds travel as protobuf, custom resources as JSON.
//!
//! ```no_run
//! use api_schema::Value;
//! use client::{Client, Config, DeleteOptions, Error, Event, ListOptions, Options, Patch, WatchOptions};
//!
//! # async fn example() -> Result<(), Error> {
//! let config = Config::from_kubeconfig("/etc/kubernetes/admin.conf".as_ref(), None)?;
//! let client = Client::http(&config, Options::new("my-controller"))?;
//! let pods = client.resource("", "v1", "pods"); // in all namespaces
//! let shop = pods.namespace("shop"); // and in one
//!
//! // Reading. A list is one page if `limit` says so; `list_all` follows the pages.
//! let web = shop.get("web-0").await?;
//! let phase = web.str_at(&["status", "phase"]);
//! let list = shop.list(&ListOptions { label_selector: "app=web".into(), ..ListOptions::default() }).await?;
//! println!("web-0 is {phase}, one of {}", list.items.len());
//!
//! // Writing. `update` takes namespace and name from the object, and its resourceVersion guards against others' writes.
//! let mut map = Value::from([("data", Value::from([("key", "value")]))]);
//! map.set(&["metadata", "name"], "settings");
//! let maps = client.resource("", "v1", "configmaps").namespace("shop");
//! let mut map = match maps.create(&map).await {
//!     Err(error) if error.is_already_exists() => maps.get("settings").await?,
//!     other => other?,
//! };
//! map.set(&["data", "key"], "other");
//! maps.update(&map).await?;
//! let labels = Value::from([("metadata", Value::from([("labels", Value::from([("a", "b")]))]))]);
//! maps.patch("settings", &Patch::Merge(&labels)).await?;
//! shop.delete("web-0", &DeleteOptions::default()).await?;
//!
//! // Subresources: status, scale, binding, eviction, token, ...
//! client.resource("apps", "v1", "deployments").namespace("shop").get_sub("web", "scale").await?;
//!
//! // Watching by hand; `informer` does this for you, with lists, retries and a cache.
//! let from = list.resource_version.clone();
//! let mut watch = shop.watch(&WatchOptions { resource_version: from, ..WatchOptions::default() }).await?;
//! while let Some(event) = watch.next().await {
//!     match event? {
//!         Event::Added(pod) | Event::Modified(pod) => println!("{} is there", pod.str_at(&["metadata", "name"])),
//!         Event::Deleted(pod) => println!("{} is gone", pod.str_at(&["metadata", "name"])),
//!         Event::Bookmark { .. } => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! A refusal of the server is [`Error::Status`] with upstream's reason, code and causes; ask it `is_not_found()`,
//! `is_conflict()` and so on. Requests that are safe to send twice are sent again when a connection breaks, and any
//! request when the server says when to come back (429 and 5xx with `Retry-After`). All waiting is by the clock of
//! [`Options::world`].

mod api;
mod client;
mod config;
mod error;
pub mod http;
mod limit;
mod options;
mod resource;
mod transport;
mod watch;
mod wire;

pub use api::{Api, List};
pub use client::{Client, Options};
pub use config::{ActAs, Config, ConfigError, Credentials, Source};
pub use error::Error;
pub use limit::{Bucket, Rate};
pub use options::{
    DeleteOptions, FieldValidation, ListOptions, LogOptions, Patch, Propagation, VersionMatch, WatchOptions,
    WriteOptions,
};
pub use resource::ApiResource;
pub use transport::{Body, BoxError, Reply, Transport, TransportError};
pub use watch::{Event, Watch};

pub use api_schema::{Map, SmolStr, Value};
pub use api_semantics::status::Status;
