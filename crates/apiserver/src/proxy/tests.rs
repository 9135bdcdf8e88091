//! A front server that passes on, over a kubelet with TLS and a pod without, all on loopback.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::service::service_fn;
use pki::{Authority, KeyPair, PrivateKey, Subject, SubjectAltNames, Template};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::body::Chunks;

#[derive(Clone, Default)]
struct Fixtures(HashMap<String, Value>);

impl Fixtures {
    fn add(&mut self, key: &str, text: &str) {
        let decoded = api_codec::json::decode(None, text.as_bytes(), api_codec::json::Options::default());
        self.0.insert(key.to_owned(), decoded.expect("a fixture is JSON").value);
    }
}

impl Objects for Fixtures {
    fn object(&self, _: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.0.get(&format!("{resource}/{namespace}/{name}")).cloned()
    }

    fn objects(&self, _: &str, resource: &str, namespace: &str) -> Vec<Value> {
        let prefix = format!("{resource}/{namespace}/");
        self.0.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, value)| value.clone()).collect()
    }
}

/// A certificate for 127.0.0.1 and what trusts it.
struct Certificates {
    authority: pki::Certificate,
    server: KeyPair,
    client: KeyPair,
}

fn certificates() -> Certificates {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let key = || PrivateKey::generate().expect("a key");
    let authority = Authority::self_signed("test-ca", key(), now, 3600).expect("an authority");
    let names = SubjectAltNames { ips: vec!["127.0.0.1".parse().expect("an address")], ..Default::default() };
    let pair = |template: Template| {
        let key = key();
        KeyPair { chain: vec![authority.issue(&template, key.public_key()).expect("a certificate")], key }
    };
    Certificates {
        server: pair(Template::server(Subject::new("system:node:n", &["system:nodes"]), names, now, 3600)),
        client: pair(Template::client(Subject::new("kube-apiserver-kubelet-client", &[]), now, 3600)),
        authority: authority.certificate().clone(),
    }
}

/// What a followed log says next.
struct Lines(mpsc::Receiver<&'static str>);

impl Chunks for Lines {
    fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> {
        self.0.poll_recv(context).map(|line| line.map(Bytes::from))
    }
}

/// The lines that the next followed log has.
type Log = Arc<parking_lot::Mutex<Option<mpsc::Receiver<&'static str>>>>;

fn shown(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| **name != header::HOST)
        .map(|(name, value)| format!("{name}={}", value.to_str().expect("ASCII")))
        .collect();
    lines.sort();
    lines.join(";")
}

fn saying(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

/// Says what it was asked; upgrades to an echo in capitals; streams a followed log as the test lets it.
async fn backend(mut request: Request<Incoming>, log: Log) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path.contains("refused") {
        return saying(403, "no such thing");
    }
    if path.contains("missing") {
        return saying(404, "not here");
    }
    if path.contains("broken") {
        return saying(500, "the disk is gone");
    }
    if path.contains("nothing") {
        return saying(204, Body::Empty);
    }
    if path.contains("moved") {
        let mut response = saying(302, Body::Empty);
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/login?next=1"));
        return response;
    }
    if request.uri().query().is_some_and(|query| query.contains("follow")) {
        let lines = log.lock().take().expect("one follower");
        return saying(200, Body::Stream(Box::new(Lines(lines))));
    }
    if let Some(protocol) = request.headers().get(header::UPGRADE).cloned() {
        let shown = format!("{} {} {}", request.method(), request.uri(), shown(request.headers()));
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.expect("an upgraded connection"));
            io.write_all(format!("{shown}\n").as_bytes()).await.expect("a first line");
            let mut buffer = [0; 1024];
            loop {
                match io.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => io.write_all(&buffer[..count].to_ascii_uppercase()).await.expect("an echo"),
                }
            }
            io.write_all(b"bye").await.expect("a last word");
            io.shutdown().await.expect("an end");
        });
        let mut response = saying(101, Body::Empty);
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
        headers.insert("x-stream-protocol-version", HeaderValue::from_static("v4.channel.k8s.io"));
        return response;
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let body = String::from_utf8_lossy(&body);
    let mut response = saying(200, format!("{} {} {} body={body}", parts.method, parts.uri, shown(&parts.headers)));
    response.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=5"));
    response.headers_mut().insert("x-own", HeaderValue::from_static("yes"));
    response
}

