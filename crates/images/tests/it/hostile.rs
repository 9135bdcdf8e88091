//! Layers that no honest program writes.

use expect_test::{Expect, expect};
use images::ErrorKind;

use crate::support::image::{Packing, TestImage, docker_archive};
use crate::support::tarball::{Header, Tar};
use crate::support::{Bench, listing};

/// What a container sees; whatever happens, nothing outside of the store is touched.
fn check(layer: Tar, expect: Expect) {
    let bench = Bench::new();
    let canary = bench.write("canary/file", b"untouched");
    let before = listing(&bench.path("canary"));
    let rootfs = bench.mounted(&[layer.finish()]);
    expect.assert_eq(&listing(&rootfs));
    assert_eq!(listing(canary.parent().unwrap()), before);
}

/// The layer is refused in these last words, and nothing of it stays.
fn refused(layer: Tar, kind: ErrorKind, words: &str) {
    refused_bytes(layer.finish(), kind, words);
}

fn refused_bytes(layer: Vec<u8>, kind: ErrorKind, words: &str) {
    let bench = Bench::new();
    let image = TestImage::new(&[layer], Packing::Plain);
    let error = bench.import(&docker_archive(&[(&image, &["a"])])).unwrap_err();
    assert!(error.message().ends_with(words), "{}", error.message());
    assert_eq!(error.kind(), kind, "{}", error.message());
    assert!(error.message().contains("failed to extract layer sha256:"));
    bench.images().sweep().unwrap();
    assert_eq!(bench.images().usage(), images::Usage::default());
    assert_eq!(std::fs::read_dir(bench.path("store/layers")).unwrap().count(), 0);
}

#[test]
fn names_that_lead_out_are_refused() {
    for path in ["../x", "a/../../x", "..", "/../x", "a/b/../../../x"] {
        let words = format!("entry {path:?} of the layer points outside of it");
        refused(Tar::new().file(path, b""), ErrorKind::Corrupt, &words);
    }
    refused(
        Tar::new().hardlink("x", "../../etc/passwd"),
        ErrorKind::Corrupt,
        "entry \"../../etc/passwd\" of the layer points outside of it",
    );
    for path in [".wh.", ".wh..", ".wh..."] {
        refused(
            Tar::new().file(path, b""),
            ErrorKind::Corrupt,
            &format!("entry {path:?} of the layer points outside of it"),
        );
    }
}

