//! The CRI log format: `2026-11-23T18:00:00.000000000Z stdout F line`, a line of more than 16 KiB in several entries (`P`).

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// A longer line is cut into entries of this size, as containerd does.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
/// How much formatted text is gathered before it is written.
const WRITE_BYTES: usize = 64 * 1024;

/// Cuts a stream of bytes into lines. It holds the unfinished end of the last one, which is bounded.
#[derive(Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Formats the lines that `bytes` completes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], stream: &str, time: &str, out: &mut dyn FnMut(&[&[u8]])) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let room = LINE_BYTES_MAX - self.rest.len();
            let part = end.unwrap_or(bytes.len());
            if part > room {
                // The line is too long, and it is known to go on.
                entry(time, stream, "P", &self.rest, &bytes[..room], out);
                self.rest.clear();
                bytes = &bytes[room..];
                continue;
            }
            match end {
                Some(end) => {
                    entry(time, stream, "F", &self.rest, &bytes[..end], out);
                    self.rest.clear();
                    bytes = &bytes[end + 1..];
                }
                None => {
                    self.rest.extend_from_slice(bytes);
                    bytes = &[];
                }
            }
        }
    }

    /// Formats what is left at the end of the stream: a line without its end.
    pub(crate) fn finish(&mut self, stream: &str, time: &str, out: &mut dyn FnMut(&[&[u8]])) {
        if !self.rest.is_empty() {
            entry(time, stream, "P", &self.rest, &[], out);
        }
        self.rest = Vec::new();
    }
}

fn entry(time: &str, stream: &str, tag: &str, head: &[u8], tail: &[u8], out: &mut dyn FnMut(&[&[u8]])) {
    out(&[time.as_bytes(), b" ", stream.as_bytes(), b" ", tag.as_bytes(), b" ", head, tail, b"\n"]);
}

/// A log file, and what the disk did not take yet.
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
    bytes: u64,
    bytes_max: u64,
    told_full: bool,
}

impl LogFile {
    /// Opens the file to add to it; its folder is made.
    pub(crate) fn open(path: PathBuf, bytes_max: u64) -> io::Result<LogFile> {
        let mut log = LogFile { path, file: None, pending: Vec::new(), bytes: 0, bytes_max, told_full: false };
        log.reopen()?;
        Ok(log)
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Opens the file anew: the old one was moved away. What is pending goes to the new one.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = File::options();
        options.create(true).append(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let file = options.open(&self.path)?;
        self.bytes = file.metadata()?.len();
        self.told_full = false;
        self.file = Some(file);
        Ok(())
    }

    /// Whether the disk lags: then nothing more may be read from the container.
    pub(crate) fn is_stuck(&self) -> bool {
        self.pending.len() >= WRITE_BYTES
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Adds parts of an entry; they are written when enough has come together, or by [`LogFile::flush`].
    pub(crate) fn add(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.pending.extend_from_slice(part);
        }
        if self.pending.len() >= WRITE_BYTES {
            self.flush();
        }
    }

    /// Writes what is pending. What the disk does not take (it is full) stays pending: no line is lost.
    pub(crate) fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        let mut done = 0;
        while done < self.pending.len() {
            match file.write(&self.pending[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.bytes += done as u64;
        self.pending.drain(..done);
        if self.pending.capacity() > 4 * WRITE_BYTES {
            self.pending.shrink_to(WRITE_BYTES);
        }
    }

    /// True once for a file that has grown past its bound.
    pub(crate) fn became_full(&mut self) -> bool {
        let full = self.bytes_max != 0 && self.bytes > self.bytes_max && !self.told_full;
        self.told_full |= full;
        full
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A time as RFC 3339 in UTC with nine digits after the second.
pub(crate) fn rfc3339(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March put the leap day last; eras of 400 years repeat.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds chunks and shows the entries, long ones by their length.
    fn check(chunks: &[&str], expect: &[&str]) {
        let mut lines = Lines::default();
        let mut entries = Vec::new();
        let mut out = |parts: &[&[u8]]| {
            let text = String::from_utf8(parts.concat()).expect("text");
            let (head, body) = text.strip_suffix('\n').expect("a line").split_at("T stdout F".len());
            let body = body.trim_start_matches(' ');
            let shown = if body.len() > 20 { body.len().to_string() } else { body.to_owned() };
            entries.push(format!("{} {shown}", head.rsplit(' ').next().unwrap_or_default()));
        };
        for chunk in chunks {
            lines.push(chunk.as_bytes(), "stdout", "T", &mut out);
        }
        lines.finish("stdout", "T", &mut out);
        assert_eq!(entries, expect);
    }

    #[test]
    fn lines_are_cut_at_their_ends_only() {
        check(&["a\nb", "c\n", "\n"], &["F a", "F bc", "F "]);
    }

    #[test]
    fn a_stream_that_ends_within_a_line_ends_with_a_part() {
        check(&["a\nb"], &["F a", "P b"]);
    }

    #[test]
    fn a_line_of_the_greatest_length_is_whole_and_a_longer_one_is_in_parts() {
        let long = "x".repeat(LINE_BYTES_MAX);
        check(&[&long, "\n"], &["F 16384"]);
        check(&[&long, "y\n"], &["P 16384", "F y"]);
        check(&[&long, &long, "\n"], &["P 16384", "F 16384"]);
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(rfc3339(1_795_456_027_123_456_789), "2026-11-23T17:47:07.123456789Z");
    }
}
