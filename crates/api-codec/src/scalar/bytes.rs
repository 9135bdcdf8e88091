//! Base64 as Go's `encoding/base64` reads and writes it.

use api_schema::SmolStr;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The base64 text of bytes.
pub(crate) fn to_base64(data: &[u8]) -> SmolStr {
    SmolStr::new(STANDARD.encode(data))
}

/// Appends the base64 text of bytes.
pub(crate) fn append_base64(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + data.len().div_ceil(3) * 4, 0);
    // The space is exactly what the encoding needs.
    if let Ok(length) = STANDARD.encode_slice(data, &mut out[start..]) {
        out.truncate(start + length);
    }
}

/// The bytes of a text that [`canonical`] has passed.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The text as Go would write it again. Go allows line breaks anywhere and does not mind bits that are left over.
pub(crate) fn canonical(text: &str) -> Result<SmolStr, String> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(SmolStr::new(text)),
        Err(_) => decode_loosely(text.as_bytes())
            .map(|data| to_base64(&data))
            .map_err(|at| format!("illegal base64 data at input byte {at}")),
    }
}

/// Decodes as Go does; an error is the position that Go reports.
fn decode_loosely(text: &[u8]) -> Result<Vec<u8>, usize> {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let skip_breaks = |mut at: usize| {
        while text.get(at).is_some_and(is_break) {
            at += 1;
        }
        at
    };
    let mut data = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    while at < text.len() {
        let mut group = [0u8; 4];
        let mut filled = 0;
        while filled < 4 {
            let Some(&byte) = text.get(at) else {
                // Only a whole group may end the text.
                return if filled == 0 { Ok(data) } else { Err(at - filled) };
            };
            at += 1;
            match byte {
                b'\n' | b'\r' => {}
                b'=' => {
                    if filled < 2 {
                        return Err(at - 1);
                    }
                    if filled == 2 {
                        at = skip_breaks(at);
                        match text.get(at) {
                            None => return Err(text.len()),
                            Some(b'=') => at += 1,
                            Some(_) => return Err(at - 1),
                        }
                    }
                    at = skip_breaks(at);
                    if at < text.len() {
                        return Err(at);
                    }
                    let bits = bits_of(group);
                    data.extend_from_slice(&bits.to_be_bytes()[1..filled]);
                    return Ok(data);
                }
                _ => {
                    group[filled] = value_of(byte).ok_or(at - 1)?;
                    filled += 1;
                }
            }
        }
        data.extend_from_slice(&bits_of(group).to_be_bytes()[1..]);
    }
    Ok(data)
}

fn bits_of(group: [u8; 4]) -> u32 {
    group.iter().fold(0, |bits, six| bits << 6 | u32::from(*six))
}

fn value_of(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::canonical;

    fn check(text: &str, expected: Result<&str, usize>) {
        let expected = expected.map(Into::into).map_err(|at| format!("illegal base64 data at input byte {at}"));
        assert_eq!(canonical(text), expected, "{text:?}");
    }

    #[test]
    fn texts_and_errors_are_as_in_go() {
        check("", Ok(""));
        check("aGVsbG8=", Ok("aGVsbG8="));
        check("aGVs\nbG8=\r\n", Ok("aGVsbG8="));
        check("aGVsbG9=", Ok("aGVsbG8="));
        check("aGVsbG8", Err(4));
        check("aGVsbG8=x", Err(8));
        check("a===", Err(1));
        check("aG=x", Err(2));
        check("aG=", Err(3));
        check("a!b=", Err(1));
        check("!!!", Err(0));
    }
}
