//! The helper: one short-lived, single-threaded process for each container or further process that is made.
//!
//! Its stdin is a socket to the shim. One message comes in: what to make, with stdin, stdout and stderr of the new process
//! beside it. What goes out: the process id, who it runs as, warnings, the terminal's master, or an error. The socket
//! closes by itself when the program has started, and so says that it has.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use cgroups::{Hierarchy, Limits};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::process::{Result, apply_limits, become_program, doing, look_up_user, open_terminal, set_stdio};
use crate::spec::{ContainerSpec, ExecSpec, PidNamespace, User};
use crate::sys::{self, Fork};
use crate::{devices, pause, root, wire};

/// What to make.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// A container; the process whose process namespace it shares.
    Container { spec: Box<ContainerSpec>, pids_of: Option<i32> },
    /// A process in the container of another one.
    Exec { spec: Box<ExecSpec>, container_pid: i32, cgroup: String },
    /// The init of a shared process namespace.
    Pause { mount_point: PathBuf, cgroup: String, limits: Box<Limits> },
}

/// What the helper says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The process is there.
    Pid(i32),
    /// As whom it will run.
    User(User),
    /// What did not work and need not.
    Warning(String),
    /// Its terminal is beside this.
    Terminal,
    /// The init runs.
    Ready,
    /// It cannot be made.
    Error(String),
}

/// The helper's whole life.
pub(crate) fn run() -> ExitCode {
    // Once in the container's namespaces, its processes could look into this one.
    let hidden = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    // A kernel without huge pages has none to allow.
    let _ = sys::allow_huge_pages();
    let Ok(socket) = socket.and_then(|socket| hidden.map(|()| socket)) else { return ExitCode::FAILURE };
    match make(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&socket, &Word::Error(message), None);
            ExitCode::FAILURE
        }
    }
}

fn say(socket: &OwnedFd, word: &Word, file: Option<BorrowedFd<'_>>) {
    let Ok(bytes) = serde_json::to_vec(word) else { return };
    // If the shim is gone there is nobody to tell.
    let _ = wire::send(socket, &bytes, file.as_slice());
}

fn make(socket: &OwnedFd) -> Result<()> {
    let mut files = Vec::new();
    let mut first = [0];
    doing("hear what to make", wire::receive(socket, &mut first, &mut files))?;
    if files.is_empty() {
        return Err("there is nothing to make".to_owned());
    }
    let mut text = Vec::new();
    doing("read what to make", std::fs::File::from(files.remove(0)).read_to_end(&mut text))?;
    let order: Order = doing("read what to make", serde_json::from_slice(&text))?;
    drop(text);
    let hierarchy = doing("find cgroups", Hierarchy::detect().map_err(Chain))?;
    match order {
        Order::Container { spec, pids_of } => container(socket, &spec, pids_of, files, &hierarchy),
        Order::Exec { spec, container_pid, cgroup } => {
            exec(socket, &spec, container_pid, files, &hierarchy.cgroup(&cgroup))
        }
        Order::Pause { mount_point, cgroup, limits } => {
            enter_cgroup(&hierarchy.cgroup(&cgroup), &limits)?;
            doing("unshare the processes", unshare(CloneFlags::CLONE_NEWPID))?;
            fork_off(socket, || {
                doing("start a session", rustix::process::setsid())?;
                pause::run(&mount_point, || say(socket, &Word::Ready, None))
            })
        }
    }
}

/// An error with its causes in one line.
struct Chain<E>(E);

impl<E: std::error::Error> std::fmt::Display for Chain<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn enter_cgroup(cgroup: &cgroups::Cgroup, limits: &Limits) -> Result<()> {
    doing("make the cgroup", cgroup.create().map_err(Chain))?;
    doing("set limits", cgroup.set(limits).map_err(Chain))?;
    doing("enter the cgroup", cgroup.add_process(0).map_err(Chain))?;
    // Version 1 has files for it, which are among the limits.
    match cgroup.folder("devices").or(cgroup.folder("")) {
        Some(folder) if cgroup.is_v2() => doing("restrict devices", devices::restrict(folder, &limits.devices)),
        _ => Ok(()),
    }
}

