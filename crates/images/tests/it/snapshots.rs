//! Snapshots: mounted, written to, counted, removed.

use expect_test::expect;
use images::ErrorKind;

use crate::support::image::{Packing, TestImage, docker_archive};
use crate::support::tarball::Tar;
use crate::support::{Bench, listing};

#[test]
fn a_container_writes_to_its_own_folder_only() {
    let bench = Bench::new();
    let rootfs = bench.mounted(&[Tar::new().file("etc/motd", b"hello").finish()]);
    std::fs::write(rootfs.join("etc/motd"), "changed").unwrap();
    std::fs::write(rootfs.join("new"), vec![1; 100_000]).unwrap();
    bench.images().prepare("other", "example.com/test:1").unwrap();
    let target = bench.path("other-rootfs");
    std::fs::create_dir(&target).unwrap();
    bench.images().mount("other", &target).unwrap();
    expect![[r#"
        etc d 755 0:0
        etc/motd f 644 0:0 "hello"
    "#]]
    .assert_eq(&listing(&target));
    let usage = bench.images().snapshot_usage("container").unwrap();
    assert!(usage.bytes >= 100_000 && usage.inodes == 4, "{usage:?}");
    assert_eq!(bench.images().snapshot_usage("other").unwrap().inodes, 1);
    images::unmount(&target).unwrap();
    images::unmount(&target).unwrap();
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn hundreds_of_layers_are_mounted() {
    let bench = Bench::new();
    let layers: Vec<Vec<u8>> = (0..200)
        .map(|n| Tar::new().file(&format!("f{n:03}"), b"").file("last", n.to_string().as_bytes()).finish())
        .collect();
    let rootfs = bench.mounted(&layers);
    assert_eq!(std::fs::read_dir(&rootfs).unwrap().count(), 201);
    assert_eq!(std::fs::read_to_string(rootfs.join("last")).unwrap(), "199");
}

#[test]
fn views_are_read_only_for_any_number_of_layers() {
    let bench = Bench::new();
    let layer = |name: &str| Tar::new().file(name, b"x").finish();
    for count in 0..3usize {
        let layers: Vec<Vec<u8>> = (0..count).map(|n| layer(&format!("file{n}"))).collect();
        let image = TestImage::new(&layers, Packing::Plain);
        bench.import(&docker_archive(&[(&image, &["a.b/c:1"])])).unwrap();
        let key = format!("view{count}");
        bench.images().view(&key, "a.b/c:1").unwrap();
        let target = bench.path(&key);
        std::fs::create_dir(&target).unwrap();
        bench.images().mount(&key, &target).unwrap();
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), count);
        let refused = std::fs::write(target.join("new"), "x").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        images::unmount(&target).unwrap();
    }
}

#[test]
fn the_root_looks_as_the_image_says() {
    use crate::support::tarball::Header;
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let root = Header { path: "./", type_flag: b'5', mode: 0o1711, uid: 7, gid: 8, ..Header::default() };
    let rootfs = bench.mounted(&[Tar::new().entry(&root, b"").finish(), Tar::new().file("f", b"").finish()]);
    let looks = std::fs::metadata(rootfs).unwrap();
    assert_eq!((looks.mode() & 0o7777, looks.uid(), looks.gid()), (0o1711, 7, 8));
}

#[test]
fn snapshots_live_on_with_the_process() {
    let mut bench = Bench::new();
    let rootfs = bench.mounted(&[Tar::new().file("f", b"1").finish()]);
    std::fs::write(rootfs.join("g"), "2").unwrap();
    images::unmount(&rootfs).unwrap();
    bench.reopen();
    let snapshot = bench.images().snapshot("container").unwrap();
    assert!(snapshot.writable && snapshot.chain_ids.len() == 1);
    bench.images().mount("container", &rootfs).unwrap();
    assert_eq!(std::fs::read_to_string(rootfs.join("g")).unwrap(), "2");
}

#[test]
fn layers_stay_under_a_container_when_the_image_goes() {
    let bench = Bench::new();
    let rootfs = bench.mounted(&[Tar::new().file("f", b"1").finish()]);
    assert_eq!(bench.images().remove("example.com/test:1").unwrap().layers, 0);
    assert!(bench.images().list().is_empty());
    let id = bench.images().snapshot("container").unwrap().image;
    assert_eq!(bench.images().image_config(id.as_str()).unwrap().config.cmd, ["sh"]);
    images::unmount(&rootfs).unwrap();
    bench.images().mount("container", &rootfs).unwrap();
    assert_eq!(std::fs::read_to_string(rootfs.join("f")).unwrap(), "1");
    images::unmount(&rootfs).unwrap();
    bench.images().remove_snapshot("container").unwrap();
    assert_eq!(bench.images().usage(), images::Usage::default());
}

#[test]
fn what_cannot_be_is_refused_clearly() {
    let bench = Bench::new();
    bench.mounted(&[Tar::new().file("f", b"1").finish()]);
    let check = |result: images::Result<images::Snapshot>, kind: ErrorKind, message: &str| {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.message().as_str()), (kind, message));
    };
    let images = bench.images();
    check(images.prepare("x", "nothing"), ErrorKind::NotFound, "image \"nothing\": not found");
    check(
        images.prepare("container", "example.com/test:1"),
        ErrorKind::AlreadyExists,
        "snapshot \"container\": already exists",
    );
    check(images.prepare("../x", "example.com/test:1"), ErrorKind::Corrupt, "invalid snapshot key \"../x\"");
    let error = images::Images::open(images::Config::new(bench.path("store"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unusable);
    assert!(error.message().ends_with("store is in use by another process"), "{}", error.message());
}

#[test]
fn a_store_on_an_overlay_is_refused_with_advice() {
    let bench = Bench::new();
    let rootfs = bench.mounted(&[Tar::new().file("f", b"1").finish()]);
    let error = images::Images::open(images::Config::new(rootfs.join("store"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unusable);
    assert!(error.message().contains("lies on overlayfs"), "{}", error.message());
}

#[test]
fn nobody_else_reaches_the_layers() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    assert_eq!(std::fs::metadata(bench.path("store")).unwrap().mode() & 0o7777, 0o700);
}
