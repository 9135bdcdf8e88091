//! Processes with their streams: what exec, attach and port-forward need, for ExecSync and for a streaming server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cri::{Error, v1};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;
use shim::protocol::{Reply, Request};
use shim::spec::ExecSpec;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::container::read_seccomp;
use crate::error::{chain, failed, of_image};
use crate::plan;
use crate::runtime::{Container, Runtime, Sandbox, new_id};
use crate::sandbox::{hostname, not_ready};
use crate::shim_client::{Connection, ShimClient, unexpected};

/// How much of a container's output a pipe to one who attached holds.
const ATTACH_PIPE_BYTES: usize = 1024 * 1024;
const SIGKILL: i32 = 9;

/// One end of a pipe, or of a terminal. A terminal whose last process is gone ends as a pipe does.
#[derive(Debug)]
pub struct ProcessStream(AsyncFd<OwnedFd>);

impl ProcessStream {
    fn new(file: OwnedFd) -> io::Result<ProcessStream> {
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK)?;
        #[expect(deprecated, reason = "its successor is unsafe for the sake of files that are not owned; this one is")]
        Ok(ProcessStream(AsyncFd::new(file)?))
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.0.get_ref(), 3)?)
    }
}

impl AsyncRead for ProcessStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let space = buffer.initialize_unfilled();
            let read = guard.try_io(|file| {
                rustix::io::retry_on_intr(|| rustix::io::read(file.as_fd(), &mut *space)).map_err(Into::into)
            });
            match read {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // A terminal's way to say that nobody is left.
                Ok(Err(e)) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => continue,
            }
        }
    }
}

impl AsyncWrite for ProcessStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            let written = guard.try_io(|file| {
                rustix::io::retry_on_intr(|| rustix::io::write(file.as_fd(), bytes)).map_err(Into::into)
            });
            match written {
                Ok(result) => return Poll::Ready(result),
                Err(_) => continue,
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The reader sees the end when this is dropped.
        Poll::Ready(Ok(()))
    }
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A process that runs in a container, with its streams.
///
/// Dropping `stdin` closes it. Dropping all of this leaves the process to itself (one with a terminal is hung up on).
#[derive(Debug)]
pub struct ExecStreams {
    /// Its stdin; with a terminal, the terminal's input.
    pub stdin: Option<ProcessStream>,
    /// Its stdout; with a terminal, all its output.
    pub stdout: Option<ProcessStream>,
    /// Its stderr; none with a terminal.
    pub stderr: Option<ProcessStream>,
    terminal: Option<OwnedFd>,
    process: ExecProcess,
}

struct ExecProcess {
    connection: Connection,
    shim: ShimClient,
    container: String,
    id: String,
}

impl std::fmt::Debug for ExecProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.id, self.container)
    }
}

