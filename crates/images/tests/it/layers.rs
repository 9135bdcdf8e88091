//! Layers: what an archive says is what a container sees, and what an archive must not say is refused.

use expect_test::{Expect, expect};

use crate::support::tarball::{Header, Tar};
use crate::support::{Bench, listing};

/// What a container sees of some layers, the lowest first.
fn check(layers: &[Tar], expect: Expect) {
    let bench = Bench::new();
    let layers: Vec<Vec<u8>> = layers.iter().map(|layer| layer.clone().finish()).collect();
    let rootfs = bench.mounted(&layers);
    expect.assert_eq(&listing(&rootfs));
}

#[test]
fn files_keep_mode_owner_and_kind() {
    let header = |path, type_flag, mode| Header { path, type_flag, mode, uid: 1000, gid: 2000, ..Header::default() };
    check(
        &[Tar::new()
            .entry(&header("bin/", b'5', 0o1777), b"")
            .entry(&header("bin/su", b'0', 0o4755), b"program")
            .hardlink("bin/su2", "bin/su")
            .symlink("sbin", "bin")
            .entry(&header("pipe", b'6', 0o600), b"")
            .entry(&Header { device: (1, 3), ..header("dev/null", b'3', 0o666) }, b"")
            .entry(&Header { device: (7, 0), ..header("dev/loop0", b'4', 0o660) }, b"")],
        expect![[r#"
            bin d 1777 1000:2000
            bin/su f 4755 1000:2000 "program"
            bin/su2 f 4755 1000:2000 "program"
            dev d 755 0:0
            dev/loop0 b 660 1000:2000 7:0
            dev/null c 666 1000:2000 1:3
            pipe p 600 1000:2000 0:0
            sbin l 777 0:0 -> bin
        "#]],
    );
}

#[test]
fn whiteouts_hide_what_is_below() {
    check(
        &[
            Tar::new().file("a/gone", b"1").file("a/kept", b"2").file("b/old", b"3").file("c/x", b"4").file("d", b"5"),
            Tar::new()
                .file("a/.wh.gone", b"")
                .file("b/new", b"6")
                .file("b/.wh..wh..opq", b"")
                .file(".wh.c", b"")
                .file(".wh.d", b""),
        ],
        expect![[r#"
            a d 755 0:0
            a/kept f 644 0:0 "2"
            b d 755 0:0
            b/new f 644 0:0 "6"
        "#]],
    );
}

#[test]
fn a_name_removed_and_made_anew_in_one_layer_is_new() {
    // In either order: a whiteout speaks of the layers below.
    check(
        &[
            Tar::new().file("a/old", b"1").file("b/old", b"2").file("c", b"3").file("d/old", b"4"),
            Tar::new()
                .file(".wh.a", b"")
                .folder("a")
                .file("a/new", b"5")
                .folder("b")
                .file("b/new", b"6")
                .file(".wh.b", b"")
                .file("c", b"7")
                .file(".wh.c", b"")
                .file(".wh.d", b"")
                .file("d/new", b"8"),
        ],
        expect![[r#"
            a d 755 0:0
            a/new f 644 0:0 "5"
            b d 755 0:0
            b/new f 644 0:0 "6"
            c f 644 0:0 "7"
            d d 755 0:0
            d/new f 644 0:0 "8"
        "#]],
    );
}

#[test]
fn later_entries_replace_earlier_ones() {
    check(
        &[Tar::new()
            .file("a/b/c", b"1")
            .file("a", b"2")
            .file("f", b"3")
            .folder("f")
            .file("f/g", b"4")
            .symlink("l", "f")
            .file("l", b"5")
            .folder("d")
            .entry(&Header { path: "d", type_flag: b'5', mode: 0o700, ..Header::default() }, b"")
            .file("x", b"6")
            .file("x/y", b"7")],
        expect![[r#"
            a f 644 0:0 "2"
            d d 700 0:0
            f d 755 0:0
            f/g f 644 0:0 "4"
            l f 644 0:0 "5"
            x d 755 0:0
            x/y f 644 0:0 "7"
        "#]],
    );
}

#[test]
fn implied_folders_look_as_below() {
    let folder = |path, mode, uid| Header { path, type_flag: b'5', mode, uid, ..Header::default() };
    check(
        &[
            Tar::new().entry(&folder("home", 0o711, 3), b"").entry(&folder("home/u", 0o700, 1000), b""),
            Tar::new().file("other", b""),
            Tar::new().file("home/u/f", b"1"),
        ],
        expect![[r#"
            home d 711 3:0
            home/u d 700 1000:0
            home/u/f f 644 0:0 "1"
            other f 644 0:0 ""
        "#]],
    );
}

#[test]
fn a_layer_may_hide_all_below_it() {
    check(
        &[
            Tar::new().file("a", b"1").file("d/b", b"2"),
            Tar::new().file("c", b"3").file(".wh..wh..opq", b""),
            Tar::new().file("e", b"4"),
        ],
        expect![[r#"
            c f 644 0:0 "3"
            e f 644 0:0 "4"
        "#]],
    );
}
