//! Registries on loopback: Debian's docker-registry, and one that misbehaves on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use images::Digest;

use super::image::TestImage;

/// `secret`, as htpasswd writes it.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Debian's docker-registry.
pub(crate) struct DockerRegistry {
    process: Child,
    pub(crate) address: String,
}

/// What is special about it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Special<'a> {
    pub(crate) password: bool,
    /// Certificate and key.
    pub(crate) tls: Option<(&'a Path, &'a Path)>,
}

impl DockerRegistry {
    pub(crate) fn start(folder: &Path, special: Special<'_>) -> DockerRegistry {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("htpasswd"), HTPASSWD).unwrap();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            folder.join("data").display()
        );
        if let Some((certificate, key)) = special.tls {
            config += &format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        }
        if special.password {
            config +=
                &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", folder.join("htpasswd").display());
        }
        std::fs::write(folder.join("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("start docker-registry: install the Debian package of that name");
        let mut lines = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "docker-registry ended:\n{seen}");
            if let Some(rest) = line.split("listening on ").nth(1) {
                break rest.split(['"', ',', ' ']).next().unwrap().to_owned();
            }
            seen += &line;
        };
        // It writes on: somebody must read.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        DockerRegistry { process, address }
    }

    /// Puts an image where the registry keeps its own.
    pub(crate) fn put(&self, folder: &Path, repository: &str, tag: &str, image: &TestImage) {
        let root = folder.join("data/docker/registry/v2");
        let write = |path: String, content: &[u8]| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let blob = |content: &[u8]| {
            let digest = Digest::of(content);
            write(format!("blobs/sha256/{}/{}/data", &digest.hex()[..2], digest.hex()), content);
            digest
        };
        for content in image.blobs() {
            let digest = blob(content);
            write(
                format!("repositories/{repository}/_layers/sha256/{}/link", digest.hex()),
                digest.as_str().as_bytes(),
            );
        }
        let digest = blob(&image.manifest);
        let manifests = format!("repositories/{repository}/_manifests");
        write(format!("{manifests}/revisions/sha256/{}/link", digest.hex()), digest.as_str().as_bytes());
        write(format!("{manifests}/tags/{tag}/current/link"), digest.as_str().as_bytes());
        write(format!("{manifests}/tags/{tag}/index/sha256/{}/link", digest.hex()), digest.as_str().as_bytes());
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One request that a [`FaultyRegistry`] has seen.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    /// How many requests of this method and path came before.
    pub(crate) earlier: usize,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// As a good registry does.
    Well,
    /// With this status, these headers and this body.
    Status(u16, Vec<(String, String)>, String),
    /// Well, but the connection breaks after so many bytes of the body.
    Cut(usize),
    /// Well, but nothing comes after so many bytes, and the connection stays.
    Stall(usize),
    /// With other bytes of the same length.
    Lie,
    /// The whole content, whatever range was asked for.
    NoRange,
    /// Not at all; the connection breaks.
    HangUp,
    /// Not at all; the connection stays.
    Silence,
}

