//! Reads tar streams: ustar, the GNU extensions and PAX records, with a bound on everything that is kept in memory.
//!
//! Our own reader, for layers come from strangers: an endless long name or PAX record must not fill the memory, and
//! what Go's reader understands (extended attributes, sparse files, large ids) must be understood here as well.

use std::io::{self, Read};

const BLOCK: usize = 512;
/// Go's reader takes as much for one extended header.
const EXTENSION_LENGTH_MAX: u64 = 1 << 20;
const SPARSE_REGIONS_MAX: usize = 1 << 16;

/// Why a stream is no proper tar.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream broke.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// It ends within an entry.
    #[error("archive is truncated")]
    Truncated,
    /// A header's bytes do not add up.
    #[error("invalid tar header")]
    Header,
    /// A number, a record or a name is malformed.
    #[error("invalid tar header: {0}")]
    Field(&'static str),
    /// An extended header is larger than anything sensible.
    #[error("tar extended header of {0} bytes is too large")]
    ExtensionTooLarge(u64),
    /// An entry of a type that no image holds.
    #[error("unhandled tar header type {0:?}")]
    Type(char),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        if error.kind() == io::ErrorKind::UnexpectedEof { TarError::Truncated } else { TarError::Read(error) }
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    Hardlink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry's header.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970, and nanoseconds to add.
    pub(crate) mtime: (i64, u32),
    /// The file's length as its reader will see it (holes included).
    pub(crate) size: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<Record>,
    /// Where the stored bytes go, if the file has holes: (offset, length).
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

/// A PAX record, or an extended attribute: name and value.
type Record = (Vec<u8>, Vec<u8>);

/// A tar stream, read entry by entry.
pub(crate) struct Archive<R> {
    reader: R,
    /// Bytes of the current entry that nobody has read.
    left: u64,
    /// Zero bytes behind the entry, to the block's end.
    padding: u64,
    globals: Vec<Record>,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R) -> Archive<R> {
        Archive { reader, left: 0, padding: 0, globals: Vec::new() }
    }

    /// The stream below, wherever the archive stands in it.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    /// The current entry's stored bytes.
    pub(crate) fn data(&mut self) -> Data<'_, R> {
        Data(self)
    }

    /// The next entry's header; what is left of the current entry is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut long_name = None;
        let mut long_link = None;
        let mut records = self.globals.clone();
        loop {
            self.skip_rest()?;
            let mut block = [0; BLOCK];
            match read_up_to(&mut self.reader, &mut block).map_err(TarError::from)? {
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(TarError::Truncated),
            }
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header(&block);
            header.check_sum()?;
            let size = header.number(124..136, "size")?;
            let size = u64::try_from(size).map_err(|_| TarError::Field("negative size"))?;
            match header.type_flag() {
                b'L' => long_name = Some(trim_nul(self.extension(size)?)),
                b'K' => long_link = Some(trim_nul(self.extension(size)?)),
                b'x' => records.extend(parse_records(&self.extension(size)?)?),
                b'g' => {
                    let new = parse_records(&self.extension(size)?)?;
                    let length: usize =
                        self.globals.iter().chain(&new).map(|(key, value)| key.len() + value.len()).sum();
                    if length as u64 > EXTENSION_LENGTH_MAX {
                        return Err(TarError::ExtensionTooLarge(length as u64));
                    }
                    self.globals.extend(new.iter().cloned());
                    records.extend(new);
                }
                _ => return self.entry(&header, size, long_name, long_link, &records).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        size: u64,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        records: &[Record],
    ) -> Result<Entry, TarError> {
        let mut stored = size;
        let mut entry = Entry {
            path: long_name.unwrap_or_else(|| header.path()),
            kind: EntryKind::File,
            mode: (header.number(100..108, "mode")? & 0o7777) as u32,
            uid: id(header.number(108..116, "uid")?)?,
            gid: id(header.number(116..124, "gid")?)?,
            mtime: (header.number(136..148, "mtime")?, 0),
            size,
            link: long_link.unwrap_or_else(|| trim_nul(header.0[157..257].to_vec())),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        };
        let mut sparse = SparseRecords::default();
        for (key, value) in records {
            match key.as_slice() {
                // An empty value takes a global record back.
                _ if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") => {}
                b"path" => entry.path = value.clone(),
                b"linkpath" => entry.link = value.clone(),
                b"size" => {
                    stored = decimal(value).ok_or(TarError::Field("size"))?;
                    entry.size = stored;
                }
                b"uid" => entry.uid = id(decimal(value).ok_or(TarError::Field("uid"))? as i64)?,
                b"gid" => entry.gid = id(decimal(value).ok_or(TarError::Field("gid"))? as i64)?,
                b"mtime" => entry.mtime = pax_time(value).ok_or(TarError::Field("mtime"))?,
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        entry.xattrs.retain(|(other, _)| other != name);
                        entry.xattrs.push((name.to_vec(), value.clone()));
                    } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                        sparse.take(name, value)?;
                    }
                }
            }
        }
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(TarError::Field("a name holds a zero byte"));
        }
        entry.kind = match header.type_flag() {
            b'0' | 0 | b'7' if entry.path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::Hardlink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(TarError::Type(char::from(other))),
        };
        if matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
            let part = |range| {
                header
                    .number(range, "device number")
                    .and_then(|n| u32::try_from(n).map_err(|_| TarError::Field("device number")))
            };
            entry.device = (part(329..337)?, part(337..345)?);
        }
        if entry.kind != EntryKind::File {
            // Only files carry bytes, whatever the header says.
            entry.size = 0;
            stored = 0;
        }
        self.left = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        if entry.kind == EntryKind::File {
            if header.type_flag() == b'S' {
                self.old_gnu_sparse(header, &mut entry)?;
            } else if sparse.present {
                self.pax_sparse(sparse, &mut entry)?;
            }
        }
        Ok(entry)
    }

    /// The old GNU form: four regions in the header, the rest in blocks before the data.
    fn old_gnu_sparse(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<(), TarError> {
        let mut regions = Vec::new();
        push_regions(&header.0[386..482], &mut regions)?;
        let real = header.number(483..495, "sparse size")?;
        let mut more = header.0[482] != 0;
        while more {
            let mut block = [0; BLOCK];
            self.reader.read_exact(&mut block).map_err(TarError::from)?;
            push_regions(&block[..504], &mut regions)?;
            more = block[504] != 0;
        }
        self.set_sparse(entry, regions, u64::try_from(real).map_err(|_| TarError::Field("sparse size"))?)
    }

    fn pax_sparse(&mut self, records: SparseRecords, entry: &mut Entry) -> Result<(), TarError> {
        if let Some(name) = records.name {
            entry.path = name;
        }
        let real = records.real_size.ok_or(TarError::Field("sparse size"))?;
        if records.major == Some(1) {
            // The map lies in the data's first blocks: a count, then offsets and lengths, one decimal a line.
            let mut numbers = Vec::new();
            let mut line = Vec::new();
            let mut wanted = 1;
            while numbers.len() < wanted {
                let mut block = [0; BLOCK];
                self.data().read_exact(&mut block).map_err(TarError::from)?;
                for byte in block {
                    if numbers.len() == wanted {
                        break;
                    }
                    if byte != b'\n' {
                        line.push(byte);
                        if line.len() > 20 {
                            return Err(TarError::Field("sparse map"));
                        }
                        continue;
                    }
                    let number: u64 = decimal(&line).ok_or(TarError::Field("sparse map"))?;
                    line.clear();
                    if numbers.is_empty() {
                        if number > SPARSE_REGIONS_MAX as u64 {
                            return Err(TarError::ExtensionTooLarge(number));
                        }
                        wanted = 1 + 2 * number as usize;
                    }
                    numbers.push(number);
                }
            }
            let regions = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            return self.set_sparse(entry, regions, real);
        }
        let regions = records.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        self.set_sparse(entry, regions, real)
    }

    /// Takes a sparse map that is in order, within the file, and as long as what is stored.
    fn set_sparse(&self, entry: &mut Entry, regions: Vec<(u64, u64)>, real: u64) -> Result<(), TarError> {
        let mut end = 0;
        let mut stored = 0u64;
        for (offset, length) in &regions {
            let region_end = offset.checked_add(*length).ok_or(TarError::Field("sparse map"))?;
            if *offset < end || region_end > real {
                return Err(TarError::Field("sparse map"));
            }
            end = region_end;
            stored += length;
        }
        if stored > self.left {
            return Err(TarError::Field("sparse map"));
        }
        entry.size = real;
        entry.sparse = Some(regions);
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTENSION_LENGTH_MAX {
            return Err(TarError::ExtensionTooLarge(size));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        let mut bytes = vec![0; size as usize];
        self.data().read_exact(&mut bytes).map_err(TarError::from)?;
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let length = self.left + self.padding;
        if length == 0 {
            return Ok(());
        }
        let skipped = io::copy(&mut (&mut self.reader).take(length), &mut io::sink()).map_err(TarError::from)?;
        // The last block's padding may be missing at the very end.
        if skipped < self.left {
            return Err(TarError::Truncated);
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

/// Reads the current entry's bytes and no further.
pub(crate) struct Data<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.0.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.0.reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.left -= count as u64;
        Ok(count)
    }
}

struct Header<'a>(&'a [u8; BLOCK]);

impl Header<'_> {
    fn type_flag(&self) -> u8 {
        self.0[156]
    }

    fn check_sum(&self) -> Result<(), TarError> {
        let stated = self.number(148..156, "checksum").map_err(|_| TarError::Header)?;
        let sum: i64 = self
            .0
            .iter()
            .enumerate()
            .map(|(i, byte)| if (148..156).contains(&i) { 32 } else { i64::from(*byte) })
            .sum();
        // Some old writers added signed bytes.
        let signed: i64 = self
            .0
            .iter()
            .enumerate()
            .map(|(i, byte)| if (148..156).contains(&i) { 32 } else { i64::from(*byte as i8) })
            .sum();
        if stated == sum || stated == signed { Ok(()) } else { Err(TarError::Header) }
    }

    /// Octal text, or a big-endian number with the top bit set.
    fn number(&self, range: std::ops::Range<usize>, field: &'static str) -> Result<i64, TarError> {
        let bytes = &self.0[range];
        if bytes[0] & 0x80 != 0 {
            let negative = bytes[0] & 0x40 != 0;
            let mut value: i128 = if negative { -1 } else { 0 };
            for (i, byte) in bytes.iter().enumerate() {
                let byte = if i == 0 && !negative { byte & 0x7f } else { *byte };
                value = (value << 8) | i128::from(byte);
            }
            return i64::try_from(value).map_err(|_| TarError::Field(field));
        }
        let mut text = bytes.iter().copied().skip_while(|b| *b == b' ').take_while(|b| *b != 0 && *b != b' ');
        text.try_fold(0i64, |value, digit| match digit {
            b'0'..=b'7' => value.checked_mul(8).map(|value| value + i64::from(digit - b'0')),
            _ => None,
        })
        .ok_or(TarError::Field(field))
    }

    fn path(&self) -> Vec<u8> {
        let name = trim_nul(self.0[..100].to_vec());
        // Only POSIX headers have a prefix; GNU's keep times there.
        let prefix = if &self.0[257..263] == b"ustar\0" { trim_nul(self.0[345..500].to_vec()) } else { Vec::new() };
        if prefix.is_empty() { name } else { [prefix, vec![b'/'], name].concat() }
    }
}

