//! Finds the few bytes in a text that matter, eight at a time.

/// Eight bytes of one value.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

const HIGH: u64 = all(0x80);

/// Marks (by the high bit) the bytes that are zero. A mark above the lowest may be wrong, the lowest is exact.
#[inline]
const fn zero(word: u64) -> u64 {
    word.wrapping_sub(all(1)) & !word & HIGH
}

/// Marks the bytes below 0x20, with the same caveat.
#[inline]
const fn control(word: u64) -> u64 {
    word.wrapping_sub(all(0x20)) & !word & HIGH
}

/// How many leading bytes are unmarked by `marks`.
#[inline]
fn leading(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let marked = marks(u64::from_le_bytes(*chunk));
        if marked != 0 {
            return at + marked.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.len() - at;
    if rest == 0 {
        return at;
    }
    if let Some(chunk) = bytes.last_chunk::<8>() {
        // The last eight, of which the first have been looked at: they have no marks.
        return match marks(u64::from_le_bytes(*chunk)) {
            0 => bytes.len(),
            marked => bytes.len() - 8 + marked.trailing_zeros() as usize / 8,
        };
    }
    // Less than a word in all, filled up with bytes that are marked by nothing.
    let mut word = all(b' ');
    for byte in bytes.iter().rev() {
        word = word << 8 | u64::from(*byte);
    }
    match marks(word) {
        0 => bytes.len(),
        marked => marked.trailing_zeros() as usize / 8,
    }
}

/// How many leading bytes need no attention when a string is read: neither quote, backslash nor control character.
#[inline]
pub(crate) fn unquoted(bytes: &[u8]) -> usize {
    leading(bytes, |word| zero(word ^ all(b'"')) | zero(word ^ all(b'\\')) | control(word))
}

/// How many leading bytes go into a string as they are when it is written: ASCII without quote, backslash, control
/// characters and what HTML could mistake (`<`, `>`, `&`).
#[inline]
pub(crate) fn clean(bytes: &[u8]) -> usize {
    leading(bytes, |word| {
        // `"` and `&` differ in one bit, and so do `<` and `>`.
        let quotes = zero((word | all(4)) ^ all(b'&'));
        let angles = zero((word | all(2)) ^ all(b'>'));
        quotes | angles | zero(word ^ all(b'\\')) | control(word) | word & HIGH
    })
}

/// How many leading bytes of well-formed JSON can be copied when it is made compact for HTML: no space anywhere (be it
/// in a string), nothing to escape.
#[inline]
pub(crate) fn compact(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let marked = word.wrapping_sub(all(0x21)) & !word & HIGH
            | zero((word | all(2)) ^ all(b'>'))
            | zero(word ^ all(b'&'))
            | word & HIGH;
        if marked != 0 {
            return at + marked.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(byte, 0..=b' ' | b'<' | b'>' | b'&' | 0x80..)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the plain way for every byte at every place of texts around the size of a word.
    #[test]
    fn eight_at_a_time_finds_what_one_at_a_time_finds() {
        let is_unquoted = |byte: u8| !(byte < 0x20 || matches!(byte, b'"' | b'\\'));
        let is_clean = |byte: u8| is_unquoted(byte) && byte < 0x80 && !matches!(byte, b'<' | b'>' | b'&');
        let is_compact = |byte: u8| byte > b' ' && byte < 0x80 && !matches!(byte, b'<' | b'>' | b'&');
        for length in 0..20 {
            for place in 0..length {
                for byte in 0..=255 {
                    for beside in [b'a', byte, b'!', 0x7f] {
                        let mut bytes = vec![b'a'; length];
                        bytes[place] = byte;
                        if let Some(next) = bytes.get_mut(place + 1) {
                            *next = beside;
                        }
                        let plainly = |keep: &dyn Fn(u8) -> bool| bytes.iter().take_while(|b| keep(**b)).count();
                        assert_eq!(unquoted(&bytes), plainly(&is_unquoted), "{bytes:?}");
                        assert_eq!(clean(&bytes), plainly(&is_clean), "{bytes:?}");
                        assert_eq!(compact(&bytes), plainly(&is_compact), "{bytes:?}");
                    }
                }
            }
        }
    }
}
