//! Undoes gzip and zstd by what the bytes say, whatever their name or media type.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const BUFFER: usize = 128 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

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
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
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
    fn broken_streams_are_errors() {
        let text = vec![7u8; 100_000];
        for packed in [gzip(&text), zstd(&text)] {
            let mut plain = Vec::new();
            let cut = packed[..packed.len() - 5].to_vec();
            assert!(decompress(io::Cursor::new(cut)).unwrap().read_to_end(&mut plain).is_err());
        }
    }
}
