//! A frame: what one group commit adds to the log, written by one write and made durable by one sync.
//!
//! ```text
//! offset  size
//!      0     4  magic
//!      4     4  length of the payload
//!      8     8  sequence number
//!     16    12  wall time: seconds, nanoseconds
//!     28     8  the oldest readable revision
//!     36     1  mask, 3 zeros
//!     40     4  checksum of the payload as it stands in the file
//!     44     4  checksum of the header
//!     48        payload, each byte XOR mask
//!            1  end mark
//! ```
//!
//! **Torn or damaged?** A frame is written into a part of the file that is zeros, and the next one only after it was synced.
//! If the power fails before the sync, some sectors of the frame were written and others are still zeros. The mask is chosen
//! so that no sector of a frame is all zeros, and the magic and the end mark see to the parts of sectors at its ends.
//! So the last frame, if it is bad, is *torn* if one of its sectors is zeros; it was then never acknowledged. It is torn, too,
//! if a write that failed ended before the frame did, wherever that was, and if clearing such a frame away failed in the same way.
//! Any other bad frame is *damage* to what was acknowledged.

use std::borrow::Cow;

use world::Timestamp;

use crate::codec::{Put, Take};

/// What disks write whole or not at all.
pub(crate) const SECTOR: usize = 512;

pub(crate) const HEADER_LEN: usize = 48;
const MAGIC: [u8; 4] = *b"kbx\x01";
const END_MARK: u8 = 0x5a;

/// What a frame says besides its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    pub(crate) compacted: u64,
}

/// A frame being filled.
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    pub(crate) fn new() -> FrameBuffer {
        FrameBuffer { bytes: vec![0; HEADER_LEN] }
    }

    /// Where the payload is appended.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The length the frame will have in the file.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + 1
    }

    /// Makes it ready for being written at `offset` of a segment with `salt`.
    pub(crate) fn seal(mut self, header: FrameHeader, salt: u64, offset: u64) -> Vec<u8> {
        let payload_len = self.bytes.len() - HEADER_LEN;
        self.bytes.put_u8(END_MARK);
        let mut mask = 0;
        // Sectors of zeros are rare, and a mask that makes none is nearly always the next one.
        while mask < u8::MAX && has_zero_sector(&self.bytes, offset) {
            for byte in &mut self.bytes[HEADER_LEN..HEADER_LEN + payload_len] {
                *byte ^= mask ^ (mask + 1);
            }
            mask += 1;
        }
        let payload_crc = checksum(salt, &self.bytes[HEADER_LEN..HEADER_LEN + payload_len]);
        let mut head = Vec::with_capacity(HEADER_LEN);
        head.extend_from_slice(&MAGIC);
        head.put_u32(u32::try_from(payload_len).expect("a frame is far below 4 GiB"));
        head.put_u64(header.seq);
        head.extend_from_slice(&header.time.seconds.to_le_bytes());
        head.put_u32(header.time.nanos);
        head.put_u64(header.compacted);
        head.put_u32(u32::from(mask));
        head.put_u32(payload_crc);
        head.put_u32(checksum(salt, &head));
        self.bytes[..HEADER_LEN].copy_from_slice(&head);
        self.bytes
    }
}

/// The header is still zeros when this is asked, so it may answer yes where the finished frame has none; never the reverse.
fn has_zero_sector(frame: &[u8], offset: u64) -> bool {
    let lead = (SECTOR - (offset % SECTOR as u64) as usize) % SECTOR;
    frame.get(lead..).unwrap_or_default().chunks_exact(SECTOR).any(is_zero)
}

