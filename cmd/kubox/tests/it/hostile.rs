//! Slow and hostile clients: each is refused or left waiting, and everybody else is served meanwhile.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::harness::Server;
use crate::wire::{Address, Answer, Stream, is_lost};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How many bad clients there are at once.
const CROWD: usize = 100;
/// How long what is over may take to be cleared away; far more than it does.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many files of its own the server may open meanwhile: the store's next segment, a snapshot.
const OWN_FILES_MAX: usize = 4;
/// What a server may ever have had in memory: many times what it needs, far below what hostile clients ask for.
const MEMORY_KIB_MAX: u64 = 1024 * 1024;

/// Asks what anybody asks: is it alive, may I write, what is there.
fn others_are_served(address: &Address, number: usize) {
    let mut connection = address.connect().expect("the server listens");
    let mut ask = |method: &str, path: &str, body: &str, code: u16| {
        let answer = connection.ask(method, path, body).expect("others are answered");
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.body);
    };
    let name = format!("other-{number}");
    ask("GET", "/readyz", "", 200);
    ask("POST", CONFIG_MAPS, &format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"a":"b"}}}}"#), 201);
    ask("GET", CONFIG_MAPS, "", 200);
    ask("DELETE", &format!("{CONFIG_MAPS}/{name}"), "", 200);
}

fn status_of(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("no {field}"));
    line.trim_start_matches(':').trim().split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs").count()
}

/// Lets bad clients do what they do to a server, and others ask for something meanwhile and afterwards. When the bad ones are
/// gone, so is what they held.
fn check<T>(name: &str, bad: impl Fn(&Address) -> T) {
    let server = Server::new(&[]);
    let address = Address::of(&server);
    others_are_served(&address, 0);
    let before = open_files(&server);
    let held: Vec<T> = (0..CROWD)
        .map(|number| {
            let held = bad(&address);
            if number % 20 == 0 {
                others_are_served(&address, number);
            }
            held
        })
        .collect();
    others_are_served(&address, CROWD);
    drop(held);
    let start = Instant::now();
    while open_files(&server) > before + OWN_FILES_MAX {
        assert!(start.elapsed() < PATIENCE, "{name}: {} files are open, {before} were before", open_files(&server));
        std::thread::yield_now();
    }
    others_are_served(&address, 0);
    let memory = status_of(&server, "VmHWM");
    assert!(memory < MEMORY_KIB_MAX, "{name}: the server has taken {memory} KiB");
}

