//! Opening a data folder: first everything is read and checked, and only then is anything written.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::Revision;
use world::{DiskLock, Monotonic, OpenMode, World};

use crate::codec::Take;
use crate::frame::{self, Found, FrameHeader, is_zero};
use crate::log::{
    FIRST_SEGMENT_BYTES, Log, Maker, Pace, SEGMENT_HEADER_LEN, Sealed, Segment, SegmentStart, read_segment_header,
    segment_number, segment_path,
};
use crate::plan::{Done, take_done};
use crate::snapshot::{self, LoadError, Written, is_temporary, snapshot_number, snapshot_path};
use crate::state::{Budget, Effect, State, event};
use crate::{OpenError, Options};

/// The version of everything in the folder. A change that older programs would misread gives it a new number.
const FORMAT_VERSION: u64 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_PREFIX: &str = "kubox-store ";
const LOCK_FILE: &str = "LOCK";

/// A data folder that was opened.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) log: Log,
    /// The snapshot in use, if there is one.
    pub(crate) snapshot: Option<Written>,
    pub(crate) lock: Box<dyn DiskLock>,
}

pub(crate) fn open(world: &World, dir: &Path, options: &Options) -> Result<Recovered, OpenError> {
    let io_error = |attempted: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| OpenError::Io { attempted, path, source }
    };
    world.disk.create_dir_all(dir).map_err(io_error("make the data folder", dir))?;
    let lock_path = dir.join(LOCK_FILE);
    let lock = world.disk.lock(&lock_path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.to_owned() },
        _ => io_error("lock", &lock_path)(error),
    })?;
    let found = Folder::read(world, dir, options)?;
    let maker = Maker { disk: Arc::clone(&world.disk), dir: dir.to_owned(), random: Arc::clone(&world.random) };
    found.take_over(world, dir, options, maker, lock).map_err(io_error("write to the data folder", dir))
}

/// What was found, and checked, in a data folder.
struct Folder {
    /// Whether the folder had been made into a store completely.
    made: bool,
    state: State,
    snapshot: Option<Written>,
    segments: Vec<FoundSegment>,
    /// Files of no more use.
    leftovers: Vec<PathBuf>,
}

struct FoundSegment {
    number: u64,
    salt: u64,
    capacity: u64,
    len: u64,
    /// The sequence number of its last frame, or of the last one before it.
    last_seq: u64,
    /// The bytes of its last frame, or of its header if it has none, and where they stand.
    last: (u64, Vec<u8>),
}

impl FoundSegment {
    fn tail(&self) -> u64 {
        self.last.0 + self.last.1.len() as u64
    }

    fn has_frames(&self) -> bool {
        self.last.0 > 0
    }
}

impl Folder {
    /// Reads and checks the whole folder, and changes nothing.
    fn read(world: &World, dir: &Path, options: &Options) -> Result<Folder, OpenError> {
        let io_error = |attempted: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| OpenError::Io { attempted, path, source }
        };
        let names = world.disk.list(dir).map_err(io_error("list", dir))?;
        let made = names.iter().any(|name| name == FORMAT_FILE) && read_format(world, dir)?;
        let mut snapshots: Vec<u64> = names.iter().filter_map(|name| snapshot_number(name)).collect();
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        snapshots.sort_unstable();
        numbers.sort_unstable();

        let mut leftovers: Vec<PathBuf> =
            names.iter().filter(|name| is_temporary(name)).map(|name| dir.join(name)).collect();
        let mut state = State::new();
        let mut snapshot = None;
        if let Some(seq) = snapshots.pop() {
            leftovers.extend(snapshots.iter().map(|seq| snapshot_path(dir, *seq)));
            let path = snapshot_path(dir, seq);
            let file = world.disk.open(&path, OpenMode::Read).map_err(io_error("open", &path))?;
            let (loaded, bytes) = snapshot::load(&*file, seq, &*world.clock).map_err(|error| match error {
                LoadError::Io(error) => io_error("read", &path)(error),
                LoadError::Damaged { offset } => {
                    OpenError::Damaged { path: path.clone(), offset, damage: "the snapshot is wrong" }
                }
            })?;
            state = loaded;
            snapshot = Some(Written { seq, bytes });
        }

