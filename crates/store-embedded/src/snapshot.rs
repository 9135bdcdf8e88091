//! Snapshots: all records of one revision in one file, so that the log before it can go.
//!
//! ```text
//! header   magic, first frame needed, revision, last lease, count of leases, count of records, checksum
//! blocks   length, checksum, leases and records in the order of their keys
//! end      a block of length 0
//! ```
//!
//! A snapshot gets its name only after it is durable, so one that is bad was damaged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use store::{LeaseId, Record, Revision};
use world::{Clock, Disk, DiskFile, OpenMode};

use crate::Shared;
use crate::codec::{Put, Take};
use crate::frame::checksum;
use crate::log::number_after;
use crate::plan::{put_lease, take_lease};
use crate::state::{Leases, RANGE_CHUNK_KEYS, State};

const MAGIC: [u8; 8] = *b"kbxsnap\x01";
const HEADER_LEN: usize = 56;
const BLOCK_HEADER_LEN: usize = 8;
/// A block ends with the record that takes it over this.
const BLOCK_BYTES: usize = 256 * 1024;
const TEMPORARY: &str = "snapshot.tmp";

const LEASE: u8 = 1;
const RECORD: u8 = 2;

/// A snapshot to be written. Making it pins the state's oldest readable revision.
pub(crate) struct SnapshotJob {
    revision: Revision,
    /// The first frame that recovery needs besides it.
    pub(crate) seq: u64,
    last_lease: i64,
    lease_count: u64,
    /// The leases as they are stored.
    leases: Vec<u8>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The files that the snapshot replaces.
    pub(crate) replaces: Vec<PathBuf>,
}

/// A snapshot on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) bytes: u64,
}

impl SnapshotJob {
    pub(crate) fn new(state: &mut State, disk: Arc<dyn Disk>, dir: PathBuf) -> SnapshotJob {
        let revision = state.pin();
        let mut leases = Vec::new();
        for (id, lease) in state.leases.iter() {
            leases.put_u8(LEASE);
            put_lease(&mut leases, id, lease);
        }
        SnapshotJob {
            revision,
            seq: state.seq_needed(),
            last_lease: state.leases.last_id,
            lease_count: state.leases.len() as u64,
            leases,
            disk,
            dir,
            replaces: Vec::new(),
        }
    }

    /// Writes the snapshot and removes what it replaces. `None` if `stop` was set meanwhile.
    pub(crate) fn run(self, shared: &Shared, stop: &AtomicBool) -> io::Result<Option<Written>> {
        let records = self.collect(shared);
        let Some(bytes) = self.write(&records, stop)? else { return Ok(None) };
        drop(records);
        for path in &self.replaces {
            // What cannot be removed now is removed when the store is opened again.
            let _ = self.disk.remove(path);
        }
        Ok(Some(Written { seq: self.seq, bytes }))
    }

    /// Takes hold of the pinned revision's records, letting writers in between, and lets go of the pin.
    fn collect(&self, shared: &Shared) -> Vec<Arc<Record>> {
        let mut records = Vec::new();
        let mut start = Some(Bytes::new());
        while let Some(from) = start {
            let (chunk, next) = shared.state.read().pinned_chunk(self.revision, &from, RANGE_CHUNK_KEYS);
            records.extend(chunk);
            start = next;
        }
        shared.state.write().unpin();
        records
    }

    fn write(&self, records: &[Arc<Record>], stop: &AtomicBool) -> io::Result<Option<u64>> {
        let temporary = self.dir.join(TEMPORARY);
        match self.disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.open(&temporary, OpenMode::Create)?;
        let written = self.fill(&*file, records, stop);
        if !matches!(written, Ok(Some(_))) {
            // Half a snapshot is of no use, and on a full disk its room is.
            let _ = self.disk.remove(&temporary);
            return written;
        }
        self.disk.rename(&temporary, &snapshot_path(&self.dir, self.seq))?;
        self.disk.sync_dir(&self.dir)?;
        written
    }

    fn fill(&self, file: &dyn DiskFile, records: &[Arc<Record>], stop: &AtomicBool) -> io::Result<Option<u64>> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(&MAGIC);
        header.put_u64(self.seq);
        header.put_u64(self.revision.0);
        header.put_u64(self.last_lease.cast_unsigned());
        header.put_u64(self.lease_count);
        header.put_u64(records.len() as u64);
        header.resize(HEADER_LEN - 4, 0);
        header.put_u32(checksum(self.seq, &header));
        file.write_at(&header, 0)?;
        let mut offset = HEADER_LEN as u64;
        let mut block = vec![0; BLOCK_HEADER_LEN];
        let flush = |block: &mut Vec<u8>, offset: &mut u64| {
            seal_block(block, self.seq);
            file.write_at(block, *offset)?;
            *offset += block.len() as u64;
            block.truncate(BLOCK_HEADER_LEN);
            // Little by little: what is in flight delays the syncs of writers.
            file.sync_data()
        };
        block.extend_from_slice(&self.leases);
        for record in records {
            put_record(&mut block, record);
            if block.len() >= BLOCK_BYTES {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                flush(&mut block, &mut offset)?;
            }
        }
        if block.len() > BLOCK_HEADER_LEN {
            flush(&mut block, &mut offset)?;
        }
        flush(&mut block, &mut offset)?;
        Ok(Some(offset))
    }
}

