//! A disk in memory that breaks on purpose: it loses, tears and reorders what was not synced when the power fails,
//! fills up, and fails at any chosen operation. Everything it does follows from its seed.
//!
//! What it promises is what a real disk promises, and no more: a sector is written whole or not at all; a sync that
//! succeeded holds for the file's content and length; names are durable once their folder was synced; a rename is one step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile, DiskLock, OpenMode};

/// What is written whole or not at all.
const SECTOR: usize = 512;

/// What goes wrong at a chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with EIO. A failed write may have written any part; after a failed sync the system believes
    /// the file clean, whatever of it reached the disk.
    Io,
    /// The operation fails with ENOSPC. A failed write may have written a part.
    NoSpace,
    /// The power fails during the operation; nothing works until [`SimDisk::power_on`].
    PowerOff,
}

/// The sort of an operation, as [`SimDisk::operations`] lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SimOpKind {
    /// Making a folder.
    CreateDir,
    /// Opening a file that exists.
    Open,
    /// Making a file.
    Create,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Listing a folder.
    List,
    /// Syncing a folder.
    SyncDir,
    /// Locking a file.
    Lock,
    /// Asking for a file's length.
    Len,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing a file.
    SyncData,
    /// Setting a file's length.
    SetLen,
    /// Reserving room.
    Allocate,
}

/// One operation that was asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimOp {
    /// Its sort.
    pub kind: SimOpKind,
    /// The file or folder.
    pub path: PathBuf,
}

/// The simulated disk: a handle on shared state, so that it outlives the programs that use it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    random: fastrand::Rng,
    inodes: HashMap<u64, Inode>,
    inode_next: u64,
    /// Names as programs see them.
    names: BTreeMap<PathBuf, u64>,
    /// Names as they would be found after a power failure that loses all that may be lost.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that no folder sync has covered, oldest first.
    pending_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: HashMap<PathBuf, u64>,
    lock_next: u64,
    /// Counts the lives of the programs using this disk: handles of an earlier life are dead.
    life: u64,
    powered: bool,
    capacity: Option<u64>,
    faults: BTreeMap<u64, Fault>,
    operations: Vec<SimOp>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
    Remove { path: PathBuf },
}

#[derive(Default)]
struct Inode {
    /// The content as programs see it.
    visible: Vec<u8>,
    durable: Vec<u8>,
    /// For each sector changed since the last sync, what it was changed to, oldest first.
    pending_sectors: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// The lengths the file had since the last sync.
    pending_lens: Vec<usize>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            state: Arc::new(Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                inodes: HashMap::new(),
                inode_next: 1,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                pending_names: Vec::new(),
                dirs: BTreeSet::new(),
                locks: HashMap::new(),
                lock_next: 1,
                life: 1,
                powered: true,
                capacity: None,
                faults: BTreeMap::new(),
                operations: Vec::new(),
            })),
        }
    }

    /// The disk as one program sees it, until that program is [killed](SimDisk::kill) or the power fails.
    pub fn attach(&self) -> Arc<dyn Disk> {
        Arc::new(Attached { state: Arc::clone(&self.state), life: self.state.lock().life })
    }

    /// Lets the operation with this number (the first is 0) go wrong.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state.lock().faults.insert(operation, fault);
    }

    /// Forgets the faults that have not happened.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// What was asked of the disk so far.
    pub fn operations(&self) -> Vec<SimOp> {
        self.state.lock().operations.clone()
    }

    /// The number that the next operation will have.
    pub fn operation_next(&self) -> u64 {
        self.state.lock().operations.len() as u64
    }

    /// Limits what all files together may hold; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The sum of the lengths of all files.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Whether a fault has switched the power off.
    pub fn is_off(&self) -> bool {
        !self.state.lock().powered
    }

    /// Ends the programs that use the disk, as kill -9 does: their handles are dead and their locks free, but
    /// what they wrote stays, synced or not.
    pub fn kill(&self) {
        self.state.lock().end_life();
    }

    /// Takes the power away (if a fault has not done so) and gives it back: of everything not synced, any part is lost.
    pub fn power_on(&self) {
        let mut state = self.state.lock();
        state.end_life();
        state.lose_unsynced();
        state.powered = true;
    }

    /// Changes a file's bytes behind everybody's back, as a failing medium does.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state.lock();
        let id = state.names[path];
        let inode = state.inodes.get_mut(&id).expect("a name leads to an inode");
        change(&mut inode.visible);
        inode.durable = inode.visible.clone();
        inode.pending_sectors.clear();
        inode.pending_lens.clear();
    }

    /// A file's bytes as programs see them.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.names.get(path).map(|inode| state.inodes[inode].visible.clone())
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }
}

