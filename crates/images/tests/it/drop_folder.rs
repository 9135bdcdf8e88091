//! The drop folder.

use images::{DropFolder, Dropped};

use crate::support::Bench;
use crate::support::image::{Packing, TestImage, docker_archive, layout};
use crate::support::tarball::Tar;

fn archive(name: &str) -> Vec<u8> {
    let image = TestImage::new(&[Tar::new().file(name, b"").finish()], Packing::Plain);
    docker_archive(&[(&image, &[name])])
}

/// What is imported now: names, or `!` for a failure.
fn imported(bench: &Bench, folder: &mut DropFolder) -> Vec<String> {
    let one = |Dropped { result, .. }| match result {
        Ok(images) => images.into_iter().flat_map(|image| image.repo_tags).collect::<Vec<_>>().join(" "),
        Err(_) => "!".to_owned(),
    };
    bench.wait(folder.import_new()).unwrap().into_iter().map(one).collect()
}

fn open(bench: &Bench) -> DropFolder {
    bench.wait(async { DropFolder::open(bench.images(), &bench.path("drop")) }).unwrap()
}

#[test]
fn archives_are_imported_once() {
    let mut bench = Bench::new();
    bench.write("drop/a.tar", &archive("a"));
    bench.write("drop/b.tar.gz", &Packing::Gzip.pack(&archive("b")));
    bench.write("drop/broken.tar", b"no tar");
    bench.write("drop/readme.txt", b"not for us");
    let layout_image = TestImage::new(&[], Packing::Plain);
    for (name, content) in layout(&layout_image, serde_json::json!({"io.containerd.image.name": "l"})) {
        bench.write(&format!("drop/layout/{name}"), &content);
    }
    let mut folder = open(&bench);
    let (a, b, l) = ("docker.io/library/a:latest", "docker.io/library/b:latest", "docker.io/library/l:latest");
    assert_eq!(imported(&bench, &mut folder), [a, b, "!", l]);
    assert!(bench.images().list().iter().all(|image| image.pinned));
    assert_eq!(imported(&bench, &mut folder), [""; 0], "what failed is not tried again as it is");

    drop(folder);
    bench.images().remove(b).unwrap();
    bench.reopen();
    let mut folder = open(&bench);
    assert_eq!(imported(&bench, &mut folder), ["!"], "a start tries again what failed, and nothing else");
    assert!(bench.images().get(b).is_none(), "removed is removed");

    bench.write("drop/broken.tar", &archive("mended"));
    std::fs::remove_file(bench.path("drop/b.tar.gz")).unwrap();
    assert_eq!(imported(&bench, &mut folder), ["docker.io/library/mended:latest"]);
    bench.write("drop/b.tar.gz", &archive("b"));
    assert_eq!(imported(&bench, &mut folder), [b], "gone and come again is new");
}

#[test]
fn archives_that_come_are_noticed() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("drop")).unwrap();
    let mut folder = open(&bench);
    assert_eq!(imported(&bench, &mut folder), [""; 0]);
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        let path = bench.write("elsewhere", &archive(name));
        // By writing in place, and by moving in.
        if n == 0 {
            std::fs::copy(path, bench.path("drop/copied.tar")).unwrap();
        } else {
            std::fs::rename(path, bench.path("drop/moved.tar")).unwrap();
        }
        bench.wait(folder.changed()).unwrap();
        assert_eq!(imported(&bench, &mut folder), [format!("docker.io/library/{name}:latest")]);
    }
}

#[test]
fn it_runs_by_itself() {
    let bench = Bench::new();
    bench.write("drop/a.tar", &archive("a"));
    let folder = open(&bench);
    bench.wait(async {
        let running = tokio::spawn(folder.run());
        while bench.images().get("a").is_none() {
            assert!(!running.is_finished());
            tokio::task::yield_now().await;
        }
        std::fs::write(bench.path("drop/b.tar"), archive("b")).unwrap();
        while bench.images().get("b").is_none() {
            assert!(!running.is_finished());
            tokio::task::yield_now().await;
        }
        running.abort();
    });
}

#[test]
fn images_lost_from_the_disk_come_back_from_their_archive() {
    let mut bench = Bench::new();
    bench.write("drop/a.tar", &archive("a"));
    let mut folder = open(&bench);
    assert_eq!(imported(&bench, &mut folder).len(), 1);
    drop(folder);
    bench.images = None;
    std::fs::remove_dir_all(bench.path("store/layers")).unwrap();
    bench.open(|_| {});
    assert!(bench.images().list().is_empty());
    let mut folder = open(&bench);
    assert_eq!(imported(&bench, &mut folder).len(), 1);
}