/// The salt differs for each segment, so that no value that somebody stores can look like a frame.
pub(crate) fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What stands at some offset of a segment.
pub(crate) enum Found<'a> {
    /// A good frame: its header, its payload, and the offset behind it.
    Frame { header: FrameHeader, payload: Cow<'a, [u8]>, end: usize },
    /// Nothing was written from here on.
    End,
    /// A frame that was never acknowledged: the power failed, or the program ended, while it was being written.
    Torn,
    /// Something else.
    Damaged(&'static str),
}

/// Looks at `offset` of the segment whose whole content is `content`.
pub(crate) fn read(content: &[u8], salt: u64, offset: usize) -> Found<'_> {
    let rest = content.get(offset..).unwrap_or_default();
    let Some((header, payload_len, mask, payload_crc)) = read_header(rest, salt) else {
        if is_zero(rest) {
            return Found::End;
        }
        // Nothing behind the header, not even an end mark: a write ended within it. A zero at the start: clearing had begun.
        let cut = rest[0] == 0 || is_zero(rest.get(HEADER_LEN..).unwrap_or_default());
        return bad(content, salt, offset, HEADER_LEN, cut, "a frame's header is wrong");
    };
    let frame_len = HEADER_LEN + payload_len + 1;
    let Some(frame) = rest.get(..frame_len) else {
        // Segments are made in full length, and no frame is written that does not fit.
        return Found::Damaged("a frame is cut off");
    };
    let payload = &frame[HEADER_LEN..frame_len - 1];
    let end_mark = frame[frame_len - 1];
    if checksum(salt, payload) != payload_crc || end_mark != END_MARK {
        return bad(content, salt, offset, frame_len, end_mark == 0, "a frame's checksum is wrong");
    }
    let payload = match mask {
        0 => Cow::Borrowed(payload),
        _ => payload.iter().map(|byte| byte ^ mask).collect(),
    };
    Found::Frame { header, payload, end: offset + frame_len }
}

fn read_header(bytes: &[u8], salt: u64) -> Option<(FrameHeader, usize, u8, u32)> {
    let bytes = bytes.get(..HEADER_LEN)?;
    let mut take = Take(bytes);
    if take.slice(4)? != MAGIC {
        return None;
    }
    let payload_len = usize::try_from(take.u32()?).ok()?;
    let seq = take.u64()?;
    let time = Timestamp { seconds: take.u64()?.cast_signed(), nanos: take.u32()? };
    let compacted = take.u64()?;
    let mask = u8::try_from(take.u32()?).ok()?;
    let payload_crc = take.u32()?;
    let good = take.u32()? == checksum(salt, &bytes[..HEADER_LEN - 4]);
    good.then_some((FrameHeader { seq, time, compacted }, payload_len, mask, payload_crc))
}

