//! The smallest client that tests need where curl is too slow or too polite: TLS with the administrator's certificate,
//! HTTP/1.1 on a connection that is kept, watches line by line, and any bytes at all.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::Server;

/// Longest silence of a living server; far more than any answer takes, for a machine that does much else.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Bytes to and from a server, inside TLS.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// How to reach one server.
#[derive(Clone)]
pub(crate) struct Address {
    host: String,
    tls: Arc<ClientConfig>,
}

impl Address {
    /// The address of a running server, with its administrator's certificate.
    pub(crate) fn of(server: &Server) -> Self {
        Self::speaking(server, &[])
    }

    /// As [`Self::of`], asking for one of some protocols (`h2`).
    pub(crate) fn speaking(server: &Server, protocols: &[&str]) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&server.data("certificate-authority-data")) {
            roots.add(certificate.expect("PEM")).expect("a certificate");
        }
        let chain = CertificateDer::pem_slice_iter(&server.data("client-certificate-data"))
            .collect::<Result<Vec<_>, _>>()
            .expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(&server.data("client-key-data")).expect("PEM");
        let mut tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("the certificate and its key");
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let host = server.url().strip_prefix("https://").expect("an https address").to_owned();
        Self { host, tls: Arc::new(tls) }
    }

    /// A TCP connection without TLS.
    pub(crate) fn dial(&self) -> io::Result<TcpStream> {
        let tcp = TcpStream::connect(&self.host)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(SILENCE_MAX))?;
        tcp.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(tcp)
    }

    /// A connection on which nothing has been said.
    pub(crate) fn stream(&self) -> io::Result<Stream> {
        let name = self.host.rsplit_once(':').map_or(&*self.host, |(name, _)| name).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, self.dial()?))
    }

    /// A connection for requests.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        Ok(Connection { host: self.host.clone(), stream: BufReader::new(self.stream()?) })
    }
}

/// An answer: status and body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A connection that is kept from request to request.
pub(crate) struct Connection {
    host: String,
    stream: BufReader<Stream>,
}

/// How a body ends.
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    /// Sends a request with a JSON body (or none) and reads the answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        self.send(method, path, &[("Content-Type", "application/json")], body.as_bytes())?;
        self.answer()
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.host, body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)?;
        self.stream.get_mut().flush()
    }

    /// Reads a whole answer.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (code, length) = self.head()?;
        self.body(code, length)
    }

    /// Asks for a watch. What is no stream is an answer.
    pub(crate) fn watch(mut self, path: &str) -> io::Result<Result<Watch, Answer>> {
        self.send("GET", path, &[], b"")?;
        match self.head()? {
            (200, Length::Chunked) => Ok(Ok(Watch { connection: self, buffer: Vec::new() })),
            (code, length) => self.body(code, length).map(Err),
        }
    }

    fn body(&mut self, code: u16, length: Length) -> io::Result<Answer> {
        let mut body = Vec::new();
        match length {
            Length::Known(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body)?;
            }
            Length::Chunked => while self.chunk(&mut body)? {},
        }
        Ok(Answer { code, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn head(&mut self) -> io::Result<(u16, Length)> {
        let status = self.line()?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| io::Error::other(format!("no status line: {status:?}")))?;
        let mut length = Length::Known(0);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(value.trim().parse().map_err(io::Error::other)?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        Ok((code, length))
    }

    /// Reads a chunk of a body; `false` after the last.
    fn chunk(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        let line = self.line()?;
        let length = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
        let start = into.len();
        into.resize(start + length, 0);
        self.stream.read_exact(&mut into[start..])?;
        self.line()?;
        Ok(length > 0)
    }
}

/// A running watch.
pub(crate) struct Watch {
    connection: Connection,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; none at the end of the watch.
    pub(crate) fn next(&mut self) -> io::Result<Option<serde_json::Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(io::Error::other);
            }
            if !self.connection.chunk(&mut self.buffer)? {
                return Ok(None);
            }
        }
    }
}

/// Whether an error says that the other side is gone, rather than that it is slow or wrong.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | UnexpectedEof)
}
