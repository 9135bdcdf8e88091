//! Flags about connections and requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::own_pki::{Curl, OwnPki, now};
use super::refusal;
use crate::harness::Server;
use crate::wire::{Address, Stream};

/// What was agreed on in a handshake.
#[derive(Debug)]
struct Agreed {
    version: String,
    suite: String,
    group: u16,
    protocol: String,
    names: Vec<String>,
}

/// A handshake for a server's name, by a client that offers some versions, suites and protocols.
fn handshake(
    address: &str,
    authorities: &[CertificateDer<'static>],
    name: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<Agreed> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).expect("a certificate");
    }
    let mut config = ClientConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("TLS");
    let tcp = std::net::TcpStream::connect(address).expect("the server listens");
    let mut stream = StreamOwned::new(connection, tcp);
    stream.flush().ok()?;
    // With TLS 1.3 a server's refusal would come behind the handshake.
    let connection = &stream.conn;
    let leaf = connection.peer_certificates().and_then(<[_]>::first)?;
    let leaf = pki::Certificate::from_der(leaf).expect("a certificate");
    Some(Agreed {
        version: format!("{:?}", connection.protocol_version()?),
        suite: format!("{:?}", connection.negotiated_cipher_suite()?.suite()),
        group: connection.negotiated_key_exchange_group()?.name().into(),
        protocol: String::from_utf8_lossy(connection.alpn_protocol().unwrap_or_default()).into_owned(),
        names: leaf.names.dns,
    })
}

const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const BOTH: &[&rustls::SupportedProtocolVersion] = rustls::ALL_VERSIONS;

#[test]
fn tls_is_spoken_as_flags_say() {
    let pki = OwnPki::new();
    let ca = pki.authority("ca", now());
    pki.server(&ca, "other.example");
    let sni = format!(
        "--tls-sni-cert-key={},{}:other.example,also.example",
        pki.path("other.example.crt").display(),
        pki.path("other.example.key").display()
    );
    let first =
        Server::new(&["--tls-min-version=VersionTLS13", "--tls-curve-preferences=23", "--tls-san=san.example", &sni]);
    let own = pki::Certificate::from_pem(&first.data("certificate-authority-data")).expect("certificates");
    let all: Vec<CertificateDer<'static>> =
        own.iter().chain([ca.certificate()]).map(|authority| authority.der().clone()).collect();
    let agreed = handshake(&first.address, &all, "san.example", BOTH).expect("the name is in the certificate");
    assert_eq!((agreed.version.as_str(), agreed.group, agreed.protocol.as_str()), ("TLSv1_3", 23, "h2"), "{agreed:?}");
    assert!(agreed.names.contains(&"kubernetes.default.svc".to_owned()), "{agreed:?}");
    let other = handshake(&first.address, &all, "other.example", BOTH).expect("it has its own certificate");
    assert_eq!(other.names, ["other.example"]);
    assert!(handshake(&first.address, &all, "localhost", TLS12).is_none(), "TLS 1.2 is not spoken");

    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305";
    let second = Server::new(&[&format!("--tls-cipher-suites={suite}"), "--disable-http2-serving"]);
    let own = pki::Certificate::from_pem(&second.data("certificate-authority-data")).expect("certificates");
    let own: Vec<CertificateDer<'static>> = own.iter().map(|authority| authority.der().clone()).collect();
    let agreed = handshake(&second.address, &own, "localhost", TLS12).expect("TLS 1.2 is spoken");
    assert_eq!((agreed.suite.as_str(), agreed.protocol.as_str()), (&*format!("{suite}_SHA256"), "http/1.1"));
}

// === HTTP/2, as far as it is needed to see what a server says of itself ===

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

/// A frame: kind, flags, stream and content.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    content: Vec<u8>,
}

fn send(stream: &mut Stream, kind: u8, flags: u8, number: u32, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("a short frame").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &number.to_be_bytes()].concat();
    stream.write_all(&[&head, content].concat()).and_then(|()| stream.flush()).expect("the server reads");
}

fn receive(stream: &mut Stream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut content = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut content).ok()?;
    let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream: number, content })
}

/// Begins HTTP/2; gives the server's limit on streams.
fn begin(stream: &mut Stream) -> u32 {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the server reads");
    send(stream, SETTINGS, 0, 0, &[]);
    let settings = std::iter::from_fn(|| receive(stream)).find(|frame| frame.kind == SETTINGS && frame.flags == 0);
    let settings = settings.expect("the server's settings").content;
    let limit = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("a limit on streams");
    u32::from_be_bytes([limit[2], limit[3], limit[4], limit[5]])
}

