//! What the tests share.

pub(crate) mod image;
pub(crate) mod registry;
pub(crate) mod tarball;

use std::future::Future;
use std::path::{Path, PathBuf};

use images::{Config, Images};
use rustix::mount::{MountFlags, MountPropagationFlags};
use tempfile::TempDir;

/// A store on a tmpfs, in a mount namespace that only this test's threads see.
pub(crate) struct Bench {
    pub(crate) images: Option<Images>,
    root: TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with(|_| {})
    }

    pub(crate) fn with(change: impl Fn(&mut Config)) -> Bench {
        let mut bench = Bench::without_store();
        bench.open(change);
        bench
    }

    /// Mounts need root; a machine without it cannot show that they work, and says so.
    pub(crate) fn without_store() -> Bench {
        assert!(rustix::process::geteuid().is_root(), "these tests mount overlays: run them as root");
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("keep mounts to ourselves");
        let root = tempfile::tempdir().unwrap();
        // Whatever file system the tests run on, this one can hold an overlay's upper folder.
        rustix::mount::mount("tmpfs", root.path(), "tmpfs", MountFlags::empty(), c"mode=755").expect("mount tmpfs");
        // Its threads are started from this one, so they live in the same mount namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { images: None, root, runtime }
    }

    pub(crate) fn open(&mut self, change: impl Fn(&mut Config)) {
        let mut config = Config::new(self.path("store"));
        change(&mut config);
        self.images = Some(Images::open(config).unwrap());
    }

    /// Closes the store and opens it again, as a new process would.
    pub(crate) fn reopen(&mut self) {
        self.images = None;
        self.open(|_| {});
    }

    pub(crate) fn images(&self) -> &Images {
        self.images.as_ref().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn import(&self, archive: &[u8]) -> images::Result<Vec<images::Image>> {
        let path = self.write("archive", archive);
        self.wait(self.images().import(&path, images::ImportOptions::default()))
    }

    /// Imports an image of these layers and mounts a writable view of it.
    pub(crate) fn mounted(&self, layers: &[Vec<u8>]) -> PathBuf {
        let image = image::TestImage::new(layers, image::Packing::Plain);
        self.import(&image::docker_archive(&[(&image, &["example.com/test:1"])])).unwrap();
        self.images().prepare("container", "example.com/test:1").unwrap();
        let target = self.path("rootfs");
        std::fs::create_dir(&target).unwrap();
        self.images().mount("container", &target).unwrap();
        target
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.images = None;
        let _ = images::unmount(&self.path("rootfs"));
        let _ = rustix::mount::unmount(self.root.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// A tree as text, one line a name: `path type mode uid:gid` and the content or link.
pub(crate) fn listing(root: &Path) -> String {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut lines = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let (sort, detail) = if kind.is_dir() {
                pending.push(path.clone());
                ('d', String::new())
            } else if kind.is_symlink() {
                ('l', format!(" -> {}", std::fs::read_link(&path).unwrap().display()))
            } else if kind.is_file() {
                ('f', format!(" {:?}", String::from_utf8_lossy(&std::fs::read(&path).unwrap())))
            } else {
                let sort = if kind.is_char_device() {
                    'c'
                } else if kind.is_block_device() {
                    'b'
                } else {
                    'p'
                };
                (sort, format!(" {}:{}", rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev())))
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let mode = metadata.mode() & 0o7777;
            lines.push(format!("{name} {sort} {mode:o} {}:{}{detail}", metadata.uid(), metadata.gid()));
        }
    }
    lines.sort();
    lines.iter().map(|line| format!("{line}\n")).collect()
}
