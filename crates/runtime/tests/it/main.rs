//! The embedded runtime against real processes, as root: each test in a mount namespace and a cgroup of its own.

mod isolation;
mod kills;
mod life;
mod logs;
mod pods;
mod streams;
mod support;
