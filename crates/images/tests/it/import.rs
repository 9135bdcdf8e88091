//! Importing: every form of archive, every way to name an image, and what is wrong with bad ones.

use std::path::Path;

use images::{Digest, ErrorKind, ImportOptions};
use serde_json::{Value, json};

use crate::support::Bench;
use crate::support::image::{Packing, TestImage, descriptor, docker_archive, layout, layout_files, tar_of};
use crate::support::tarball::Tar;

fn image() -> TestImage {
    TestImage::new(&[Tar::new().file("f", b"1").finish(), Tar::new().file("g", b"2").finish()], Packing::Gzip)
}

#[test]
fn a_docker_archive_of_several_images_shares_layers() {
    let bench = Bench::new();
    let base = Tar::new().file("base", b"1").finish();
    let one = TestImage::new(std::slice::from_ref(&base), Packing::Plain);
    let two = TestImage::new(&[base, Tar::new().file("top", b"2").finish()], Packing::Plain);
    let archive = docker_archive(&[(&one, &["one", "one:v1"]), (&two, &["example.com/two:2"])]);
    let imported = bench.import(&archive).unwrap();
    assert_eq!(imported.len(), 2);
    let image = bench.images().get("one").unwrap();
    assert_eq!(image.id, one.id());
    assert_eq!(image.repo_tags, ["docker.io/library/one:latest", "docker.io/library/one:v1"]);
    assert_eq!(bench.images().get("example.com/two:2").unwrap().id, two.id());
    assert_eq!(bench.images().image_config("one").unwrap().config.cmd, ["sh"]);
    let layers = std::fs::read_dir(bench.path("store/layers")).unwrap().count();
    assert_eq!(layers, 2, "the base is unpacked once");
    let blobs = std::fs::read_dir(bench.path("store/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 4, "a config and a manifest each; packed layers are not kept");
}

#[test]
fn packed_layers_are_kept_if_asked_for() {
    let bench = Bench::with(|config| config.keep_packed_layers = true);
    bench.import(&docker_archive(&[(&image(), &["a"])])).unwrap();
    assert_eq!(std::fs::read_dir(bench.path("store/blobs/sha256")).unwrap().count(), 4);
}

#[test]
fn archives_may_be_packed() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let bench = Bench::new();
        bench.import(&packing.pack(&docker_archive(&[(&image(), &["a"])]))).unwrap();
        assert!(bench.images().get("a").is_some(), "{packing:?}");
    }
}

#[test]
fn layouts_are_imported_from_folders_and_tars() {
    let files = layout(&image(), json!({"io.containerd.image.name": "example.com/a:1"}));
    let bench = Bench::new();
    bench.import(&tar_of(&files)).unwrap();
    assert_eq!(bench.images().get("example.com/a:1").unwrap().id, image().id());
    bench.images().remove("example.com/a:1").unwrap();
    for (name, content) in &files {
        bench.write(&format!("layout/{name}"), content);
    }
    bench.wait(bench.images().import(&bench.path("layout"), ImportOptions::default())).unwrap();
    assert_eq!(bench.images().get("example.com/a:1").unwrap().id, image().id());
}

#[test]
fn layouts_name_images_in_several_ways() {
    let check = |annotations: Value, base: Option<&str>, expect: &[&str]| {
        let bench = Bench::new();
        let path = bench.write("a.tar", &tar_of(&layout(&image(), annotations.clone())));
        let options = ImportOptions { base_name: base.map(str::to_owned), pinned: false };
        let imported = bench.wait(bench.images().import(&path, options)).unwrap();
        assert_eq!(imported[0].repo_tags, expect, "{annotations}");
    };
    check(json!({"io.containerd.image.name": "nginx"}), None, &["docker.io/library/nginx:latest"]);
    check(json!({"org.opencontainers.image.ref.name": "a.io/b:1"}), None, &["a.io/b:1"]);
    check(json!({"org.opencontainers.image.ref.name": "b:1"}), None, &["docker.io/library/b:1"]);
    check(json!({"org.opencontainers.image.ref.name": "1"}), None, &[]);
    check(json!({"org.opencontainers.image.ref.name": "1"}), Some("a.io/b"), &["a.io/b:1"]);
    check(json!({"org.opencontainers.image.ref.name": "No Name/:"}), None, &[]);
    check(
        json!({"io.containerd.image.name": "a:2", "org.opencontainers.image.ref.name": "2"}),
        None,
        &["docker.io/library/a:2"],
    );
    check(Value::Null, None, &[]);
}