/// Forks; the parent tells the child's id, the child does its work and never comes back.
fn fork_off(socket: &OwnedFd, child: impl FnOnce() -> Result<()>) -> Result<()> {
    match doing("fork", sys::fork())? {
        Fork::Parent(pid) => {
            say(socket, &Word::Pid(pid), None);
            Ok(())
        }
        Fork::Child => {
            if let Err(message) = child() {
                say(socket, &Word::Error(message), None);
            }
            std::process::exit(1);
        }
    }
}

fn container(
    socket: &OwnedFd,
    spec: &ContainerSpec,
    pids_of: Option<i32>,
    stdio: Vec<OwnedFd>,
    hierarchy: &Hierarchy,
) -> Result<()> {
    let cgroup = hierarchy.cgroup(&spec.cgroup);
    enter_cgroup(&cgroup, &spec.limits)?;
    limit(socket, &spec.process);
    match (&spec.pids, pids_of) {
        (PidNamespace::Own, _) => doing("unshare the processes", unshare(CloneFlags::CLONE_NEWPID))?,
        (PidNamespace::Host, _) => {}
        (_, Some(pid)) => {
            let of = open_process(pid)?;
            doing("join the processes", setns(&of, CloneFlags::CLONE_NEWPID))?;
        }
        (_, None) => return Err("there is no process namespace to join".to_owned()),
    }
    if hierarchy.is_v2() {
        doing("unshare the cgroups", unshare(CloneFlags::CLONE_NEWCGROUP))?;
    }
    if let Err(e) = sys::join_session_keyring(&format!("_ses.{}", spec.id)) {
        // A kernel without keyrings has none to hide.
        say(socket, &Word::Warning(format!("join a session keyring: {e}")), None);
    }
    fork_off(socket, || {
        doing("start a session", rustix::process::setsid())?;
        root::enter(spec, &cgroup)?;
        let user = look_up_user(&spec.process)?;
        say(socket, &Word::User(user.clone()), None);
        take_stdio(socket, &spec.process, stdio, true)?;
        make_cwd(&spec.process.cwd, &user);
        root::seal(spec)?;
        Err(become_program(&spec.process, &user))
    })
}

/// The working folder of an image need not be in its layers. A root that is read-only already has none made.
fn make_cwd(cwd: &str, user: &User) {
    if cwd.is_empty() || std::path::Path::new(cwd).exists() {
        return;
    }
    if std::fs::create_dir_all(cwd).is_ok() {
        let (uid, gid) = (rustix::fs::Uid::from_raw(user.uid), rustix::fs::Gid::from_raw(user.gid));
        let _ = rustix::fs::chown(cwd, Some(uid), Some(gid));
    }
}

fn exec(
    socket: &OwnedFd,
    spec: &ExecSpec,
    container_pid: i32,
    stdio: Vec<OwnedFd>,
    cgroup: &cgroups::Cgroup,
) -> Result<()> {
    let of = open_process(container_pid)?;
    doing("enter the cgroup", cgroup.add_process(0).map_err(Chain))?;
    limit(socket, &spec.process);
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    doing("enter the container", setns(&of, all))?;
    drop(of);
    fork_off(socket, || {
        doing("start a session", rustix::process::setsid())?;
        let user = look_up_user(&spec.process)?;
        say(socket, &Word::User(user.clone()), None);
        take_stdio(socket, &spec.process, stdio, false)?;
        Err(become_program(&spec.process, &user))
    })
}

fn limit(socket: &OwnedFd, process: &crate::spec::ProcessSpec) {
    let mut warnings = Vec::new();
    apply_limits(process, &mut warnings);
    for warning in warnings {
        say(socket, &Word::Warning(warning), None);
    }
}

fn take_stdio(socket: &OwnedFd, process: &crate::spec::ProcessSpec, stdio: Vec<OwnedFd>, console: bool) -> Result<()> {
    if process.tty {
        let master = open_terminal(console)?;
        say(socket, &Word::Terminal, Some(master.as_fd()));
        return Ok(());
    }
    match stdio.as_slice() {
        [stdin, stdout, stderr] => set_stdio([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        others => Err(format!("three files are needed for stdin, stdout and stderr, not {}", others.len())),
    }
}

fn open_process(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| "there is no such process".to_owned())?;
    doing("open the container's process", pidfd_open(pid, PidfdFlags::empty()))
}
