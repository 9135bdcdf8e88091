//! One process and its client: what the client sends and gets, whatever the protocol.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use runtime::{Runtime, TerminalSize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::spdy::{Output, Session};
use crate::websocket::Piece;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;

/// How much of a process's output is sent at once, in bytes.
const OUTPUT_BYTES: usize = 32 * 1024;
/// How long a client may take to open its streams.
const STREAMS_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the output of a process that has ended is waited for: something it left behind may hold it open.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// A client: what it sends by channel, and the way back.
pub(crate) struct Client {
    input: mpsc::Receiver<Piece>,
    answer: Answer,
}

/// The way back to a client.
struct Answer {
    output: Back,
    /// Whether it reads a Status object at the end (protocol v4 and later), or only text.
    reads_status: bool,
}

enum Back {
    WebSocket(mpsc::Sender<Piece>),
    /// The session is held, for the connection ends with it.
    Spdy {
        outputs: HashMap<u8, Output>,
        _session: Session,
    },
}

impl Back {
    async fn send(&self, channel: u8, data: Bytes) -> bool {
        match self {
            Back::WebSocket(pieces) => pieces.send(Piece::Data(channel, data)).await.is_ok(),
            Back::Spdy { outputs, .. } => match outputs.get(&channel) {
                Some(output) => output.send(data).await,
                None => true,
            },
        }
    }

    async fn close(&self, channel: u8) {
        match self {
            Back::WebSocket(pieces) => drop(pieces.send(Piece::Close(channel)).await),
            Back::Spdy { outputs, .. } => {
                if let Some(output) = outputs.get(&channel) {
                    output.close().await;
                }
            }
        }
    }
}

impl Client {
    /// A client that speaks channels in WebSocket messages.
    pub(crate) fn websocket(output: mpsc::Sender<Piece>, input: mpsc::Receiver<Piece>, reads_status: bool) -> Client {
        Client { input, answer: Answer { output: Back::WebSocket(output), reads_status } }
    }

    /// A client that opens a SPDY stream for each channel; `None` if it does not open them all in time.
    pub(crate) async fn spdy(mut session: Session, wants: Wants, version: u8) -> Option<Client> {
        let mut missing: Vec<u8> = [(true, ERROR), (wants.stdin, STDIN), (wants.stdout, STDOUT)]
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, channel)| channel)
            .collect();
        if wants.stderr && !wants.tty {
            missing.push(STDERR);
        }
        if wants.tty && version >= 3 {
            missing.push(RESIZE);
        }
        let mut outputs = HashMap::new();
        let (forward, input) = mpsc::channel(64);
        while !missing.is_empty() {
            let stream = tokio::time::timeout(STREAMS_TIME_MAX, session.accept()).await.ok()??;
            let channel = match stream.headers.get("streamtype").map(String::as_str) {
                Some("stdin") => STDIN,
                Some("stdout") => STDOUT,
                Some("stderr") => STDERR,
                Some("error") => ERROR,
                Some("resize") => RESIZE,
                _ => continue,
            };
            missing.retain(|wanted| *wanted != channel);
            outputs.insert(channel, stream.output);
            let (forward, mut data) = (forward.clone(), stream.input);
            if matches!(channel, STDIN | RESIZE) {
                tokio::spawn(async move {
                    while let Some(data) = data.recv().await {
                        if forward.send(Piece::Data(channel, data)).await.is_err() {
                            return;
                        }
                    }
                    drop(forward.send(Piece::Close(channel)).await);
                });
            }
        }
        let output = Back::Spdy { outputs, _session: session };
        Some(Client { input, answer: Answer { output, reads_status: version >= 4 } })
    }
}

impl Answer {
    async fn finish(&self, status: Value, text: String) {
        let words =
            if self.reads_status { Some(status.to_string()) } else { Some(text).filter(|text| !text.is_empty()) };
        if let Some(words) = words {
            self.output.send(ERROR, Bytes::from(words)).await;
        }
        self.output.close(ERROR).await;
    }