/// The `GNU.sparse.*` records of one entry, of all three PAX forms.
#[derive(Default)]
struct SparseRecords {
    present: bool,
    major: Option<u64>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    numbers: Vec<u64>,
}

impl SparseRecords {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), TarError> {
        const FIELD: TarError = TarError::Field("sparse record");
        self.present = true;
        match name {
            b"major" => self.major = Some(decimal(value).ok_or(FIELD)?),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.real_size = Some(decimal(value).ok_or(FIELD)?),
            b"offset" | b"numbytes" => self.numbers.push(decimal(value).ok_or(FIELD)?),
            b"map" => {
                for number in value.split(|b| *b == b',') {
                    self.numbers.push(decimal(number).ok_or(FIELD)?);
                }
            }
            _ => {}
        }
        if self.numbers.len() > 2 * SPARSE_REGIONS_MAX { Err(FIELD) } else { Ok(()) }
    }
}

fn push_regions(bytes: &[u8], regions: &mut Vec<(u64, u64)>) -> Result<(), TarError> {
    let mut block = [0; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    let header = Header(&block);
    for at in (0..bytes.len()).step_by(24) {
        if block[at] == 0 {
            return Ok(());
        }
        let number = |range| {
            header.number(range, "sparse map").and_then(|n| u64::try_from(n).map_err(|_| TarError::Field("sparse map")))
        };
        regions.push((number(at..at + 12)?, number(at + 12..at + 24)?));
        if regions.len() > SPARSE_REGIONS_MAX {
            return Err(TarError::Field("sparse map"));
        }
    }
    Ok(())
}

/// PAX records: `length key=value\n`, the length counting itself.
fn parse_records(mut bytes: &[u8]) -> Result<Vec<Record>, TarError> {
    const RECORD: TarError = TarError::Field("PAX record");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').ok_or(RECORD)?;
        let length = decimal(&bytes[..space]).and_then(|n| usize::try_from(n).ok()).ok_or(RECORD)?;
        if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(RECORD);
        }
        let record = &bytes[space + 1..length - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or(RECORD)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

fn pax_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9.9}").parse().ok()?;
    // Before 1970 the fraction counts downwards.
    if whole.starts_with('-') && nanos > 0 {
        Some((seconds - 1, 1_000_000_000 - nanos))
    } else {
        Some((seconds, nanos))
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn id(number: i64) -> Result<u32, TarError> {
    u32::try_from(number).map_err(|_| TarError::Field("user or group id"))
}

fn trim_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads until the buffer is full or the stream ends.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads everything; gives how many entries there were, or the error.
    fn read_all(bytes: &[u8]) -> Result<usize, TarError> {
        let mut archive = Archive::new(bytes);
        let mut count = 0;
        while let Some(entry) = archive.next()? {
            let regions: u64 = entry.sparse.iter().flatten().map(|region| region.1).sum();
            assert!(entry.sparse.is_none() || regions <= entry.size);
            io::copy(&mut archive.data(), &mut io::sink())?;
            count += 1;
        }
        Ok(count)
    }

    fn gnu_tar(flags: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [1; 1000]).unwrap();
        std::fs::write(folder.path().join("long".repeat(40)), "x").unwrap();
        let holes = std::fs::File::create(folder.path().join("holes")).unwrap();
        holes.set_len(3_000_000).unwrap();
        for n in 0..6 {
            std::os::unix::fs::FileExt::write_at(&holes, b"x", n * 400_000).unwrap();
        }
        let output = std::process::Command::new("tar")
            .arg("-C")
            .arg(folder.path())
            .args(flags)
            .args(["-b1", "-cf", "-", "."])
            .output();
        output.unwrap().stdout
    }

    #[test]
    fn damaged_archives_are_errors_never_worse() {
        let mut random = fastrand::Rng::with_seed(7);
        for flags in [
            &["--format=gnu", "-S"][..],
            &["--format=pax", "-S", "--sparse-version=1.0"],
            &["--format=pax", "-S", "--sparse-version=0.1"],
        ] {
            let whole = gnu_tar(flags);
            assert_eq!(read_all(&whole).unwrap(), 4);
            let mut refused = 0;
            for _ in 0..1000 {
                let mut damaged = whole.clone();
                let block = random.usize(..damaged.len() / BLOCK) * BLOCK;
                for _ in 0..random.usize(1..4) {
                    damaged[block + random.usize(..BLOCK)] = random.u8(..);
                }
                // Most damage would end at the checksum; the fields behind it are to be reached as well.
                let header = &mut damaged[block..block + BLOCK];
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                damaged.truncate(damaged.len() - random.usize(..3) * random.usize(..2000));
                refused += usize::from(read_all(&damaged).is_err());
            }
            // How many depends on what the archives hold, owners and times among it; that there are some does not.
            assert!(refused > 0, "none of 1000 refused");
        }
    }

    #[test]
    fn numbers_are_octal_or_binary() {
        let check = |field: &[u8], expect: Option<i64>| {
            let mut block = [0; BLOCK];
            block[..field.len()].copy_from_slice(field);
            assert_eq!(Header(&block).number(0..field.len(), "field").ok(), expect, "{field:?}");
        };
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0", Some(0));
        check(b"12x4\0", None);
        check(b"\x80\0\0\0\0\0\x01\x02", Some(258));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2));
        check(b"\x80\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff", None);
    }

    #[test]
    fn times_before_1970_count_downwards() {
        let check = |text: &str, expect: Option<(i64, u32)>| assert_eq!(pax_time(text.as_bytes()), expect, "{text}");
        check("12.5", Some((12, 500_000_000)));
        check("12", Some((12, 0)));
        check("-1.25", Some((-2, 750_000_000)));
        check("0.1234567891", Some((0, 123_456_789)));
        check("x", None);
        check("1.-5", None);
    }
}