impl Reply {
    pub(crate) fn status(code: u16) -> Reply {
        Reply::Status(code, Vec::new(), String::new())
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// A registry that does what a script says.
pub(crate) struct FaultyRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Body and media type by path.
    content: Mutex<HashMap<String, (Vec<u8>, String)>>,
    requests: Mutex<Vec<Request>>,
    script: Box<Script>,
    ended: AtomicBool,
}

impl FaultyRegistry {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> FaultyRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            content: Mutex::default(),
            requests: Mutex::default(),
            script: Box::new(script),
            ended: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                std::thread::spawn(move || serve(&shared, &stream.unwrap()));
            }
        });
        FaultyRegistry { address, shared }
    }

    /// `127.0.0.1:port`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn put(&self, repository: &str, tag: &str, image: &TestImage) {
        let manifest = (image.manifest.clone(), "application/vnd.oci.image.manifest.v1+json");
        self.put_document(repository, tag, &manifest.0, manifest.1);
        for blob in image.blobs() {
            self.put_path(&format!("/v2/{repository}/blobs/{}", Digest::of(blob)), blob, "application/octet-stream");
        }
    }

    /// A manifest or index under its digest and a tag.
    pub(crate) fn put_document(&self, repository: &str, tag: &str, content: &[u8], media_type: &str) {
        for name in [tag, Digest::of(content).as_str()] {
            self.put_path(&format!("/v2/{repository}/manifests/{name}"), content, media_type);
        }
    }

    pub(crate) fn put_path(&self, path: &str, content: &[u8], media_type: &str) {
        self.shared.content.lock().unwrap().insert(path.to_owned(), (content.to_vec(), media_type.to_owned()));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The requests as lines `METHOD path range`.
    pub(crate) fn log(&self) -> Vec<String> {
        let line = |request: &Request| {
            format!("{} {} {}", request.method, request.path, request.header("range")).trim().to_owned()
        };
        self.requests().iter().map(line).collect()
    }
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(shared: &Shared, stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let request = read_request(shared, &mut reader, stream)?;
        let reply = (shared.script)(&request);
        shared.requests.lock().unwrap().push(request.clone());
        if !answer(shared, &request, reply, stream)? {
            return None;
        }
    }
}

fn read_request(shared: &Shared, reader: &mut BufReader<&TcpStream>, mut stream: &TcpStream) -> Option<Request> {
    // TLS begins so; a plain server answers like this.
    if reader.fill_buf().ok()?.first()? == &0x16 {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let seen = shared.requests.lock().unwrap();
    let earlier = seen.iter().filter(|other| other.method == method && other.path == path).count();
    Some(Request { method, path, headers, earlier, body: String::from_utf8(body).ok()? })
}

/// Answers; false if the connection ends with that.
fn answer(shared: &Shared, request: &Request, reply: Reply, mut stream: &TcpStream) -> Option<bool> {
    // Proxies are told the whole address.
    let path =
        request.path.strip_prefix("http://").map_or(request.path.as_str(), |rest| &rest[rest.find('/').unwrap_or(0)..]);
    let plain_path = path.split('?').next()?;
    let found = shared.content.lock().unwrap().get(plain_path).cloned();
    let offset: usize = match &reply {
        Reply::NoRange => 0,
        _ => request
            .header("range")
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-')?.parse().ok())
            .unwrap_or(0),
    };
    let mut head = String::new();
    let body = match (&reply, found) {
        (Reply::HangUp, _) => return None,
        (Reply::Silence, _) => {
            wait_for_end(stream);
            return None;
        }
        (Reply::Status(code, headers, body), _) => {
            head += &format!("HTTP/1.1 {code} Because\r\n");
            headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
            body.clone().into_bytes()
        }
        (_, None) => {
            head += "HTTP/1.1 404 Not Found\r\n";
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}"#.to_vec()
        }
        (reply, Some((mut content, media_type))) => {
            if matches!(reply, Reply::Lie) {
                content.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            }
            let length = content.len();
            head += &match offset {
                0 => "HTTP/1.1 200 OK\r\n".to_owned(),
                offset => format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {offset}-{}/{length}\r\n", length - 1),
            };
            head += &format!("Content-Type: {media_type}\r\nDocker-Content-Digest: {}\r\n", Digest::of(&content));
            content.split_off(offset)
        }
    };
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(true);
    }
    match reply {
        Reply::Cut(count) if count < body.len() => {
            stream.write_all(&body[..count]).ok()?;
            None
        }
        Reply::Stall(count) if count < body.len() => {
            stream.write_all(&body[..count]).ok()?;
            wait_for_end(stream);
            None
        }
        _ => stream.write_all(&body).ok().map(|()| true),
    }
}

/// Waits until the client hangs up.
fn wait_for_end(mut stream: &TcpStream) {
    let _ = stream.read(&mut [0; 1]);
}