fn write(stream: &mut Stream, bytes: &[u8]) {
    // A server that has had enough closes; that is as good as an answer.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn bodies_that_are_too_much_are_refused() {
    let server = Server::new(&[]);
    let address = Address::of(&server);
    let check = |content_type: &str, body: &[u8], code: u16, words: &str| {
        let mut connection = address.connect().expect("the server listens");
        let headers = [("Content-Type", content_type)];
        let start = Instant::now();
        connection.send("POST", CONFIG_MAPS, &headers, body).expect("it takes what it refuses");
        let Answer { code: is, body } = connection.answer().expect("an answer");
        assert!(start.elapsed() < PATIENCE, "{content_type}: {:?}", start.elapsed());
        let status: serde_json::Value = serde_json::from_str(&body).expect("a Status");
        assert_eq!((is, status["kind"].as_str()), (code, Some("Status")), "{body}");
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{content_type}: {message}");
    };
    let (json, yaml, protobuf) = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf");
    let large = |bytes: usize| format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(bytes));
    for content_type in [json, yaml, protobuf] {
        check(content_type, large((3 << 20) + 1000).as_bytes(), 413, "Request entity too large");
    }
    // Of what is much too large the server reads only so much. Who goes on sending may find the connection closed.
    let mut connection = address.connect().expect("the server listens");
    let sent = connection.send("POST", CONFIG_MAPS, &[("Content-Type", json)], large(64 << 20).as_bytes());
    match sent.and_then(|()| connection.answer()) {
        Ok(answer) => assert_eq!(answer.code, 413, "{}", answer.body),
        Err(error) => assert!(is_lost(&error), "{error:?}"),
    }
    let nested = |open: &str, close: &str, depth: usize| {
        format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","data":{}{}}}"#, open.repeat(depth), close.repeat(depth))
    };
    for depth in [1_000, 10_001, 100_000] {
        check(json, nested("[", "]", depth).as_bytes(), 400, "");
        check(json, nested(r#"{"a":"#, "}", depth).as_bytes(), 400, "");
        check(yaml, nested("[", "]", depth).as_bytes(), 400, "");
        check(yaml, format!("kind: ConfigMap\napiVersion: v1\ndata:\n  {}", "- ".repeat(depth)).as_bytes(), 400, "");
    }
    check(json, "[".repeat(1 << 20).as_bytes(), 400, "exceeded max depth");
    // Each line says the one before it nine times.
    let laughs: String = (1..30)
        .map(|level| format!("l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 9].join(",")))
        .collect();
    check(yaml, format!("l0: &l0 lol\n{laughs}kind: ConfigMap\napiVersion: v1\n").as_bytes(), 400, "yaml");
    let merges: String =
        (1..30).map(|level| format!("m{level}: &m{level}\n  <<: *m{0}\n  k{level}: *m{0}\n", level - 1)).collect();
    check(yaml, format!("m0: &m0 {{a: b}}\n{merges}kind: ConfigMap\napiVersion: v1\n").as_bytes(), 400, "");
    // An envelope that promises more than there is; a message in a message, and so on.
    check(protobuf, b"k8s\0\n\xff\xff\xff\xff\x07", 400, "");
    let mut message = Vec::new();
    while message.len() < 100_000 {
        let mut outer = vec![0x0a];
        let mut length = message.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(message);
        message = outer;
    }
    check(protobuf, &[b"k8s\0".as_slice(), &message].concat(), 400, "");
    others_are_served(&address, 0);
}

#[test]
fn those_who_never_finish_keep_nobody_waiting() {
    check("a head without an end", |address| {
        let mut stream = address.stream().expect("the server listens");
        write(&mut stream, b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nX-A: ");
        stream
    });
    check("a body without an end", |address| {
        let mut stream = address.stream().expect("the server listens");
        let head = format!(
            "POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{{"
        );
        write(&mut stream, head.as_bytes());
        stream
    });
    check("chunks without an end", |address| {
        let mut stream = address.stream().expect("the server listens");
        let head = format!(
            "POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"
        );
        write(&mut stream, head.as_bytes());
        stream
    });
    check("no handshake", |address| {
        let mut tcp = address.dial().expect("the server listens");
        tcp.write_all(b"\x16\x03\x01").expect("it listens");
        tcp
    });
    check("half-closed in the middle of a body", |address| {
        let mut stream = address.stream().expect("the server listens");
        let head = format!(
            "POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        );
        write(&mut stream, head.as_bytes());
        let _ = stream.sock.shutdown(Shutdown::Write);
        stream
    });
    check("watches that nobody reads", |address| {
        let mut stream = address.stream().expect("the server listens");
        write(&mut stream, b"GET /api/v1/configmaps?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n");
        stream
    });
    check("many questions, no answer read", |address| {
        let mut stream = address.stream().expect("the server listens");
        write(&mut stream, "GET /openapi/v2 HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50).as_bytes());
        stream
    });
}

#[test]
fn what_is_no_http_is_refused() {
    check("no TLS", |address| {
        let mut tcp = address.dial().expect("the server listens");
        let _ = tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
    });
    let garbage = b"\0\xff garbage \r\n\r\n".repeat(1000);
    let header = format!("GET /version HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(2 << 20));
    let headers = format!("GET /version HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(100_000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(2 << 20));
    let lengths = "POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    let chunk =
        format!("POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n");
    let all =
        [&garbage[..], header.as_bytes(), headers.as_bytes(), path.as_bytes(), lengths.as_bytes(), chunk.as_bytes()];
    check("no HTTP", |address| {
        for bytes in all {
            let mut stream = address.stream().expect("the server listens");
            write(&mut stream, bytes);
            let _ = stream.sock.shutdown(Shutdown::Write);
            let answer = read_to_end(&mut stream);
            let good = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
            assert!(
                good,
                "{:?} was answered with {:?}",
                String::from_utf8_lossy(&bytes[..40]),
                String::from_utf8_lossy(&answer)
            );
        }
    });
}

/// A frame of HTTP/2.
fn frame(ty: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it fits").to_be_bytes();
    [&length[1..], &[ty, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn bad_frames_end_their_own_connection_only() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW: u8 = 8;
    const CONTINUATION: u8 = 9;
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, b"")].concat();
    // GET https /version, all from the static table but the path.
    let get = [b"\x82\x87\x04\x08/version".as_slice(), b"\x41\x01x"].concat();
    let streams =
        |count: u32, each: &dyn Fn(u32) -> Vec<u8>| (0..count).flat_map(|n| each(2 * n + 1)).collect::<Vec<u8>>();
    let floods: [(&str, Vec<u8>); 12] = [
        ("data that nobody opened", frame(DATA, 0, 1, b"x")),
        ("data of the connection", frame(DATA, 0, 0, b"x")),
        ("a frame larger than agreed", frame(DATA, 0, 1, &vec![0; 1 << 20])),
        ("a length without bytes", b"\xff\xff\xff\0\0\0\0\0\x01".to_vec()),
        ("headers that are no HPACK", frame(HEADERS, 5, 1, &[0xff; 100])),
        ("an even stream", frame(HEADERS, 5, 2, &get)),
        ("settings of odd size", frame(SETTINGS, 0, 0, b"12345")),
        ("a window of nothing", frame(WINDOW, 0, 0, &[0; 4])),
        ("windows beyond all bounds", frame(WINDOW, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(3)),
        (
            "headers that go on for ever",
            [frame(HEADERS, 1, 1, &get), frame(CONTINUATION, 0, 1, &[0; 100]).repeat(20_000)].concat(),
        ),
        ("pings and settings", [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, b"")].concat().repeat(20_000)),
        (
            "streams that are reset at once",
            streams(20_000, &|n| [frame(HEADERS, 5, n, &get), frame(RESET, 0, n, &[0, 0, 0, 8])].concat()),
        ),
    ];
    let server = Server::new(&[]);
    let (address, plain) = (Address::speaking(&server, &["h2"]), Address::of(&server));
    let before = open_files(&server);
    for (number, (name, bytes)) in floods.iter().enumerate() {
        let mut stream = address.stream().expect("the server listens");
        write(&mut stream, &preface);
        write(&mut stream, bytes);
        let _ = stream.sock.shutdown(Shutdown::Write);
        others_are_served(&plain, number);
        // Whatever it says, it comes to an end.
        let said = read_to_end(&mut stream);
        assert!(said.len() < 64 << 20, "{name} was answered with {} bytes", said.len());
    }
    // A good client of HTTP/2 is served: SETTINGS, then the answer's HEADERS.
    let mut stream = address.stream().expect("the server listens");
    write(&mut stream, &[&preface[..], &frame(HEADERS, 5, 1, &get)].concat());
    let mut types = Vec::new();
    while types.last() != Some(&HEADERS) {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).expect("its payload");
        types.push(head[3]);
    }
    drop(stream);
    let start = Instant::now();
    while open_files(&server) > before + OWN_FILES_MAX {
        assert!(start.elapsed() < PATIENCE, "{} files are open, {before} were before", open_files(&server));
        std::thread::yield_now();
    }
    let memory = status_of(&server, "VmHWM");
    assert!(memory < MEMORY_KIB_MAX, "the server has taken {memory} KiB");
}
