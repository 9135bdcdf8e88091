//! The shim: one tiny process per pod, outside the daemon, to which the pod's processes belong.
//!
//! It is the subreaper of its containers, keeps their exit codes, pumps what they write into CRI log files and holds
//! their stdin and terminals. It outlives the daemon: a later one, of this or another version, connects to its socket
//! and finds everything again ([`protocol`]). It lives in the pod's network, IPC and UTS namespaces, and so holds them.
//!
//! A container or a further process in one is made by a helper, the same program once more ([`launch`]), because
//! unsharing and forking need a process without threads and without anything to lose. The helper enters the cgroup and
//! the namespaces, forks, tells the shim the child's id and ends; the child arranges its root ([`root`]), gives up its
//! rights ([`process`]) and becomes the container.
//!
//! libcontainer does the same work, and was weighed: it is measured safe in such a helper, but brings its own cgroup code
//! beside ours, a C library for seccomp, and no device rules on cgroup version 2 without another C library. What is needed
//! of it is smaller than its interface.

mod command;
mod devices;
mod log;
mod output;
mod process;
pub mod protocol;
mod root;
mod server;
pub mod spec;
mod sys;
mod users;
pub mod wire;

mod launch;
mod pause;

pub use command::{Birth, HELPER_COMMAND, SHIM_COMMAND, run};
pub use users::resolve as resolve_user;
