//! The protobuf wire format: varints, tags, lengths. Reading is in Go's words when it fails.

use super::DecodeError;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// Reads the parts of a message one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    /// [`Reader::varint`] for whom any error is the same.
    #[inline]
    pub(crate) fn quick_varint(&mut self) -> Option<u64> {
        match self.bytes.get(self.at..) {
            Some(&[byte, ..]) if byte < 0x80 => {
                self.at += 1;
                Some(byte.into())
            }
            // Most lengths that do not fit into one byte fit into two.
            Some(&[low, high, ..]) if high < 0x80 => {
                self.at += 2;
                Some(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.longer_varint(),
        }
    }

    #[inline(never)]
    fn longer_varint(&mut self) -> Option<u64> {
        self.long_varint().ok()
    }

    /// [`Reader::delimited`] for whom any error is the same.
    #[inline]
    pub(crate) fn quick_delimited(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.quick_varint()?).ok()?;
        let end = self.at.checked_add(length)?;
        let value = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(value)
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(DecodeError::UnexpectedEnd)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(DecodeError::Overflow)
    }

    /// The next field number and how its value is written.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<(u32, Wire), DecodeError> {
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::StartGroup,
            4 => Wire::EndGroup,
            5 => Wire::Fixed32,
            other => return Err(DecodeError::IllegalWireType(other as u8)),
        };
        // Go takes the number for 32 bits with a sign.
        let number = (key >> 3) as u32;
        if number == 0 || number > i32::MAX as u32 {
            return Err(DecodeError::IllegalTag(number as i32));
        }
        if wire == Wire::EndGroup {
            return Err(DecodeError::EndOfNoGroup);
        }
        Ok((number, wire))
    }

    /// The bytes of a length-delimited value.
    #[inline]
    pub(crate) fn delimited(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= isize::MAX as usize);
        let length = length.ok_or(DecodeError::InvalidLength)?;
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..length)) {
            Some(value) => {
                self.at += length;
                Ok(value)
            }
            None => Err(DecodeError::UnexpectedEnd),
        }
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<8>).ok_or(DecodeError::UnexpectedEnd)?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Reads over the value of a field.
    #[inline]
    pub(crate) fn skip(&mut self, wire: Wire) -> Result<(), DecodeError> {
        match wire {
            Wire::Varint => self.varint().map(|_| ()),
            Wire::Bytes => self.delimited().map(|_| ()),
            Wire::Fixed64 => self.advance(8),
            Wire::Fixed32 => self.advance(4),
            Wire::StartGroup => self.skip_group(),
            Wire::EndGroup => Err(DecodeError::EndOfNoGroup),
        }
    }

    fn advance(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.at += bytes;
        if self.at <= self.bytes.len() { Ok(()) } else { Err(DecodeError::UnexpectedEnd) }
    }

    /// Reads over a group, which may hold others; protobuf has long given them up, so a count must do.
    fn skip_group(&mut self) -> Result<(), DecodeError> {
        let mut open = 1usize;
        while open > 0 {
            match self.varint()? & 7 {
                0 => self.varint().map(|_| ())?,
                1 => self.advance(8)?,
                2 => self.delimited().map(|_| ())?,
                3 => open += 1,
                4 => open -= 1,
                5 => self.advance(4)?,
                other => return Err(DecodeError::IllegalWireType(other as u8)),
            }
        }
        Ok(())
    }
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length-delimited field.
pub(crate) fn put_delimited(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(tag) << 3 | 2, out);
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// How many bytes a varint takes.
pub(crate) fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// A buffer that fills from its end to its beginning: a message is written before its length is known.
pub(crate) struct Backward {
    buffer: Vec<u8>,
    start: usize,
}

impl Backward {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity], start: capacity }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// How many bytes have been written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    #[inline]
    fn reserve(&mut self, bytes: usize) {
        if self.start < bytes {
            self.grow(bytes);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        let added = self.buffer.len().max(bytes).max(64);
        let mut buffer = vec![0; self.buffer.len() + added];
        buffer[self.start + added..].copy_from_slice(&self.buffer[self.start..]);
        self.buffer = buffer;
        self.start += added;
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.start -= bytes.len();
        self.buffer[self.start..self.start + bytes.len()].copy_from_slice(bytes);
    }

    #[inline]
    pub(crate) fn varint(&mut self, mut number: u64) {
        if number < 0x80 {
            self.reserve(1);
            self.start -= 1;
            self.buffer[self.start] = number as u8;
            return;
        }
        let mut bytes = [0u8; 10];
        let mut length = 0;
        while number >= 0x80 {
            bytes[length] = number as u8 | 0x80;
            number >>= 7;
            length += 1;
        }
        bytes[length] = number as u8;
        self.put(&bytes[..=length]);
    }

    /// The tag before a value written as [`Wire::Varint`] (0), [`Wire::Fixed64`] (1) or [`Wire::Bytes`] (2).
    #[inline]
    pub(crate) fn tag(&mut self, tag: u32, wire: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(wire));
    }

    /// A whole length-delimited field.
    #[inline]
    pub(crate) fn delimited(&mut self, tag: u32, bytes: &[u8]) {
        self.put(bytes);
        self.varint(bytes.len() as u64);
        self.tag(tag, 2);
    }

    /// Length and tag of a message that has been written since there were `before` bytes.
    #[inline]
    pub(crate) fn message(&mut self, tag: u32, before: usize) {
        self.varint((self.len() - before) as u64);
        self.tag(tag, 2);
    }
}
