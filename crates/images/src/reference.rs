//! Image references: `name[:tag][@digest]`, read and completed as Docker and Kubernetes do.

use std::fmt;

use crate::digest::{Digest, DigestError};

/// The registry that short names mean.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const REPOSITORY_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;
const DIGEST_HEX_LENGTH_MIN: usize = 32;

/// Why a text is no image reference; the words are upstream's, for clients match them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// The repository has capital letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The whole text would be a reference but for its capital letters.
    #[error("repository name must be lowercase")]
    NotLowercase,
    /// An image id where a name is asked for.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// The repository is longer than any registry takes.
    #[error("repository name must not be more than {REPOSITORY_LENGTH_MAX} characters")]
    TooLong,
    /// What follows the `@` is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A full image reference: registry and repository, with a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as people write it and completes it: `nginx` is `docker.io/library/nginx:latest`.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (registry, remainder) = split_registry(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.chars().any(|c| c.to_lowercase().next() != Some(c)) {
            return Err(ReferenceError::Uppercase(remote.to_owned()));
        }
        let whole = format!("{registry}/{remainder}");
        match parse_strict(&registry, &remainder) {
            Err(ReferenceError::Format) => {
                let lower = whole.to_lowercase();
                match lower.split_once('/') {
                    Some((registry, remainder))
                        if lower != whole && parse_strict(registry, remainder) != Err(ReferenceError::Format) =>
                    {
                        Err(ReferenceError::NotLowercase)
                    }
                    _ => Err(ReferenceError::Format),
                }
            }
            other => other,
        }
    }

    /// The registry's host, and port if any: `docker.io`, `registry.local:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag; none if only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What is asked of the registry: the digest if there is one, else the tag.
    pub fn identifier(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.as_deref().unwrap_or(DEFAULT_TAG),
        }
    }

    /// The name under which an image is kept: with the digest alone if there is one, else with the tag.
    pub fn canonical(&self) -> String {
        match &self.digest {
            Some(digest) => self.with_digest(digest),
            None => format!("{}:{}", self.name(), self.identifier()),
        }
    }

    /// This repository's name for content with that digest.
    pub fn with_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Splits the registry off; without one it is Docker Hub.
fn split_registry(text: &str) -> (String, String) {
    let (registry, remainder) = match text.split_once('/') {
        Some((LEGACY_DEFAULT_REGISTRY, rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first => {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    };
    let prefix = if registry == DEFAULT_REGISTRY && !remainder.contains('/') { OFFICIAL_PREFIX } else { "" };
    (registry.to_owned(), format!("{prefix}{remainder}"))
}

fn parse_strict(registry: &str, remainder: &str) -> Result<Reference, ReferenceError> {
    let (named, digest) = match remainder.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (remainder, None),
    };
    let (repository, tag) = match named.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (named, None),
    };
    let fits = is_registry(registry)
        && repository.split('/').all(is_path_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(looks_like_digest);
    if !fits {
        return Err(ReferenceError::Format);
    }
    if repository.len() > REPOSITORY_LENGTH_MAX {
        return Err(ReferenceError::TooLong);
    }
    let digest = digest.map(Digest::parse).transpose()?;
    let tag = match (tag, &digest) {
        (None, None) => Some(DEFAULT_TAG),
        (tag, _) => tag,
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
        tag: tag.map(str::to_owned),
        digest,
    })
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// `host[:port]`, the host a domain name, an IPv4 address or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host_fits, rest) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((address, rest)) => {
                (!address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'), rest)
            }
            None => (false, ""),
        },
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (text[..end].split('.').all(is_domain_component), &text[end..])
        }
    };
    let port_fits = rest.is_empty()
        || rest.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    host_fits && port_fits
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    is_plain(first)
        && is_plain(last)
        && bytes
            .split(|b| is_plain(*b))
            .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_LENGTH_MAX
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

/// The grammar's digest, wider than what [`Digest::parse`] takes, so that each mistake gets its own words.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let component_fits = |component: &str| {
        component.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && component.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(component_fits)
        && hex.len() >= DIGEST_HEX_LENGTH_MIN
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed_as_docker_does() {
        let check = |text: &str, expect: &str| {
            assert_eq!(Reference::parse(text).map(|reference| reference.to_string()).as_deref(), Ok(expect), "{text}");
        };
        let digest = format!("sha256:{}", "b".repeat(64));
        check("nginx", "docker.io/library/nginx:latest");
        check("nginx:1.27", "docker.io/library/nginx:1.27");
        check("user/app", "docker.io/user/app:latest");
        check("docker.io/nginx", "docker.io/library/nginx:latest");
        check("index.docker.io/nginx", "docker.io/library/nginx:latest");
        check("localhost/app", "localhost/app:latest");
        check("localhost:5000/app:v1", "localhost:5000/app:v1");
        check("LOCAL/app", "LOCAL/app:latest");
        check("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest");
        check("[::1]:5000/app", "[::1]:5000/app:latest");
        check("registry.k8s.io/e2e-test-images/agnhost:2.53", "registry.k8s.io/e2e-test-images/agnhost:2.53");
        check("a__b/c-----d/e.f:x", "docker.io/a__b/c-----d/e.f:x");
        check(&format!("nginx@{digest}"), &format!("docker.io/library/nginx@{digest}"));
        check(&format!("nginx:1@{digest}"), &format!("docker.io/library/nginx:1@{digest}"));
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let digest = format!("sha256:{}", "b".repeat(64));
        let reference = Reference::parse(&format!("nginx:1@{digest}")).unwrap();
        assert_eq!(reference.canonical(), format!("docker.io/library/nginx@{digest}"));
        assert_eq!(reference.identifier(), digest);
    }

    #[test]
    fn mistakes_are_told_in_upstreams_words() {
        let check = |text: &str, expect: &str| {
            assert_eq!(Reference::parse(text).map_err(|error| error.to_string()), Err(expect.to_owned()), "{text}");
        };
        let format = "invalid reference format";
        check("", format);
        check(":tag", format);
        check("a//b", format);
        check("a/b/", format);
        check("-a", format);
        check("a..b", format);
        check("a___b", format);
        check("name:", format);
        check("name:.x", format);
        check(&format!("name:{}", "t".repeat(129)), format);
        check("name@", format);
        check("name@sha256:abc", format);
        check("host:port/name", format);
        check("https://example.com/name", format);
        check("na me", format);
        check("Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase");
        check("host.io/App:v1", "invalid reference format: repository name (App) must be lowercase");
        check(
            &"a".repeat(64),
            &format!("invalid repository name ({}), cannot specify 64-byte hexadecimal strings", "a".repeat(64)),
        );
        check(&format!("a.io/{}", "a".repeat(256)), "repository name must not be more than 255 characters");
        check(&format!("a@md5:{}", "a".repeat(32)), "unsupported digest algorithm");
        check(&format!("a@sha256:{}", "a".repeat(32)), "invalid checksum digest length");
        check(&format!("a@sha256:{}", "A".repeat(64)), "invalid checksum digest format");
    }
}
