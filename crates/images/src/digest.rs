//! Digests name content: `sha256:...`, and hashers that make them while bytes stream by.

use std::fmt;

use ring::digest::{Context, SHA256, SHA384, SHA512};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The hash functions that a digest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// What nearly every registry uses.
    Sha256,
    /// Rare.
    Sha384,
    /// Allowed by the OCI image specification.
    Sha512,
}

/// Every algorithm, with its name in a digest and the length of its hex form.
const ALGORITHMS: [(Algorithm, &str, usize); 3] =
    [(Algorithm::Sha256, "sha256", 64), (Algorithm::Sha384, "sha384", 96), (Algorithm::Sha512, "sha512", 128)];

impl Algorithm {
    /// All algorithms.
    pub fn all() -> impl Iterator<Item = Algorithm> {
        ALGORITHMS.iter().map(|row| row.0)
    }

    /// The name before the colon.
    pub fn name(self) -> &'static str {
        ALGORITHMS[self as usize].1
    }
}

/// Why a text is no digest; the words are upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:hex` in it.
    #[error("invalid checksum digest format")]
    Format,
    /// The hex part has not the algorithm's length.
    #[error("invalid checksum digest length")]
    Length,
    /// The algorithm is not known.
    #[error("unsupported digest algorithm")]
    Unsupported,
}

/// The name of some content: an algorithm and the hash in lower-case hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(SmolStr);

impl Digest {
    /// Reads `algorithm:hex`.
    pub fn parse(text: &str) -> Result<Digest, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Format)?;
        if algorithm.is_empty() || hex.is_empty() {
            return Err(DigestError::Format);
        }
        let name_is_plain =
            algorithm.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+._-".contains(&b));
        let Some(&(_, _, length)) = ALGORITHMS.iter().find(|row| row.1 == algorithm) else {
            return Err(if name_is_plain { DigestError::Unsupported } else { DigestError::Format });
        };
        if hex.len() != length {
            return Err(DigestError::Length);
        }
        if !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(DigestError::Format);
        }
        Ok(Digest(SmolStr::new(text)))
    }

    /// The sha256 digest of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        let name = self.0.split(':').next().unwrap_or_default();
        ALGORITHMS.iter().find(|row| row.1 == name).map_or(Algorithm::Sha256, |row| row.0)
    }

    /// The hash in hex.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Hashes bytes as they come.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Hasher {
        let function = match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha384 => &SHA384,
            Algorithm::Sha512 => &SHA512,
        };
        Hasher { algorithm, context: Context::new(function) }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let hash = self.context.finish();
        let mut text = String::with_capacity(8 + 2 * hash.as_ref().len());
        text.push_str(self.algorithm.name());
        text.push(':');
        for byte in hash.as_ref() {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Digest(SmolStr::new(text))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_upstream_reads_them() {
        let check = |text: &str, expect: Option<DigestError>| assert_eq!(Digest::parse(text).err(), expect, "{text}");
        let hex = "a".repeat(64);
        check(&format!("sha256:{hex}"), None);
        check(&format!("sha512:{hex}{hex}"), None);
        check(&format!("sha256:{hex}a"), Some(DigestError::Length));
        check(&format!("sha256:{}", "A".repeat(64)), Some(DigestError::Format));
        check(&format!("md5:{hex}"), Some(DigestError::Unsupported));
        check(&format!("MD5:{hex}"), Some(DigestError::Format));
        check("sha256:", Some(DigestError::Format));
        check("", Some(DigestError::Format));
    }

    #[test]
    fn known_content_has_its_known_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"a");
        hasher.update(b"bc");
        assert!(hasher.finish().hex().starts_with("ddaf35a193617abacc417349ae204131"));
    }
}