async fn serve_backend(io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, log: Log) {
    let service = service_fn(move |request| {
        let answer = backend(request, Arc::clone(&log));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
    // Clients that have what they want go away.
    let _ = connection.with_upgrades().await;
}

/// A server that passes on with `proxy`, a kubelet on node `n`, a plain server as pods.
struct World {
    front: std::net::SocketAddr,
    log: Log,
    pod_port: u16,
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

async fn world(trusted: bool, local_allowed: bool) -> World {
    let certificates = certificates();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates.authority.der().clone()).expect("an authority");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), pki::provider()).build();
    let kubelet_tls = rustls::ServerConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_client_cert_verifier(clients.expect("a verifier"))
        .with_single_cert(
            certificates.server.chain.iter().map(|c| c.der().clone()).collect(),
            certificates.server.key.to_der(),
        )
        .expect("a server certificate");
    let (kubelet, pods, nobody, front) = (listen().await, listen().await, listen().await, listen().await);
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let (kubelet_port, pod_port, closed_port) = (port(&kubelet), port(&pods), port(&nobody));
    drop(nobody);
    let log = Log::default();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(kubelet_tls));
    let kubelet_log = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((stream, _)) = kubelet.accept().await {
            let (acceptor, log) = (acceptor.clone(), Arc::clone(&kubelet_log));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve_backend(stream, log).await;
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = pods.accept().await {
            tokio::spawn(serve_backend(stream, Log::default()));
        }
    });

    let mut objects = Fixtures::default();
    for (name, port) in [("n", kubelet_port), ("down", closed_port)] {
        let addresses =
            r#"[{"type":"Hostname","address":"no-such-host.invalid"},{"type":"InternalIP","address":"127.0.0.1"}]"#;
        objects.add(
            &format!("nodes//{name}"),
            &format!(
                r#"{{"status":{{"addresses":{addresses},"daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#
            ),
        );
    }
    objects.add("nodes//bare", r#"{"status":{"addresses":[{"type":"Other","address":"x"}]}}"#);
    let one = format!(r#"[{{"name":"main","ports":[{{"containerPort":{pod_port}}}]}}]"#);
    for (name, node, containers) in [
        ("p", "n", one.as_str()),
        ("refused", "n", &one),
        ("missing", "n", &one),
        ("broken", "n", &one),
        ("down", "down", &one),
        ("lost", "gone", &one),
        ("bare", "bare", &one),
        ("waiting", "", &one),
        ("two", "n", r#"[{"name":"a"},{"name":"b"}]"#),
    ] {
        let spec = format!(r#"{{"nodeName":"{node}","initContainers":[{{"name":"init"}}],"containers":{containers}}}"#);
        let status = r#"{"podIPs":[{"ip":"127.0.0.1"}]}"#;
        objects.add(
            &format!("pods/ns/{name}"),
            &format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec},"status":{status}}}"#),
        );
    }
    for name in ["web", "empty", "foreign"] {
        objects.add(&format!("services/ns/{name}"), r#"{"spec":{"ports":[{"name":"http","port":80}]}}"#);
    }
    for (name, pod, ready) in [("web", "p", true), ("empty", "p", false), ("foreign", "absent", true)] {
        let endpoint = format!(
            r#"{{"addresses":["127.0.0.1"],"conditions":{{"ready":{ready}}},"targetRef":{{"namespace":"ns","name":"{pod}"}}}}"#
        );
        objects.add(
            &format!("endpointslices/ns/{name}-1"),
            &format!(
                r#"{{"metadata":{{"labels":{{"kubernetes.io/service-name":"{name}"}}}},"addressType":"IPv4",
                "ports":[{{"name":"http","port":{pod_port}}}],"endpoints":[{endpoint}]}}"#
            ),
        );
    }
    // A service without slices has Endpoints.
    objects.add("services/ns/old", r#"{"spec":{"ports":[{"port":80}]}}"#);
    let address = r#"{"ip":"127.0.0.1","targetRef":{"namespace":"ns","name":"p"}}"#;
    let subset = format!(r#"{{"addresses":[{address}],"ports":[{{"port":{pod_port}}}]}}"#);
    objects.add("endpoints/ns/old", &format!(r#"{{"subsets":[{subset}]}}"#));
    let other = || self::certificates().authority;
    let authority = if trusted { certificates.authority } else { other() };
    let config = ProxyConfig {
        client: Some(certificates.client),
        kubelet_ca: Some(vec![authority]),
        address_types: vec!["Hostname".into(), "InternalIP".into()],
    };
    let mut proxy = Proxy::new(config).expect("certificates");
    proxy.local_allowed = local_allowed;
    let address = front.local_addr().expect("an address");
    let shared = Arc::new((proxy, objects));
    tokio::spawn(async move {
        while let Ok((stream, _)) = front.accept().await {
            let shared = Arc::clone(&shared);
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(pass(&shared.0, &shared.1, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    World { front: address, log, pod_port }
}

/// What the request chain does around the proxy.
async fn pass(proxy: &Proxy, objects: &Fixtures, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let query_text = parts.uri.query().unwrap_or_default();
    let path = crate::query::unescape_path(parts.uri.path());
    let passage = Passage {
        info: &RequestInfo::parse(parts.method.as_str(), &path, false, None),
        query: &Query::parse(query_text),
        query_text,
        method: &parts.method,
        headers: &parts.headers,
        client: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        user: &Arc::new(UserInfo::new("alice", &[])),
        upgrade: Some(parts.extensions.clone()).filter(|e| e.get::<OnUpgrade>().is_some()),
    };
    match proxy.pass_over(objects, passage, RequestBody::Network(body)).await {
        Ok(response) => response,
        Err(status) => saying(status.code, format!("[{}] {}", status.reason, status.message)),
    }
}

impl World {
    /// A request by hand, and everything that comes back.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.front).await.expect("a connection");
        let text = format!("{method} {path} HTTP/1.1\r\nHost: front\r\n{headers}Connection: close\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        match answer.split_once("\r\n\r\n") {
            Some((head, chunks)) if head.contains("transfer-encoding: chunked") => {
                format!("{head}\r\n\r\n{}", joined(chunks))
            }
            _ => answer,
        }
    }

    /// Asks with GET; the answer's code and body must be these.
    #[track_caller]
    fn check(&self, path: &str, expected: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.ask("GET", path, "", "").await;
            let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
            let code = head.split(' ').nth(1).expect("a code");
            let got = format!("{code} {body}");
            let got = got.trim_end();
            assert_eq!(got, expected, "{path}, {caller}");
        }
    }
}

/// The body that chunks are pieces of. It must be complete.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        if size == 0 {
            return body;
        }
        body.push_str(&rest[..size]);
        chunks = rest[size..].strip_prefix("\r\n").expect("a chunk's end");
    }
}

/// Reads up to and with `end`.
async fn read_until(stream: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut got = String::new();
    while !got.ends_with(end) {
        got.push(char::from(stream.read_u8().await.expect("more")));
    }
    got
}

#[tokio::test]
async fn logs_are_asked_of_the_kubelet() {
    let world = world(true, false).await;
    let pods = "/api/v1/namespaces/ns/pods";
    let get = |path: &str| format!("200 GET /containerLogs/ns/{path}  body=");
    world.check(&format!("{pods}/p/log"), &get("p/main")).await;
    world.check(&format!("{pods}/p/log?container=init&stream=x"), &get("p/init")).await;
    let all = "timestamps=true&sinceSeconds=5&previous=1&limitBytes=7&tailLines=0";
    let sorted = "limitBytes=7&previous=true&sinceSeconds=5&tailLines=0&timestamps=true";
    world.check(&format!("{pods}/p/log?{all}"), &get(&format!("p/main?{sorted}"))).await;
    let time = "p/main?sinceTime=2024-01-02T03%3A04%3A05Z";
    world.check(&format!("{pods}/p/log?sinceTime=2024-01-02T03:04:05.5Z"), &get(time)).await;
    world.check(&format!("{pods}/waiting/log"), "204").await;
    let answer = world.ask("GET", &format!("{pods}/p/log"), "Authorization: Bearer secret\r\n", "").await;
    assert!(answer.contains("content-type: text/plain\r\n") && !answer.contains("x-own"), "{answer}");
    assert!(!answer.contains("secret"), "{answer}");
}

#[tokio::test]
async fn what_is_wrong_with_a_log_is_said_in_upstreams_words() {
    let world = world(true, false).await;
    let check = async |name_and_query: &str, expected: &str| {
        let (name, query) = name_and_query.split_once('?').unwrap_or((name_and_query, ""));
        world.check(&format!("/api/v1/namespaces/ns/pods/{name}/log?{query}"), expected).await;
    };
    check("none", "404 [NotFound] pods \"none\" not found").await;
    let choose = "400 [BadRequest] a container name must be specified for pod two, choose one of: [init a b]";
    check("two", choose).await;
    check("two?container=c", "400 [BadRequest] container c is not valid for pod two").await;
    check("p?tailLines=x", "400 [BadRequest] strconv.ParseInt: parsing \"x\": invalid syntax").await;
    let tail = "422 [Invalid] PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0";
    check("p?tailLines=-1", tail).await;
    check("lost", "404 [NotFound] nodes \"gone\" not found").await;
    check("bare", "500 [] no preferred addresses found; known addresses: [{Other x}]").await;
    check("refused", "403 [Forbidden] no such thing ( pods/log refused)").await;
    let missing = "404 [NotFound] the server could not find the requested resource ( pods/log missing)";
    check("missing", missing).await;
    check("broken", "500 [InternalError] Internal error occurred: the disk is gone").await;
    let down = world.ask("GET", "/api/v1/namespaces/ns/pods/down/log", "", "").await;
    assert!(down.contains("dial tcp 127.0.0.1:") && down.ends_with(": connect: connection refused"), "{down}");
}

#[tokio::test]
async fn a_followed_log_arrives_as_it_is_written() {
    let world = world(true, false).await;
    let (say, lines) = mpsc::channel(1);
    *world.log.lock() = Some(lines);
    let mut stream = TcpStream::connect(world.front).await.expect("a connection");
    let request = b"GET /api/v1/namespaces/ns/pods/p/log?follow=true HTTP/1.1\r\nHost: front\r\n\r\n";
    stream.write_all(request).await.expect("a request");
    say.send("first\n").await.expect("a follower");
    // The second is not written before the first has arrived.
    assert!(read_until(&mut stream, "first\n").await.starts_with("HTTP/1.1 200 OK"));
    say.send("second\n").await.expect("a follower");
    read_until(&mut stream, "second\n").await;
    // A client that leaves is not served on.
    drop(stream);
    say.closed().await;
}

#[tokio::test]
async fn kubelets_are_verified_if_there_is_an_authority() {
    let world = world(false, false).await;
    let answer = world.ask("GET", "/api/v1/namespaces/ns/pods/p/log", "", "").await;
    let expected = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(answer.ends_with(expected), "{answer}");
    let unverified = "/api/v1/namespaces/ns/pods/p/log?insecureSkipTLSVerifyBackend=true";
    world.check(unverified, "200 GET /containerLogs/ns/p/main  body=").await;
}

#[tokio::test]
async fn exec_tunnels_both_ways() {
    let world = world(true, false).await;
    for (method, protocol, query, expected) in [
        (
            "POST",
            "SPDY/3.1",
            "exec?stdin=true&stdout=true&tty=true&command=sh&command=-c&command=a%20%26%20b",
            "POST /exec/ns/p/main?command=sh&command=-c&command=a+%26+b&input=1&output=1&tty=1",
        ),
        ("GET", "websocket", "attach?container=init&stderr=1", "GET /attach/ns/p/init?error=1"),
        ("POST", "SPDY/3.1", "portforward?ports=80,443", "POST /portForward/ns/p?port=80%2C443"),
    ] {
        let mut stream = TcpStream::connect(world.front).await.expect("a connection");
        let request = format!(
            "{method} /api/v1/namespaces/ns/pods/p/{query} HTTP/1.1\r\nHost: front\r\nConnection: Upgrade\r\n\
             Upgrade: {protocol}\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nAuthorization: Bearer secret\r\n\
             Impersonate-User: bob\r\nX-Remote-User: carol\r\nSec-WebSocket-Protocol: \
             base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("a request");
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.contains("x-stream-protocol-version: v4.channel.k8s.io\r\n"), "{head}");
        assert!(head.contains(&format!("upgrade: {protocol}\r\n")), "{head}");
        let first = read_until(&mut stream, "\n").await;
        let headers = format!(
            "connection=Upgrade;sec-websocket-protocol=v5.channel.k8s.io;upgrade={protocol};x-forwarded-for=127.0.0.1;\
             x-stream-protocol-version=v4.channel.k8s.io"
        );
        // Whether an empty body is counted is the client's choice.
        assert_eq!(first.trim_end().replace("content-length=0;", ""), format!("{expected} {headers}"));
        for text in ["hello", "again"] {
            stream.write_all(text.as_bytes()).await.expect("an open tunnel");
            assert_eq!(read_until(&mut stream, &text.to_uppercase()).await, text.to_uppercase());
        }
        // One end closes; what the other still has to say arrives.
        stream.shutdown().await.expect("an open tunnel");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.expect("the end");
        assert_eq!(rest, "bye");
    }
}

#[tokio::test]
async fn refused_upgrades_are_told() {
    let world = world(true, false).await;
    let upgrade = "Upgrade: SPDY/3.1\r\nConnection: Upgrade\r\n";
    let exec = async |name: &str, headers: &str| {
        world.ask("POST", &format!("/api/v1/namespaces/ns/pods/{name}/exec?command=ls"), headers, "").await
    };
    let refused = exec("refused", upgrade).await;
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.ends_with("\r\n\r\nno such thing"), "{refused}");
    let plain = exec("p", "").await;
    assert!(plain.ends_with("[BadRequest] Upgrade request required"), "{plain}");
    let waiting = exec("waiting", upgrade).await;
    assert!(waiting.ends_with("[BadRequest] pod waiting does not have a host assigned"), "{waiting}");
    let down = exec("down", upgrade).await;
    assert!(
        down.starts_with("HTTP/1.1 500 ") && down.contains("[] error dialing backend: dial tcp 127.0.0.1:"),
        "{down}"
    );
    assert!(down.ends_with(": connect: connection refused"), "{down}");
    let ports = world.ask("POST", "/api/v1/namespaces/ns/pods/p/portforward?ports=70000", upgrade, "").await;
    assert!(ports.ends_with("strconv.ParseUint: parsing \"70000\": value out of range"), "{ports}");
}

#[tokio::test]
async fn nodes_pods_and_services_are_proxied() {
    let world = world(true, true).await;
    let port = world.pod_port;
    let api = "/api/v1/namespaces/ns";
    let forwarded = |path: &str| format!("x-forwarded-for=127.0.0.1;x-forwarded-uri={path} body=");
    for (path, reached) in [
        ("/api/v1/nodes/n/proxy/stats//summary".to_owned(), "/stats/summary"),
        (format!("/api/v1/nodes/n:{port}/proxy/x/"), "/x/"),
        (format!("{api}/pods/p/proxy/a%20b/../c?q=1"), "/c?q=1"),
        (format!("{api}/pods/http:p:{port}/proxy/"), "/"),
        (format!("{api}/services/web:80/proxy/x"), "/x"),
        (format!("{api}/services/web:http/proxy/x"), "/x"),
    ] {
        let (uri, _) = path.split_once('?').unwrap_or((&path, ""));
        let (lead, _) = uri.split_once("/proxy").expect("a proxy path");
        let (reached_path, _) = reached.split_once('?').unwrap_or((reached, ""));
        let expected = format!("200 GET {reached} {}", forwarded(&format!("{lead}/proxy{reached_path}")));
        world.check(&path, &expected).await;
    }
    let posted = world.ask("POST", &format!("{api}/pods/p/proxy"), "Content-Length: 5\r\nTe: gzip\r\n", "hello").await;
    let uri = format!("{api}/pods/p/proxy/");
    assert!(
        posted
            .ends_with(&format!("POST / content-length=5;x-forwarded-for=127.0.0.1;x-forwarded-uri={uri} body=hello")),
        "{posted}"
    );
    assert!(posted.contains("x-own: yes") && !posted.contains("timeout=5"), "{posted}");
    let redirect = world.ask("GET", &format!("{api}/pods/p/proxy?q=1"), "", "").await;
    assert!(redirect.starts_with("HTTP/1.1 301 "), "{redirect}");
    assert!(redirect.contains(&format!("location: {api}/pods/p/proxy/?q=1\r\n")), "{redirect}");
    let moved = world.ask("GET", &format!("{api}/pods/p/proxy/moved"), "", "").await;
    assert!(moved.contains(&format!("location: {api}/pods/p/proxy/login?next=1\r\n")), "{moved}");
    let head = world.ask("HEAD", &format!("{api}/pods/p/proxy/x"), "", "").await;
    let length = format!("HEAD /x x-forwarded-for=127.0.0.1;x-forwarded-uri={api}/pods/p/proxy/x body=").len();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
    world.check(&format!("{api}/pods/p/proxy/nothing"), "204").await;
    let no_port = "503 [ServiceUnavailable] error trying to reach service: dial tcp: lookup tcp/web: unknown port";
    world.check(&format!("{api}/pods/p:web/proxy/"), no_port).await;
    world
        .check(
            &format!("{api}/services/old:80/proxy/x"),
            &format!("200 GET /x {}", forwarded(&format!("{api}/services/old:80/proxy/x"))),
        )
        .await;

    let unavailable = "503 [ServiceUnavailable]";
    world
        .check(
            &format!("{api}/services/empty:http/proxy/"),
            &format!("{unavailable} no endpoints available for service \"empty:http\""),
        )
        .await;
    world
        .check(
            &format!("{api}/services/foreign:http/proxy/"),
            &format!("{unavailable} no endpoints available for service \"foreign:http\""),
        )
        .await;
    world
        .check(
            &format!("{api}/services/web:81/proxy/"),
            &format!("{unavailable} no service port 81 found for service \"web\""),
        )
        .await;
    world.check(&format!("{api}/services/none:80/proxy/"), "404 [NotFound] services \"none\" not found").await;
    world.check(&format!("{api}/pods/ftp:p:1/proxy/"), "400 [BadRequest] invalid pod request \"ftp:p:1\"").await;
    let down = world.ask("GET", "/api/v1/nodes/down/proxy/", "", "").await;
    assert!(down.contains("[ServiceUnavailable] error trying to reach service: dial tcp 127.0.0.1:"), "{down}");
}

#[tokio::test]
async fn this_machine_is_out_of_bounds() {
    let world = world(true, false).await;
    for path in [
        "/api/v1/namespaces/ns/pods/p/proxy/",
        "/api/v1/namespaces/ns/services/web:http/proxy/",
        "/api/v1/nodes/n:22/proxy/",
    ] {
        world.check(path, "400 [BadRequest] address not allowed").await;
    }
}

#[test]
fn addresses_near_are_not_proxied_to() {
    let check =
        |ip: &str, expected| assert_eq!(target::is_proxyable(ip.parse().expect("an address")), expected, "{ip}");
    for near in [
        "127.1.2.3",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "ff02::1",
        "ff11::1",
        "::ffff:127.0.0.1",
    ] {
        check(near, false);
    }
    for far in ["10.0.0.1", "192.168.1.1", "239.1.1.1", "fd00::1", "2001:db8::1", "ff05::1"] {
        check(far, true);
    }
}

#[test]
fn redirects_stay_behind_the_proxy() {
    let check = |location: &str, expected| {
        assert_eq!(rewrite(location, "/api/x/proxy", &["10.0.0.1:80", "front"]), expected, "{location}");
    };
    check("/a?b", "/api/x/proxy/a?b");
    check("a/b", "a/b");
    check("http://10.0.0.1:80/a#f", "/api/x/proxy/a#f");
    check("//front/a", "/api/x/proxy/a");
    check("https://elsewhere/a", "https://elsewhere/a");
    check("/api/x/proxy/a", "/api/x/proxy/a");
}