    async fn fail(&self, message: String) {
        let status = json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
            "message": format!("Internal error occurred: {message}"),
            "details": {"causes": [{"message": message}]},
        });
        self.finish(status, message).await;
    }

    async fn exited(&self, code: i32) {
        if code == 0 {
            return self.finish(json!({"metadata": {}, "status": "Success"}), String::new()).await;
        }
        let message = format!("command terminated with non-zero exit code: exit status {code}");
        let status = json!({
            "metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        });
        self.finish(status, message).await;
    }
}

/// What a client writes into the stream for terminal sizes.
fn terminal_size(data: &[u8]) -> Option<TerminalSize> {
    let size: Value = serde_json::from_slice(data).ok()?;
    let side = |name: &str| size.get(name).and_then(Value::as_u64).and_then(|side| u16::try_from(side).ok());
    Some(TerminalSize { width: side("Width")?, height: side("Height")? })
}

/// Copies what a process writes to a channel, until it ends.
async fn copy_out(mut from: impl tokio::io::AsyncRead + Unpin, to: &Back, channel: u8) {
    let mut buffer = vec![0; OUTPUT_BYTES];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || !to.send(channel, Bytes::copy_from_slice(&buffer[..count])).await {
            return;
        }
    }
}

/// Runs a command in a container for a client.
pub(crate) async fn exec(runtime: &Runtime, container: &str, command: Vec<String>, wants: Wants, client: Client) {
    let Client { mut input, answer } = client;
    let flags = [wants.stdin, wants.stdout, wants.stderr];
    let mut process = match runtime.exec_streams(container, command, wants.tty, flags).await {
        Ok(process) => process,
        Err(error) => return answer.fail(format!("error executing command in container: {}", error.message)).await,
    };
    let (mut stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let output = &answer.output;
    let out = async {
        let copy = |stream: Option<runtime::ProcessStream>, channel: u8| async move {
            if let Some(stream) = stream {
                copy_out(stream, output, channel).await;
            }
        };
        tokio::join!(copy(stdout, STDOUT), copy(stderr, STDERR));
    };
    tokio::pin!(out);
    let (mut code, mut drained, mut gone) = (None, false, false);
    while code.is_none() {
        tokio::select! {
            () = &mut out, if !drained => drained = true,
            piece = input.recv(), if !gone => match piece {
                Some(Piece::Data(STDIN, data)) => {
                    // A process that reads nothing more has closed its stdin.
                    if let Some(pipe) = &mut stdin
                        && pipe.write_all(&data).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some(Piece::Data(RESIZE, data)) => {
                    if let Some(size) = terminal_size(&data) {
                        drop(process.resize(size));
                    }
                }
                Some(Piece::Close(STDIN)) if !wants.tty => stdin = None,
                Some(_) => {}
                None => {
                    gone = true;
                    stdin = None;
                    // Nobody listens any more. One with a terminal is hung up on; another one may have things to do.
                    if wants.tty {
                        drop(process.kill().await);
                    }
                }
            },
            result = process.wait() => code = Some(result),
        }
    }
    if !drained {
        drop(tokio::time::timeout(DRAIN_TIME_MAX, &mut out).await);
    }
    match code {
        Some(Ok(code)) => answer.exited(code).await,
        Some(Err(error)) => answer.fail(format!("error executing command in container: {}", error.message)).await,
        None => {}
    }
}

/// Joins a client to a container's first process.
pub(crate) async fn attach(runtime: &Runtime, container: &str, wants: Wants, client: Client) {
    let Client { mut input, answer } = client;
    let flags = [wants.stdin, wants.stdout, wants.stderr];
    let mut streams = match runtime.attach_streams(container, flags).await {
        Ok(streams) => streams,
        Err(error) => return answer.fail(format!("error attaching to container: {}", error.message)).await,
    };
    let (stdout, stderr) = (streams.stdout.take(), streams.stderr.take());
    let output = &answer.output;
    let has_output = stdout.is_some() || stderr.is_some();
    let out = async {
        let copy = |stream: Option<runtime::ProcessStream>, channel: u8| async move {
            if let Some(stream) = stream {
                copy_out(stream, output, channel).await;
            }
        };
        tokio::join!(copy(stdout, STDOUT), copy(stderr, STDERR));
    };
    tokio::pin!(out);
    loop {
        tokio::select! {
            () = &mut out, if has_output => break,
            piece = input.recv() => match piece {
                Some(Piece::Data(STDIN, data)) => {
                    if let Some(pipe) = &mut streams.stdin
                        && pipe.write_all(&data).await.is_err()
                    {
                        streams.stdin = None;
                    }
                }
                Some(Piece::Data(RESIZE, data)) => {
                    if let Some(size) = terminal_size(&data) {
                        drop(streams.resize(size));
                    }
                }
                Some(Piece::Close(STDIN)) => drop(streams.close_stdin().await),
                Some(_) => {}
                // Detached: the container runs on.
                None => {
                    if streams.stdin.is_some() {
                        drop(streams.close_stdin().await);
                    }
                    return;
                }
            },
        }
    }
    answer.exited(0).await;
}
