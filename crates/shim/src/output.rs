//! From a container's stdout or stderr to its log and to those who attached.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::log::{Lines, LogFile, now, rfc3339};

/// How much of a slow reader's output is kept for it.
const SINK_BYTES_MAX: usize = 64 * 1024;
/// How long an interactive container waits for a reader that does not read, before the reader is let go.
const SINK_PATIENCE: Duration = Duration::from_secs(10);

/// One who attached.
pub(crate) struct Sink {
    file: OwnedFd,
    stderr: bool,
    waiting: Vec<u8>,
    stuck_since: Option<Instant>,
}

impl Sink {
    pub(crate) fn new(file: OwnedFd, stderr: bool) -> Sink {
        Sink { file, stderr, waiting: Vec::new(), stuck_since: None }
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what waits; false if the reader is gone or has been patient with us for too long.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match rustix::io::write(&self.file, &self.waiting) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.stuck_since = None;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    return self.stuck_since.get_or_insert_with(Instant::now).elapsed() < SINK_PATIENCE;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Takes output. If the container may wait for its readers everything is kept, else what does not fit is left out:
    /// a reader never slows a container that merely writes.
    fn push(&mut self, bytes: &[u8], container_waits: bool) {
        let room = if container_waits { usize::MAX } else { SINK_BYTES_MAX.saturating_sub(self.waiting.len()) };
        self.waiting.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// One of a container's output streams.
pub(crate) struct Pump {
    /// The reading end of a pipe, or a terminal's master; it does not block.
    file: OwnedFd,
    stderr: bool,
    lines: Lines,
}

/// What came of reading once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Something was read; there may be more.
    Some,
    /// There is nothing now.
    Nothing,
    /// There will be no more.
    End,
}

impl Pump {
    pub(crate) fn new(file: OwnedFd, stderr: bool) -> Pump {
        Pump { file, stderr, lines: Lines::default() }
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    fn stream(&self) -> &'static str {
        if self.stderr { "stderr" } else { "stdout" }
    }

    /// Moves what is there, at most a buffer's worth.
    pub(crate) fn pump(
        &mut self,
        buffer: &mut [u8],
        log: Option<&mut LogFile>,
        sinks: &mut [Sink],
        container_waits: bool,
    ) -> Pumped {
        let count = match rustix::io::retry_on_intr(|| rustix::io::read(&self.file, &mut *buffer)) {
            Ok(0) => 0,
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN) => return Pumped::Nothing,
            // A terminal whose last process is gone says EIO.
            Err(_) => 0,
        };
        let stream = self.stream();
        if let Some(log) = log {
            let time = rfc3339(now());
            if count == 0 {
                self.lines.finish(stream, &time, &mut |parts| log.add(parts));
            } else {
                self.lines.push(&buffer[..count], stream, &time, &mut |parts| log.add(parts));
            }
            log.flush();
        }
        if count == 0 {
            return Pumped::End;
        }
        for sink in sinks.iter_mut().filter(|sink| sink.stderr == self.stderr) {
            sink.push(&buffer[..count], container_waits);
        }
        Pumped::Some
    }
}
