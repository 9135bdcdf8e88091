//! What the daemon and a shim say to each other.
//!
//! A connection carries one request (`Hello` before it is optional) and its replies; one that subscribed is sent events.
//! Fields may be added (absent ones have defaults) and requests may be added (a shim refuses those that it does not know);
//! the meaning of what is here never changes. [`VERSION`] grows with additions that a daemon has to know of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::{ContainerSpec, ExecSpec, User};

/// What this program speaks.
pub const VERSION: u32 = 1;

/// The socket's name in the shim's folder.
pub const SOCKET: &str = "shim.sock";
/// The folder of exit codes in the shim's folder, a file for each container.
pub const EXITS: &str = "exits";
/// The file in the shim's folder that holds the pod's network namespace.
pub const NETWORK_NAMESPACE: &str = "netns";
/// The file in the shim's folder with the shim's process id.
pub const PID_FILE: &str = "shim.pid";

/// What the daemon asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Who are you, and what have you got? Answered by `State`.
    Hello {
        /// What the daemon speaks.
        version: u32,
    },
    /// Send events on this connection from now on; answered by `State`, after which no event is missed.
    Subscribe,
    /// Make and start a container. Answered by `Started`.
    Start {
        /// The container.
        spec: Box<ContainerSpec>,
    },
    /// Run a process in a container: stdin, stdout and stderr come along as open files unless it has a terminal. Answered
    /// by `Started` (with the terminal's master beside it), and by `Exited` when it has ended.
    Exec {
        /// The process.
        spec: Box<ExecSpec>,
    },
    /// Send a signal to a container's first process, or to one started by `Exec`.
    Signal {
        /// The container.
        container: String,
        /// The process started by `Exec`.
        #[serde(default)]
        exec: Option<String>,
        /// The signal's number.
        signal: i32,
    },
    /// Kill whatever is in a container.
    KillAll {
        /// The container.
        container: String,
    },
    /// Copy output to the open files that come along: one for stdout and one for stderr, as asked. Answered by `Done`
    /// with stdin (or the terminal's master) beside it, if asked for and open.
    Attach {
        /// The container.
        container: String,
        /// Whether stdin is wanted.
        stdin: bool,
        /// Whether a file for stdout comes along.
        stdout: bool,
        /// Whether a file for stderr comes along.
        stderr: bool,
    },
    /// Whoever attached has closed stdin.
    CloseStdin {
        /// The container.
        container: String,
    },
    /// Open the log file anew.
    ReopenLog {
        /// The container.
        container: String,
    },
    /// Forget a container that has ended.
    Remove {
        /// The container.
        container: String,
    },
    /// Kill everything that is left and end.
    Shutdown,
}

/// What the shim answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reply {
    /// All that the shim knows.
    State(State),
    /// A process runs.
    Started {
        /// Its id on the node.
        pid: i32,
        /// As whom.
        user: User,
        /// What did not work and need not (`oom_score_adj` below what is allowed, ...).
        #[serde(default)]
        warnings: Vec<String>,
    },
    /// A process started by `Exec` has ended.
    Exited {
        /// Its exit code; 128 and the signal, if one ended it.
        code: i32,
    },
    /// It is done.
    Done,
    /// It is not done.
    Error {
        /// Why.
        message: String,
        /// Whether it is because the container is not there or does not run.
        #[serde(default)]
        not_running: bool,
    },
    /// A container has ended (to subscribers).
    ContainerExited {
        /// Which.
        container: String,
        /// How.
        exit: Exit,
    },
    /// A container's log has grown past its bound (to subscribers).
    LogFull {
        /// Which.
        container: String,
    },
}

/// All that a shim knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What the shim speaks.
    pub version: u32,
    /// The program's version.
    pub program: String,
    /// The sandbox.
    pub sandbox: String,
    /// The shim's process id.
    pub pid: i32,
    /// The init of shared processes, if the pod has one.
    pub init_pid: Option<i32>,
    /// The containers that run or whose end nobody has asked it to forget.
    pub containers: Vec<ContainerState>,
}

/// A container, as its shim knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Its first process.
    pub pid: i32,
    /// When it was started, in nanoseconds since 1970.
    pub started_at: i64,
    /// As whom it runs.
    pub user: User,
    /// Its log file.
    pub log_path: Option<PathBuf>,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// Its exit code; 128 and the signal, if one ended it.
    pub code: i32,
    /// When, in nanoseconds since 1970.
    pub at: i64,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
}