#[test]
fn what_new_docker_saves_is_both_sorts_at_once() {
    let bench = Bench::new();
    let image = image();
    let mut files = layout(&image, json!({"io.containerd.image.name": "docker.io/library/a:1"}));
    let path = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
    let layers: Vec<String> = image.layers.iter().map(|(packed, _)| path(packed)).collect();
    let saved = json!([{"Config": path(&image.config), "RepoTags": ["a:2"], "Layers": layers}]);
    files.push(("manifest.json".to_owned(), saved.to_string().into_bytes()));
    let imported = bench.import(&tar_of(&files)).unwrap();
    assert_eq!(imported.len(), 1);
    assert_eq!(imported[0].repo_tags, ["docker.io/library/a:1", "docker.io/library/a:2"]);
}

#[test]
fn old_docker_links_layers_that_images_share() {
    let bench = Bench::new();
    let image = image();
    let saved = json!([{"Config": "c.json", "RepoTags": ["a"], "Layers": ["1/layer.tar", "2/layer.tar"]}]);
    let archive = Tar::new()
        .file("c.json", &image.config)
        .file("0/layer.tar", &image.layers[0].1)
        .symlink("1/layer.tar", "../0/layer.tar")
        .file("3/layer.tar", &image.layers[1].1)
        .hardlink("2/layer.tar", "3/layer.tar")
        .file("manifest.json", saved.to_string().as_bytes());
    bench.import(&archive.finish()).unwrap();
    assert_eq!(bench.images().get("a").unwrap().id, image.id());
}