impl Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

// === impl State ===

fn power_is_off() -> io::Error {
    io::Error::other("simulated: the power is off")
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Io => io::Error::from(rustix::io::Errno::IO),
            Fault::NoSpace => io::Error::from(rustix::io::Errno::NOSPC),
            Fault::PowerOff => power_is_off(),
        }
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].visible.len() as u64).sum()
    }

    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
    }

    /// Records an operation and answers the fault that was ordered for it.
    fn begin(&mut self, life: u64, kind: SimOpKind, path: &Path) -> io::Result<Option<Fault>> {
        if !self.powered || life != self.life {
            return Err(power_is_off());
        }
        let number = self.operations.len() as u64;
        self.operations.push(SimOp { kind, path: path.to_owned() });
        let fault = self.faults.remove(&number);
        if fault == Some(Fault::PowerOff) {
            self.powered = false;
        }
        Ok(fault)
    }

    /// As [`State::begin`] for operations that do nothing if they fail.
    fn begin_whole(&mut self, life: u64, kind: SimOpKind, path: &Path) -> io::Result<()> {
        match self.begin(life, kind, path)? {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    fn inode(&mut self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn lose_unsynced(&mut self) {
        let State { random, durable_names, pending_names, .. } = self;
        // One failure in four keeps everything or nothing of the names: both ends of what may happen.
        let keep_percent = [0, 30, 70, 100][random.usize(..4)];
        for change in pending_names.drain(..) {
            if random.u8(..100) >= keep_percent {
                continue;
            }
            match change {
                NameChange::Create { path, inode } => {
                    durable_names.insert(path, inode);
                }
                NameChange::Rename { from, to, inode } => {
                    durable_names.remove(&from);
                    durable_names.insert(to, inode);
                }
                NameChange::Remove { path } => {
                    durable_names.remove(&path);
                }
            }
        }
        self.names = self.durable_names.clone();
        let names = &self.names;
        self.inodes.retain(|id, _| names.values().any(|named| named == id));
        // In the order of the ids, so that the seed alone decides.
        let mut ids: Vec<u64> = self.inodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let inode = self.inodes.get_mut(&id).expect("listed above");
            inode.lose_unsynced(&mut self.random);
            inode.visible = inode.durable.clone();
        }
    }

    /// Room left for growth of the files.
    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }
}

impl Inode {
    fn lose_unsynced(&mut self, random: &mut fastrand::Rng) {
        let keep_percent = [0, 30, 70, 100][random.usize(..4)];
        let kept = |random: &mut fastrand::Rng, choices: usize| {
            (random.u8(..100) < keep_percent)
                .then(|| if keep_percent == 100 { choices - 1 } else { random.usize(..choices) })
        };
        for (sector, versions) in std::mem::take(&mut self.pending_sectors) {
            if let Some(version) = kept(random, versions.len()) {
                let end = (sector + 1) * SECTOR;
                if self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                self.durable[sector * SECTOR..end].copy_from_slice(&versions[version]);
            }
        }
        let lens = std::mem::take(&mut self.pending_lens);
        if lens.is_empty() {
            self.durable.resize(self.visible.len(), 0);
        } else {
            let shortest = lens[0];
            let len = kept(random, lens.len()).map_or(shortest, |choice| lens[choice]);
            self.durable.resize(len, 0);
        }
    }

