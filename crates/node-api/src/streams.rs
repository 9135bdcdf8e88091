//! exec, attach and port-forward: the runtime gives a URL, and the client's connection is joined to it, as kubelet does.

use bytes::Bytes;
use cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use cri::{Error, RuntimeService};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{Body, query, text};

pub(crate) async fn remote(
    runtime: &dyn RuntimeService,
    is_exec: bool,
    container_id: String,
    request: Request<Incoming>,
) -> Response<Body> {
    let query = query(&request);
    // kubelet's own names are with the API's, and those of the API server's before them.
    let flag = |names: [&str; 2]| {
        query.iter().any(|(key, value)| names.contains(&key.as_str()) && matches!(value.as_str(), "1" | "true"))
    };
    let (stdin, stdout, stderr, tty) =
        (flag(["input", "stdin"]), flag(["output", "stdout"]), flag(["error", "stderr"]), flag(["tty", "tty"]));
    if !stdin && !stdout && !stderr {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    // A terminal has one output.
    let stderr = stderr && !tty;
    let url = if is_exec {
        let cmd = query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
        let wanted = ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
        runtime.exec(wanted).await.map(|answer| answer.url)
    } else {
        let wanted = AttachRequest { container_id, stdin, tty, stdout, stderr };
        runtime.attach(wanted).await.map(|answer| answer.url)
    };
    join(url, request).await
}

pub(crate) async fn forward(
    runtime: &dyn RuntimeService,
    sandbox_id: String,
    request: Request<Incoming>,
) -> Response<Body> {
    let ports = query(&request).into_iter().filter(|(key, _)| key == "port" || key == "ports");
    let port = ports.filter_map(|(_, value)| value.parse().ok()).collect();
    let wanted = PortForwardRequest { pod_sandbox_id: sandbox_id, port };
    let url = runtime.port_forward(wanted).await.map(|answer| answer.url);
    join(url, request).await
}

/// Joins the client's connection to the runtime's.
async fn join(url: Result<String, Error>, mut request: Request<Incoming>) -> Response<Body> {
    let failed = |why: String| text(StatusCode::INTERNAL_SERVER_ERROR, why);
    let url = match url {
        Ok(url) => url,
        Err(error) if error.is_not_found() => return text(StatusCode::NOT_FOUND, error.to_string()),
        Err(error) => return failed(error.to_string()),
    };
    let Ok(uri) = url.parse::<Uri>() else { return failed(format!("the runtime's address {url:?} cannot be read")) };
    let address = match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => (host.trim_matches(['[', ']']).to_owned(), port),
        _ => return failed(format!("the runtime's address {url:?} has no host and port")),
    };
    let stream = match TcpStream::connect((address.0.as_str(), address.1)).await {
        Ok(stream) => stream,
        Err(error) => return failed(format!("error dialing backend: {error}")),
    };
    drop(stream.set_nodelay(true));
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return failed(error.to_string()),
    };
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::new(Empty::<Bytes>::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = path.parse().unwrap_or_default();
    for (name, value) in request.headers() {
        // Whoever the client is has been found out; the runtime is not told.
        if name != header::AUTHORIZATION && name != header::HOST && name != header::CONTENT_LENGTH {
            onward.headers_mut().append(name, value.clone());
        }
    }
    if let Ok(host) = HeaderValue::from_str(&format!("{}:{}", address.0, address.1)) {
        onward.headers_mut().insert(header::HOST, host);
    }
    let client = hyper::upgrade::on(&mut request);
    let mut answer = match sender.send_request(onward).await {
        Ok(answer) => answer,
        Err(error) => return failed(format!("error dialing backend: {error}")),
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = answer.into_parts();
        return Response::from_parts(head, body.map_err(std::io::Error::other).boxed_unsync());
    }
    let backend = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        // Held until the connection is handed over.
        let _sender = sender;
        if let (Ok(client), Ok(backend)) = tokio::join!(client, backend) {
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            drop(tokio::io::copy_bidirectional(&mut client, &mut backend).await);
        }
    });
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for name in ["connection", "upgrade", "x-stream-protocol-version", "sec-websocket-protocol", "sec-websocket-accept"]
    {
        let name = HeaderName::from_static(name);
        if let Some(value) = answer.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}
