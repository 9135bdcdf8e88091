//! Key ranges.

use store::KeyRange;

#[test]
fn a_prefix_has_the_keys_that_start_with_it() {
    let check = |prefix: &[u8], inside: &[&[u8]], outside: &[&[u8]]| {
        let keys = KeyRange::prefix(prefix);
        for key in inside {
            assert!(keys.contains(key) && key.starts_with(prefix), "{key:?} in {prefix:?}");
        }
        for key in outside {
            assert!(!keys.contains(key) && !key.starts_with(prefix), "{key:?} in {prefix:?}");
        }
        assert!(!keys.is_empty());
    };
    check(b"/a/", &[b"/a/", b"/a/b", b"/a/\xff\xff"], &[b"/a", b"/a0", b"/b/", b"", b"/A/x"]);
    check(b"", &[b"", b"x", b"\xff"], &[]);
    check(b"a\xff", &[b"a\xff", b"a\xffb"], &[b"a", b"b", b"a\xfe\xff"]);
    check(b"\xff\xff", &[b"\xff\xff", b"\xff\xff\xff"], &[b"\xff", b"\xff\xfe"]);
}

#[test]
fn a_key_is_a_range_of_one() {
    let keys = KeyRange::key(b"/a");
    assert!(keys.contains(b"/a"));
    for other in [b"/".as_slice(), b"/a\0", b"/a/", b"/b"] {
        assert!(!keys.contains(other), "{other:?}");
    }
}

#[test]
fn a_page_starts_where_it_is_told_and_never_before_the_range() {
    let keys = KeyRange::prefix(b"/b/").starting_at(b"/b/m");
    assert!(keys.contains(b"/b/m") && keys.contains(b"/b/z") && !keys.contains(b"/b/a") && !keys.contains(b"/c/"));
    assert_eq!(KeyRange::prefix(b"/b/").starting_at(b"/a/"), KeyRange::prefix(b"/b/"));
    assert!(KeyRange::prefix(b"/b/").starting_at(b"/c/").is_empty());
}