#[test]
fn an_index_with_one_platform_s_content_is_enough() {
    let bench = Bench::new();
    let mine = image();
    let other = TestImage::with_config(&[], Packing::Plain, json!({}), ("linux", "s390x"));
    let host = images::host_platforms().remove(0).architecture;
    let entry = |image: &TestImage, architecture: &str| {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &image.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let inner = json!({"schemaVersion": 2, "manifests": [entry(&other, "s390x"), entry(&mine, &host)]}).to_string();
    let mut top = descriptor("application/vnd.oci.image.index.v1+json", inner.as_bytes());
    top["annotations"] = json!({"io.containerd.image.name": "a"});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    let content: Vec<&[u8]> = mine.blobs().chain([mine.manifest.as_slice(), inner.as_bytes()]).collect();
    bench.import(&tar_of(&layout_files(&index, &content))).unwrap();
    assert_eq!(bench.images().get("a").unwrap().id, mine.id());
}

#[test]
fn images_for_other_machines_are_refused() {
    let image = TestImage::with_config(&[], Packing::Plain, json!({}), ("linux", "s390x"));
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &image.manifest);
    entry["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    let content: Vec<&[u8]> = image.blobs().chain([image.manifest.as_slice()]).collect();
    let words = format!("no match for platform in manifest {}: not found", image.digest());
    refused(&tar_of(&layout_files(&index, &content)), ErrorKind::NoMatchingPlatform, &words);
}

/// The archive is refused in these last words, and nothing of it stays.
fn refused(archive: &[u8], kind: ErrorKind, words: &str) {
    let bench = Bench::new();
    let error = bench.import(archive).unwrap_err();
    assert!(error.message().ends_with(words), "{}", error.message());
    assert_eq!(error.kind(), kind, "{}", error.message());
    assert!(error.message().starts_with(&format!("import {}: ", bench.path("archive").display())));
    bench.images().sweep().unwrap();
    assert_eq!(bench.images().usage(), images::Usage::default());
    assert!(bench.images().list().is_empty());
}

#[test]
fn bad_archives_are_refused() {
    use ErrorKind::{Corrupt, DigestMismatch, InvalidReference};
    let image = image();
    let saved = |list: Value, files: &[(&str, &[u8])]| {
        let tar = Tar::new().file("manifest.json", list.to_string().as_bytes());
        files.iter().fold(tar, |tar, (name, content)| tar.file(name, content)).finish()
    };
    let plain: Vec<&[u8]> = image.layers.iter().map(|layer| layer.1.as_slice()).collect();
    let list = |layers: &[&str]| json!([{"Config": "c", "RepoTags": ["a"], "Layers": layers}]);
    refused(b"", Corrupt, "neither an OCI layout (index.json) nor a Docker archive (manifest.json)");
    refused(&Tar::new().file("x", b"").finish(), Corrupt, "nor a Docker archive (manifest.json)");
    refused(b"no archive at all", Corrupt, "invalid layer archive: archive is truncated");
    refused(&[7; 2048], Corrupt, "invalid layer archive: invalid tar header");
    refused(&saved(list(&[]), &[]), Corrupt, "archive lacks the config \"c\"");
    refused(&saved(list(&["1"]), &[("c", &image.config)]), Corrupt, "archive lacks the layer \"1\"");
    let one_layer = saved(list(&["1"]), &[("c", &image.config), ("1", plain[0])]);
    refused(&one_layer, Corrupt, "mismatched image rootfs and manifest layers: 2 and 1");
    let exchanged = saved(list(&["1", "0"]), &[("c", &image.config), ("0", plain[0]), ("1", plain[1])]);
    refused(&exchanged, DigestMismatch, &format!("expected {:?}", Digest::of(plain[0])));
    refused(&saved(json!({"x": 1}), &[]), Corrupt, "invalid type: map, expected a sequence at line 1 column 0");
    let bad_name = json!([{"Config": "c", "RepoTags": ["A:b"], "Layers": []}]);
    refused(&saved(bad_name, &[("c", b"{}")]), InvalidReference, "repository name (library/A) must be lowercase");

    let mut lacking = layout(&image, Value::Null);
    lacking.pop();
    refused(&tar_of(&lacking), Corrupt, &format!("layout lacks the content {}", image.digest()));
    let mut lying = layout(&image, Value::Null);
    lying[2].1[0] ^= 1;
    refused(&tar_of(&lying), DigestMismatch, &format!("expected {}: failed precondition", image.id()));
    let whole = tar_of(&layout(&image, Value::Null));
    refused(&whole[..whole.len() / 2 / 512 * 512 + 100], Corrupt, "archive is truncated");
}

#[test]
fn archives_that_are_not_there_are_told() {
    let bench = Bench::new();
    let error = bench.wait(bench.images().import(Path::new("/no/such"), ImportOptions::default())).unwrap_err();
    assert_eq!(error.message(), "import /no/such: open /no/such: No such file or directory (os error 2)");
}

#[test]
fn imported_images_are_pinned_if_asked_for_and_prune_leaves_them() {
    let bench = Bench::new();
    bench.import(&docker_archive(&[(&image(), &["loose"])])).unwrap();
    let pinned = TestImage::new(&[Tar::new().file("p", b"").finish()], Packing::Plain);
    let path = bench.write("pinned.tar", &docker_archive(&[(&pinned, &["kept"])]));
    bench.wait(bench.images().import(&path, ImportOptions { pinned: true, base_name: None })).unwrap();
    let (removed, swept) = bench.images().prune().unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].repo_tags, ["docker.io/library/loose:latest"]);
    assert_eq!((swept.layers, swept.blobs), (2, 2));
    assert!(bench.images().get("kept").unwrap().pinned);
    bench.images().pin("kept", false).unwrap();
    assert_eq!(bench.images().prune().unwrap().0.len(), 1);
    assert_eq!(bench.images().usage(), images::Usage::default());
}

#[test]
fn names_come_and_go() {
    let mut bench = Bench::new();
    bench.import(&docker_archive(&[(&image(), &["a"])])).unwrap();
    bench.images().tag("a", "b.io/c").unwrap();
    bench.reopen();
    assert_eq!(bench.images().get("b.io/c").unwrap().repo_tags, ["b.io/c:latest", "docker.io/library/a:latest"]);
    assert_eq!(bench.images().untag("a").unwrap(), images::Swept::default());
    assert_eq!(bench.images().untag("b.io/c").unwrap().layers, 2);
    assert!(bench.images().list().is_empty());
    assert_eq!(bench.images().untag("b.io/c").unwrap_err().kind(), ErrorKind::NotFound);
    bench.images().remove("b.io/c").unwrap();
}
