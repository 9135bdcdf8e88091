//! The smallest HTTP/1.1 client that can ask an API server anything, good or bad.
//!
//! It writes exactly the bytes a script says (a library would refuse half of the malformed requests) and shares
//! no code with the server under test. One connection per request: a script never sees another's leftovers.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};

use crate::Error;

/// Longest silence of a server that is still waited for.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How requests prove who they are when a script does not say.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A client certificate: PEM of the chain and of the key.
    Certificate {
        /// PEM certificates.
        certificate: Vec<u8>,
        /// PEM private key.
        key: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
}

/// Where the API server is, and the administrator's credentials.
#[derive(Debug, Clone)]
pub struct Target {
    /// `https://host:port`
    pub url: String,
    /// PEM of the authority that signed the serving certificate; none: any certificate is taken.
    pub ca: Option<Vec<u8>>,
    /// The administrator's credentials.
    pub admin: Credentials,
}

/// One request, ready to be sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// One answer, read to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// All values of a header, in order.
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// A client of one target.
#[derive(Debug)]
pub(crate) struct Client {
    host: String,
    server_name: ServerName<'static>,
    with_certificate: Arc<ClientConfig>,
    without_certificate: Arc<ClientConfig>,
    token: Option<String>,
}

impl Client {
    /// Reads the target's PEM files; nothing is connected yet.
    pub(crate) fn new(target: &Target) -> Result<Self, Error> {
        let bad = |what: String| Error::Target(what);
        let host = target
            .url
            .strip_prefix("https://")
            .ok_or_else(|| bad(format!("{}: only https:// is spoken", target.url)))?
            .trim_end_matches('/')
            .to_owned();
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).trim_matches(['[', ']']).to_owned();
        let server_name = ServerName::try_from(name).map_err(|e| bad(format!("{}: {e}", target.url)))?;
        let builder = || -> Result<_, Error> {
            let builder = ClientConfig::builder();
            Ok(match &target.ca {
                Some(pem) => {
                    let mut roots = RootCertStore::empty();
                    for certificate in CertificateDer::pem_slice_iter(pem) {
                        let certificate = certificate.map_err(|e| bad(format!("CA: {e}")))?;
                        roots.add(certificate).map_err(|e| bad(format!("CA: {e}")))?;
                    }
                    builder.with_root_certificates(roots)
                }
                None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer)),
            })
        };
        let without_certificate = Arc::new(builder()?.with_no_client_auth());
        let (with_certificate, token) = match &target.admin {
            Credentials::Token(token) => (without_certificate.clone(), Some(token.clone())),
            Credentials::Certificate { certificate, key } => {
                let chain = CertificateDer::pem_slice_iter(certificate)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| bad(format!("client certificate: {e}")))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad(format!("client key: {e}")))?;
                let config = builder()?
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| bad(format!("client certificate: {e}")))?;
                (Arc::new(config), None)
            }
        };
        Ok(Self { host, server_name, with_certificate, without_certificate, token })
    }

    /// Sends one request and reads the whole answer. A request that brings its own `Authorization` (even an empty
    /// one) is sent without the administrator's credentials.
    pub(crate) fn send(&self, request: &Request) -> io::Result<Response> {
        let own_credentials = request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("authorization"));
        let config = if own_credentials { &self.without_certificate } else { &self.with_certificate };
        let connection = ClientConnection::new(config.clone(), self.server_name.clone())
            .map_err(|e| io::Error::other(e.to_string()))?;
        let tcp = TcpStream::connect(&self.host)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(READ_TIMEOUT))?;
        tcp.set_write_timeout(Some(READ_TIMEOUT))?;
        let mut stream = StreamOwned::new(connection, tcp);
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", request.method, request.path, self.host);
        if !request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("user-agent")) {
            head.push_str("User-Agent: kubox-conformance/1\r\n");
        }
        if let (Some(token), false) = (&self.token, own_credentials) {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in &request.headers {
            if !(name.eq_ignore_ascii_case("authorization") && value.is_empty()) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        if !request.body.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
        }
        head.push_str("\r\n");
        // A server may refuse a request before it has read all of it: the answer counts, not the broken pipe.
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&request.body))
            .and_then(|()| stream.flush());
        match (read_response(&mut stream, &request.method), sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(e)) => Err(e),
            (Err(e), Ok(())) => Err(e),
        }
    }
}

