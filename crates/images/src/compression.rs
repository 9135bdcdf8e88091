//! Undoes gzip and zstd by what the bytes say, whatever their name or media type.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const BUFFER: usize = 128 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

const ZSTD_HEADER_LENGTH_MAX: usize = 18;
/// More memory is not given to a frame.
const ZSTD_WINDOW_MAX: u64 = 128 << 20;
/// The decoder takes no more for any frame but its first.
const ZSTD_REUSED_WINDOW_MAX: u64 = 100 << 20;

/// A stream of plain bytes.
pub(crate) type Plain = Box<dyn Read + Send>;

/// Reads a stream that may be compressed.
pub(crate) fn decompress(reader: impl Read + Send + 'static) -> io::Result<Plain> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(reader))
    } else if start.starts_with(ZSTD) || is_skippable_zstd(start) {
        Box::new(Zstd { source: reader, decoder: FrameDecoder::new(), in_frame: false })
    } else {
        Box::new(reader)
    })
}

fn is_skippable_zstd(bytes: &[u8]) -> bool {
    matches!(bytes, [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50)
}

/// A zstd stream: frames one after the other, among them ones to be skipped (indexes of seekable formats).
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Steps to the next frame; false at the stream's end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            let mut header = [0; ZSTD_HEADER_LENGTH_MAX];
            self.source.read_exact(&mut header[..4])?;
            if is_skippable_zstd(&header) {
                let mut length = [0; 4];
                self.source.read_exact(&mut length)?;
                let length = u64::from(u32::from_le_bytes(length));
                if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let (header, window) = self.header(&mut header)?;
            // A frame may ask for terabytes; zstd's own tool stops here as well.
            if window > ZSTD_WINDOW_MAX {
                let what = format!("zstd window of {window} bytes is too large");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            if window > ZSTD_REUSED_WINDOW_MAX {
                self.decoder = FrameDecoder::new();
            }
            self.decoder.reset(header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads a frame's header behind its first four bytes; gives all of it and the memory that the frame asks for.
    fn header<'a>(&mut self, header: &'a mut [u8; ZSTD_HEADER_LENGTH_MAX]) -> io::Result<(&'a [u8], u64)> {
        if !header.starts_with(ZSTD) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no zstd frame where one should begin"));
        }
        self.source.read_exact(&mut header[4..5])?;
        let descriptor = header[4];
        let is_single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let content = [usize::from(is_single), 2, 4, 8][usize::from(descriptor >> 6)];
        let size_at = 5 + usize::from(!is_single) + dictionary;
        let end = size_at + content;
        self.source.read_exact(&mut header[5..end])?;
        let window = if is_single {
            let mut size = [0; 8];
            size[..content].copy_from_slice(&header[size_at..end]);
            u64::from_le_bytes(size)
        } else {
            let base = 1u64 << (10 + (header[5] >> 3));
            base + base / 8 * u64::from(header[5] & 7)
        };
        Ok((&header[..end], window))
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            self.in_frame = true;
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let wanted = BlockDecodingStrategy::UptoBytes(buffer.len() - self.decoder.can_collect());
                self.decoder
                    .decode_blocks(&mut self.source, wanted)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(packed: Vec<u8>, expect: &[u8]) {
        let mut plain = Vec::new();
        decompress(io::Cursor::new(packed)).unwrap().read_to_end(&mut plain).unwrap();
        assert!(plain == expect, "{} bytes, not {}", plain.len(), expect.len());
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_form_gives_the_same_bytes() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"index"].concat();
        check(text.clone(), &text);
        check(Vec::new(), b"");
        check(gzip(&text), &text);
        check([gzip(&text), gzip(b"more")].concat(), &[&text[..], b"more"].concat());
        check(zstd(&text), &text);
        check([skippable.clone(), zstd(&text), zstd(b"more"), skippable].concat(), &[&text[..], b"more"].concat());
    }

    #[test]
    fn frames_that_ask_for_too_much_memory_are_refused() {
        let refused = |header: &[u8]| {
            let packed = [ZSTD, header, &[0; 20]].concat();
            let error = decompress(io::Cursor::new(packed)).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
            error.to_string()
        };
        assert_eq!(refused(&[0, 0xff]), "zstd window of 4123168604160 bytes is too large");
        assert_eq!(refused(&[0, 18 << 3]), "zstd window of 268435456 bytes is too large");
        assert_eq!(refused(&[0xe0, 1, 0, 0, 0, 0, 0, 0, 1]), "zstd window of 72057594037927937 bytes is too large");
    }

    #[test]
    fn broken_streams_are_errors() {
        let text = vec![7u8; 100_000];
        for packed in [gzip(&text), zstd(&text)] {
            let mut plain = Vec::new();
            let cut = packed[..packed.len() - 5].to_vec();
            assert!(decompress(io::Cursor::new(cut)).unwrap().read_to_end(&mut plain).is_err());
        }
    }
}
