//! The log: segments of a fixed length, filled with frames one after the other.
//!
//! A segment is made of zeros before it is used, so that a sync of a frame has no metadata to write, and so that a torn frame
//! shows. The next one is made in the background while the active one fills. Segments that a snapshot has replaced are removed.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use world::{Disk, DiskFile, OpenMode, Random, Timestamp};

use crate::codec::{Put, Take};
use crate::frame::{FrameBuffer, FrameHeader, checksum, is_zero};

pub(crate) const SEGMENT_HEADER_LEN: usize = 64;
const SEGMENT_MAGIC: [u8; 8] = *b"kbxlog\0\x01";

/// The first segment of a new store is smaller, so that an empty folder opens at once.
pub(crate) const FIRST_SEGMENT_BYTES: u64 = 256 * 1024;

/// How much of a new segment is written between syncs: what is in flight delays the syncs of writers.
const FILL_BYTES: usize = 256 * 1024;

/// A segment that frames can be added to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// The length of the file.
    pub(crate) capacity: u64,
    /// Where the next frame goes.
    pub(crate) tail: u64,
}

/// A segment that is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) number: u64,
    pub(crate) last_seq: u64,
    pub(crate) capacity: u64,
}

/// Where segments come from.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) random: Arc<dyn Random>,
}

pub(crate) struct Log {
    maker: Maker,
    segment_bytes: u64,
    /// Whether segments are made on a thread of their own.
    background: bool,
    active: Segment,
    sealed: VecDeque<Sealed>,
    next: Arc<NextSegment>,
    making: Option<JoinHandle<()>>,
    seq_next: u64,
    /// Whether anything was added since the folder was opened: who only looks leaves everything as it is.
    grows: bool,
}

struct NextSegment {
    state: Mutex<Next>,
    changed: Condvar,
}

enum Next {
    None,
    Making,
    Made(Segment),
}

/// Why a frame was not added.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing of it is left; the log can go on.
    TakenBack(io::Error),
    /// It may or may not be found after a restart; the log must not go on.
    Unknown(io::Error),
}

impl Log {
    pub(crate) fn new(
        maker: Maker,
        segment_bytes: u64,
        background: bool,
        active: Segment,
        sealed: VecDeque<Sealed>,
        seq_next: u64,
    ) -> Log {
        let next = Arc::new(NextSegment { state: Mutex::new(Next::None), changed: Condvar::new() });
        Log { maker, segment_bytes, background, active, sealed, next, making: None, seq_next, grows: false }
    }

    /// Adds a frame and makes it durable. Answers its sequence number.
    pub(crate) fn append(&mut self, frame: FrameBuffer, time: Timestamp, compacted: u64) -> Result<u64, AppendError> {
        self.grows = true;
        let len = frame.len() as u64;
        if self.active.tail + len > self.active.capacity {
            self.roll(len).map_err(AppendError::TakenBack)?;
        }
        let seq = self.seq_next;
        let Segment { file, salt, tail, .. } = &self.active;
        let bytes = frame.seal(FrameHeader { seq, time, compacted }, *salt, *tail);
        if let Err(error) = file.write_at(&bytes, *tail) {
            return Err(match self.take_back() {
                Ok(()) => AppendError::TakenBack(error),
                Err(_) => AppendError::Unknown(error),
            });
        }
        // After a failed sync neither the disk's content nor a second sync's success can be trusted.
        file.sync_data().map_err(AppendError::Unknown)?;
        self.active.tail += len;
        self.seq_next += 1;
        Ok(seq)
    }

    /// Removes what a failed write may have left, durably: else it could mix with a later frame.
    fn take_back(&self) -> io::Result<()> {
        let Segment { file, capacity, tail, .. } = &self.active;
        // Cutting needs no room on a full disk; a file that ends where its last frame ends is known to recovery.
        file.set_len(*tail)?;
        file.set_len(*capacity)?;
        file.sync_data()
    }

    /// Goes on to a new segment that has room for a frame of `len` bytes.
    fn roll(&mut self, len: u64) -> io::Result<()> {
        let needed = SEGMENT_HEADER_LEN as u64 + len;
        let number = self.active.number + 1;
        let next = match self.take_next() {
            Some(made) if made.capacity >= needed => made,
            _ => self.maker.make(number, self.segment_bytes.max(needed), Pace::Quick)?,
        };
        let full = std::mem::replace(&mut self.active, next);
        self.sealed.push_back(Sealed { number: full.number, last_seq: self.seq_next - 1, capacity: full.capacity });
        Ok(())
    }

    fn take_next(&mut self) -> Option<Segment> {
        let mut state = self.next.state.lock();
        while matches!(*state, Next::Making) {
            self.next.changed.wait(&mut state);
        }
        match std::mem::replace(&mut *state, Next::None) {
            Next::Made(segment) => Some(segment),
            Next::None | Next::Making => None,
        }
    }

