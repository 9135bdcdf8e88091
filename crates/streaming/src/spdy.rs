//! SPDY/3.1, the server's side, as far as Kubernetes uses it: streams that the client opens, with headers and data both
//! ways. Like upstream's library it knows no flow control of its own: what one side does not read, the connection holds
//! back.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// The largest piece of data in a frame that is sent, in bytes.
const DATA_BYTES_MAX: usize = 32 * 1024;
/// The largest frame that is taken, in bytes.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// The most that headers of one stream may unpack to, in bytes.
const HEADERS_BYTES_MAX: usize = 1 << 20;
/// How many pieces of data wait for a reader.
const PIECES_MAX: usize = 64;
/// How many streams one connection may have open.
const STREAMS_MAX: usize = 1024;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FLAG_FIN: u8 = 1;
const VERSION: u16 = 3;

/// The words that both sides know beforehand, each after its length (SPDY/3, section 2.6.10.1).
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent \
vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin";
/// And what follows them.
const TAIL: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052\
03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS.split(' ') {
        let word = word.replace('_', " ");
        dictionary.extend(u32::try_from(word.len()).unwrap_or(0).to_be_bytes());
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(TAIL.as_bytes());
    dictionary
});

/// A stream that the client has opened.
#[derive(Debug)]
pub struct Stream {
    /// Its headers, by their names in lower case.
    pub headers: HashMap<String, String>,
    /// What the client sends; it ends when the client has nothing more to say.
    pub input: mpsc::Receiver<Bytes>,
    /// What the client is sent.
    pub output: Output,
}

/// The server's half of a stream.
#[derive(Clone, Debug)]
pub struct Output {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl Output {
    /// Sends data; `false` if the connection is gone.
    pub async fn send(&self, data: Bytes) -> bool {
        let mut rest = data;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(DATA_BYTES_MAX));
            if self.frames.send(Frame::Data { id: self.id, data: piece, fin: false }).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that nothing more comes.
    pub async fn close(&self) {
        drop(self.frames.send(Frame::Data { id: self.id, data: Bytes::new(), fin: true }).await);
    }
}

#[derive(Debug)]
enum Frame {
    Data { id: u32, data: Bytes, fin: bool },
    Reply { id: u32 },
    Ping { id: u32 },
    Reset { id: u32 },
}

/// A connection. It ends when this and every [`Output`] are dropped, or the client goes.
#[derive(Debug)]
pub struct Session {
    streams: mpsc::Receiver<Stream>,
    _frames: mpsc::Sender<Frame>,
}

impl Session {
    /// The next stream that the client opens; `None` once it is gone.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

/// Speaks SPDY on a connection.
pub fn serve<I>(io: I) -> Session
where
    I: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(io);
    let (frames, mut to_send) = mpsc::channel::<Frame>(PIECES_MAX);
    let (opened, streams) = mpsc::channel(STREAMS_MAX);
    let weak = frames.downgrade();
    let reading = tokio::spawn(async move {
        let inputs: Inputs = Arc::default();
        let mut headers = HeaderReader::new();
        while let Ok(Some(frame)) = read_frame(&mut reader).await {
            let Some(frames) = weak.upgrade() else { break };
            if take(frame, &mut headers, &inputs, &frames, &opened).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        let mut headers = HeaderWriter::new();
        while let Some(frame) = to_send.recv().await {
            let Ok(bytes) = write_frame(&frame, &mut headers) else { break };
            if writer.write_all(&bytes).await.is_err() || (to_send.is_empty() && writer.flush().await.is_err()) {
                break;
            }
        }
        drop(writer.shutdown().await);
        reading.abort();
    });
    Session { streams, _frames: frames }
}

/// Where the data of each stream goes.
type Inputs = Arc<Mutex<HashMap<u32, mpsc::Sender<Bytes>>>>;

struct Received {
    /// `None` for data.
    control: Option<u16>,
    id: u32,
    flags: u8,
    payload: Vec<u8>,
}

async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Received>> {
    let mut head = [0; 8];
    match reader.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let length = usize::try_from(u32::from_be_bytes([0, head[5], head[6], head[7]])).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await?;
    let is_control = first >> 31 == 1;
    if is_control && (first >> 16) & 0x7fff != u32::from(VERSION) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is of another version"));
    }
    let control = is_control.then_some((first & 0xffff) as u16);
    let id = match control {
        None => first & 0x7fff_ffff,
        Some(_) => payload.first_chunk().map_or(0, |id| u32::from_be_bytes(*id) & 0x7fff_ffff),
    };
    Ok(Some(Received { control, id, flags: head[4], payload }))
}

async fn take(
    frame: Received,
    headers: &mut HeaderReader,
    inputs: &Inputs,
    frames: &mpsc::Sender<Frame>,
    opened: &mpsc::Sender<Stream>,
) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let Received { control, id, flags, payload } = frame;
    let is_last = flags & FLAG_FIN != 0;
    match control {
        None => {
            let input = inputs.lock().get(&id).cloned();
            if let Some(input) = input
                && !payload.is_empty()
            {
                // A reader that is gone does not stop the others.
                drop(input.send(Bytes::from(payload)).await);
            }
            if is_last {
                inputs.lock().remove(&id);
            }
        }
        Some(SYN_STREAM) => {
            let block = payload.get(10..).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a short frame"))?;
            let headers = headers.read(block)?;
            if inputs.lock().len() >= STREAMS_MAX {
                return frames.send(Frame::Reset { id }).await.map_err(|_| gone());
            }
            let (input, received) = mpsc::channel(PIECES_MAX);
            if !is_last {
                inputs.lock().insert(id, input);
            }
            frames.send(Frame::Reply { id }).await.map_err(|_| gone())?;
            let output = Output { id, frames: frames.clone() };
            drop(opened.send(Stream { headers, input: received, output }).await);
        }
        Some(RST_STREAM) => {
            inputs.lock().remove(&id);
        }
        Some(PING) => {
            let id = payload.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
            frames.send(Frame::Ping { id }).await.map_err(|_| gone())?;
        }
        Some(GOAWAY) => return Err(gone()),
        Some(_) => {}
    }
    Ok(())
}

