//! Handlers that containers name: commands in them, requests to them, pauses. Used by lifecycle hooks and probes.

use std::sync::Arc;
use std::time::Duration;

use api_schema::Value;
use cri::RuntimeService;
use cri::v1::ExecSyncRequest;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::pod::Container;

/// The most of an answer that is read, in bytes.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// What a handler said: its words, and whether it is content.
pub(crate) type Verdict = Result<String, String>;

/// Runs the handler in `value`: `exec`, `httpGet`, `tcpSocket`, `grpc` or `sleep`. `host` is where the container is
/// reached unless the handler names another one.
pub(crate) async fn run(
    runtime: &Arc<dyn RuntimeService>,
    container: Container<'_>,
    container_id: &str,
    value: &Value,
    host: &str,
    timeout: Duration,
) -> Verdict {
    if value.get("exec").is_some() {
        return exec(runtime, container_id, value, timeout).await;
    }
    if let Some(seconds) = value.int_at(&["sleep", "seconds"]) {
        tokio::time::sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).await;
        return Ok(String::new());
    }
    let attempt = async {
        if let Some(get) = value.get("httpGet") {
            http_get(container, get, host).await
        } else if let Some(socket) = value.get("tcpSocket") {
            tcp_connect(container, socket, host).await
        } else if let Some(grpc) = value.get("grpc") {
            grpc_check(grpc, host).await
        } else {
            Err("missing probe handler".to_owned())
        }
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(verdict) => verdict,
        Err(_) => Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()),
    }
}

async fn exec(runtime: &Arc<dyn RuntimeService>, container_id: &str, value: &Value, timeout: Duration) -> Verdict {
    let command = value.list_at(&["exec", "command"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let request = ExecSyncRequest {
        container_id: container_id.to_owned(),
        cmd: command,
        timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
    };
    match runtime.exec_sync(request).await {
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            output.truncate(BODY_BYTES_MAX);
            let output = String::from_utf8_lossy(&output).into_owned();
            if answer.exit_code == 0 { Ok(output) } else { Err(output) }
        }
        Err(error) if error.code == cri::Code::DeadlineExceeded => Err(format!("command timed out: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A port by number, or by the name that the container gives it.
fn port(container: Container<'_>, value: &Value) -> Result<u16, String> {
    let invalid = |port: &dyn std::fmt::Display| format!("invalid port number: {port}");
    let number = |number: i64| u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| invalid(&number));
    match value.get("port") {
        Some(Value::Int(port)) => number(*port),
        Some(port) => {
            let name = port.as_str().unwrap_or_default();
            let ports = container.value().list_at(&["ports"]);
            match ports.iter().find(|port| port.str_at(&["name"]) == name) {
                Some(port) => number(port.int_at(&["containerPort"]).unwrap_or(0)),
                None => name.parse().map_err(|_| format!("couldn't find port: {name}")),
            }
        }
        None => Err(invalid(&0)),
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let address = address(host, port);
    let stream = TcpStream::connect(&address).await;
    stream.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        _ => format!("dial tcp {address}: connect: {error}"),
    })
}

async fn tcp_connect(container: Container<'_>, socket: &Value, host: &str) -> Verdict {
    let host = Some(socket.str_at(&["host"])).filter(|host| !host.is_empty()).unwrap_or(host);
    connect(host, port(container, socket)?).await.map(|_| String::new())
}

async fn http_get(container: Container<'_>, get: &Value, host: &str) -> Verdict {
    let host = Some(get.str_at(&["host"])).filter(|host| !host.is_empty()).unwrap_or(host);
    let port = port(container, get)?;
    let path = match get.str_at(&["path"]) {
        "" => "/".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    let is_https = get.str_at(&["scheme"]).eq_ignore_ascii_case("https");
    let scheme = if is_https { "https" } else { "http" };
    let url = format!("{scheme}://{}{path}", address(host, port));
    let failed = |error: &dyn std::fmt::Display| format!("Get {url:?}: {error}");

    let mut request = http::Request::get(&path)
        .header("Host", address(host, port))
        .header("User-Agent", "kube-probe/1.36")
        .header("Accept", "*/*")
        .header("Connection", "close");
    for header in get.list_at(&["httpHeaders"]) {
        let (name, value) = (header.str_at(&["name"]), header.str_at(&["value"]));
        let is_own = matches!(name.to_ascii_lowercase().as_str(), "host" | "user-agent" | "accept");
        if let Some(headers) = request.headers_mut().filter(|_| is_own) {
            headers.remove(name);
        }
        // An empty Accept or User-Agent means: none.
        if !(is_own && value.is_empty()) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;

    let stream = connect(host, port).await.map_err(|error| failed(&error))?;
    let answer = if is_https {
        let stream = crate::tls::connect_unverified(stream, host).await.map_err(|error| failed(&error))?;
        send(TokioIo::new(stream), request).await
    } else {
        send(TokioIo::new(stream), request).await
    };
    let (status, body) = answer.map_err(|error| failed(&error))?;
    // A redirect is an answer: whoever gives it is up. Upstream follows it only within the same host.
    if (200..400).contains(&status) { Ok(body) } else { Err(format!("HTTP probe failed with statuscode: {status}")) }
}

async fn send<I>(io: I, request: http::Request<Empty<Bytes>>) -> Result<(u16, String), hyper::Error>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let request = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        // A body that is too long or cut off does not change the verdict.
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(request);
    tokio::select! {
        answer = &mut request => answer,
        // The connection may end before its last answer is read.
        _ = connection => request.await,
    }
}

/// Asks the standard health service (grpc.health.v1) over HTTP/2.
async fn grpc_check(grpc: &Value, host: &str) -> Verdict {
    let port = grpc.int_at(&["port"]).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    let service = grpc.str_at(&["service"]);
    let address = address(host, port);
    let stream = connect(host, port)
        .await
        .map_err(|error| format!("timeout: failed to connect service {address:?} within the deadline: {error}"))?;
    let failed = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.map_err(failed)?;
    let connection = tokio::spawn(async move { drop(connection.await) });
    // HealthCheckRequest { 1: service }, in a frame of five bytes and the message.
    let mut message = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        message.extend([0x0a, u8::try_from(service.len()).map_err(|_| "service name is too long".to_owned())?]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend(message);
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36 grpc")
        .body(http_body_util::Full::new(Bytes::from(frame)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let status_of = |headers: &http::HeaderMap| {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        text("grpc-status").map(|status| (status, text("grpc-message").unwrap_or_default()))
    };
    let early = status_of(answer.headers());
    let collected = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
    connection.abort();
    let collected = collected.map_err(|error| format!("error: health rpc probe failed: {error}"))?;
    let (status, message) =
        early.or_else(|| collected.trailers().and_then(status_of)).unwrap_or_else(|| ("2".to_owned(), String::new()));
    match status.as_str() {
        "0" => {}
        "12" => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ));
        }
        _ => return Err(format!("error: health rpc probe failed: rpc error: code = {status} desc = {message}")),
    }
    // HealthCheckResponse { 1: status }; 1 is SERVING.
    let body = collected.to_bytes();
    match body.get(5..) {
        Some([0x08, 1, ..]) => Ok("service healthy".to_owned()),
        Some([0x08, status, ..]) => Err(format!("service unhealthy (responded with {:?})", health_name(*status))),
        _ => Err(format!("service unhealthy (responded with {:?})", health_name(0))),
    }
}

fn health_name(status: u8) -> &'static str {
    match status {
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}
