//! The two commands of the program that are the shim's: itself, and its helper.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use cgroups::Hierarchy;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};

use crate::launch::{self, Order, Word};
use crate::process::{Result, doing};
use crate::protocol::{EXITS, NETWORK_NAMESPACE, PID_FILE, SOCKET};
use crate::server::{Server, hear_word, spawn_helper};
use crate::spec::SandboxSpec;
use crate::sys::{self, Fork};

/// `kubox shim`: reads a [`SandboxSpec`] from stdin, becomes a shim in the background, and says on stdout how it went.
pub const SHIM_COMMAND: &str = "shim";
/// The hidden command of the helper.
pub const HELPER_COMMAND: &str = "shim-helper";

/// What a new shim says on stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Birth {
    /// It listens; its process id.
    Ready(i32),
    /// It could not be set up.
    Failed(String),
}

/// Runs one of the two commands by its name; `None` if it is neither.
pub fn run(command: &str) -> Option<ExitCode> {
    match command {
        SHIM_COMMAND => Some(shim()),
        HELPER_COMMAND => Some(launch::run()),
        _ => None,
    }
}

fn shim() -> ExitCode {
    let mut text = Vec::new();
    let spec = std::io::stdin().read_to_end(&mut text).map_err(|e| e.to_string());
    let spec = spec.and_then(|_| serde_json::from_slice::<SandboxSpec>(&text).map_err(|e| e.to_string()));
    drop(text);
    let spec = match spec {
        Ok(spec) => spec,
        Err(e) => return fail(format!("read the sandbox's description: {e}")),
    };
    match sys::fork() {
        // The daemon waits for this process; the other one belongs to nobody.
        Ok(Fork::Parent(_)) => return ExitCode::SUCCESS,
        Ok(Fork::Child) => {}
        Err(e) => return fail(format!("fork: {e}")),
    }
    match set_up(spec) {
        Ok(server) => {
            report(&Birth::Ready(rustix::process::getpid().as_raw_nonzero().get()));
            // If that fails, the daemon's pipe stays open, which harms nothing but its tidiness.
            let _ = let_go_of_stdio();
            match server.run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(message) => fail(message),
    }
}

fn fail(message: String) -> ExitCode {
    report(&Birth::Failed(message));
    ExitCode::FAILURE
}

fn report(birth: &Birth) {
    let mut stdout = std::io::stdout();
    if serde_json::to_writer(&mut stdout, birth).is_ok() {
        // A daemon that is gone finds the shim by its socket.
        let _ = stdout.write_all(b"\n").and_then(|()| stdout.flush());
    }
}

fn let_go_of_stdio() -> rustix::io::Result<()> {
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)
}

fn set_up(spec: SandboxSpec) -> Result<Server> {
    doing("start a session", rustix::process::setsid())?;
    doing("enter /", rustix::process::chdir("/"))?;
    doing("name the process", rustix::thread::set_name(c"kubox-shim"))?;
    let own = rustix::process::getpid();
    doing("become the subreaper", rustix::process::set_child_subreaper(Some(own)))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    doing("block signals", signals.thread_block())?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = doing("open a signal file", SignalFd::with_flags(&signals, flags))?;

    let hierarchy = doing("find cgroups", Hierarchy::detect())?;
    if !spec.shim_cgroup.is_empty() {
        let cgroup = hierarchy.cgroup(&spec.shim_cgroup);
        doing("make the shim's cgroup", cgroup.create())?;
        doing("enter the shim's cgroup", cgroup.add_process(0))?;
    }
    doing("make the folder", std::fs::create_dir_all(spec.run_folder.join(EXITS)))?;
    let pid_file = spec.run_folder.join(PID_FILE);
    doing("write the process id", std::fs::write(pid_file, own.as_raw_nonzero().to_string()))?;

    let mut own_namespaces = CloneFlags::empty();
    for (wanted, flag) in [
        (spec.network, CloneFlags::CLONE_NEWNET),
        (spec.ipc, CloneFlags::CLONE_NEWIPC),
        (spec.hostname.is_some(), CloneFlags::CLONE_NEWUTS),
    ] {
        if wanted {
            own_namespaces |= flag;
        }
    }
    doing("unshare the pod's namespaces", unshare(own_namespaces))?;
    if spec.network {
        let at = spec.run_folder.join(NETWORK_NAMESPACE);
        doing("make the namespace's file", std::fs::write(&at, ""))?;
        doing("hold the network namespace", rustix::mount::mount_bind("/proc/self/ns/net", &at))?;
        sys::loopback_up().map_err(|e| format!("bring up the loopback: {e}"))?;
    }
    if let Some(hostname) = &spec.hostname {
        doing("set the host name", rustix::system::sethostname(hostname.as_bytes()))?;
    }
    for (name, value) in &spec.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        doing(&format!("write sysctl key {name}"), std::fs::write(path, value))?;
    }

    // The socket's name may be longer than an address holds; relative to its folder it never is.
    doing("enter the folder", rustix::process::chdir(&spec.run_folder))?;
    let _ = std::fs::remove_file(SOCKET);
    let listener = doing("listen", UnixListener::bind(SOCKET))?;
    doing("listen", listener.set_nonblocking(true))?;
    doing("enter /", rustix::process::chdir("/"))?;

    let init_pid = if spec.shared_pids { Some(start_init(&spec)?) } else { None };
    Ok(Server::new(spec, hierarchy, listener, signals, init_pid))
}

/// Starts the init of shared processes and waits until it is one.
fn start_init(spec: &SandboxSpec) -> Result<i32> {
    let mount_point = spec.run_folder.join(EXITS);
    let order = Order::Pause { mount_point, cgroup: spec.cgroup.clone(), limits: Box::new(spec.limits.clone()) };
    let (control, _) = doing("start the helper", spawn_helper(&order, &[]))?;
    let (mut pid, mut ready) = (None, false);
    while pid.is_none() || !ready {
        match doing("hear the helper", hear_word(&control))? {
            Some((Word::Pid(number), _)) => pid = Some(number),
            Some((Word::Ready, _)) => ready = true,
            Some((Word::Error(message), _)) => return Err(message),
            Some(_) => {}
            None => return Err("the pod's init ended without a word".to_owned()),
        }
    }
    pid.ok_or_else(|| "the pod's init has no process id".to_owned())
}