    /// Writes what is known to be unwritten, which after a failed sync is less than what differs.
    fn sync(&mut self) {
        for (sector, versions) in std::mem::take(&mut self.pending_sectors) {
            let end = (sector + 1) * SECTOR;
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            if let Some(latest) = versions.last() {
                self.durable[sector * SECTOR..end].copy_from_slice(latest);
            }
        }
        self.durable.resize(self.visible.len(), 0);
        self.pending_lens.clear();
    }

    fn note_len(&mut self, before: usize) {
        if self.visible.len() != before {
            if self.pending_lens.is_empty() {
                self.pending_lens.push(before);
            }
            self.pending_lens.push(self.visible.len());
        }
    }

    /// Remembers what the sectors of a changed range look like now.
    fn note_sectors(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            let mut content = [0; SECTOR];
            let start = sector * SECTOR;
            let end = self.visible.len().min(start + SECTOR);
            if start < end {
                content[..end - start].copy_from_slice(&self.visible[start..end]);
            }
            self.pending_sectors.entry(sector).or_default().push(content);
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let before = self.visible.len();
        let end = offset + bytes.len();
        if before < end {
            self.visible.resize(end, 0);
        }
        self.visible[offset..end].copy_from_slice(bytes);
        self.note_len(before);
        self.note_sectors(offset, end);
    }

    fn set_len(&mut self, len: usize) {
        let before = self.visible.len();
        self.visible.resize(len, 0);
        self.note_len(before);
        // What is cut off reads as zeros if the file grows again.
        self.note_sectors(len, before.max(len));
    }
}

// === the disk and its files as programs see them ===

struct Attached {
    state: Arc<Mutex<State>>,
    life: u64,
}

impl Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDisk").field("life", &self.life).finish_non_exhaustive()
    }
}

impl Disk for Attached {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_whole(self.life, SimOpKind::CreateDir, dir)?;
        state.dirs.insert(dir.to_owned());
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        let kind = if mode == OpenMode::Create { SimOpKind::Create } else { SimOpKind::Open };
        state.begin_whole(self.life, kind, path)?;
        let inode = if mode == OpenMode::Create {
            if state.names.contains_key(path) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            let inode = state.inode_next;
            state.inode_next += 1;
            state.inodes.insert(inode, Inode::default());
            state.names.insert(path.to_owned(), inode);
            state.pending_names.push(NameChange::Create { path: path.to_owned(), inode });
            inode
        } else {
            state.inode(path)?
        };
        Ok(Box::new(AttachedFile {
            state: Arc::clone(&self.state),
            life: self.life,
            inode,
            path: path.to_owned(),
            mode,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = state.begin(self.life, SimOpKind::Rename, from)?;
        if let Some(fault @ (Fault::Io | Fault::NoSpace)) = fault {
            return Err(fault.error());
        }
        let inode = state.inode(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), inode);
        state.pending_names.push(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = state.begin(self.life, SimOpKind::Remove, path)?;
        if let Some(fault @ (Fault::Io | Fault::NoSpace)) = fault {
            return Err(fault.error());
        }
        state.inode(path)?;
        state.names.remove(path);
        state.pending_names.push(NameChange::Remove { path: path.to_owned() });
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state.lock();
        state.begin_whole(self.life, SimOpKind::List, dir)?;
        if !state.dirs.contains(dir) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.begin_whole(self.life, SimOpKind::SyncDir, dir)?;
        let State { names, durable_names, pending_names, .. } = &mut *state;
        let inside = |path: &Path| path.parent() == Some(dir);
        durable_names.retain(|path, _| !inside(path));
        durable_names.extend(names.iter().filter(|(path, _)| inside(path)).map(|(path, inode)| (path.clone(), *inode)));
        pending_names.retain(|change| match change {
            NameChange::Create { path, .. } | NameChange::Remove { path } => !inside(path),
            NameChange::Rename { from, to, .. } => !inside(from) || !inside(to),
        });
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.state.lock();
        state.begin_whole(self.life, SimOpKind::Lock, path)?;
        if state.locks.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "locked by another holder"));
        }
        if !state.names.contains_key(path) {
            let inode = state.inode_next;
            state.inode_next += 1;
            state.inodes.insert(inode, Inode::default());
            state.names.insert(path.to_owned(), inode);
            state.pending_names.push(NameChange::Create { path: path.to_owned(), inode });
        }
        let token = state.lock_next;
        state.lock_next += 1;
        state.locks.insert(path.to_owned(), token);
        Ok(Box::new(AttachedLock { state: Arc::clone(&self.state), path: path.to_owned(), token }))
    }
}

