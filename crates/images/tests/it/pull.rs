//! Pulling from Debian's docker-registry: names, packings, passwords, TLS, mirrors.

use std::path::{Path, PathBuf};

use images::{Credentials, ErrorKind, PullOptions};
use serde_json::json;

use crate::support::Bench;
use crate::support::image::{Packing, TestImage};
use crate::support::registry::{DockerRegistry, FaultyRegistry, Reply, Special};
use crate::support::tarball::Tar;

fn layers() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    vec![
        Tar::new().folder("bin").program("bin/sh", b"#!").finish(),
        Tar::new().file("noise", &noise).finish(),
        Tar::new().file("bin/.wh.sh", b"").file("top", b"1").finish(),
    ]
}

fn password(username: &str, password: &str) -> PullOptions {
    let credentials =
        Credentials { username: username.to_owned(), password: password.to_owned(), ..Credentials::default() };
    PullOptions { credentials, progress: None }
}

#[test]
fn images_of_every_packing_are_pulled_and_run() {
    let bench = Bench::new();
    let folder = bench.path("registry");
    let registry = DockerRegistry::start(&folder, Special::default());
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let image = TestImage::new(&layers(), packing);
        registry.put(&folder, "a/b", "1", &image);
        let name = format!("{}/a/b:1", registry.address);
        let progress = std::sync::Arc::new(images::Progress::default());
        let options = PullOptions { progress: Some(progress.clone()), ..PullOptions::default() };
        let pulled = bench.wait(bench.images().pull(&name, options)).unwrap();
        let size: usize = image.layers.iter().map(|(packed, _)| packed.len()).sum();
        assert_eq!(progress.bytes(), (size as u64, size as u64));
        assert_eq!(progress.layers(), (3, 3));
        assert_eq!(pulled.id, image.id());
        assert_eq!(pulled.repo_tags, std::slice::from_ref(&name));
        assert_eq!(pulled.repo_digests, [format!("{}/a/b@{}", registry.address, image.digest())]);
        assert_eq!(pulled.size, (size + image.config.len() + image.manifest.len()) as u64);
        let key = format!("{packing:?}");
        let target = bench.path(&key);
        std::fs::create_dir(&target).unwrap();
        bench.images().prepare(&key, &name).unwrap();
        bench.images().mount(&key, &target).unwrap();
        assert_eq!(
            crate::support::listing(&target).lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(),
            ["bin", "noise", "top"]
        );
        images::unmount(&target).unwrap();
        bench.images().remove_snapshot(&key).unwrap();
        bench.images().remove(&name).unwrap();
        assert_eq!(bench.images().usage(), images::Usage::default(), "nothing stays");
    }
}

#[test]
fn digests_name_images_too() {
    let bench = Bench::new();
    let folder = bench.path("registry");
    let registry = DockerRegistry::start(&folder, Special::default());
    let image = TestImage::new(&layers(), Packing::Gzip);
    registry.put(&folder, "a", "1", &image);
    let name = format!("{}/a:whatever@{}", registry.address, image.digest());
    let pulled = bench.wait(bench.images().pull(&name, PullOptions::default())).unwrap();
    assert_eq!(pulled.repo_tags, Vec::<String>::new());
    assert_eq!(pulled.repo_digests, [format!("{}/a@{}", registry.address, image.digest())]);
    assert_eq!(bench.images().get(&name).unwrap().id, image.id());
    assert_eq!(bench.images().get(&image.id().hex()[..12]).unwrap().id, image.id());
}

#[test]
fn a_moved_tag_leaves_the_old_image_its_digest() {
    let bench = Bench::new();
    let folder = bench.path("registry");
    let registry = DockerRegistry::start(&folder, Special::default());
    let name = format!("{}/a:1", registry.address);
    let old = TestImage::new(&layers()[..1], Packing::Gzip);
    let new = TestImage::new(&layers()[..2], Packing::Gzip);
    for image in [&old, &new] {
        registry.put(&folder, "a", "1", image);
        bench.wait(bench.images().pull(&name, PullOptions::default())).unwrap();
    }
    assert_eq!(bench.images().get(&name).unwrap().id, new.id());
    let old = bench.images().get(old.id().as_str()).unwrap();
    assert_eq!((old.repo_tags.len(), old.repo_digests.len()), (0, 1));
}

