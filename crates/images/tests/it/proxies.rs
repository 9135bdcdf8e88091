//! Pulling through proxies.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use images::{ErrorKind, Proxies, PullOptions};

use crate::support::Bench;
use crate::support::image::{Packing, TestImage};
use crate::support::registry::{DockerRegistry, FaultyRegistry, Reply, Special};
use crate::support::tarball::Tar;

fn proxies(variable: &'static str, address: &str) -> Proxies {
    let value = format!("http://me:secret@{address}");
    Proxies::from_variables(|name| (name == variable).then(|| value.clone()))
}

fn image() -> TestImage {
    TestImage::new(&[Tar::new().file("f", b"1").finish()], Packing::Gzip)
}

#[test]
fn plain_registries_are_asked_for_at_the_proxy() {
    let mut bench = Bench::without_store();
    let proxy = FaultyRegistry::start(|request| match request.header("proxy-authorization") {
        "Basic bWU6c2VjcmV0" => Reply::Well,
        _ => Reply::status(407),
    });
    let image = image();
    proxy.put("a", "1", &image);
    bench.open(|config| {
        config.registry.proxies = proxies("HTTP_PROXY", &proxy.address());
        config.registry.mirrors.insert("upstream.test".to_owned(), vec!["http://upstream.test".to_owned()]);
    });
    let pulled = bench.wait(bench.images().pull("upstream.test/a:1", PullOptions::default())).unwrap();
    assert_eq!(pulled.id, image.id());
    assert_eq!(proxy.log()[0], "HEAD http://upstream.test/v2/a/manifests/1?ns=upstream.test");
    assert_eq!(proxy.requests()[0].header("host"), "upstream.test");
}

/// A proxy that connects everybody to one address, and tells the heads of the requests.
fn tunnel(to: String, answer: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heads, seen) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            // The test has ended if nobody wants it.
            if heads.send(head).is_err() {
                return;
            }
            client.write_all(answer.as_bytes()).unwrap();
            if !answer.contains(" 200 ") {
                continue;
            }
            let mut server = TcpStream::connect(&to).unwrap();
            let mut back = server.try_clone().unwrap();
            let mut to_client = client.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut back, &mut to_client));
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
        }
    });
    (address, seen)
}

#[test]
fn secure_registries_are_reached_through_the_proxy() {
    let mut bench = Bench::without_store();
    let output = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args([
            "-subj",
            "/CN=own",
            "-addext",
            "subjectAltName=DNS:upstream.test",
            "-keyout",
            "own.key",
            "-out",
            "own.crt",
        ])
        .current_dir(bench.path("."))
        .output()
        .expect("run openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (certificate, key) = (bench.path("own.crt"), bench.path("own.key"));
    let folder = bench.path("registry");
    let registry = DockerRegistry::start(&folder, Special { password: false, tls: Some((&certificate, &key)) });
    let image = image();
    registry.put(&folder, "a", "1", &image);
    bench.write("certs.d/upstream.test/hosts.toml", format!("ca = {certificate:?}").as_bytes());
    let (proxy, heads) = tunnel(registry.address.clone(), "HTTP/1.1 200 Connection established\r\n\r\n");
    let hosts = bench.path("certs.d");
    bench.open(|config| {
        config.registry.hosts_folder = Some(hosts.clone());
        config.registry.proxies = proxies("HTTPS_PROXY", &proxy);
    });
    let pulled = bench.wait(bench.images().pull("upstream.test/a:1", PullOptions::default())).unwrap();
    assert_eq!(pulled.id, image.id());
    let head = heads.recv().unwrap();
    assert!(head.starts_with("CONNECT upstream.test:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
}

#[test]
fn proxies_that_refuse_are_told() {
    let mut bench = Bench::without_store();
    let (proxy, _heads) = tunnel(String::new(), "HTTP/1.1 403 Forbidden\r\n\r\n");
    bench.open(|config| config.registry.proxies = proxies("HTTPS_PROXY", &proxy));
    let error = bench.wait(bench.images().pull("upstream.test/a:1", PullOptions::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().ends_with("proxyconnect tcp: Forbidden"), "{}", error.message());
}