#[test]
fn absolute_names_are_the_layer_s_own() {
    check(
        Tar::new().file("/etc/x", b"1").file("a/../b", b"2").file("./c//d", b"3"),
        expect![[r#"
            b f 644 0:0 "2"
            c d 755 0:0
            c/d f 644 0:0 "3"
            etc d 755 0:0
            etc/x f 644 0:0 "1"
        "#]],
    );
}

#[test]
fn links_lead_nowhere_but_into_the_layer() {
    check(
        Tar::new()
            .symlink("up", "../../../../../../..")
            .file("up/through-up", b"1")
            .symlink("root", "/")
            .file("root/through-root", b"2")
            .folder("deep")
            .symlink("deep/back", "../deep")
            .file("deep/back/back/f", b"3")
            .hardlink("linked", "root/through-root"),
        expect![[r#"
            deep d 755 0:0
            deep/back l 777 0:0 -> ../deep
            deep/f f 644 0:0 "3"
            linked f 644 0:0 "2"
            root l 777 0:0 -> /
            through-root f 644 0:0 "2"
            through-up f 644 0:0 "1"
            up l 777 0:0 -> ../../../../../../..
        "#]],
    );
}

#[test]
fn a_link_is_replaced_not_written_through() {
    check(
        Tar::new()
            .file("victim", b"kept")
            .symlink("link", "victim")
            .file("link", b"own")
            .folder("folder")
            .file("folder/f", b"1")
            .symlink("to-folder", "folder")
            .folder("to-folder")
            .file("to-folder/g", b"2"),
        expect![[r#"
            folder d 755 0:0
            folder/f f 644 0:0 "1"
            link f 644 0:0 "own"
            to-folder d 755 0:0
            to-folder/g f 644 0:0 "2"
            victim f 644 0:0 "kept"
        "#]],
    );
}

#[test]
fn links_in_circles_are_refused() {
    let circle = Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b"");
    refused(circle, ErrorKind::Io, "open folder a: Too many levels of symbolic links (os error 40)");
}

#[test]
fn hard_links_to_nothing_are_refused() {
    for target in ["/etc/passwd", "etc/passwd", "nothing"] {
        refused(Tar::new().hardlink("x", target), ErrorKind::Io, "No such file or directory (os error 2)");
    }
    refused(
        Tar::new().symlink("e", "/etc").hardlink("x", "e/passwd"),
        ErrorKind::Io,
        "No such file or directory (os error 2)",
    );
}

#[test]
fn attributes_of_overlayfs_are_not_taken() {
    let bench = Bench::new();
    let folder = Header { path: "d", type_flag: b'5', mode: 0o755, ..Header::default() };
    let layer = Tar::new()
        .pax(
            &[
                ("SCHILY.xattr.trusted.overlay.redirect", b"/secret"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.metacopy", b""),
                ("SCHILY.xattr.trusted.mine", b"kept"),
            ],
            &folder,
            b"",
        )
        .finish();
    let below = Tar::new().file("d/below", b"1").finish();
    let rootfs = bench.mounted(&[below, layer]);
    assert!(rootfs.join("d/below").exists(), "the folder is not opaque");
    let mut value = [0; 64];
    let mut get =
        |name: &str| rustix::fs::getxattr(rootfs.join("d"), name, &mut value).map(|count| value[..count].to_vec());
    assert_eq!(get("trusted.mine").unwrap(), b"kept");
    assert!(get("trusted.overlay.redirect").is_err());
}

#[test]
fn capabilities_and_setuid_bits_outlive_the_owner() {
    let bench = Bench::new();
    let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let header = Header { path: "ping", mode: 0o6755, uid: 5, gid: 6, ..Header::default() };
    let layer = Tar::new().pax(&[("SCHILY.xattr.security.capability", &capability)], &header, b"x").finish();
    let rootfs = bench.mounted(&[layer]);
    assert_eq!(listing(&rootfs), "ping f 6755 5:6 \"x\"\n");
    let mut value = [0; 64];
    let count = rustix::fs::getxattr(rootfs.join("ping"), "security.capability", &mut value).unwrap();
    assert_eq!(value[..count], capability);
}

#[test]
fn broken_archives_are_refused() {
    use ErrorKind::{Corrupt, Unsupported};
    let whole = Tar::new().file("f", &[1; 1000]).finish();
    refused_bytes(whole[..900].to_vec(), Corrupt, "archive is truncated");
    refused_bytes(whole[..300].to_vec(), Corrupt, "archive is truncated");
    let mut wrong = whole.clone();
    wrong[5] ^= 1;
    refused_bytes(wrong, Corrupt, "invalid tar header");
    refused(
        Tar::new().entry(&Header { path: "x", type_flag: b'V', ..Header::default() }, b""),
        Unsupported,
        "unhandled tar header type 'V'",
    );
    let endless = Header { path: "x", type_flag: b'L', ..Header::default() };
    refused(Tar::new().bare(&endless, 1 << 32), Corrupt, "tar extended header of 4294967296 bytes is too large");
    let endless = Header { type_flag: b'x', ..endless };
    refused(Tar::new().bare(&endless, 1 << 32), Corrupt, "tar extended header of 4294967296 bytes is too large");
    let plain = Header { path: "x", ..Header::default() };
    refused(Tar::new().pax(&[("path", b"a\0b")], &plain, b""), Corrupt, "a name holds a zero byte");
    refused(Tar::new().pax(&[("size", b"-1")], &plain, b""), Corrupt, "invalid tar header: size");
    refused(Tar::new().pax(&[("mtime", b"x")], &plain, b""), Corrupt, "invalid tar header: mtime");
    refused(Tar::new().pax(&[("uid", b"99999999999")], &plain, b""), Corrupt, "user or group id");
    refused(Tar::new().file("a".repeat(300).as_str(), b""), ErrorKind::Io, "File name too long (os error 36)");
    let deep = "d/".repeat(3000);
    refused(Tar::new().file(&deep, b""), ErrorKind::Io, "File name too long (os error 36)");
}

#[test]
fn a_layer_packed_with_rubbish_is_refused() {
    let rubbish = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0][..], &[0xff; 100]].concat();
    refused_bytes(rubbish, ErrorKind::Corrupt, "invalid layer archive: read the archive: corrupt deflate stream");
}

#[test]
fn what_gnu_tar_writes_is_read() {
    let bench = Bench::new();
    let tree = bench.path("tree");
    let script = r#"
        set -e
        mkdir -p tree/long && cd tree
        echo hello > file; chmod 4711 file; chown 123:456 file
        ln file hard; ln -s file soft; mkfifo pipe; mknod null c 1 3
        long=$(printf 'n%.0s' $(seq 120))
        mkdir -p long/$long/$long; echo deep > long/$long/$long/$long
        ln -s $long/$long long/link
        truncate -s 3M sparse; printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none
        printf end | dd of=sparse bs=1 seek=3000000 conv=notrunc status=none
        for n in $(seq 60); do printf x | dd of=holes bs=1 seek=$((n * 40000)) conv=notrunc status=none; done
        echo umlaut > 'ümlaut'
    "#;
    let run = |script: &str| {
        let status =
            std::process::Command::new("sh").args(["-c", script]).current_dir(bench.path(".")).status().unwrap();
        assert!(status.success(), "{script}");
    };
    run(script);
    let expect = listing(&tree);
    for format in [
        "--format=gnu",
        "--format=pax",
        "--format=gnu -S",
        "--format=pax -S --sparse-version=0.0",
        "--format=pax -S --sparse-version=0.1",
        "--format=pax -S --sparse-version=1.0",
    ] {
        run(&format!("tar -C tree {format} -cf layer.tar ."));
        let image = TestImage::new(&[std::fs::read(bench.path("layer.tar")).unwrap()], Packing::Plain);
        bench.import(&docker_archive(&[(&image, &["a"])])).unwrap();
        bench.images().view("view", "a").unwrap();
        let target = bench.path("view");
        std::fs::create_dir(&target).unwrap();
        bench.images().mount("view", &target).unwrap();
        assert!(listing(&target) == expect, "{format}");
        let times = |root: &std::path::Path, name: &str| {
            std::fs::symlink_metadata(root.join(name)).unwrap().modified().unwrap()
        };
        for name in ["file", "soft", "long", "pipe", "sparse"] {
            let apart =
                times(&target, name).duration_since(times(&tree, name)).unwrap_or_else(|error| error.duration());
            assert!(apart.as_secs() < 1, "{format}: {name} is {apart:?} off");
        }
        use std::os::unix::fs::MetadataExt;
        let blocks = std::fs::metadata(target.join("sparse")).unwrap().blocks();
        assert!(!format.contains("-S") || blocks < 1000, "{format}: {blocks} blocks");
        images::unmount(&target).unwrap();
        std::fs::remove_dir(&target).unwrap();
        bench.images().remove_snapshot("view").unwrap();
        bench.images().remove("a").unwrap();
    }
}