/// Reads one answer: head, then a body by length, by chunks or to the end of the connection.
fn read_response(stream: &mut impl Read, method: &str) -> io::Result<Response> {
    let mut reader = Buffered { stream, buffer: Vec::new(), start: 0 };
    loop {
        let line = reader.line()?;
        let mut words = line.splitn(3, ' ');
        let (version, status) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let status: u16 = match (version.starts_with("HTTP/1."), status.parse()) {
            (true, Ok(status)) => status,
            _ => return Err(invalid(format!("not an HTTP status line: {line:?}"))),
        };
        let mut headers = Vec::new();
        loop {
            let line = reader.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("not a header: {line:?}")))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if method == "HEAD" || matches!(status, 101 | 204 | 304) {
            return Ok(response);
        }
        response.body = if response.header("transfer-encoding").any(|v| v.eq_ignore_ascii_case("chunked")) {
            reader.chunks()?
        } else if let Some(length) = response.header("content-length").next() {
            let length = length.parse().map_err(|_| invalid(format!("bad Content-Length {length:?}")))?;
            reader.exactly(length)?
        } else {
            reader.rest()?
        };
        return Ok(response);
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct Buffered<'a, R> {
    stream: &'a mut R,
    buffer: Vec<u8>,
    start: usize,
}

impl<R: Read> Buffered<'_, R> {
    /// Reads more; `false` at the end of the connection.
    fn more(&mut self) -> io::Result<bool> {
        if self.buffer.len() > ANSWER_BYTES_MAX {
            return Err(invalid(format!("answer longer than {ANSWER_BYTES_MAX} bytes")));
        }
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(n > 0)
            }
            // Servers close without TLS's goodbye after `Connection: close`.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer[self.start..].iter().position(|b| *b == b'\n') {
                let line = &self.buffer[self.start..self.start + end];
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
                self.start += end + 1;
                return Ok(line);
            }
            if !self.more()? {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed before it had answered"));
            }
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() - self.start < length {
            if !self.more()? {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body is shorter than promised"));
            }
        }
        self.start += length;
        Ok(self.buffer[self.start - length..self.start].to_vec())
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid(format!("bad chunk size {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend_from_slice(&self.exactly(size)?);
            self.line()?;
        }
    }

    fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.more()? {}
        Ok(self.buffer.split_off(self.start))
    }
}

/// Takes any server: for a target whose authority is not at hand.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expect: Result<(u16, &str), io::ErrorKind>) {
        let answer = read_response(&mut bytes.as_bytes(), "GET");
        let answer = answer.map(|r| (r.status, String::from_utf8(r.body).unwrap())).map_err(|e| e.kind());
        assert_eq!(answer, expect.map(|(status, body)| (status, body.to_owned())));
    }

    #[test]
    fn bodies_end_by_length_by_chunks_or_by_closing() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", Ok((200, "ab")));
        check(
            "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n",
            Ok((201, "abcd")),
        );
        check("HTTP/1.0 200 OK\r\n\r\nto the end", Ok((200, "to the end")));
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", Ok((404, "")));
    }

    #[test]
    fn broken_answers_are_errors() {
        check("SSH-2.0\r\n", Err(io::ErrorKind::InvalidData));
        check("HTTP/1.1 200 OK\r\n", Err(io::ErrorKind::UnexpectedEof));
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Err(io::ErrorKind::UnexpectedEof));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Err(io::ErrorKind::InvalidData));
    }
}