impl ExecStreams {
    /// Tells the terminal its size; without one it does nothing.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        resize(self.terminal.as_ref(), size)
    }

    /// Waits for the exit code. The streams can be read on before and after.
    pub async fn wait(&mut self) -> Result<i32, Error> {
        match self.process.connection.receive().await {
            Ok((Reply::Exited { code }, _)) => Ok(code),
            Ok((other, _)) => Err(unexpected(&other).into()),
            Err(e) => Err(failed("wait for the process", &e)),
        }
    }

    /// Kills the process.
    pub async fn kill(&self) -> Result<(), Error> {
        let process = &self.process;
        let request =
            Request::Signal { container: process.container.clone(), exec: Some(process.id.clone()), signal: SIGKILL };
        match process.shim.ask(&request).await {
            Ok(_) => Ok(()),
            Err(e) if e.is_not_running() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The streams of a running container's first process. Dropping it detaches.
pub struct AttachStreams {
    /// What is written here the container reads; with a terminal, its input. None if stdin is not open.
    pub stdin: Option<ProcessStream>,
    /// The container's stdout from now on, or all its output with a terminal. It ends with the container.
    pub stdout: Option<ProcessStream>,
    /// The container's stderr from now on.
    pub stderr: Option<ProcessStream>,
    terminal: Option<OwnedFd>,
    shim: ShimClient,
    container: String,
    /// The shim sees by it that we are still here.
    _connection: Connection,
}

impl AttachStreams {
    /// Tells the terminal its size; without one it does nothing.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        resize(self.terminal.as_ref(), size)
    }

    /// The client has closed stdin: so is the container's, if it was asked to have it only once.
    pub async fn close_stdin(&mut self) -> Result<(), Error> {
        self.stdin = None;
        let request = Request::CloseStdin { container: self.container.clone() };
        match self.shim.ask(&request).await {
            Ok(_) => Ok(()),
            Err(e) if e.is_not_running() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn resize(terminal: Option<&OwnedFd>, size: TerminalSize) -> io::Result<()> {
    let Some(terminal) = terminal else { return Ok(()) };
    let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

impl Runtime {
    /// Runs a command in a container. Which streams are wanted is said by the three flags; the others are /dev/null.
    /// With a terminal there is no stderr of its own, and input is always possible.
    ///
    /// # Errors
    /// If the container does not run or the command cannot be started.
    pub async fn exec_streams(
        &self,
        container: &str,
        command: Vec<String>,
        tty: bool,
        wants: [bool; 3],
    ) -> Result<ExecStreams, Error> {
        let container = self.container(container)?;
        let (sandbox, record) = self.running(&container)?;
        let config = record.config.unwrap_or_default();
        if command.is_empty() {
            return Err(Error::invalid("exec cmd is empty"));
        }
        let image = self.0.config.images.image_config(&record.image_id).map_err(|e| of_image(&e))?;
        let seccomp = read_seccomp(&config).await?;
        let name = hostname(&sandbox.config());
        let process = plan::exec(&config, &image.config, &name, &self.0.node, seccomp.as_deref(), command, tty)
            .map_err(Error::unknown)?;
        let id = new_id().map_err(|e| failed("make an id", &e))?;
        let spec = ExecSpec { id: id.clone(), container: container.id.clone(), process };
        let pipes = if tty { Vec::new() } else { make_pipes(wants).map_err(|e| failed("make pipes", &e))? };
        let (mut ours, theirs): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let mut connection = sandbox.shim.connect()?;
        let borrowed: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
        let request = Request::Exec { spec: Box::new(spec) };
        let (reply, files) = connection.ask(&request, &borrowed).await.map_err(|e| {
            Error::unknown(format!("failed to exec in container: failed to start exec {id:?}: {}", chain(&e)))
        })?;
        drop(theirs);
        match reply {
            Reply::Started { .. } => {}
            other => return Err(unexpected(&other).into()),
        }
        let streams = (|| {
            let process = ExecProcess { connection, shim: sandbox.shim.clone(), container: container.id.clone(), id };
            if tty {
                let master = files.into_iter().next().ok_or_else(|| io::Error::other("the shim sent no terminal"))?;
                let output = ProcessStream::new(master)?;
                let input = wants[0].then(|| output.duplicate().and_then(ProcessStream::new)).transpose()?;
                let terminal = Some(output.duplicate()?);
                return Ok(ExecStreams { stdin: input, stdout: Some(output), stderr: None, terminal, process });
            }
            let mut take =
                |index: usize| ours.get_mut(index).and_then(Option::take).map(ProcessStream::new).transpose();
            Ok::<_, io::Error>(ExecStreams {
                stdin: take(0)?,
                stdout: take(1)?,
                stderr: take(2)?,
                terminal: None,
                process,
            })
        })();
        streams.map_err(|e| failed("open the streams", &e))
    }

    /// Attaches to a container's first process.
    ///
    /// # Errors
    /// If the container does not run.
    pub async fn attach_streams(&self, container: &str, wants: [bool; 3]) -> Result<AttachStreams, Error> {
        let container = self.container(container)?;
        let (sandbox, record) = self.running(&container)?;
        let tty = record.config.is_some_and(|config| config.tty);
        let [stdin, stdout, stderr] = wants;
        // All output of a terminal is its stdout.
        let stderr = stderr && !tty;
        let pipes = make_output_pipes([stdout, stderr]).map_err(|e| failed("make pipes", &e))?;
        let (ours, theirs): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let mut connection = sandbox.shim.connect()?;
        let sent: Vec<_> = theirs.iter().flatten().map(AsFd::as_fd).collect();
        let request = Request::Attach { container: container.id.clone(), stdin: stdin || tty, stdout, stderr };
        let (_, files) = connection.ask(&request, &sent).await?;
        drop(theirs);
        let streams = (|| {
            let input = files.into_iter().next();
            let terminal = match &input {
                Some(input) if tty => Some(rustix::io::fcntl_dupfd_cloexec(input, 3)?),
                _ => None,
            };
            let mut ours = ours.into_iter();
            let mut take = || ours.next().flatten().map(ProcessStream::new).transpose();
            Ok::<_, io::Error>(AttachStreams {
                stdout: take()?,
                stderr: take()?,
                stdin: input.filter(|_| stdin).map(ProcessStream::new).transpose()?,
                terminal,
                shim: sandbox.shim.clone(),
                container: container.id.clone(),
                _connection: connection,
            })
        })();
        streams.map_err(|e| failed("open the streams", &e))
    }

    /// Connects to a port in a sandbox's network, on its loopback address, IPv4 first.
    ///
    /// # Errors
    /// If the sandbox is not ready or nobody listens.
    pub async fn connect_port(&self, sandbox: &str, port: u16) -> Result<TcpStream, Error> {
        let sandbox = self.sandbox(sandbox)?;
        if !sandbox.is_ready() {
            return Err(not_ready(&sandbox.id));
        }
        let pid = sandbox.record.lock().shim_pid;
        let own_network = crate::sandbox::Namespaces::of(&sandbox.config()).network;
        // A socket belongs to the namespace that its thread was in when it was made. The thread ends with its visit.
        let made = tokio::task::spawn_blocking(move || {
            let visit = std::thread::Builder::new().name("port-forward".to_owned()).spawn(move || {
                if own_network {
                    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
                    rustix::thread::move_into_link_name_space(
                        namespace.as_fd(),
                        Some(rustix::thread::LinkNameSpaceType::Network),
                    )?;
                }
                let addresses =
                    [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
                std::net::TcpStream::connect(addresses.as_slice())
            })?;
            visit.join().unwrap_or_else(|_| Err(io::Error::other("the visit to the namespace failed")))
        });
        let stream = made.await.map_err(|e| failed("enter the sandbox's network", &e))?;
        let stream = stream.and_then(|stream| {
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        });
        stream.map_err(|e| {
            Error::unknown(format!("failed to connect to localhost:{port} inside namespace {:?}: {e}", sandbox.id))
        })
    }

    fn running(
        &self,
        container: &Container,
    ) -> Result<(std::sync::Arc<Sandbox>, crate::record::ContainerRecord), Error> {
        let record = container.record.lock().clone();
        if record.state() != v1::ContainerState::Running {
            let state = match record.state() {
                v1::ContainerState::Created => "CONTAINER_CREATED",
                v1::ContainerState::Exited => "CONTAINER_EXITED",
                _ => "CONTAINER_UNKNOWN",
            };
            return Err(Error::unknown(format!("container is in {state} state")));
        }
        Ok((self.sandbox(&container.sandbox)?, record))
    }
}

type Ends = (Option<OwnedFd>, OwnedFd);

/// Pipes for stdin, stdout and stderr, ours first; what is not wanted is /dev/null.
fn make_pipes(wants: [bool; 3]) -> io::Result<Vec<Ends>> {
    let mut out = Vec::new();
    for (index, wanted) in wants.into_iter().enumerate() {
        if !wanted {
            let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, 0.into())?;
            out.push((None, null));
            continue;
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        out.push(if index == 0 { (Some(writer), reader) } else { (Some(reader), writer) });
    }
    Ok(out)
}

fn make_output_pipes(wants: [bool; 2]) -> io::Result<Vec<(Option<OwnedFd>, Option<OwnedFd>)>> {
    let mut out = Vec::new();
    for wanted in wants {
        if !wanted {
            out.push((None, None));
            continue;
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // The shim must never wait for us.
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK)?;
        // A smaller pipe than asked for does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, ATTACH_PIPE_BYTES);
        out.push((Some(reader), Some(writer)));
    }
    Ok(out)
}
