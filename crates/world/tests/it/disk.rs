//! What both disks promise, and what the simulated one breaks.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use world::{Disk, Fault, OpenMode, SimDisk, SimOpKind, SystemDisk};

fn on_both_disks(check: impl Fn(Arc<dyn Disk>, &Path)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(Arc::new(SystemDisk), folder.path());
    check(SimDisk::new(1).attach(), Path::new("/sim"));
}

fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).expect("open");
    let mut content = vec![0; file.len().expect("len") as usize + 10];
    let count = file.read_at(&mut content, 0).expect("read");
    content.truncate(count);
    content
}

#[test]
fn files_keep_what_was_written() {
    on_both_disks(|disk, dir| {
        let dir = &dir.join("a/b");
        disk.create_dir_all(dir).expect("make the folder");
        disk.create_dir_all(dir).expect("making it twice is fine");
        let path = dir.join("file");
        let file = disk.open(&path, OpenMode::Create).expect("create");
        assert!(file.is_empty().expect("len"));
        file.write_at(b"hello world", 0).expect("write");
        file.write_at(b"W", 6).expect("overwrite");
        file.write_at(b"!", 13).expect("write past the end");
        file.sync_data().expect("sync");
        assert_eq!(read(&*disk, &path), b"hello World\0\0!");
        file.set_len(5).expect("cut");
        file.allocate(8).expect("reserve");
        assert_eq!(read(&*disk, &path), b"hello\0\0\0");
        file.allocate(2).expect("reserving less cuts nothing");
        assert_eq!(file.len().expect("len"), 8);
        let mut tail = [9; 4];
        assert_eq!(file.read_at(&mut tail, 6).expect("read"), 2);
        assert_eq!(file.read_at(&mut tail, 100).expect("read past the end"), 0);

        let other = dir.join("other");
        disk.rename(&path, &other).expect("rename");
        disk.sync_dir(dir).expect("sync the folder");
        assert_eq!(disk.list(dir).expect("list"), ["other"]);
        disk.remove(&other).expect("remove");
        assert!(disk.list(dir).expect("list").is_empty());
    });
}

#[test]
fn opening_says_what_is_wrong() {
    on_both_disks(|disk, dir| {
        disk.create_dir_all(dir).expect("make the folder");
        let kind = |mode, name: &str| disk.open(&dir.join(name), mode).err().map(|error| error.kind());
        assert_eq!(kind(OpenMode::Read, "x"), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::Write, "x"), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::Create, "x"), None);
        assert_eq!(kind(OpenMode::Create, "x"), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(kind(OpenMode::Create, "no/such/folder"), Some(io::ErrorKind::NotFound));
        let file = disk.open(&dir.join("x"), OpenMode::Read).expect("open");
        assert!(file.write_at(b"x", 0).is_err(), "opened for reading only");
        assert_eq!(disk.list(&dir.join("none")).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    });
}

#[test]
fn a_lock_has_one_holder() {
    on_both_disks(|disk, dir| {
        disk.create_dir_all(dir).expect("make the folder");
        let path = dir.join("LOCK");
        let first = disk.lock(&path).expect("lock");
        assert_eq!(disk.lock(&path).map_err(|error| error.kind()).err(), Some(io::ErrorKind::WouldBlock));
        drop(first);
        disk.lock(&path).expect("free again");
    });
}

/// Writes a synced file and 8 unsynced sectors behind, lets the power fail, and answers what is found.
fn after_power_failure(seed: u64) -> Option<Vec<u8>> {
    let sim = SimDisk::new(seed);
    let disk = sim.attach();
    let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
    disk.create_dir_all(dir).expect("folder");
    let file = disk.open(path, OpenMode::Create).expect("create");
    file.write_at(&[1; 8 * 512], 0).expect("write");
    file.sync_data().expect("sync");
    if seed.is_multiple_of(2) {
        disk.sync_dir(dir).expect("sync the folder");
    }
    file.write_at(&[2; 8 * 512], 8 * 512).expect("write");
    sim.power_on();
    assert!(file.write_at(b"ghost", 0).is_err(), "handles die with the power");
    assert!(disk.list(dir).is_err(), "and so does the disk of that life");
    sim.content(path)
}