fn put_record(block: &mut Vec<u8>, record: &Record) {
    block.put_u8(RECORD);
    block.put_u64(record.create_revision.0);
    block.put_u64(record.mod_revision.0);
    block.put_u64(record.version);
    block.put_u64(record.lease.map_or(0, |lease| lease.0).cast_unsigned());
    block.put_bytes(&record.key);
    block.put_bytes(&record.value);
}

fn take_record(take: &mut Take<'_>) -> Option<Record> {
    let create_revision = Revision(take.u64()?);
    let mod_revision = Revision(take.u64()?);
    let version = take.u64()?;
    let lease = Some(LeaseId(take.u64()?.cast_signed())).filter(|lease| lease.0 != 0);
    Some(Record { key: take.bytes()?, value: take.bytes()?, create_revision, mod_revision, version, lease })
}

fn seal_block(block: &mut [u8], salt: u64) {
    let crc = checksum(salt, &block[BLOCK_HEADER_LEN..]);
    let len = u32::try_from(block.len() - BLOCK_HEADER_LEN).expect("a block is far below 4 GiB");
    block[..4].copy_from_slice(&len.to_le_bytes());
    block[4..8].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn snapshot_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("snapshot-{seq:016x}"))
}

/// The number in a snapshot's file name.
pub(crate) fn snapshot_number(name: &str) -> Option<u64> {
    number_after(name, "snapshot-")
}

/// Whether a file is what an interrupted snapshot leaves.
pub(crate) fn is_temporary(name: &str) -> bool {
    name == TEMPORARY
}

/// Why a snapshot could not be read.
pub(crate) enum LoadError {
    Io(io::Error),
    Damaged { offset: u64 },
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> LoadError {
        LoadError::Io(error)
    }
}

/// Reads a snapshot; answers the state and the file's length.
pub(crate) fn load(file: &dyn DiskFile, seq: u64, clock: &dyn Clock) -> Result<(State, u64), LoadError> {
    let mut header = [0; HEADER_LEN];
    let damaged = |offset| LoadError::Damaged { offset };
    let count = file.read_at(&mut header, 0)?;
    let parsed = parse_header(&header[..count], seq).ok_or(damaged(0))?;
    let (revision, last_lease, lease_count, record_count) = parsed;

    let mut leases = Leases::default();
    leases.last_id = last_lease;
    let mut records: Vec<Arc<Record>> = Vec::new();
    let mut block = Vec::new();
    let mut offset = HEADER_LEN as u64;
    loop {
        let mut block_header = [0; BLOCK_HEADER_LEN];
        if file.read_at(&mut block_header, offset)? < BLOCK_HEADER_LEN {
            return Err(damaged(offset));
        }
        let mut take = Take(&block_header);
        let (len, crc) = take.u32().zip(take.u32()).ok_or(damaged(offset))?;
        let len = len as usize;
        let start = offset + BLOCK_HEADER_LEN as u64;
        // A length that was damaged must not make the program ask for memory the file cannot fill.
        if len > block.len() && start + len as u64 > file.len()? {
            return Err(damaged(offset));
        }
        block.resize(len, 0);
        if file.read_at(&mut block, start)? < len || checksum(seq, &block) != crc {
            return Err(damaged(offset));
        }
        let end = start + len as u64;
        if len == 0 {
            let complete = leases.len() as u64 == lease_count && records.len() as u64 == record_count;
            if !complete || file.len()? != end {
                return Err(damaged(offset));
            }
            return Ok((State::restore(revision, seq - 1, records, leases), end));
        }
        read_block(Take(&block), &mut leases, &mut records, clock).ok_or(damaged(offset))?;
        offset = end;
    }
}

fn parse_header(header: &[u8], seq: u64) -> Option<(Revision, i64, u64, u64)> {
    let mut take = Take(header.get(..HEADER_LEN - 4)?);
    let magic = take.slice(8)?;
    let found_seq = take.u64()?;
    let parsed = (Revision(take.u64()?), take.u64()?.cast_signed(), take.u64()?, take.u64()?);
    let crc = Take(&header[HEADER_LEN - 4..]).u32()?;
    let good = magic == MAGIC && found_seq == seq && seq > 0 && crc == checksum(seq, &header[..HEADER_LEN - 4]);
    good.then_some(parsed)
}

fn read_block(
    mut take: Take<'_>,
    leases: &mut Leases,
    records: &mut Vec<Arc<Record>>,
    clock: &dyn Clock,
) -> Option<()> {
    while !take.is_empty() {
        match take.u8()? {
            LEASE => {
                let (id, lease) = take_lease(&mut take, clock)?;
                leases.grant(id, lease);
            }
            RECORD => {
                let record = take_record(&mut take)?;
                if records.last().is_some_and(|last| last.key >= record.key) {
                    return None;
                }
                records.push(Arc::new(record));
            }
            _ => return None,
        }
    }
    Some(())
}