#[test]
fn browsers_and_balancers_are_told() {
    let pki = OwnPki::new();
    let flags = [
        "--cors-allowed-origins=//good\\.example$",
        "--strict-transport-security-directives=max-age=31536000,includeSubDomains",
        "--goaway-chance=0.02",
        "--http2-max-streams-per-connection=77",
    ];
    let server = Server::new(&flags);
    pki.write("ca.crt", &String::from_utf8(server.data("certificate-authority-data")).expect("PEM"));
    let anybody = Curl::new(&server.address, &pki.path("ca.crt"));
    let good = anybody.with(&["--header", "Origin: https://good.example"]);
    let reply = good.get("/version");
    assert_eq!((reply.code, reply.header("access-control-allow-origin")), (200, "https://good.example"));
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    assert_eq!(reply.header("strict-transport-security"), "max-age=31536000; includeSubDomains");
    let asked_first = good.with(&["--request", "OPTIONS"]).get("/api/v1/pods");
    assert_eq!(
        (asked_first.code, asked_first.header("access-control-allow-methods")),
        (204, "POST, GET, OPTIONS, PUT, DELETE, PATCH")
    );
    let bad = anybody.with(&["--header", "Origin: https://good.example.org"]).get("/version");
    assert_eq!((bad.code, bad.header("access-control-allow-origin")), (200, ""));
    assert_eq!(bad.header("strict-transport-security"), "max-age=31536000; includeSubDomains");

    let mut stream = Address::speaking(&server, &["h2"]).stream().expect("a connection");
    assert_eq!(begin(&mut stream), 77);
    // One request of fifty is to be followed by GOAWAY; that none of 2,000 is happens once in 10^17 times.
    let request = [&[0x82, 0x87, 0x04, 8][..], b"/healthz", &[0x41, 1], b"x"].concat();
    let sent_away = (0..2000).any(|nth| {
        let number = 2 * nth + 1;
        send(&mut stream, HEADERS, END_STREAM | 4, number, &request);
        loop {
            match receive(&mut stream) {
                None => panic!("the connection ended without a word"),
                Some(frame) if frame.kind == GOAWAY => return true,
                Some(Frame { kind: HEADERS | DATA, flags, stream: ended, .. })
                    if ended == number && flags & END_STREAM != 0 =>
                {
                    return false;
                }
                Some(_) => {}
            }
        }
    });
    assert!(sent_away, "the server never asked to connect anew");
}

/// The head of a request that announces a body and does not send it.
fn unfinished(method: &str) -> String {
    format!(
        "{method} /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 10\r\n\r\n{{"
    )
}

fn status(stream: &mut BufReader<Stream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).expect("the server answers");
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn requests_have_limits() {
    let flags = [
        "--request-timeout=5s",
        "--min-request-timeout=1",
        "--max-requests-inflight=1",
        "--max-mutating-requests-inflight=1",
    ];
    let server = Server::new(&flags);
    let address = Address::of(&server);
    for method in ["POST", "GET"] {
        let mut slow = address.stream().expect("a connection");
        slow.write_all(unfinished(method).as_bytes()).and_then(|()| slow.flush()).expect("the server reads");
        // As long as the slow one holds the only place, others are refused; it may not hold it yet.
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let mut quick = address.stream().expect("a connection");
            let other = unfinished(method).replace("Content-Length: 10\r\n\r\n{", "Content-Length: 2\r\n\r\n{}");
            quick.write_all(other.as_bytes()).and_then(|()| quick.flush()).expect("the server reads");
            if status(&mut BufReader::new(quick)) == "429" {
                break;
            }
            assert!(Instant::now() < end, "{method}: nothing was refused");
        }
        assert_eq!(status(&mut BufReader::new(slow)), "504", "{method}: a body that does not come");
    }
    // Watches last between one and two seconds.
    let mut connection = address.connect().expect("a connection");
    let started = Instant::now();
    let watch = connection.ask("GET", "/api/v1/configmaps?watch=1", "").expect("the watch ends by itself");
    assert_eq!(watch.code, 200);
    assert!((1..60).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[test]
fn a_server_that_ends_says_so_first() {
    let pki = OwnPki::new();
    let first = Server::new(&["--permit-port-sharing"]);
    let address = first.address.clone();
    let port = address.rsplit(':').next().unwrap_or_default().to_owned();
    let line = refusal(&[&format!("--data-dir={}", pki.path("third").display()), &format!("--secure-port={port}")]);
    let expected = format!(
        "cannot listen at 127.0.0.1:{port} (choose another --bind-address or --secure-port): Address already in use"
    );
    assert!(line.starts_with(&expected) && line.matches("in use").count() == 1, "{line}");
    // A second one at the same port, which says nothing but warnings.
    let mut second = Command::new(env!("CARGO_BIN_EXE_kubox"))
        .args(["server", "--permit-port-sharing", "-v=0", "--shutdown-delay-duration=5s", "--secure-port", &port])
        .arg(format!("--data-dir={}", pki.path("second").display()))
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubox starts");
    let own_ca = pki.path("second/pki/ca.crt");
    let ask = |path: &str| Curl::new(&address, &own_ca).with(&["--http1.1"]).get(path);
    // Connections go to either; only the second's authority is trusted here.
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
        }
    };
    until("the second server never answered", &|| ask("/readyz").code == 200);
    drop(first);
    let signalled = Command::new("sh").args(["-c", &format!("kill -TERM {}", second.id())]).status();
    assert!(signalled.is_ok_and(|status| status.success()));
    until("it never said that it is about to end", &|| ask("/readyz").code == 500);
    assert_eq!(ask("/livez").code, 200, "it still serves");
    assert_eq!(ask("/version").code, 200);
    let ended = second.wait().expect("it ends");
    assert!(ended.success());
    let mut said = String::new();
    second.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("text");
    assert_eq!(said, "");
}