#[test]
fn passwords_are_asked_for_and_checked() {
    let bench = Bench::new();
    let folder = bench.path("registry");
    let registry = DockerRegistry::start(&folder, Special { password: true, tls: None });
    let image = TestImage::new(&layers(), Packing::Gzip);
    registry.put(&folder, "private", "1", &image);
    let name = format!("{}/private:1", registry.address);
    let pull = |options| bench.wait(bench.images().pull(&name, options));
    let denied = |options, detail: &str| {
        let error = pull(options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        let expect = format!(
            "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": \
             pull access denied, repository does not exist or may require authorization: authorization failed{detail}"
        );
        assert_eq!(error.message(), expect);
    };
    denied(PullOptions::default(), ": no basic auth credentials");
    denied(password("user", "wrong"), "");
    let elsewhere = Credentials { server_address: "other.io".to_owned(), ..password("user", "secret").credentials };
    denied(PullOptions { credentials: elsewhere, progress: None }, ": no basic auth credentials");
    assert_eq!(pull(password("user", "secret")).unwrap().id, image.id());
    // That the image is here now opens it to nobody else.
    denied(PullOptions::default(), ": no basic auth credentials");
}

/// An authority with a certificate for 127.0.0.1, and another that signs itself.
struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    own: PathBuf,
    own_key: PathBuf,
}

fn certificates(bench: &Bench) -> Certificates {
    let run = |args: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(args)
            .current_dir(bench.path("."))
            .output()
            .expect("run openssl");
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let named = ["-addext", "subjectAltName=IP:127.0.0.1"];
    run(&[&["req", "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"][..], &new_key].concat());
    run(&[&["req", "-x509", "-subj", "/CN=own", "-keyout", "own.key", "-out", "own.crt"][..], &new_key, &named]
        .concat());
    run(&[
        &[
            "req",
            "-x509",
            "-subj",
            "/CN=registry",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-keyout",
            "tls.key",
            "-out",
            "tls.crt",
        ][..],
        &["-addext", "basicConstraints=critical,CA:FALSE"],
        &new_key,
        &named,
    ]
    .concat());
    Certificates {
        authority: bench.path("ca.crt"),
        certificate: bench.path("tls.crt"),
        key: bench.path("tls.key"),
        own: bench.path("own.crt"),
        own_key: bench.path("own.key"),
    }
}

#[test]
fn registries_with_tls_are_believed_when_their_authority_is_known() {
    let mut bench = Bench::without_store();
    let hosts = bench.path("certs.d");
    bench.open(|config| config.registry.hosts_folder = Some(hosts.clone()));
    let files = certificates(&bench);
    let folder = bench.path("registry");
    let registry =
        DockerRegistry::start(&folder, Special { password: false, tls: Some((&files.certificate, &files.key)) });
    let image = TestImage::new(&layers(), Packing::Gzip);
    registry.put(&folder, "a", "1", &image);
    let name = format!("{}/a:1", registry.address);
    let pull = |bench: &Bench| bench.wait(bench.images().pull(&name, PullOptions::default()));
    let error = pull(&bench).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let expect = format!(
        "failed to do request: Head \"https://{}/v2/a/manifests/1\": \
         tls: failed to verify certificate: x509: certificate signed by unknown authority",
        registry.address
    );
    assert!(error.message().ends_with(&expect), "{}", error.message());
    let configure = |text: String| bench.write(&format!("certs.d/{}/hosts.toml", registry.address), text.as_bytes());
    configure(format!("ca = {:?}", files.authority));
    assert_eq!(pull(&bench).unwrap().id, image.id());
    configure("skip_verify = true".to_owned());
    assert_eq!(pull(&bench).unwrap().id, image.id());
    std::fs::remove_file(bench.path(&format!("certs.d/{}/hosts.toml", registry.address))).unwrap();
    std::fs::copy(&files.authority, bench.path(&format!("certs.d/{}/ca.crt", registry.address))).unwrap();
    assert_eq!(pull(&bench).unwrap().id, image.id());
}

#[test]
fn a_registry_that_signs_for_itself_is_its_own_authority() {
    let mut bench = Bench::without_store();
    let hosts = bench.path("certs.d");
    bench.open(|config| config.registry.hosts_folder = Some(hosts.clone()));
    let files = certificates(&bench);
    let folder = bench.path("registry");
    let registry = DockerRegistry::start(&folder, Special { password: false, tls: Some((&files.own, &files.own_key)) });
    let image = TestImage::new(&layers(), Packing::Gzip);
    registry.put(&folder, "a", "1", &image);
    bench.write(&format!("certs.d/{}/hosts.toml", registry.address), format!("ca = {:?}", files.own).as_bytes());
    let pull = |host: &str| bench.wait(bench.images().pull(&format!("{host}/a:1"), PullOptions::default()));
    assert_eq!(pull(&registry.address).unwrap().id, image.id());
    // Its name counts all the same.
    let by_name = registry.address.replace("127.0.0.1", "localhost");
    bench.write(&format!("certs.d/{by_name}/hosts.toml"), format!("ca = {:?}", files.own).as_bytes());
    let error = pull(&by_name).unwrap_err();
    assert!(error.message().ends_with("certificate is not valid for localhost"), "{}", error.message());
}