        let mut content = Vec::new();
        let mut compacted = Revision::ZERO;
        for number in numbers.iter().rev() {
            let path = segment_path(dir, *number);
            read_file(world, &path, &mut content).map_err(io_error("read", &path))?;
            if let Some(last) = last_header(&content, *number) {
                compacted = Revision(last.compacted);
                break;
            }
        }

        let mut replay = Replay { world, options, compacted, state, bad_tail: None };
        let mut segments: Vec<FoundSegment> = Vec::new();
        for (index, number) in numbers.iter().enumerate() {
            let path = segment_path(dir, *number);
            read_file(world, &path, &mut content).map_err(io_error("read", &path))?;
            let last_seq = segments.last().map_or(0, |segment| segment.last_seq);
            let damaged =
                |(number, offset, damage)| OpenError::Damaged { path: segment_path(dir, number), offset, damage };
            match replay.segment(&content, *number, last_seq).map_err(damaged)? {
                Some(segment) => segments.push(segment),
                None if index + 1 == numbers.len() => leftovers.push(path),
                None => return Err(damaged((*number, 0, "a segment is blank before others"))),
            }
        }
        if let Some(BadTail { place: (number, offset, damage), torn: false }) = replay.bad_tail {
            return Err(OpenError::Damaged { path: segment_path(dir, number), offset, damage });
        }
        let state = replay.state;

        // Segments made in advance, which were never used, are made again.
        while segments.len() > 1 && segments.last().is_some_and(|segment| !segment.has_frames()) {
            leftovers.extend(segments.pop().map(|segment| segment_path(dir, segment.number)));
        }
        let used = snapshot.is_some() || segments.iter().any(FoundSegment::has_frames);
        if made && segments.is_empty() {
            return Err(OpenError::Incomplete { dir: dir.to_owned(), missing: "its log" });
        }
        if !made && used {
            return Err(OpenError::Incomplete { dir: dir.to_owned(), missing: "its file FORMAT" });
        }
        if !made {
            leftovers.extend(segments.drain(..).map(|segment| segment_path(dir, segment.number)));
        }
        Ok(Folder { made, state, snapshot, segments, leftovers })
    }

    /// Makes the folder ready for writing.
    fn take_over(
        mut self,
        world: &World,
        dir: &Path,
        options: &Options,
        maker: Maker,
        lock: Box<dyn DiskLock>,
    ) -> io::Result<Recovered> {
        let active = match self.segments.last().map(|last| last.repair(world, dir, options)).transpose()? {
            Some(Some(active)) => {
                self.segments.pop();
                active
            }
            // What is used up, and where there is nothing yet.
            _ => {
                let number = self.segments.last_mut().map_or(1, |used_up| {
                    used_up.len = used_up.tail();
                    used_up.number + 1
                });
                let fresh = maker.make(number, FIRST_SEGMENT_BYTES.min(options.segment_bytes), Pace::Quick)?;
                self.leftovers.retain(|path| *path != segment_path(dir, number));
                fresh
            }
        };
        if !self.made {
            // Last of all: a folder with a complete FORMAT has a log.
            write_format(world, dir)?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                world.disk.sync_dir(parent)?;
            }
        }
        // A program that was killed may have renamed or made what is used here and not have synced the folder.
        world.disk.sync_dir(dir)?;

        let needed = self.state.seq + 1;
        let snapshot_seq = self.snapshot.map_or(0, |snapshot| snapshot.seq);
        let mut sealed = VecDeque::new();
        for FoundSegment { number, last_seq, len, .. } in self.segments {
            match last_seq < snapshot_seq {
                true => self.leftovers.push(segment_path(dir, number)),
                false => sealed.push_back(Sealed { number, last_seq, capacity: len }),
            }
        }
        for path in &self.leftovers {
            world.disk.remove(path)?;
        }
        let log = Log::new(maker, options.segment_bytes, options.background, active, sealed, needed);
        Ok(Recovered { state: self.state, log, snapshot: self.snapshot, lock })
    }
}