#[test]
fn a_power_failure_tears_only_what_was_not_synced() {
    let mut outcomes = HashSet::new();
    let mut lost_names = 0;
    for seed in 0..400 {
        let Some(content) = after_power_failure(seed) else {
            assert!(!seed.is_multiple_of(2), "seed {seed}: a synced name was lost");
            lost_names += 1;
            continue;
        };
        assert!(content[..8 * 512].iter().all(|byte| *byte == 1), "seed {seed}: synced bytes changed");
        let tail: Vec<u8> = content[8 * 512..].chunks(512).map(|sector| sector[0]).collect();
        for sector in content[8 * 512..].chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: a sector was torn");
        }
        outcomes.insert(tail);
    }
    assert!(lost_names > 20, "names that were not synced are lost sometimes");
    assert!(outcomes.contains(&vec![2; 8]), "everything may survive");
    assert!(outcomes.contains(&vec![]), "nothing may survive");
    assert!(
        outcomes.iter().any(|tail| tail.windows(2).any(|pair| pair == [0, 2])),
        "later sectors may survive earlier ones"
    );
    assert_eq!(after_power_failure(11), after_power_failure(11), "the seed decides");
}

#[test]
fn a_kill_keeps_what_was_written() {
    let sim = SimDisk::new(5);
    let disk = sim.attach();
    disk.create_dir_all(Path::new("/d")).expect("folder");
    let lock = disk.lock(Path::new("/d/LOCK")).expect("lock");
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).expect("create");
    file.write_at(b"unsynced", 0).expect("write");
    sim.kill();
    assert!(file.sync_data().is_err());
    let disk = sim.attach();
    assert_eq!(read(&*disk, Path::new("/d/f")), b"unsynced");
    let _second = disk.lock(Path::new("/d/LOCK")).expect("a dead program holds no lock");
    drop(lock);
    assert!(disk.lock(Path::new("/d/LOCK")).is_err(), "the dead program's handle does not free the new lock");
}

#[test]
fn a_full_disk_takes_a_part_and_says_so() {
    let sim = SimDisk::new(5);
    let disk = sim.attach();
    disk.create_dir_all(Path::new("/d")).expect("folder");
    sim.set_capacity(Some(100));
    let file = disk.open(Path::new("/d/f"), OpenMode::Create).expect("create");
    file.write_at(&[1; 60], 0).expect("fits");
    let error = file.write_at(&[2; 60], 60).expect_err("does not fit");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(sim.used(), 100);
    file.write_at(&[3; 60], 0).expect("overwriting needs no room");
    assert_eq!(file.allocate(101).map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
    sim.set_capacity(None);
    file.allocate(101).expect("room again");
}

#[test]
fn faults_strike_at_the_chosen_operation() {
    let run = |fault_at: u64, fault: Fault| {
        let sim = SimDisk::new(9);
        sim.fail_at(fault_at, fault);
        let disk = sim.attach();
        let go = || -> io::Result<()> {
            disk.create_dir_all(Path::new("/d"))?;
            let file = disk.open(Path::new("/d/f"), OpenMode::Create)?;
            file.write_at(&[1; 600], 0)?;
            file.sync_data()?;
            disk.rename(Path::new("/d/f"), Path::new("/d/g"))?;
            disk.sync_dir(Path::new("/d"))
        };
        (go().err().map(|error| error.kind()), sim)
    };
    let kinds = [
        SimOpKind::CreateDir,
        SimOpKind::Create,
        SimOpKind::Write,
        SimOpKind::SyncData,
        SimOpKind::Rename,
        SimOpKind::SyncDir,
    ];
    for (index, kind) in kinds.into_iter().enumerate() {
        for fault in [Fault::Io, Fault::NoSpace, Fault::PowerOff] {
            let (error, sim) = run(index as u64, fault);
            assert!(error.is_some(), "{kind:?} {fault:?}");
            assert_eq!(error == Some(io::ErrorKind::StorageFull), fault == Fault::NoSpace);
            assert_eq!(sim.operations().last().map(|op| op.kind), Some(kind));
            assert_eq!(sim.is_off(), fault == Fault::PowerOff);
        }
    }
    assert_eq!(run(6, Fault::Io).0, None);
}

#[test]
fn after_a_failed_sync_the_disk_may_lack_what_programs_still_see() {
    let mut lost = 0;
    for seed in 0..50 {
        let sim = SimDisk::new(seed);
        let disk = sim.attach();
        let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
        disk.create_dir_all(dir).expect("folder");
        let file = disk.open(path, OpenMode::Create).expect("create");
        file.write_at(&[0; 512], 0).expect("write");
        file.sync_data().expect("sync");
        disk.sync_dir(dir).expect("sync the folder");
        file.write_at(&[1; 512], 0).expect("write");
        sim.fail_at(sim.operation_next(), Fault::Io);
        file.sync_data().expect_err("ordered to fail");
        file.sync_data().expect("the second finds nothing to do");
        assert_eq!(read(&*disk, path), [1; 512]);
        sim.power_on();
        lost += u32::from(sim.content(path) == Some(vec![0; 512]));
    }
    assert!(lost > 5, "only {lost} of 50 were lost");
}