#[test]
fn mirrors_are_tried_in_order_before_the_registry() {
    let mut bench = Bench::without_store();
    let hosts = bench.path("certs.d");
    let image = TestImage::new(&layers(), Packing::Gzip);
    let broken = FaultyRegistry::start(|_| Reply::status(500));
    let lacking = FaultyRegistry::start(|_| Reply::Well);
    let resolving = FaultyRegistry::start(|_| Reply::Well);
    resolving.put_document("x/y", "1", &image.manifest, "application/vnd.oci.image.manifest.v1+json");
    let folder = bench.path("registry");
    let real = DockerRegistry::start(&folder, Special::default());
    real.put(&folder, "x/y", "1", &image);
    bench.open(|config| {
        config.registry.hosts_folder = Some(hosts.clone());
        config.registry.backoff_min = std::time::Duration::from_millis(1);
    });
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\n\
         [host.\"http://{}\"]\ncapabilities = [\"resolve\"]\n",
        real.address,
        broken.address(),
        lacking.address(),
        resolving.address()
    );
    bench.write("certs.d/upstream.io/hosts.toml", text.as_bytes());
    let pulled = bench.wait(bench.images().pull("upstream.io/x/y:1", PullOptions::default())).unwrap();
    assert_eq!(pulled.repo_tags, ["upstream.io/x/y:1"]);
    assert_eq!(broken.log()[0], "HEAD /v2/x/y/manifests/1?ns=upstream.io");
    assert_eq!(lacking.log()[0], "HEAD /v2/x/y/manifests/1?ns=upstream.io");
    assert_eq!(
        resolving.log(),
        ["HEAD /v2/x/y/manifests/1?ns=upstream.io"],
        "asked what the tag means, and for nothing else"
    );
}

#[test]
fn the_manifest_for_this_machine_is_picked() {
    let bench = Bench::new();
    let registry = FaultyRegistry::start(|_| Reply::Well);
    let mine = TestImage::new(&layers(), Packing::Gzip);
    let other = TestImage::with_config(&layers()[..1], Packing::Gzip, json!({}), ("linux", "s390x"));
    let entry = |image: &TestImage, os: &str, architecture: &str| {
        let mut entry =
            crate::support::image::descriptor("application/vnd.oci.image.manifest.v1+json", &image.manifest);
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    };
    let host = images::host_platforms().remove(0).architecture;
    registry.put("a", "mine", &mine);
    let index =
        |entries: &[serde_json::Value]| json!({"schemaVersion": 2, "manifests": entries}).to_string().into_bytes();
    let both =
        index(&[entry(&other, "linux", "s390x"), entry(&mine, "linux", &host), entry(&other, "unknown", "unknown")]);
    registry.put_document("a", "both", &both, "application/vnd.oci.image.index.v1+json");
    let none = index(&[entry(&other, "linux", "s390x"), entry(&mine, "windows", &host)]);
    registry.put_document("a", "none", &none, "application/vnd.docker.distribution.manifest.list.v2+json");
    let pull =
        |tag: &str| bench.wait(bench.images().pull(&format!("{}/a:{tag}", registry.address()), PullOptions::default()));
    let pulled = pull("both").unwrap();
    assert_eq!(pulled.id, mine.id());
    assert!(pulled.repo_digests[0].ends_with(images::Digest::of(&both).as_str()), "the index's digest names the image");
    let error = pull("none").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoMatchingPlatform);
    let expect = format!("no match for platform in manifest {}: not found", images::Digest::of(&none));
    assert!(error.message().ends_with(&expect), "{}", error.message());
}

#[test]
fn names_that_are_none_are_told_so() {
    let bench = Bench::new();
    let pull = |name: &str| bench.wait(bench.images().pull(name, PullOptions::default())).unwrap_err();
    let error = pull("Bad:Name:x");
    assert_eq!(error.kind(), ErrorKind::InvalidReference);
    assert_eq!(
        error.message(),
        "failed to parse image reference \"Bad:Name:x\": invalid reference format: repository name (library/Bad) must be lowercase"
    );
}

#[test]
fn the_root_folder_is_where_it_was_said_to_be() {
    let bench = Bench::new();
    assert_eq!(bench.images().root(), Path::new(&bench.path("store")));
}