/// Tells a torn frame of `len` bytes at `offset` from a damaged one. `cut` says that it does not even reach its end.
fn bad(content: &[u8], salt: u64, offset: usize, len: usize, cut: bool, damage: &'static str) -> Found<'static> {
    let end = content.len().min(offset + len);
    let mut torn = cut;
    let mut start = offset;
    while start < end {
        let sector_end = end.min((start / SECTOR + 1) * SECTOR);
        torn |= is_zero(&content[start..sector_end]);
        start = sector_end;
    }
    match torn {
        true if has_header(&content[(offset + 1).min(content.len())..], salt) => {
            Found::Damaged("a frame is missing before others")
        }
        true => Found::Torn,
        false => Found::Damaged(damage),
    }
}

/// Whether a frame begins anywhere in `bytes`.
fn has_header(bytes: &[u8], salt: u64) -> bool {
    memchr::memmem::find_iter(bytes, &MAGIC).any(|at| read_header(&bytes[at..], salt).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 7;

    fn header(seq: u64) -> FrameHeader {
        FrameHeader { seq, time: Timestamp { seconds: -5, nanos: 6 }, compacted: 3 }
    }

    fn sealed(payload: &[u8], seq: u64, offset: usize) -> Vec<u8> {
        let mut frame = FrameBuffer::new();
        frame.payload().extend_from_slice(payload);
        assert_eq!(frame.len(), HEADER_LEN + payload.len() + 1);
        frame.seal(header(seq), SALT, offset as u64)
    }

    fn outcome(content: &[u8], offset: usize) -> String {
        match read(content, SALT, offset) {
            Found::Frame { header, payload, end } => format!("frame {} of {} to {end}", header.seq, payload.len()),
            Found::End => "end".to_owned(),
            Found::Torn => "torn".to_owned(),
            Found::Damaged(damage) => damage.to_owned(),
        }
    }

    /// Payloads that are hard to tell from unwritten sectors, at offsets before, on and behind a sector's border.
    fn each_case(check: impl Fn(&[u8], usize)) {
        let mut masked_zeros = vec![0; 700];
        masked_zeros.extend([1; 1300]);
        let payloads = [vec![], vec![1], vec![0; 5], vec![0; 600], vec![0; 3000], vec![9; 1500], masked_zeros];
        for payload in &payloads {
            for offset in [64, 470, 511, 512, 513, 1000] {
                check(payload, offset);
            }
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        each_case(|payload, offset| {
            let frame = sealed(payload, 4, offset);
            let mut content = vec![0; 8192];
            content[offset..offset + frame.len()].copy_from_slice(&frame);
            let Found::Frame { header: found, payload: read_payload, end } = read(&content, SALT, offset) else {
                panic!("{}", outcome(&content, offset));
            };
            assert_eq!((found, &*read_payload, end), (header(4), payload, offset + frame.len()));
            assert_eq!(outcome(&content, end), "end");
            assert_eq!(outcome(&content[..end], end), "end");
            assert_eq!(outcome(&content[..end - 1], offset), "a frame is cut off");
            assert!(!matches!(read(&content, SALT + 1, offset), Found::Frame { .. }), "another segment's frame");
        });
    }

    #[test]
    fn lost_sectors_make_a_torn_frame() {
        each_case(|payload, offset| {
            let frame = sealed(payload, 4, offset);
            let (first, last) = (offset / SECTOR, (offset + frame.len() - 1) / SECTOR);
            for lost in 1..1_u32 << (last - first + 1) {
                let mut content = vec![0; 8192];
                content[offset..offset + frame.len()].copy_from_slice(&frame);
                for sector in (first..=last).filter(|sector| lost >> (sector - first) & 1 == 1) {
                    content[(sector * SECTOR).max(offset)..(sector + 1) * SECTOR].fill(0);
                }
                let expect = if is_zero(&content) { "end" } else { "torn" };
                assert_eq!(outcome(&content, offset), expect, "{} at {offset}, lost {lost:b}", payload.len());

                // If another frame follows, this one had been acknowledged.
                let next = sealed(b"next", 5, offset + frame.len());
                content[offset + frame.len()..][..next.len()].copy_from_slice(&next);
                assert_eq!(outcome(&content, offset), "a frame is missing before others");
            }
        });
    }

    #[test]
    fn a_write_or_a_clearing_that_ended_early_makes_a_torn_frame() {
        each_case(|payload, offset| {
            let frame = sealed(payload, 4, offset);
            for len in 1..frame.len() {
                let mut content = vec![0; 8192];
                content[offset..offset + len].copy_from_slice(&frame[..len]);
                assert_eq!(outcome(&content, offset), "torn", "{} at {offset}, written to {len}", payload.len());
                let mut content = vec![0; 8192];
                content[offset + len..offset + frame.len()].copy_from_slice(&frame[len..]);
                assert_eq!(outcome(&content, offset), "torn", "{} at {offset}, cleared to {len}", payload.len());
            }
        });
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        each_case(|payload, offset| {
            let frame = sealed(payload, 4, offset);
            let mut content = vec![0; 8192];
            content[offset..offset + frame.len()].copy_from_slice(&frame);
            for at in offset..offset + frame.len() {
                for bit in 0..8 {
                    content[at] ^= 1 << bit;
                    let found = outcome(&content, offset);
                    assert!(found.starts_with("a frame"), "{} at {offset}: bit {bit} of {at}: {found}", payload.len());
                    content[at] ^= 1 << bit;
                }
            }
        });
    }

    #[test]
    fn a_value_cannot_pass_for_a_frame() {
        // Somebody stores what a frame looks like, as far as one can know without the salt.
        let forged = sealed(b"forged", 5, 0);
        let mut payload = vec![9; 600];
        payload.extend({
            let mut frame = FrameBuffer::new();
            frame.payload().extend_from_slice(b"forged");
            frame.seal(header(5), SALT + 1, 0)
        });
        assert_eq!(payload.len(), 600 + forged.len());
        let frame = sealed(&payload, 4, 64);
        let mut content = vec![0; 4096];
        content[64..64 + frame.len()].copy_from_slice(&frame);
        content[64..512].fill(0);
        assert_eq!(outcome(&content, 64), "torn");
    }
}
