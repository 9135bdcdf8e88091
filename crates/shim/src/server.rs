//! The shim's life: one thread, one poll loop.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cgroups::{Cgroup, Hierarchy};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::launch::{Order, Word};
use crate::log::{LogFile, now};
use crate::output::{Pump, Pumped, Sink};
use crate::protocol::{ContainerState, EXITS, Exit, Reply, Request, State, VERSION};
use crate::spec::{ContainerSpec, ExecSpec, PidNamespace, ProcessSpec, SandboxSpec, User};
use crate::{HELPER_COMMAND, wire};

/// How much is read from a container at once.
const READ_BYTES: usize = 64 * 1024;
/// How many connections are open at once; more have to wait.
const CONNECTIONS_MAX: usize = 512;
/// How much may wait for a daemon that does not read; it is cut off then and will ask again.
const BACKLOG_MESSAGES_MAX: usize = 4096;
/// An error that quotes a whole request helps nobody.
const ERROR_CHARS_MAX: usize = 2048;
/// How often a full disk or a slow reader is tried again.
const RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

pub(crate) struct Server {
    sandbox: SandboxSpec,
    hierarchy: Hierarchy,
    listener: UnixListener,
    signals: SignalFd,
    init_pid: Option<i32>,
    connections: BTreeMap<u64, Connection>,
    containers: BTreeMap<String, Container>,
    launches: BTreeMap<u64, Launch>,
    execs: BTreeMap<i32, Exec>,
    /// Processes that ended before a launch said that they are its own.
    unclaimed: BTreeMap<i32, i32>,
    next_id: u64,
    buffer: Vec<u8>,
    ends: bool,
}

struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
    files: Vec<OwnedFd>,
    output: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    subscribed: bool,
    /// The container whose stdin this connection holds.
    attached: Option<String>,
    /// The daemon's end is closed.
    gone: bool,
}

struct Container {
    id: String,
    cgroup: Cgroup,
    own_pids: bool,
    interactive: bool,
    stdin_once: bool,
    pid: i32,
    started_at: i64,
    user: User,
    log: Option<LogFile>,
    log_path: Option<PathBuf>,
    pumps: Vec<Pump>,
    sinks: Vec<Sink>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// It has ended, but its output has not all been read.
    ended: Option<(i32, i64)>,
    exit: Option<Exit>,
}

struct Exec {
    connection: u64,
    id: String,
    container: String,
}

/// Something that a helper makes just now.
struct Launch {
    connection: u64,
    control: OwnedFd,
    /// The helper's process id.
    helper: u32,
    what: What,
    pid: Option<i32>,
    user: User,
    warnings: Vec<String>,
    terminal: Option<OwnedFd>,
    error: Option<String>,
}

enum What {
    Container(Box<Container>),
    Exec(Exec),
}

/// Whose file is polled.
enum Token {
    Signals,
    Listener,
    Connection(u64),
    Launch(u64),
    Output,
}

type Answer = Result<(Reply, Vec<OwnedFd>), Reply>;

fn error(message: impl Into<String>) -> Reply {
    let mut message = message.into();
    if let Some((end, _)) = message.char_indices().nth(ERROR_CHARS_MAX) {
        message.truncate(end);
    }
    Reply::Error { message, not_running: false }
}

fn not_running(container: &str) -> Reply {
    Reply::Error { message: format!("container {container:?} is not running"), not_running: true }
}

fn failed(what: &str) -> impl FnOnce(rustix::io::Errno) -> Reply {
    let what = what.to_owned();
    move |e| error(format!("{what}: {e}"))
}

impl Server {
    pub(crate) fn new(
        sandbox: SandboxSpec,
        hierarchy: Hierarchy,
        listener: UnixListener,
        signals: SignalFd,
        init_pid: Option<i32>,
    ) -> Server {
        Server {
            sandbox,
            hierarchy,
            listener,
            signals,
            init_pid,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            launches: BTreeMap::new(),
            execs: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            next_id: 0,
            buffer: vec![0; READ_BYTES],
            ends: false,
        }
    }

