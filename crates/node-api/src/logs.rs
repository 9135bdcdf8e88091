//! A container's log: what was asked for of the file that the runtime writes, in the CRI's form.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api_semantics::time::Timestamp;
use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

/// How much is read at once, in bytes.
const BLOCK_BYTES: usize = 64 * 1024;
/// A line without an end is passed on in pieces of this size, in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How often a log that is followed is looked at; the runtime's files say nothing by themselves to us.
const FOLLOW_PERIOD: Duration = Duration::from_millis(100);

/// What is wanted of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) limit_bytes: Option<u64>,
    /// Lines of before this are left out; nanoseconds since 1970.
    pub(crate) since: Option<i64>,
    /// `stdout` or `stderr`; both if none.
    pub(crate) stream: Option<&'static str>,
}

impl LogOptions {
    /// Reads the query of a request; `now` is in seconds.
    pub(crate) fn read(query: &[(String, String)], now: i64) -> Result<LogOptions, String> {
        let get = |name: &str| {
            let found = query.iter().rev().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
        };
        let flag = |name: &str| matches!(get(name), Some("true" | "1"));
        let number = |name: &str| {
            let parsed = get(name).map(|text| text.parse::<i64>().map_err(|_| format!("invalid {name}: {text:?}")));
            parsed.transpose()
        };
        let at_least = |name: &str, value: Option<i64>, least: i64| match value {
            Some(value) if value < least => {
                let than = if least == 0 { "or equal to 0" } else { "0" };
                Err(format!("{name}: Invalid value: {value}: must be greater than {than}"))
            }
            value => Ok(value.and_then(|value| u64::try_from(value).ok())),
        };
        let mut since = None;
        if let Some(seconds) = number("sinceSeconds")? {
            since = Some(now.saturating_sub(seconds).saturating_mul(1_000_000_000));
        }
        if let Some(text) = get("sinceTime") {
            let time = Timestamp::parse(text).map_err(|error| format!("invalid sinceTime: {error}"))?;
            since = Some(nanos(time));
        }
        Ok(LogOptions {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            tail_lines: at_least("tailLines", number("tailLines")?, 0)?,
            limit_bytes: at_least("limitBytes", number("limitBytes")?, 1)?,
            since,
            stream: match get("stream") {
                None | Some("All") => None,
                Some("Stdout") => Some("stdout"),
                Some("Stderr") => Some("stderr"),
                Some(other) => return Err(format!("stream: Unsupported value: {other:?}")),
            },
        })
    }
}

fn nanos(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

/// What a line of a log comes to: what is shown of it, if anything.
fn shown<'a>(line: &'a [u8], options: &LogOptions, is_start: &mut bool) -> Option<(&'a [u8], &'a [u8], bool)> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    let content = parts.next().unwrap_or_default();
    let is_whole = tags.split(|byte| *byte == b':').next() == Some(b"F");
    if options.stream.is_some_and(|wanted| wanted.as_bytes() != stream) {
        return None;
    }
    if let Some(since) = options.since {
        let at = std::str::from_utf8(time).ok().and_then(|text| Timestamp::parse(text).ok());
        if at.is_some_and(|at| nanos(at) < since) {
            return None;
        }
    }
    let time = if options.timestamps && *is_start { time } else { &[] };
    *is_start = is_whole;
    Some((time, content, is_whole))
}

/// Sends a log, until its end or, if it is followed, until the container's. `is_running` says whether more may come.
pub(crate) async fn send<F>(
    path: PathBuf,
    options: LogOptions,
    to: mpsc::Sender<io::Result<Bytes>>,
    is_running: impl Fn() -> F,
) where
    F: Future<Output = bool>,
{
    let result = copy(&path, &options, &to, is_running).await;
    if let Err(error) = result {
        drop(to.send(Err(error)).await);
    }
}

async fn copy<F>(
    path: &Path,
    options: &LogOptions,
    to: &mpsc::Sender<io::Result<Bytes>>,
    is_running: impl Fn() -> F,
) -> io::Result<()>
where
    F: Future<Output = bool>,
{
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut left = options.limit_bytes;
    let mut buffer: Vec<u8> = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut is_start = true;
    let mut looks = 0_u32;
    loop {
        let count = file.read(&mut block).await?;
        buffer.extend_from_slice(&block[..count]);
        let mut out = Vec::new();
        let mut done = 0;
        while let Some(end) = buffer[done..].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[done..done + end];
            done += end + 1;
            if let Some((time, content, is_whole)) = shown(line, options, &mut is_start) {
                if !time.is_empty() {
                    out.extend_from_slice(time);
                    out.push(b' ');
                }
                out.extend_from_slice(content);
                if is_whole {
                    out.push(b'\n');
                }
            }
        }
        buffer.drain(..done);
        if buffer.len() > LINE_BYTES_MAX {
            return Err(io::Error::other("a line of the log is too long"));
        }
        if let Some(left) = &mut left {
            let keep = usize::try_from(*left).unwrap_or(usize::MAX).min(out.len());
            out.truncate(keep);
            *left -= keep as u64;
        }
        if !out.is_empty() && to.send(Ok(Bytes::from(out))).await.is_err() {
            return Ok(());
        }
        if left == Some(0) {
            return Ok(());
        }
        if count > 0 {
            continue;
        }
        if !options.follow {
            return Ok(());
        }
        // At the end: either the file was exchanged for a fresh one, or more comes, or the container has ended.
        if is_other_file(&file, path).await {
            file = File::open(path).await?;
            continue;
        }
        looks += 1;
        if looks.is_multiple_of(10) && !is_running().await {
            // What was written last, between our look and its end.
            if file.read(&mut block[..1]).await? == 0 {
                return Ok(());
            }
            file.seek(SeekFrom::Current(-1)).await?;
        }
        tokio::select! {
            () = to.closed() => return Ok(()),
            () = tokio::time::sleep(FOLLOW_PERIOD) => {}
        }
    }
}

