//! Importing archives.

use crate::support::Bench;
use crate::support::image::{Packing, TestImage, docker_archive};
use crate::support::tarball::Tar;

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
}