    /// Serves until it is told to end.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !(self.ends && self.connections.values().all(|c| c.output.is_empty() || c.gone)) {
            let (ready, listening) = self.wait()?;
            for token in ready {
                match token {
                    Token::Signals => self.reap(),
                    Token::Listener => self.accept(),
                    Token::Connection(id) => self.hear(id),
                    Token::Launch(id) => self.hear_helper(id),
                    Token::Output => {}
                }
            }
            self.pump(&listening);
            self.settle();
            self.say();
        }
        Ok(())
    }

    /// Waits for something to happen; also says which containers' output is being read.
    fn wait(&self) -> io::Result<(Vec<Token>, Vec<String>)> {
        let mut tokens = vec![Token::Signals];
        let signals = self.signals.as_fd();
        let mut fds = vec![PollFd::from_borrowed_fd(signals, PollFlags::IN)];
        if self.connections.len() < CONNECTIONS_MAX {
            tokens.push(Token::Listener);
            fds.push(PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN));
        }
        for (id, connection) in &self.connections {
            let mut flags = PollFlags::IN;
            if !connection.output.is_empty() {
                flags |= PollFlags::OUT;
            }
            tokens.push(Token::Connection(*id));
            fds.push(PollFd::from_borrowed_fd(connection.socket.as_fd(), flags));
        }
        for (id, launch) in &self.launches {
            tokens.push(Token::Launch(*id));
            fds.push(PollFd::from_borrowed_fd(launch.control.as_fd(), PollFlags::IN));
        }
        let mut retry = false;
        let mut listening = Vec::new();
        for container in self.containers.values() {
            retry |= container.log.as_ref().is_some_and(LogFile::has_pending);
            for sink in container.sinks.iter().filter(|sink| sink.is_waiting()) {
                tokens.push(Token::Output);
                fds.push(PollFd::from_borrowed_fd(sink.file().as_fd(), PollFlags::OUT));
                retry = true;
            }
            if container.may_read() {
                listening.push(container.id.clone());
                for pump in &container.pumps {
                    tokens.push(Token::Output);
                    fds.push(PollFd::from_borrowed_fd(pump.file().as_fd(), PollFlags::IN));
                }
            }
        }
        match poll(&mut fds, retry.then_some(&RETRY)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let tokens = tokens.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(token, _)| token);
        Ok((tokens.collect(), listening))
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.next_id += 1;
            let connection = Connection {
                socket: stream.into(),
                input: Vec::new(),
                files: Vec::new(),
                output: VecDeque::new(),
                subscribed: false,
                attached: None,
                gone: false,
            };
            self.connections.insert(self.next_id, connection);
            if self.connections.len() >= CONNECTIONS_MAX {
                break;
            }
        }
    }

    fn hear(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut bytes = [0; 16 * 1024];
        loop {
            match wire::receive(&connection.socket, &mut bytes, &mut connection.files) {
                Ok(0) => {
                    connection.gone = true;
                    break;
                }
                Ok(count) => connection.input.extend_from_slice(&bytes[..count]),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    connection.gone = true;
                    break;
                }
            }
        }
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let request = match wire::decode::<Request>(&mut connection.input) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(e) => {
                    // Not known here, or not understood: the rest of the connection is still good.
                    connection.files.clear();
                    self.tell(id, &error(format!("request not understood: {e}")), Vec::new());
                    if e.kind() == io::ErrorKind::InvalidData
                        && e.get_ref().is_some_and(|e| !e.is::<serde_json::Error>())
                    {
                        self.drop_connection(id);
                        return;
                    }
                    continue;
                }
            };
            let files = std::mem::take(&mut connection.files);
            match self.answer(id, request, files) {
                Ok(Some((reply, files))) => self.tell(id, &reply, files),
                Ok(None) => {}
                Err(reply) => self.tell(id, &reply, Vec::new()),
            }
        }
        if self.connections.get(&id).is_some_and(|connection| connection.gone) {
            self.drop_connection(id);
        }
    }

    fn drop_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(container) = connection.attached.and_then(|name| self.containers.get_mut(&name))
            && container.stdin_once
        {
            container.stdin = None;
        }
    }

    fn tell(&mut self, id: u64, reply: &Reply, files: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Ok(bytes) = wire::encode(reply) else { return };
        connection.output.push_back((bytes, files));
        if connection.output.len() > BACKLOG_MESSAGES_MAX {
            connection.output.clear();
            connection.gone = true;
        }
    }

    /// Sends what waits.
    fn say(&mut self) {
        let mut gone = Vec::new();
        for (id, connection) in &mut self.connections {
            while let Some((bytes, files)) = connection.output.front_mut() {
                let borrowed: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
                match wire::send(&connection.socket, bytes, &borrowed) {
                    Ok(count) if count == bytes.len() => {
                        connection.output.pop_front();
                    }
                    Ok(count) => {
                        bytes.drain(..count);
                        files.clear();
                    }
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(_) => {
                        connection.gone = true;
                        break;
                    }
                }
            }
            if connection.gone {
                gone.push(*id);
            }
        }
        for id in gone {
            self.drop_connection(id);
        }
    }

    fn tell_subscribers(&mut self, reply: &Reply) {
        let ids: Vec<u64> = self.connections.iter().filter(|(_, c)| c.subscribed).map(|(id, _)| *id).collect();
        for id in ids {
            self.tell(id, reply, Vec::new());
        }
    }

    fn answer(
        &mut self,
        id: u64,
        request: Request,
        files: Vec<OwnedFd>,
    ) -> Result<Option<(Reply, Vec<OwnedFd>)>, Reply> {
        let done = |()| Some((Reply::Done, Vec::new()));
        match request {
            Request::Hello { .. } => Ok(Some((Reply::State(self.state()), Vec::new()))),
            Request::Subscribe => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.subscribed = true;
                }
                Ok(Some((Reply::State(self.state()), Vec::new())))
            }
            Request::Start { spec } => self.start(id, *spec).map(|()| None),
            Request::Exec { spec } => self.exec(id, *spec, files).map(|()| None),
            Request::Signal { container, exec, signal } => self.signal(&container, exec.as_deref(), signal).map(done),
            Request::KillAll { container } => {
                let container = self.containers.get(&container).ok_or_else(|| not_running(&container))?;
                container.cgroup.kill().map_err(|e| error(e.to_string())).map(done)
            }
            Request::Attach { container, stdin, stdout, stderr } => {
                self.attach(id, &container, [stdin, stdout, stderr], files).map(Some)
            }
            Request::CloseStdin { container } => {
                let container = self.containers.get_mut(&container).ok_or_else(|| not_running(&container))?;
                if container.stdin_once {
                    container.stdin = None;
                }
                Ok(done(()))
            }
            Request::ReopenLog { container } => {
                let found = self.containers.get_mut(&container).ok_or_else(|| not_running(&container))?;
                if let Some(log) = &mut found.log {
                    log.flush();
                    log.reopen().map_err(|e| error(format!("reopen {}: {e}", log.path().display())))?;
                }
                Ok(done(()))
            }
            Request::Remove { container } => {
                if self.containers.get(&container).is_some_and(|c| c.exit.is_none()) {
                    return Err(error(format!("container {container:?} is running")));
                }
                self.containers.remove(&container);
                let _ = std::fs::remove_file(self.sandbox.run_folder.join(EXITS).join(&container));
                Ok(done(()))
            }
            Request::Shutdown => {
                self.shut_down();
                Ok(done(()))
            }
        }
    }

    fn state(&self) -> State {
        State {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            sandbox: self.sandbox.id.clone(),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            init_pid: self.init_pid,
            containers: self.containers.values().map(Container::state).collect(),
        }
    }

    fn start(&mut self, connection: u64, spec: ContainerSpec) -> Result<(), Reply> {
        let launching = self.launches.values().any(|launch| match &launch.what {
            What::Container(container) => container.id == spec.id,
            What::Exec(_) => false,
        });
        if launching || self.containers.contains_key(&spec.id) {
            return Err(error(format!("container {:?} has been started already", spec.id)));
        }
        let pids_of = match &spec.pids {
            PidNamespace::Own | PidNamespace::Host => None,
            PidNamespace::Pod => Some(self.init_pid.ok_or_else(|| error("the pod's init is gone"))?),
            PidNamespace::Container(target) => {
                let target =
                    self.containers.get(target).filter(|c| c.ended.is_none()).ok_or_else(|| not_running(target))?;
                Some(target.pid)
            }
        };
        let log = match &spec.log_path {
            Some(path) => {
                let opened = LogFile::open(path.clone(), spec.log_bytes_max);
                Some(opened.map_err(|e| error(format!("open log file {}: {e}", path.display())))?)
            }
            None => None,
        };
        let mut container = Container {
            id: spec.id.clone(),
            cgroup: self.hierarchy.cgroup(&spec.cgroup),
            own_pids: spec.pids == PidNamespace::Own,
            interactive: spec.process.tty || spec.stdin,
            stdin_once: spec.stdin_once,
            pid: 0,
            started_at: 0,
            user: User::default(),
            log,
            log_path: spec.log_path.clone(),
            pumps: Vec::new(),
            sinks: Vec::new(),
            stdin: None,
            terminal: None,
            ended: None,
            exit: None,
        };
        let stdio = container.make_stdio(&spec.process, spec.stdin).map_err(failed("make pipes"))?;
        let order = Order::Container { spec: Box::new(spec), pids_of };
        self.launch(connection, What::Container(Box::new(container)), &order, &stdio)
    }

    fn exec(&mut self, connection: u64, spec: ExecSpec, files: Vec<OwnedFd>) -> Result<(), Reply> {
        let container = self.containers.get(&spec.container).filter(|container| container.ended.is_none());
        let container = container.ok_or_else(|| not_running(&spec.container))?;
        if !spec.process.tty && files.len() != 3 {
            return Err(error(format!("an exec needs three open files, not {}", files.len())));
        }
        let (container_pid, cgroup) = (container.pid, container.cgroup.path().to_owned());
        let what = What::Exec(Exec { connection, id: spec.id.clone(), container: spec.container.clone() });
        self.launch(connection, what, &Order::Exec { spec: Box::new(spec), container_pid, cgroup }, &files)
    }

    fn launch(&mut self, connection: u64, what: What, order: &Order, stdio: &[OwnedFd]) -> Result<(), Reply> {
        let (control, helper) = spawn_helper(order, stdio).map_err(|e| error(format!("start the helper: {e}")))?;
        rustix::fs::fcntl_setfl(&control, OFlags::NONBLOCK).map_err(failed("set up the helper's socket"))?;
        self.next_id += 1;
        let launch = Launch {
            connection,
            control,
            helper,
            what,
            pid: None,
            user: User::default(),
            warnings: Vec::new(),
            terminal: None,
            error: None,
        };
        self.launches.insert(self.next_id, launch);
        Ok(())
    }

    fn hear_helper(&mut self, id: u64) {
        let Some(launch) = self.launches.get_mut(&id) else { return };
        loop {
            match hear_word(&launch.control) {
                Ok(Some((word, file))) => match word {
                    Word::Pid(pid) => launch.pid = Some(pid),
                    Word::User(user) => launch.user = user,
                    Word::Warning(text) => launch.warnings.push(text),
                    Word::Terminal => launch.terminal = file,
                    Word::Error(message) => launch.error = Some(message),
                    Word::Ready => {}
                },
                Ok(None) => break,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(e) => {
                    launch.error = Some(format!("hear the helper: {e}"));
                    break;
                }
            }
        }
        if let Some(launch) = self.launches.remove(&id) {
            self.finish_launch(launch);
        }
        if self.launches.is_empty() {
            self.unclaimed.clear();
        }
    }

    fn finish_launch(&mut self, launch: Launch) {
        let Launch { connection, what, pid, user, warnings, terminal, error: problem, .. } = launch;
        let pid = match (problem, pid) {
            (Some(message), _) => return self.tell(connection, &error(message), Vec::new()),
            (None, None) => {
                let message = "the helper ended without a word";
                return self.tell(connection, &error(message), Vec::new());
            }
            (None, Some(pid)) => pid,
        };
        let started = Reply::Started { pid, user: user.clone(), warnings };
        match what {
            What::Container(mut container) => {
                container.pid = pid;
                container.user = user;
                container.started_at = now();
                if let Some(terminal) = terminal {
                    match take_terminal(&mut container, terminal) {
                        Ok(()) => {}
                        Err(e) => return self.tell(connection, &error(format!("take the terminal: {e}")), Vec::new()),
                    }
                }
                self.containers.insert(container.id.clone(), *container);
                self.tell(connection, &started, Vec::new());
            }
            What::Exec(exec) => {
                self.tell(connection, &started, terminal.into_iter().collect());
                self.execs.insert(pid, exec);
            }
        }
        if let Some(code) = self.unclaimed.remove(&pid) {
            self.ended(pid, code);
        }
    }

    /// Waits for whatever has ended.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.ended(pid.as_raw_nonzero().get(), exit_code(status));
        }
    }

    fn ended(&mut self, pid: i32, code: i32) {
        if self.init_pid == Some(pid) {
            self.init_pid = None;
            return;
        }
        if let Some(container) = self.containers.values_mut().find(|c| c.pid == pid && c.ended.is_none()) {
            container.ended = Some((code, now()));
            if !container.own_pids {
                // Its process namespace lives on, and so might its other processes.
                let _ = container.cgroup.kill();
            }
            return;
        }
        if let Some(exec) = self.execs.remove(&pid) {
            self.tell(exec.connection, &Reply::Exited { code }, Vec::new());
            return;
        }
        if !self.launches.is_empty() {
            self.unclaimed.insert(pid, code);
        }
    }

    /// Moves output, of each container at most a buffer's worth per stream.
    fn pump(&mut self, listening: &[String]) {
        for id in listening {
            let Some(container) = self.containers.get_mut(id) else { continue };
            container.pump(&mut self.buffer);
        }
        let mut full = Vec::new();
        for container in self.containers.values_mut() {
            container.sinks.retain_mut(Sink::flush);
            if let Some(log) = &mut container.log {
                if log.has_pending() {
                    log.flush();
                }
                if log.became_full() {
                    full.push(container.id.clone());
                }
            }
        }
        for container in full {
            self.tell_subscribers(&Reply::LogFull { container });
        }
    }

    /// Finishes containers that have ended and whose output is read.
    fn settle(&mut self) {
        let waiting: Vec<String> = self
            .containers
            .values()
            .filter(|container| container.ended.is_some() && container.exit.is_none())
            .map(|container| container.id.clone())
            .collect();
        for id in waiting {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            // All of it, for nobody can write any more; but a full disk must not keep the end a secret.
            while container.may_read() && !container.pumps.is_empty() && container.drain(&mut self.buffer) {}
            let stuck = container.log.as_ref().is_some_and(LogFile::is_stuck);
            if !container.pumps.is_empty() && !stuck {
                continue;
            }
            let Some((code, at)) = container.ended else { continue };
            let exit = Exit { code, at, oom_killed: container.cgroup.oom_kills() > 0 };
            let _ = container.cgroup.try_remove();
            container.stdin = None;
            container.terminal = None;
            container.exit = Some(exit.clone());
            self.keep_exit(&id, &exit);
            self.tell_subscribers(&Reply::ContainerExited { container: id, exit });
        }
        for container in self.containers.values_mut().filter(|container| container.exit.is_some()) {
            if container.pumps.is_empty() {
                container.sinks.retain(Sink::is_waiting);
                if container.log.as_ref().is_some_and(|log| !log.has_pending()) {
                    container.log = None;
                }
            }
        }
    }

    /// Writes an exit code down, in case that the shim is killed before anybody asked.
    fn keep_exit(&self, id: &str, exit: &Exit) {
        let folder = self.sandbox.run_folder.join(EXITS);
        let Ok(bytes) = serde_json::to_vec(exit) else { return };
        let draft = folder.join(format!(".{id}"));
        if std::fs::write(&draft, bytes).is_ok() {
            let _ = std::fs::rename(&draft, folder.join(id));
        }
    }

    fn signal(&self, container: &str, exec: Option<&str>, signal: i32) -> Result<(), Reply> {
        let pid = match exec {
            Some(id) => {
                self.execs.iter().find(|(_, exec)| exec.container == container && exec.id == id).map(|(pid, _)| *pid)
            }
            None => self.containers.get(container).filter(|c| c.ended.is_none()).map(|c| c.pid),
        };
        let pid = pid.ok_or_else(|| not_running(container))?;
        // Not waited for yet, so the number is still its own.
        match nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::try_from(signal).map_err(|_| error(format!("no signal {signal}")))?,
        ) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(e) => Err(error(format!("send signal {signal}: {e}"))),
        }
    }

    fn attach(&mut self, id: u64, name: &str, wants: [bool; 3], files: Vec<OwnedFd>) -> Answer {
        let container = self.containers.get_mut(name).filter(|c| c.ended.is_none()).ok_or_else(|| not_running(name))?;
        let [stdin, stdout, stderr] = wants;
        let mut files = files.into_iter();
        for (wanted, is_stderr) in [(stdout, false), (stderr, true)] {
            if wanted {
                let file = files.next().ok_or_else(|| error("an open file is missing"))?;
                container.sinks.push(Sink::new(file, is_stderr));
            }
        }
        let input = if stdin { container.terminal.as_ref().or(container.stdin.as_ref()) } else { None };
        let input = input.map(|input| rustix::io::fcntl_dupfd_cloexec(input, 3)).transpose();
        let input = input.map_err(failed("open stdin"))?;
        if stdin && let Some(connection) = self.connections.get_mut(&id) {
            connection.attached = Some(name.to_owned());
        }
        Ok((Reply::Done, input.into_iter().collect()))
    }

    fn shut_down(&mut self) {
        // What is just being made: first its maker, then what it has made already, which is in the cgroup from its birth.
        for launch in self.launches.values() {
            let helper = i32::try_from(launch.helper).ok().and_then(Pid::from_raw);
            if let Some(helper) = helper.filter(|_| launch.pid.is_none()) {
                let _ = rustix::process::kill_process(helper, rustix::process::Signal::KILL);
            }
            if let What::Container(container) = &launch.what {
                let _ = container.cgroup.kill();
            }
        }
        for container in self.containers.values().filter(|container| container.exit.is_none()) {
            let _ = container.cgroup.kill();
        }
        if let Some(pid) = self.init_pid.and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        self.ends = true;
    }
}

