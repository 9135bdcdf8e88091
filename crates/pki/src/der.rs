//! The few DER forms that certificates are made of. Reading certificates is x509-parser's work; writing them is ours,
//! because a subject may hold several organizations and a request's subject must come through byte for byte.

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const NULL: u8 = 0x05;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SET: u8 = 0x31;

/// A context-specific tag holding other elements.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// A context-specific tag holding plain bytes.
pub(crate) const fn context_primitive(number: u8) -> u8 {
    0x80 | number
}

pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        out.push(0x80 | bytes.len() as u8);
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, &parts.concat())
}

pub(crate) fn set(parts: &[&[u8]]) -> Vec<u8> {
    element(SET, &parts.concat())
}

pub(crate) fn null() -> Vec<u8> {
    vec![NULL, 0]
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    vec![BOOLEAN, 1, if value { 0xff } else { 0 }]
}

/// A number that is not negative, given as big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    match bytes.first() {
        None => vec![INTEGER, 1, 0],
        Some(first) if first & 0x80 != 0 => element(INTEGER, &[&[0], bytes].concat()),
        Some(_) => element(INTEGER, bytes),
    }
}

pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = arcs[0] * 40 + arcs[1];
    for arc in std::iter::once(first).chain(arcs[2..].iter().copied()) {
        let septets = (64 - arc.max(1).leading_zeros()).div_ceil(7);
        for at in (0..septets).rev() {
            let septet = ((arc >> (7 * at)) & 0x7f) as u8;
            content.push(if at == 0 { septet } else { septet | 0x80 });
        }
    }
    element(OID, &content)
}

/// A bit string of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes].concat())
}

/// A bit string of named bits, where bit 0 is the most significant and trailing zeros are left out.
pub(crate) fn named_bits(bits: u16) -> Vec<u8> {
    let bytes = bits.to_be_bytes();
    let used = if bytes[1] != 0 { 2 } else { usize::from(bytes[0] != 0) };
    let unused = if used == 0 { 0 } else { bytes[used - 1].trailing_zeros() as u8 };
    element(BIT_STRING, &[&[unused], &bytes[..used]].concat())
}

/// Text as Go writes it into names: printable when the alphabet allows, otherwise UTF-8.
pub(crate) fn text(value: &str) -> Vec<u8> {
    let printable = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
    element(if printable { PRINTABLE_STRING } else { UTF8_STRING }, value.as_bytes())
}

/// A moment as certificates hold it: two-digit years up to 2049, four-digit ones from 2050. What lies beyond the years
/// 0 to 9999 is held at their border; the end of 9999 means that there is no end (RFC 5280).
pub(crate) fn time(unix_seconds: i64) -> Vec<u8> {
    const YEAR_0: i64 = -62_167_219_200;
    if unix_seconds >= jiff::Timestamp::MAX.as_second() {
        return element(GENERALIZED_TIME, b"99991231235959Z");
    }
    let moment = jiff::Timestamp::from_second(unix_seconds.max(YEAR_0)).unwrap_or(jiff::Timestamp::MAX);
    let civil = jiff::tz::Offset::UTC.to_datetime(moment);
    let rest =
        format!("{:02}{:02}{:02}{:02}{:02}Z", civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second());
    if (1950..2050).contains(&civil.year()) {
        element(UTC_TIME, format!("{:02}{rest}", civil.year() % 100).as_bytes())
    } else {
        element(GENERALIZED_TIME, format!("{:04}{rest}", civil.year()).as_bytes())
    }
}

/// Splits the first element off: its tag, its content and what follows. `None` when the bytes are no whole element.
pub(crate) fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 || rest.len() < count {
            return None;
        }
        let (digits, after) = rest.split_at(count);
        rest = after;
        digits.iter().fold(0usize, |length, digit| length << 8 | usize::from(*digit))
    };
    if rest.len() < length {
        return None;
    }
    let (content, after) = rest.split_at(length);
    Some((tag, content, after))
}

/// The content of the first element if it has this tag, and what follows.
pub(crate) fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    split(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_their_known_encoding() {
        let cases: &[(&str, Vec<u8>, &[u8])] = &[
            ("short", element(OCTET_STRING, &[1]), &[4, 1, 1]),
            ("zero", unsigned(&[]), &[2, 1, 0]),
            ("leading zeros", unsigned(&[0, 0, 5]), &[2, 1, 5]),
            ("high bit", unsigned(&[0x80]), &[2, 2, 0, 0x80]),
            ("ecdsa-with-SHA256", oid(&[1, 2, 840, 10045, 4, 3, 2]), &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]),
            ("organization", oid(&[2, 5, 4, 10]), &[6, 3, 0x55, 4, 10]),
            ("zero arc", oid(&[1, 3, 0, 1]), &[6, 3, 0x2b, 0, 1]),
            ("key usage of a CA", named_bits(0xa600), &[3, 2, 1, 0xa6]),
            ("ninth bit", named_bits(0x0080), &[3, 3, 7, 0, 0x80]),
            ("no bits", named_bits(0), &[3, 1, 0]),
            ("printable", text("system:masters"), b"\x13\x0esystem:masters"),
            ("not printable", text("a@b"), b"\x0c\x03a@b"),
            ("epoch", time(0), b"\x17\x0d700101000000Z"),
            ("2049", time(2_524_607_999), b"\x17\x0d491231235959Z"),
            ("2050", time(2_524_608_000), b"\x18\x0f20500101000000Z"),
            ("end of years", time(i64::MAX), b"\x18\x0f99991231235959Z"),
        ];
        for (name, got, want) in cases {
            assert_eq!(got, want, "{name}");
        }
        let long = element(OCTET_STRING, &[7; 300]);
        assert_eq!(long[..4], [4, 0x82, 1, 44]);
        assert_eq!(split(&long), Some((OCTET_STRING, &[7u8; 300][..], &[][..])));
    }

    #[test]
    fn broken_elements_are_refused() {
        for bytes in [&[][..], &[4], &[4, 2, 1], &[4, 0x80], &[4, 0x85, 1, 1, 1, 1, 1], &[4, 0x82, 1]] {
            assert_eq!(split(bytes), None, "{bytes:?}");
        }
    }
}