    /// Has the next segment made in the background once the active one is half full.
    pub(crate) fn prepare(&mut self) {
        if !self.background || !self.grows || self.active.tail < self.active.capacity / 2 {
            return;
        }
        let mut state = self.next.state.lock();
        if !matches!(*state, Next::None) {
            return;
        }
        let (maker, next, number, len) =
            (self.maker.clone(), Arc::clone(&self.next), self.active.number + 1, self.segment_bytes);
        let make = move || {
            // A failure shows again, and is reported, when the segment is needed.
            let made = maker.make(number, len, Pace::Gentle).map_or(Next::None, Next::Made);
            *next.state.lock() = made;
            next.changed.notify_all();
        };
        if let Ok(handle) = thread::Builder::new().name("store-segment".to_owned()).spawn(make) {
            *state = Next::Making;
            self.making = Some(handle);
        }
    }

    /// The bytes of the segments that recovery does not need if it needs the frames from `seq` on.
    pub(crate) fn garbage_bytes(&self, seq: u64) -> u64 {
        self.sealed.iter().take_while(|sealed| sealed.last_seq < seq).map(|sealed| sealed.capacity).sum()
    }

    /// The files of the segments that recovery does not need if it needs the frames from `seq` on.
    pub(crate) fn paths_before(&self, seq: u64) -> Vec<PathBuf> {
        let unneeded = self.sealed.iter().take_while(|sealed| sealed.last_seq < seq);
        unneeded.map(|sealed| segment_path(&self.maker.dir, sealed.number)).collect()
    }

    /// Takes the segments off the books whose files were removed.
    pub(crate) fn forget_before(&mut self, seq: u64) {
        let count = self.sealed.partition_point(|sealed| sealed.last_seq < seq);
        self.sealed.drain(..count);
    }

    /// The bytes of all segments in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.sealed.iter().map(|sealed| sealed.capacity).sum::<u64>() + self.active.capacity
    }

    /// The sequence number of the next frame.
    pub(crate) fn seq_next(&self) -> u64 {
        self.seq_next
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(making) = self.making.take() {
            // It has said so already if it panicked.
            let _ = making.join();
        }
    }
}

/// How a segment is filled with zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Somebody waits for it.
    Quick,
    /// Others write meanwhile.
    Gentle,
}

impl Maker {
    /// Makes a segment, durably, in place of what an attempt before may have left.
    pub(crate) fn make(&self, number: u64, capacity: u64, pace: Pace) -> io::Result<Segment> {
        let made = self.try_make(number, capacity, pace);
        if made.is_err() {
            // On a full disk the room of half a segment is needed by others.
            let _ = self.disk.remove(&segment_path(&self.dir, number));
        }
        made
    }

    fn try_make(&self, number: u64, capacity: u64, pace: Pace) -> io::Result<Segment> {
        let path = segment_path(&self.dir, number);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.open(&path, OpenMode::Create)?;
        let salt = self.random.u64();
        file.allocate(capacity)?;
        let header = segment_header(number, salt, capacity);
        file.write_at(&header, 0)?;
        let zeros = vec![0; FILL_BYTES.min(usize::try_from(capacity).unwrap_or(FILL_BYTES))];
        let mut offset = SEGMENT_HEADER_LEN as u64;
        while offset < capacity {
            let count = zeros.len().min(usize::try_from(capacity - offset).unwrap_or(usize::MAX));
            file.write_at(&zeros[..count], offset)?;
            offset += count as u64;
            if pace == Pace::Gentle && offset < capacity {
                file.sync_data()?;
            }
        }
        file.sync_data()?;
        self.disk.sync_dir(&self.dir)?;
        Ok(Segment { file, number, salt, capacity, tail: SEGMENT_HEADER_LEN as u64 })
    }
}

pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016x}"))
}

/// The number in a segment's file name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    number_after(name, "log-")
}

/// The number of a file name that is `prefix` and 16 hexadecimal digits.
pub(crate) fn number_after(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if plain { u64::from_str_radix(digits, 16).ok() } else { None }
}

fn segment_header(number: u64, salt: u64, capacity: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(SEGMENT_HEADER_LEN);
    header.extend_from_slice(&SEGMENT_MAGIC);
    header.put_u64(number);
    header.put_u64(salt);
    header.put_u64(capacity);
    header.resize(SEGMENT_HEADER_LEN - 4, 0);
    header.put_u32(checksum(salt, &header));
    header
}

/// What a segment's file begins with.
pub(crate) enum SegmentStart {
    Used {
        salt: u64,
        capacity: u64,
    },
    /// It was being made, and nothing was ever added to it.
    Blank,
    Damaged,
}

pub(crate) fn read_segment_header(content: &[u8], number: u64) -> SegmentStart {
    let parse = || {
        let header = content.get(..SEGMENT_HEADER_LEN)?;
        let mut take = Take(header);
        let magic = take.slice(8)?;
        let (found_number, salt, capacity) = (take.u64()?, take.u64()?, take.u64()?);
        let crc = u32::from_le_bytes(header[SEGMENT_HEADER_LEN - 4..].try_into().ok()?);
        let good = magic == SEGMENT_MAGIC
            && found_number == number
            && crc == checksum(salt, &header[..SEGMENT_HEADER_LEN - 4]);
        good.then_some(SegmentStart::Used { salt, capacity })
    };
    // Frames are added only once the whole segment was synced: where there are none, the header may be half written.
    let unused = is_zero(content.get(SEGMENT_HEADER_LEN..).unwrap_or_default());
    parse().unwrap_or(if unused { SegmentStart::Blank } else { SegmentStart::Damaged })
}