impl Container {
    /// Whether its output may be read now: not while the disk lags or, if someone works with it, a reader does.
    fn may_read(&self) -> bool {
        let stuck = self.log.as_ref().is_some_and(LogFile::is_stuck);
        let waits = self.interactive && self.sinks.iter().any(Sink::is_waiting);
        !stuck && !waits && !self.pumps.is_empty()
    }

    fn pump(&mut self, buffer: &mut [u8]) {
        let (log, sinks, waits) = (&mut self.log, &mut self.sinks, self.interactive);
        self.pumps.retain_mut(|pump| pump.pump(buffer, log.as_mut(), sinks, waits) != Pumped::End);
    }

    /// Reads the rest of a container that has ended; false if there was nothing. A pipe that somebody else holds open
    /// (a process that was given it) is let go of when it is empty.
    fn drain(&mut self, buffer: &mut [u8]) -> bool {
        let (log, sinks, waits) = (&mut self.log, &mut self.sinks, self.interactive);
        let mut some = false;
        self.pumps.retain_mut(|pump| {
            let pumped = pump.pump(buffer, log.as_mut(), sinks, waits);
            some |= pumped == Pumped::Some;
            pumped == Pumped::Some
        });
        some
    }

    /// Makes what the first process reads and writes; its own ends are returned.
    fn make_stdio(&mut self, process: &ProcessSpec, stdin: bool) -> rustix::io::Result<Vec<OwnedFd>> {
        if process.tty {
            return Ok(Vec::new());
        }
        let input = if stdin {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK)?;
            self.stdin = Some(writer);
            reader
        } else {
            rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())?
        };
        let mut files = vec![input];
        for stderr in [false, true] {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
            self.pumps.push(Pump::new(reader, stderr));
            files.push(writer);
        }
        Ok(files)
    }

    fn state(&self) -> ContainerState {
        ContainerState {
            id: self.id.clone(),
            pid: self.pid,
            started_at: self.started_at,
            user: self.user.clone(),
            log_path: self.log_path.clone(),
            exit: self.exit.clone(),
        }
    }
}