async fn is_other_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(open), Ok(named)) = (file.metadata().await, tokio::fs::metadata(path).await) else { return false };
    (open.dev(), open.ino()) != (named.dev(), named.ino())
}

/// Where the last lines of a file begin. Pieces of one line count once: a line begins where the one before was whole.
async fn tail_start(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    // What is read and not yet cut into lines: from `position` on, up to the line that was cut off last.
    let (mut position, mut rest): (u64, Vec<u8>) = (end, Vec::new());
    let mut found = 0;
    // Where the line begins that follows the one to be cut off next.
    let mut following: Option<u64> = None;
    while position > 0 {
        let size = position.min(BLOCK_BYTES as u64);
        position -= size;
        file.seek(SeekFrom::Start(position)).await?;
        let mut block = vec![0; usize::try_from(size).unwrap_or(BLOCK_BYTES)];
        file.read_exact(&mut block).await?;
        block.append(&mut rest);
        rest = block;
        if position + rest.len() as u64 == end && rest.last() == Some(&b'\n') {
            rest.pop();
        }
        while let Some(newline) = rest.iter().rposition(|byte| *byte == b'\n') {
            if let Some(start) = following.filter(|_| is_whole(&rest[newline + 1..])) {
                found += 1;
                if found == lines {
                    return Ok(start);
                }
            }
            following = Some(position + newline as u64 + 1);
            rest.truncate(newline);
        }
    }
    // The first line has none before it.
    if let Some(start) = following.filter(|_| is_whole(&rest)) {
        found += 1;
        if found == lines {
            return Ok(start);
        }
    }
    Ok(0)
}

fn is_whole(line: &[u8]) -> bool {
    line.split(|byte| *byte == b' ').nth(2).is_none_or(|tags| tags.first() != Some(&b'P'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:01.000000001Z stdout F one
2026-01-01T00:00:02.000000001Z stderr F two
2026-01-01T00:00:03.000000001Z stdout P thr
2026-01-01T00:00:03.000000002Z stdout F ee
2026-01-01T00:00:04.000000001Z stdout F four
";

    async fn read(log: &str, options: LogOptions) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("0.log");
        std::fs::write(&path, log).expect("write");
        let (to, mut from) = mpsc::channel(100);
        send(path, options, to, || async { false }).await;
        let mut text = Vec::new();
        while let Some(piece) = from.recv().await {
            text.extend_from_slice(&piece.expect("a piece"));
        }
        String::from_utf8(text).expect("text")
    }

    #[tokio::test]
    async fn logs_are_shown_as_asked() {
        let options = LogOptions::default;
        assert_eq!(read(LOG, options()).await, "one\ntwo\nthree\nfour\n");
        assert_eq!(read(LOG, LogOptions { tail_lines: Some(2), ..options() }).await, "three\nfour\n");
        assert_eq!(read(LOG, LogOptions { tail_lines: Some(0), ..options() }).await, "");
        assert_eq!(read(LOG, LogOptions { tail_lines: Some(100), ..options() }).await, "one\ntwo\nthree\nfour\n");
        assert_eq!(read(LOG, LogOptions { limit_bytes: Some(5), ..options() }).await, "one\nt");
        assert_eq!(read(LOG, LogOptions { stream: Some("stderr"), ..options() }).await, "two\n");
        let since = Timestamp::parse("2026-01-01T00:00:03Z").map(nanos).ok();
        assert_eq!(read(LOG, LogOptions { since, ..options() }).await, "three\nfour\n");
        let stamped = read(LOG, LogOptions { timestamps: true, tail_lines: Some(2), ..options() }).await;
        assert_eq!(stamped, "2026-01-01T00:00:03.000000001Z three\n2026-01-01T00:00:04.000000001Z four\n");
        assert_eq!(read(LOG, LogOptions { follow: true, ..options() }).await, "one\ntwo\nthree\nfour\n");
        assert_eq!(read("", options()).await, "");
    }

    #[tokio::test]
    async fn the_tail_is_found_in_long_logs() {
        let log: String = (0..20_000).map(|n| format!("2026-01-01T00:00:01.000000001Z stdout F line {n}\n")).collect();
        for lines in [1, 2, 1000, 19_999] {
            let text = read(&log, LogOptions { tail_lines: Some(lines), ..LogOptions::default() }).await;
            let first = text.lines().next().expect("a line");
            assert_eq!((text.lines().count() as u64, first), (lines, format!("line {}", 20_000 - lines).as_str()));
        }
    }

    #[test]
    fn options_are_checked() {
        let read = |query: &str| {
            let pairs: Vec<(String, String)> = query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            LogOptions::read(&pairs, 1_000)
        };
        assert_eq!(read("tailLines=5&follow=true").map(|o| (o.tail_lines, o.follow)), Ok((Some(5), true)));
        assert_eq!(read("sinceSeconds=10").map(|o| o.since), Ok(Some(990_000_000_000)));
        assert!(read("tailLines=-1").is_err());
        assert!(read("limitBytes=0").is_err());
        assert!(read("tailLines=x").is_err());
        assert!(read("stream=Other").is_err());
    }
}