struct AttachedLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    token: u64,
}

impl Debug for AttachedLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimLock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DiskLock for AttachedLock {}

impl Drop for AttachedLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.locks.get(&self.path) == Some(&self.token) {
            state.locks.remove(&self.path);
        }
    }
}

struct AttachedFile {
    state: Arc<Mutex<State>>,
    life: u64,
    inode: u64,
    path: PathBuf,
    mode: OpenMode,
}

impl Debug for AttachedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AttachedFile {
    fn begin(&self, kind: SimOpKind) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let changes = matches!(kind, SimOpKind::Write | SimOpKind::SetLen | SimOpKind::Allocate);
        if changes && self.mode == OpenMode::Read {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let mut state = self.state.lock();
        let fault = state.begin(self.life, kind, &self.path)?;
        Ok((state, fault))
    }

    /// Begins an operation that does nothing if it fails.
    fn begin_whole(&self, kind: SimOpKind) -> io::Result<MutexGuard<'_, State>> {
        let (state, fault) = self.begin(kind)?;
        fault.map_or(Ok(state), |fault| Err(fault.error()))
    }
}

fn inode_mut(state: &mut State, inode: u64) -> io::Result<&mut Inode> {
    state.inodes.get_mut(&inode).ok_or_else(power_is_off)
}

impl DiskFile for AttachedFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.begin_whole(SimOpKind::Len)?;
        Ok(inode_mut(&mut state, self.inode)?.visible.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.begin_whole(SimOpKind::Read)?;
        let content = &inode_mut(&mut state, self.inode)?.visible;
        let start = usize::try_from(offset).map_or(content.len(), |offset| offset.min(content.len()));
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, fault) = self.begin(SimOpKind::Write)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let room = state.room();
        let written = match fault {
            Some(Fault::Io | Fault::NoSpace) => state.random.usize(..=bytes.len()),
            Some(Fault::PowerOff) | None => bytes.len(),
        };
        let inode = inode_mut(&mut state, self.inode)?;
        let end_max = (inode.visible.len() as u64).saturating_add(room);
        let fits = usize::try_from(end_max.saturating_sub(offset as u64)).unwrap_or(usize::MAX);
        inode.write(&bytes[..written.min(fits)], offset);
        match fault {
            Some(fault) => Err(fault.error()),
            None if fits < bytes.len() => Err(Fault::NoSpace.error()),
            None => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, fault) = self.begin(SimOpKind::SyncData)?;
        let State { random, inodes, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).ok_or_else(power_is_off)?;
        match fault {
            None => {
                inode.sync();
                Ok(())
            }
            // Linux takes failed pages for clean: programs go on seeing them, a later sync does not write them.
            Some(Fault::Io | Fault::NoSpace) => {
                inode.lose_unsynced(random);
                Err(fault.unwrap_or(Fault::Io).error())
            }
            Some(Fault::PowerOff) => Err(power_is_off()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, fault) = self.begin(SimOpKind::SetLen)?;
        if let Some(fault @ (Fault::Io | Fault::NoSpace)) = fault {
            return Err(fault.error());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        inode_mut(&mut state, self.inode)?.set_len(len);
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let (mut state, fault) = self.begin(SimOpKind::Allocate)?;
        if let Some(fault @ (Fault::Io | Fault::NoSpace)) = fault {
            return Err(fault.error());
        }
        let room = state.room();
        let inode = inode_mut(&mut state, self.inode)?;
        if len > (inode.visible.len() as u64).saturating_add(room) {
            return Err(Fault::NoSpace.error());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if inode.visible.len() < len {
            inode.set_len(len);
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}