fn read_file(world: &World, path: &Path, content: &mut Vec<u8>) -> io::Result<()> {
    let file = world.disk.open(path, OpenMode::Read)?;
    content.resize(usize::try_from(file.len()?).map_err(io::Error::other)?, 0);
    let count = file.read_at(content, 0)?;
    content.truncate(count);
    Ok(())
}

/// The header of a segment's last good frame.
fn last_header(content: &[u8], number: u64) -> Option<FrameHeader> {
    let SegmentStart::Used { salt, .. } = read_segment_header(content, number) else { return None };
    let mut end = SEGMENT_HEADER_LEN;
    let mut last = None;
    while let Found::Frame { header, end: next, .. } = frame::read(content, salt, end) {
        (last, end) = (Some(header), next);
    }
    last
}

/// The state while the log is read into it.
struct Replay<'a> {
    world: &'a World,
    options: &'a Options,
    /// The oldest revision that could be read when the last frame was written.
    compacted: Revision,
    state: State,
    /// What could not be read at the end of the segment before.
    bad_tail: Option<BadTail>,
}

/// Something that is no good frame. It matters unless the next frame that is found follows from the last one before: then it is
/// what a failed write has left. If there is no next frame, it must be torn.
struct BadTail {
    place: Damage,
    torn: bool,
}

/// In which segment, where, and what.
type Damage = (u64, u64, &'static str);

impl Replay<'_> {
    /// Reads a segment. `None` if it was being made when the program ended.
    fn segment(&mut self, content: &[u8], number: u64, mut last_seq: u64) -> Result<Option<FoundSegment>, Damage> {
        let (salt, capacity) = match read_segment_header(content, number) {
            SegmentStart::Used { salt, capacity } => (salt, capacity),
            SegmentStart::Blank => return Ok(None),
            SegmentStart::Damaged => return Err((number, 0, "the segment's header is wrong")),
        };
        let len = content.len() as u64;
        let mut last = 0..SEGMENT_HEADER_LEN;
        loop {
            let place = |damage| (number, last.end as u64, damage);
            match frame::read(content, salt, last.end) {
                Found::Frame { header, payload, end } => {
                    if let Some(bad) = self.bad_tail.take()
                        && header.seq != last_seq + 1
                    {
                        return Err(bad.place);
                    }
                    last_seq = header.seq;
                    self.frame(header, &payload).ok_or(place("a frame does not follow from those before it"))?;
                    last = last.end..end;
                }
                Found::End => break,
                Found::Torn => {
                    self.bad_tail = Some(BadTail { place: place("a frame is missing before others"), torn: true });
                    break;
                }
                Found::Damaged(damage) => {
                    self.bad_tail = Some(BadTail { place: place(damage), torn: false });
                    break;
                }
            }
        }
        let has_frames = last.start > 0;
        // A failed write is taken back by cutting the file off behind the last frame and extending it again.
        if has_frames && len < capacity && len != last.end as u64 && self.bad_tail.is_none() {
            let place = (number, len, "the segment is shorter than it was made");
            self.bad_tail = Some(BadTail { place, torn: false });
        }
        let last = (last.start as u64, content[last].to_vec());
        Ok(Some(FoundSegment { number, salt, capacity, len, last_seq, last }))
    }

    /// Applies a frame, unless the snapshot has it already.
    fn frame(&mut self, header: FrameHeader, payload: &[u8]) -> Option<()> {
        let next = self.state.seq + 1;
        if header.seq < next {
            return Some(());
        }
        if header.seq > next {
            return None;
        }
        let clock = &*self.world.clock;
        let age = clock.now().saturating_since(header.time).min(self.options.history_age);
        let until = clock.monotonic().saturating_add(self.options.history_age - age);
        let mut take = Take(payload);
        while !take.is_empty() {
            match take_done(&mut take, clock)? {
                // The snapshot has it.
                Done::Changes { revision, .. } if revision <= self.state.revision => {}
                Done::Changes { revision, .. } if revision != self.state.revision.next() => return None,
                // Nobody will ask for this history.
                Done::Changes { revision, ops } if revision <= self.compacted => {
                    self.state.apply_compacted(revision, ops)?;
                }
                Done::Changes { revision, ops } => {
                    let event = |op| event(op, revision, self.state.latest(op.key()).cloned());
                    let events = ops.iter().map(event).collect::<Option<Vec<_>>>()?;
                    self.state.apply(vec![Effect::Changes { revision, events }], header.seq, until);
                }
                Done::Other(effect) => drop(self.state.apply(vec![effect], header.seq, until)),
            }
        }
        self.state.seq = header.seq;
        self.state.compacted = self.state.compacted.max(Revision(header.compacted));
        if self.state.compacted > self.state.revision {
            return None;
        }
        // Old history goes when the store is open and its time has come; here only what was compacted, or is too much.
        let budget = Budget { age: self.options.history_age, bytes: self.options.history_bytes };
        self.state.trim(budget, Monotonic::START);
        Some(())
    }
}

