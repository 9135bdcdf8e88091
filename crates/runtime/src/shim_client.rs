//! The daemon's end of a shim's socket: a connection for each call, one for events.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use shim::protocol::{Reply, Request, SOCKET, State, VERSION};
use shim::spec::SandboxSpec;
use shim::{Birth, SHIM_COMMAND, wire};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Why a shim did not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    /// It is not there, or went away.
    #[error("the pod's shim is gone")]
    Gone(#[source] io::Error),
    /// It refused.
    #[error("{message}")]
    Refused { message: String, not_running: bool },
}

impl ShimError {
    /// Whether the process that was asked about is not there.
    pub(crate) fn is_not_running(&self) -> bool {
        match self {
            ShimError::Gone(_) => true,
            ShimError::Refused { not_running, .. } => *not_running,
        }
    }
}

/// A connection to a shim.
pub(crate) struct Connection {
    socket: UnixStream,
    input: Vec<u8>,
    files: Vec<OwnedFd>,
}

impl Connection {
    /// Connects to the shim of a folder.
    pub(crate) fn open(run_folder: &Path) -> io::Result<Connection> {
        use rustix::fs::{Mode, OFlags};
        // Through the open folder: a socket's address is short, a folder's name may not be.
        let folder = rustix::fs::open(run_folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
        let stream = std::os::unix::net::UnixStream::connect(format!("/proc/self/fd/{number}/{SOCKET}"))?;
        stream.set_nonblocking(true)?;
        Ok(Connection { socket: UnixStream::from_std(stream)?, input: Vec::new(), files: Vec::new() })
    }

    /// Sends a request, with open files beside it.
    pub(crate) async fn send(&mut self, request: &Request, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = wire::encode(request)?;
        let mut sent = 0;
        while sent < bytes.len() {
            let files = if sent == 0 { files } else { &[] };
            let socket = &self.socket;
            let send = || wire::send(socket.as_fd(), &bytes[sent..], files).map_err(io::Error::from);
            sent += socket.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// The next reply, and the open files that came with it.
    pub(crate) async fn receive(&mut self) -> io::Result<(Reply, Vec<OwnedFd>)> {
        loop {
            if let Some(reply) = wire::decode(&mut self.input)? {
                return Ok((reply, std::mem::take(&mut self.files)));
            }
            let mut bytes = [0; 16 * 1024];
            let (socket, files) = (&self.socket, &mut self.files);
            let receive = || wire::receive(socket.as_fd(), &mut bytes, files).map_err(io::Error::from);
            match socket.async_io(Interest::READABLE, receive).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.input.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(
        &mut self,
        request: &Request,
        files: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), ShimError> {
        self.send(request, files).await.map_err(ShimError::Gone)?;
        match self.receive().await.map_err(ShimError::Gone)? {
            (Reply::Error { message, not_running }, _) => Err(ShimError::Refused { message, not_running }),
            reply => Ok(reply),
        }
    }
}

/// The shim of a sandbox, by its folder.
#[derive(Clone, Debug)]
pub(crate) struct ShimClient {
    run_folder: PathBuf,
}

impl ShimClient {
    pub(crate) fn new(run_folder: PathBuf) -> ShimClient {
        ShimClient { run_folder }
    }

    pub(crate) fn connect(&self) -> Result<Connection, ShimError> {
        Connection::open(&self.run_folder).map_err(ShimError::Gone)
    }

    /// Asks on a connection of its own.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply, ShimError> {
        Ok(self.connect()?.ask(request, &[]).await?.0)
    }

    /// All that the shim knows, and a connection on which its events come from then on.
    pub(crate) async fn subscribe(&self) -> Result<(State, Connection), ShimError> {
        let mut connection = self.connect()?;
        match connection.ask(&Request::Hello { version: VERSION }, &[]).await?.0 {
            // Whatever it speaks contains what the first version spoke, which is all that is said here.
            Reply::State(_) => {}
            other => return Err(unexpected(&other)),
        }
        match connection.ask(&Request::Subscribe, &[]).await?.0 {
            Reply::State(state) => Ok((state, connection)),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends the shim with all that is left of its pod; gone already is fine.
    pub(crate) async fn shut_down(&self) -> Result<(), ShimError> {
        let mut connection = match self.connect() {
            Ok(connection) => connection,
            Err(ShimError::Gone(e)) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        match connection.ask(&Request::Shutdown, &[]).await {
            Ok(_) | Err(ShimError::Gone(_)) => {}
            Err(e) => return Err(e),
        }
        // It closes the connection by ending.
        while connection.receive().await.is_ok() {}
        Ok(())
    }
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory)
}

pub(crate) fn unexpected(reply: &Reply) -> ShimError {
    ShimError::Refused { message: format!("the shim answered unexpectedly: {reply:?}"), not_running: false }
}

/// Starts a shim and waits until it listens; its process id. Blocks for some milliseconds.
pub(crate) fn spawn(program: &Path, spec: &SandboxSpec) -> Result<i32, String> {
    let text = serde_json::to_vec(spec).map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .arg(SHIM_COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        // The program's allocator would take whole huge pages, which is more than all of a shim.
        .env("MIMALLOC_ALLOW_THP", "0")
        .current_dir("/")
        .spawn()
        .map_err(|e| format!("start {}: {e}", program.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ended early, its words say why.
        let _ = io::Write::write_all(&mut stdin, &text);
    }
    // The shim lives on in the background with this pipe open until it is set up, so one line is read, not all.
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line)
            .map_err(|e| format!("hear the shim: {e}"))?;
    }
    child.wait().map_err(|e| format!("wait for the shim: {e}"))?;
    match serde_json::from_str::<Birth>(&line) {
        Ok(Birth::Ready(pid)) => Ok(pid),
        Ok(Birth::Failed(message)) => Err(message),
        Err(_) => Err("the shim ended without a word".to_owned()),
    }
}
