//! A small HTTP/1.1 client over TLS: one connection, one request at a time, and no more work than needed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// JSON, as clients ask for it.
pub(crate) const JSON: &str = "application/json";
/// Kubernetes' protobuf.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A server's address and the credentials to speak to it.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Target {
    /// Reads the kubeconfig that the server wrote.
    pub(crate) fn from_kubeconfig(address: SocketAddr, path: &Path) -> Result<Target> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&embedded(&text, "certificate-authority-data")?) {
            roots.add(certificate.context("read the CA certificate")?).context("trust the CA certificate")?;
        }
        let chain = CertificateDer::pem_slice_iter(&embedded(&text, "client-certificate-data")?)
            .collect::<Result<Vec<_>, _>>()
            .context("read the client certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&embedded(&text, "client-key-data")?).context("read the client key")?;
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .context("use the client certificate")?;
        Ok(Target { address, tls: Arc::new(tls) })
    }

    /// Opens one connection, and drives it on the calling runtime.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await.context("connect")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.context("shake hands")?;
        let (sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("start HTTP")?;
        tokio::spawn(driver);
        Ok(Connection { sender, host: self.address.to_string() })
    }
}

/// The decoded value of a `key: base64` line of a kubeconfig.
fn embedded(kubeconfig: &str, key: &str) -> Result<Vec<u8>> {
    let value = kubeconfig
        .lines()
        .find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(':'))
        .with_context(|| format!("the kubeconfig has no {key}"))?;
    let value = value.trim().trim_matches('"');
    base64::engine::general_purpose::STANDARD.decode(value).with_context(|| format!("decode {key}"))
}

/// One request.
pub(crate) struct Call {
    /// The HTTP method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// What the answer shall be encoded in.
    pub(crate) accept: &'static str,
    /// A JSON body, or nothing.
    pub(crate) body: Bytes,
}

impl Call {
    /// Reads a path as JSON.
    pub(crate) fn get(path: impl Into<String>) -> Call {
        Call { method: Method::GET, path: path.into(), accept: JSON, body: Bytes::new() }
    }

    /// Creates an object.
    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Call {
        Call { method: Method::POST, path: path.into(), accept: JSON, body: body.into() }
    }

    /// Replaces an object.
    pub(crate) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Call {
        Call { method: Method::PUT, path: path.into(), accept: JSON, body: body.into() }
    }
}

/// One connection to the server.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    /// Sends a request, and returns the answer once its headers are there; anything but success is an error.
    pub(crate) async fn send(&mut self, call: Call) -> Result<Response<Incoming>> {
        let what = format_args!("{} {}", call.method, call.path).to_string();
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::HOST, &self.host)
            .header(header::ACCEPT, call.accept);
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, JSON);
        }
        let request = request.body(Full::new(call.body)).context("build the request")?;
        self.sender.ready().await.with_context(|| what.clone())?;
        let response = self.sender.send_request(request).await.with_context(|| what.clone())?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            anyhow::bail!("{what}: {status}: {}", String::from_utf8_lossy(&body));
        }
        ensure!(!response.headers().contains_key(header::CONTENT_ENCODING), "{what}: the answer is compressed");
        Ok(response)
    }

    /// Sends a request and reads the answer to its end, which is dropped: its length returns.
    pub(crate) async fn drain(&mut self, call: Call) -> Result<usize> {
        let mut body = self.send(call).await?.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.context("read the answer")?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }

    /// Sends a request and returns the whole answer.
    pub(crate) async fn text(&mut self, call: Call) -> Result<String> {
        let body = self.send(call).await?.into_body().collect().await.context("read the answer")?;
        String::from_utf8(body.to_bytes().into()).context("the answer is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::embedded;

    fn check(kubeconfig: &str, expect: Option<&str>) {
        let found = embedded(kubeconfig, "client-key-data").ok();
        assert_eq!(found.as_deref(), expect.map(str::as_bytes), "{kubeconfig}");
    }

    #[test]
    fn embedded_values_are_found_and_decoded() {
        check("users:\n- user:\n    client-key-data: aGVsbG8=\n", Some("hello"));
        check("users:\n- user:\n    client-key-data: \"aGVsbG8=\"\n", Some("hello"));
        check("users:\n- client-key-data: aGVsbG8=\n", Some("hello"));
        check("users:\n- user:\n    client-key: aGVsbG8=\n", None);
        check("client-key-data: not base64\n", None);
    }
}