impl FoundSegment {
    /// Makes the last segment safe, and ready for more frames, unless most of it is unused: then it is cut off.
    ///
    /// Nothing that a program before has seen to be written is taken for written: it may have been killed before it synced, and
    /// after a sync that failed the system shows what the disk does not have. So the last frame, which alone can be concerned, and
    /// the zeros behind it are written again.
    fn repair(&self, world: &World, dir: &Path, options: &Options) -> io::Result<Option<Segment>> {
        let file = world.disk.open(&segment_path(dir, self.number), OpenMode::Write)?;
        let tail = self.tail();
        let unused = self.capacity - tail;
        let goes_on = unused <= FIRST_SEGMENT_BYTES.min(options.segment_bytes / 2);
        if goes_on && self.len < self.capacity {
            file.set_len(self.capacity)?;
        }
        if !goes_on {
            file.set_len(tail)?;
        }
        file.write_at(&self.last.1, self.last.0)?;
        if goes_on {
            file.write_at(&vec![0; usize::try_from(unused).map_err(io::Error::other)?], tail)?;
        }
        file.sync_data()?;
        let FoundSegment { number, salt, capacity, .. } = *self;
        Ok(goes_on.then_some(Segment { file, number, salt, capacity, tail }))
    }
}

/// Whether the folder's FORMAT is complete, if this program understands it.
fn read_format(world: &World, dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join(FORMAT_FILE);
    let io_error = |source| OpenError::Io { attempted: "read", path: path.clone(), source };
    let file = world.disk.open(&path, OpenMode::Read).map_err(io_error)?;
    let mut content = vec![0; 256];
    let count = file.read_at(&mut content, 0).map_err(io_error)?;
    content.truncate(count);
    let text = String::from_utf8_lossy(&content);
    if let Some(version) = text.strip_prefix(FORMAT_PREFIX).and_then(|rest| rest.strip_suffix('\n')) {
        return match version.parse() {
            Ok(FORMAT_VERSION) => Ok(true),
            Ok(found) if found > FORMAT_VERSION => {
                Err(OpenError::NewerFormat { dir: dir.to_owned(), found, supported: FORMAT_VERSION })
            }
            _ => Err(OpenError::NotAStore { path }),
        };
    }
    // What a crash or a failed write leaves of a file that was being written: nothing, zeros, or its beginning.
    let expected = format!("{FORMAT_PREFIX}{FORMAT_VERSION}\n");
    match is_zero(&content) || expected.as_bytes().starts_with(&content) {
        true => Ok(false),
        false => Err(OpenError::NotAStore { path }),
    }
}

fn write_format(world: &World, dir: &Path) -> io::Result<()> {
    let path = dir.join(FORMAT_FILE);
    let file = match world.disk.open(&path, OpenMode::Create) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => world.disk.open(&path, OpenMode::Write)?,
        opened => opened?,
    };
    file.write_at(format!("{FORMAT_PREFIX}{FORMAT_VERSION}\n").as_bytes(), 0)?;
    file.sync_data()
}