fn write_frame(frame: &Frame, headers: &mut HeaderWriter) -> io::Result<Vec<u8>> {
    let control = |kind: u16, flags: u8, payload: &[u8]| {
        let mut bytes = Vec::with_capacity(8 + payload.len());
        bytes.extend((0x8000 | VERSION).to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(((u32::from(flags) << 24) | u32::try_from(payload.len()).unwrap_or(0)).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    };
    Ok(match frame {
        Frame::Data { id, data, fin } => {
            let mut bytes = Vec::with_capacity(8 + data.len());
            bytes.extend(id.to_be_bytes());
            let flags = u32::from(if *fin { FLAG_FIN } else { 0 }) << 24;
            bytes.extend((flags | u32::try_from(data.len()).unwrap_or(0)).to_be_bytes());
            bytes.extend_from_slice(data);
            bytes
        }
        Frame::Reply { id } => {
            let mut payload = id.to_be_bytes().to_vec();
            payload.extend(headers.write_none()?);
            control(SYN_REPLY, 0, &payload)
        }
        Frame::Ping { id } => control(PING, 0, &id.to_be_bytes()),
        Frame::Reset { id } => {
            // REFUSED_STREAM
            let payload = [id.to_be_bytes(), 3_u32.to_be_bytes()].concat();
            control(RST_STREAM, 0, &payload)
        }
    })
}

/// Unpacks headers; one for all of a connection, for each block leans on those before it.
struct HeaderReader(Decompress);

impl HeaderReader {
    fn new() -> HeaderReader {
        HeaderReader(Decompress::new(true))
    }

    fn read(&mut self, block: &[u8]) -> io::Result<HashMap<String, String>> {
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut text = Vec::with_capacity(4096);
        let mut rest = block;
        loop {
            if text.len() == text.capacity() {
                if text.len() >= HEADERS_BYTES_MAX {
                    return Err(bad("headers are too long".to_owned()));
                }
                text.reserve(text.len());
            }
            let (read_before, wrote_before) = (self.0.total_in(), self.0.total_out());
            let done = self.0.decompress_vec(rest, &mut text, FlushDecompress::Sync);
            if let Err(error) = &done {
                if error.needs_dictionary().is_none() {
                    return Err(bad(error.to_string()));
                }
                self.0.set_dictionary(&DICTIONARY).map_err(|error| bad(error.to_string()))?;
            }
            let read = usize::try_from(self.0.total_in() - read_before).unwrap_or(usize::MAX);
            rest = rest.get(read..).unwrap_or_default();
            let wrote = self.0.total_out() - wrote_before;
            if rest.is_empty() && text.len() < text.capacity() {
                break;
            }
            if read == 0 && wrote == 0 && done.is_ok() && text.len() < text.capacity() {
                return Err(bad("headers cannot be unpacked".to_owned()));
            }
        }
        parse_headers(&text).ok_or_else(|| bad("headers are cut off".to_owned()))
    }
}

fn parse_headers(text: &[u8]) -> Option<HashMap<String, String>> {
    let (count, mut rest) = text.split_first_chunk::<4>()?;
    let count = u32::from_be_bytes(*count);
    let mut headers = HashMap::new();
    let mut take = || -> Option<String> {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*head)).ok()?;
        let (value, tail) = tail.split_at_checked(length)?;
        rest = tail;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    for _ in 0..count {
        let (name, value) = (take()?, take()?);
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Some(headers)
}

/// Packs headers; one for all of a connection.
struct HeaderWriter {
    compress: Compress,
    has_dictionary: bool,
}

impl HeaderWriter {
    fn new() -> HeaderWriter {
        HeaderWriter { compress: Compress::new(Compression::fast(), true), has_dictionary: false }
    }

    /// An empty block of headers.
    fn write_none(&mut self) -> io::Result<Vec<u8>> {
        if !self.has_dictionary {
            self.compress.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
            self.has_dictionary = true;
        }
        let mut block = Vec::with_capacity(256);
        self.compress.compress_vec(&0_u32.to_be_bytes(), &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's side, for tests.
    struct Client {
        compress: Compress,
        next: u32,
    }

    impl Client {
        fn new() -> Client {
            let mut compress = Compress::new(Compression::default(), true);
            compress.set_dictionary(&DICTIONARY).expect("a dictionary");
            Client { compress, next: 1 }
        }

        fn open(&mut self, headers: &[(&str, &str)]) -> (u32, Vec<u8>) {
            let mut text = u32::try_from(headers.len()).expect("few").to_be_bytes().to_vec();
            for (name, value) in headers {
                for word in [name, value] {
                    text.extend(u32::try_from(word.len()).expect("short").to_be_bytes());
                    text.extend_from_slice(word.as_bytes());
                }
            }
            let mut block = Vec::with_capacity(65536);
            self.compress.compress_vec(&text, &mut block, FlushCompress::Sync).expect("compress");
            let id = self.next;
            self.next += 2;
            let mut payload = id.to_be_bytes().to_vec();
            payload.extend([0; 6]);
            payload.extend(block);
            let mut frame = vec![0x80, 3, 0, 1, 0];
            frame.extend_from_slice(&u32::try_from(payload.len()).expect("short").to_be_bytes()[1..]);
            frame.extend(payload);
            (id, frame)
        }

        fn data(id: u32, data: &[u8], fin: bool) -> Vec<u8> {
            write_frame(&Frame::Data { id, data: Bytes::copy_from_slice(data), fin }, &mut HeaderWriter::new())
                .expect("a frame")
        }
    }

    #[test]
    fn the_dictionary_is_that_of_the_specification() {
        let sum = DICTIONARY.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        // Adler-32, as clients name it in the first block.
        assert_eq!((DICTIONARY.len(), (sum.1 << 16) | sum.0), (1423, 0xe3c6_a7c2));
    }

    #[tokio::test]
    async fn streams_carry_headers_and_data_both_ways() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let mut streams = serve(theirs);
        let (mut read, mut write) = tokio::io::split(ours);
        let mut client = Client::new();
        for number in 0..3 {
            let (id, frame) = client.open(&[("streamType", "stdout"), ("number", &number.to_string())]);
            write.write_all(&frame).await.expect("write");
            let mut stream = streams.accept().await.expect("a stream");
            assert_eq!(stream.headers["streamtype"], "stdout");
            assert_eq!(stream.headers["number"], number.to_string());
            write.write_all(&Client::data(id, b"hello", true)).await.expect("write");
            assert_eq!(stream.input.recv().await.as_deref(), Some(&b"hello"[..]));
            assert_eq!(stream.input.recv().await, None);
            assert!(stream.output.send(Bytes::from(vec![7; 100_000])).await);
            stream.output.close().await;
            let reply = read_frame(&mut read).await.expect("read").expect("a frame");
            assert_eq!((reply.control, reply.id), (Some(SYN_REPLY), id));
            let mut total = 0;
            loop {
                let frame = read_frame(&mut read).await.expect("read").expect("a frame");
                assert_eq!((frame.control, frame.id), (None, id));
                total += frame.payload.len();
                if frame.flags & FLAG_FIN != 0 {
                    break;
                }
            }
            assert_eq!(total, 100_000);
        }
        drop(streams);
    }

    #[tokio::test]
    async fn pings_are_answered_and_rubbish_ends_the_connection() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let mut streams = serve(theirs);
        let (mut read, mut write) = tokio::io::split(ours);
        let mut client = Client::new();
        let (_, frame) = client.open(&[("a", "b")]);
        write.write_all(&frame).await.expect("write");
        let stream = streams.accept().await.expect("a stream");
        write.write_all(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]).await.expect("write");
        let reply = read_frame(&mut read).await.expect("read").expect("a frame");
        assert_eq!(reply.control, Some(SYN_REPLY));
        let ping = read_frame(&mut read).await.expect("read").expect("a frame");
        assert_eq!((ping.control, ping.payload), (Some(PING), vec![0, 0, 0, 9]));
        write.write_all(&[0x80, 9, 9, 9, 9, 0, 0, 0]).await.expect("write");
        assert!(streams.accept().await.is_none());
        drop((stream, streams));
        assert!(read_frame(&mut read).await.expect("read").is_none());
    }
}