fn take_terminal(container: &mut Container, terminal: OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fcntl_setfl(&terminal, OFlags::RDWR | OFlags::NONBLOCK)?;
    container.pumps.push(Pump::new(rustix::io::fcntl_dupfd_cloexec(&terminal, 3)?, false));
    container.terminal = Some(terminal);
    Ok(())
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

/// Starts a helper and tells it what to make; returns the socket on which it speaks, and its process id.
pub(crate) fn spawn_helper(order: &Order, stdio: &[OwnedFd]) -> io::Result<(OwnedFd, u32)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let paper = rustix::fs::memfd_create("order", MemfdFlags::CLOEXEC)?;
    let mut paper = std::fs::File::from(paper);
    serde_json::to_writer(&mut paper, order)?;
    io::Seek::rewind(&mut paper)?;
    let mut files = vec![paper.as_fd()];
    files.extend(stdio.iter().map(AsFd::as_fd));
    wire::send(&ours, &[0], &files)?;
    // It belongs to the shim and is waited for with all others.
    let helper = Command::new("/proc/self/exe")
        .arg0_of_helper()
        .arg(HELPER_COMMAND)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear()
        .current_dir("/")
        .spawn()?;
    Ok((ours, helper.id()))
}

trait HelperCommand {
    fn arg0_of_helper(&mut self) -> &mut Command;
}

impl HelperCommand for Command {
    fn arg0_of_helper(&mut self) -> &mut Command {
        std::os::unix::process::CommandExt::arg0(self, "kubox")
    }
}

/// Receives a helper's word; `None` when it has said all.
pub(crate) fn hear_word(control: &OwnedFd) -> rustix::io::Result<Option<(Word, Option<OwnedFd>)>> {
    let mut bytes = [0; 64 * 1024];
    let mut files = Vec::new();
    let count = wire::receive(control, &mut bytes, &mut files)?;
    if count == 0 {
        return Ok(None);
    }
    let word = serde_json::from_slice(&bytes[..count]);
    Ok(Some((
        word.unwrap_or_else(|e| Word::Error(format!("the helper is not understood: {e}"))),
        files.into_iter().next(),
    )))
}
