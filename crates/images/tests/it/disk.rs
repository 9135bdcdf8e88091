//! Disks that are full, and disks that forget.

use images::{Config, ErrorKind, Images, PullOptions};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::support::Bench;
use crate::support::image::{Packing, TestImage, docker_archive};
use crate::support::registry::{FaultyRegistry, Reply};
use crate::support::tarball::Tar;

#[test]
fn full_disks_are_told_and_room_mends_all() {
    let bench = Bench::without_store();
    let small = bench.path("small");
    std::fs::create_dir(&small).unwrap();
    let registry = FaultyRegistry::start(|_| Reply::Well);
    // The layer fits packed but not unpacked; as an archive not even packed.
    let layer = Tar::new().file("zeros", &vec![0; 3 << 20]).finish();
    let image = TestImage::new(&[layer], Packing::Gzip);
    registry.put("a", "1", &image);
    let name = format!("{}/a:1", registry.address());
    rustix::mount::mount("tmpfs", &small, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    let images = Images::open(Config::new(small.join("store"))).unwrap();
    let error = bench.wait(images.pull(&name, PullOptions::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.message().ends_with("write zeros: No space left on device (os error 28)"), "{}", error.message());
    let archive = bench.write("a.tar", &docker_archive(&[(&image, &["a"])]));
    let error = bench.wait(images.import(&archive, images::ImportOptions::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(images.list().is_empty());
    rustix::mount::mount_remount(&small, MountFlags::empty(), c"size=20m").unwrap();
    bench.wait(images.pull(&name, PullOptions::default())).unwrap();
    bench.wait(images.import(&archive, images::ImportOptions::default())).unwrap();
    assert_eq!(images.list().len(), 1);
    drop(images);
    rustix::mount::unmount(&small, UnmountFlags::DETACH).unwrap();
}

#[test]
fn what_the_disk_lost_is_got_again() {
    let mut bench = Bench::new();
    let image = TestImage::new(&[Tar::new().file("f", b"1").finish()], Packing::Plain);
    let archive = docker_archive(&[(&image, &["a"])]);
    let config = format!("store/blobs/sha256/{}", image.id().hex());
    let spoil: [&dyn Fn(&Bench); 3] = [
        &|bench| std::fs::remove_file(bench.path(&config)).unwrap(),
        &|bench| std::fs::remove_dir_all(bench.path("store/layers")).unwrap(),
        &|bench| {
            let layer = std::fs::read_dir(bench.path("store/layers")).unwrap().next().unwrap().unwrap();
            std::fs::remove_file(layer.path().join("layer.json")).unwrap();
        },
    ];
    for spoil in spoil {
        bench.import(&archive).unwrap();
        bench.images = None;
        spoil(&bench);
        bench.open(|_| {});
        assert!(bench.images().list().is_empty());
        assert_eq!(bench.images().usage(), images::Usage::default());
    }
    bench.import(&archive).unwrap();
    std::fs::write(bench.path(&config), b"{\"other\":1}").unwrap();
    let error = bench.images().image_config("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
}

#[test]
fn leftovers_are_cleared_at_the_start() {
    let mut bench = Bench::new();
    bench
        .import(&docker_archive(&[(&TestImage::new(&[Tar::new().file("f", b"1").finish()], Packing::Plain), &["a"])]))
        .unwrap();
    let usage = bench.images().usage();
    bench.images = None;
    bench.write("store/ingest/7", b"half a blob");
    bench.write("store/layers/99/fs/file", b"half a layer");
    bench.write("store/snapshots/half/upper/file", b"half a snapshot");
    bench.write(&format!("store/blobs/sha256/{}", "a".repeat(64)), b"nobody's");
    bench.open(|_| {});
    assert_eq!(bench.images().usage(), usage);
    assert_eq!(bench.images().snapshots(), []);
    let names = |folder: &str| std::fs::read_dir(bench.path(folder)).unwrap().count();
    assert_eq!((names("store/ingest"), names("store/layers"), names("store/snapshots")), (0, 1, 0));
}
