//! Certificates, written: authorities, serving and client certificates, and answers to signing requests.

use crate::{Certificate, Csr, PkiError, PrivateKey, PublicKey, Subject, SubjectAltNames, der};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::net::IpAddr;

/// Certificates start a little in the past, so that a peer whose clock is slow takes them at once.
const BACKDATE_SECONDS: i64 = 300;

// === Usage ===

/// What a key may be used for, by the names of certificates.k8s.io.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage(usize);

enum UsageKind {
    /// A bit of the key usage extension.
    Bit(u16),
    /// An OID of the extended key usage extension.
    Extended(&'static [u64]),
}

const USAGES: &[(&str, UsageKind)] = &[
    ("digital signature", UsageKind::Bit(0x8000)),
    ("signing", UsageKind::Bit(0x8000)),
    ("content commitment", UsageKind::Bit(0x4000)),
    ("key encipherment", UsageKind::Bit(0x2000)),
    ("data encipherment", UsageKind::Bit(0x1000)),
    ("key agreement", UsageKind::Bit(0x0800)),
    ("cert sign", UsageKind::Bit(0x0400)),
    ("crl sign", UsageKind::Bit(0x0200)),
    ("encipher only", UsageKind::Bit(0x0100)),
    ("decipher only", UsageKind::Bit(0x0080)),
    ("any", UsageKind::Extended(&[2, 5, 29, 37, 0])),
    ("server auth", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 1])),
    ("client auth", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 2])),
    ("code signing", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 3])),
    ("email protection", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 4])),
    ("s/mime", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 4])),
    ("ipsec end system", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 5])),
    ("ipsec tunnel", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 6])),
    ("ipsec user", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 7])),
    ("timestamping", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 8])),
    ("ocsp signing", UsageKind::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 9])),
    ("microsoft sgc", UsageKind::Extended(&[1, 3, 6, 1, 4, 1, 311, 10, 3, 3])),
    ("netscape sgc", UsageKind::Extended(&[2, 16, 840, 1, 113730, 4, 1])),
];

/// The name is none of the usages that certificates.k8s.io knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized usage: {0:?}")]
pub struct UnknownUsage(pub String);

impl std::str::FromStr for Usage {
    type Err = UnknownUsage;

    fn from_str(name: &str) -> Result<Self, UnknownUsage> {
        USAGES.iter().position(|(known, _)| *known == name).map(Usage).ok_or_else(|| UnknownUsage(name.to_owned()))
    }
}

impl Usage {
    /// Signatures, as in every TLS handshake of today.
    pub const DIGITAL_SIGNATURE: Self = Self(0);
    /// RSA key exchange of old TLS versions.
    pub const KEY_ENCIPHERMENT: Self = Self(3);
    /// Signing certificates.
    pub const CERT_SIGN: Self = Self(6);
    /// Serving TLS.
    pub const SERVER_AUTH: Self = Self(11);
    /// Being a TLS client.
    pub const CLIENT_AUTH: Self = Self(12);

    /// The name in certificates.k8s.io.
    pub fn name(self) -> &'static str {
        USAGES[self.0].0
    }
}

// === Template ===

/// A certificate to be issued.
#[derive(Clone, Debug)]
pub struct Template {
    /// Whom it is for.
    pub subject: Subject,
    /// The names it is good for.
    pub names: SubjectAltNames,
    /// What its key may do.
    pub usages: Vec<Usage>,
    /// First second of its validity, unix time.
    pub not_before: i64,
    /// Last second of its validity, unix time; the authority's end is never passed.
    pub not_after: i64,
}

impl Template {
    /// A client's certificate: the user's name, and the groups as organizations.
    pub fn client(subject: Subject, now: i64, lifetime_seconds: i64) -> Self {
        Self {
            subject,
            names: SubjectAltNames::default(),
            usages: vec![Usage::DIGITAL_SIGNATURE, Usage::KEY_ENCIPHERMENT, Usage::CLIENT_AUTH],
            not_before: now.saturating_sub(BACKDATE_SECONDS),
            not_after: now.saturating_add(lifetime_seconds),
        }
    }

    /// A serving certificate for these names.
    pub fn server(subject: Subject, names: SubjectAltNames, now: i64, lifetime_seconds: i64) -> Self {
        let usages = vec![Usage::DIGITAL_SIGNATURE, Usage::KEY_ENCIPHERMENT, Usage::SERVER_AUTH];
        Self { names, usages, ..Self::client(subject, now, lifetime_seconds) }
    }
}

/// How a signing request is to be answered.
#[derive(Clone, Debug)]
pub struct CsrPolicy {
    /// What the key may do.
    pub usages: Vec<Usage>,
    /// First second of the validity, unix time.
    pub not_before: i64,
    /// Last second of the validity, unix time; the authority's end is never passed.
    pub not_after: i64,
}

// === Authority ===

const AUTHORITY_USAGES: &[Usage] = &[Usage::DIGITAL_SIGNATURE, Usage::KEY_ENCIPHERMENT, Usage::CERT_SIGN];

/// A certificate authority with its key.
#[derive(Clone, Debug)]
pub struct Authority {
    certificate: Certificate,
    key: PrivateKey,
}

impl Authority {
    /// Puts an authority's certificate and key together.
    pub fn new(certificate: Certificate, key: PrivateKey) -> Result<Self, PkiError> {
        if !certificate.has_key(key.public_key()) {
            return Err(PkiError::Certificate("the authority's certificate and key do not belong together".to_owned()));
        }
        if !certificate.is_ca {
            return Err(PkiError::Certificate("is not an authority's (CA:TRUE is missing)".to_owned()));
        }
        Ok(Self { certificate, key })
    }

    /// Makes an authority that vouches for itself.
    pub fn self_signed(common_name: &str, key: PrivateKey, now: i64, lifetime_seconds: i64) -> Result<Self, PkiError> {
        let subject = encode_subject(&Subject::new(common_name, &[]));
        let key_id = key_identifier(key.public_key());
        let certificate = sign(
            &Unsigned {
                issuer_der: &subject,
                authority_key_id: None,
                subject_der: &subject,
                spki: key.public_key().spki(),
                names: &SubjectAltNames { dns: vec![common_name.to_owned()], ..SubjectAltNames::default() },
                usages: AUTHORITY_USAGES,
                authority_with_key_id: Some(&key_id),
                not_before: now.saturating_sub(BACKDATE_SECONDS),
                not_after: now.saturating_add(lifetime_seconds),
            },
            &key,
        )?;
        Self::new(certificate, key)
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The same authority, name and key, with a new validity. Certificates that it issued stay good.
    pub fn renewed(&self, now: i64, lifetime_seconds: i64) -> Result<Self, PkiError> {
        let subject = &self.certificate.subject_der;
        let key_id = self.certificate.subject_key_id.clone().unwrap_or_else(|| key_identifier(self.key.public_key()));
        let certificate = sign(
            &Unsigned {
                issuer_der: subject,
                authority_key_id: None,
                subject_der: subject,
                spki: self.key.public_key().spki(),
                names: &self.certificate.names,
                usages: AUTHORITY_USAGES,
                authority_with_key_id: Some(&key_id),
                not_before: now.saturating_sub(BACKDATE_SECONDS),
                not_after: now.saturating_add(lifetime_seconds),
            },
            &self.key,
        )?;
        Self::new(certificate, self.key.clone())
    }

    /// Issues a certificate for this key.
    pub fn issue(&self, template: &Template, key: &PublicKey) -> Result<Certificate, PkiError> {
        self.issue_raw(
            &encode_subject(&template.subject),
            key.spki(),
            &template.names,
            &template.usages,
            template.not_before,
            template.not_after,
        )
    }

    /// Answers a signing request: its subject and names are taken over as they are, so look at them first.
    pub fn sign_csr(&self, csr: &Csr, policy: &CsrPolicy) -> Result<Certificate, PkiError> {
        self.issue_raw(&csr.subject_der, &csr.spki, &csr.names, &policy.usages, policy.not_before, policy.not_after)
    }

    fn issue_raw(
        &self,
        subject_der: &[u8],
        spki: &[u8],
        names: &SubjectAltNames,
        usages: &[Usage],
        not_before: i64,
        not_after: i64,
    ) -> Result<Certificate, PkiError> {
        let authority_key_id = self.certificate.subject_key_id.as_deref();
        sign(
            &Unsigned {
                issuer_der: &self.certificate.subject_der,
                authority_key_id,
                subject_der,
                spki,
                names,
                usages,
                authority_with_key_id: None,
                not_before,
                not_after: not_after.min(self.certificate.not_after),
            },
            &self.key,
        )
    }
}

struct Unsigned<'a> {
    issuer_der: &'a [u8],
    authority_key_id: Option<&'a [u8]>,
    subject_der: &'a [u8],
    spki: &'a [u8],
    names: &'a SubjectAltNames,
    usages: &'a [Usage],
    /// Set for authorities: the identifier of their key.
    authority_with_key_id: Option<&'a [u8]>,
    not_before: i64,
    not_after: i64,
}

/// The first 20 bytes of the SHA-256 of the key (RFC 7093, method 1).
fn key_identifier(key: &PublicKey) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, key.raw()).as_ref()[..20].to_vec()
}

fn encode_subject(subject: &Subject) -> Vec<u8> {
    const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
    const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
    const UID: &[u64] = &[1, 3, 6, 1, 4, 1, 57683, 2];
    let attribute = |arcs: &[u64], value: &str| der::sequence(&[&der::oid(arcs), &der::text(value)]);
    let mut sets = Vec::new();
    if !subject.organizations.is_empty() {
        // DER wants the members of a set in the order of their bytes.
        let mut members: Vec<Vec<u8>> =
            subject.organizations.iter().map(|organization| attribute(ORGANIZATION, organization)).collect();
        members.sort();
        sets.push(der::set(&members.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    }
    if !subject.common_name.is_empty() {
        sets.push(der::set(&[&attribute(COMMON_NAME, &subject.common_name)]));
    }
    for uid in &subject.uids {
        sets.push(der::set(&[&attribute(UID, uid)]));
    }
    der::sequence(&sets.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn encode_names(names: &SubjectAltNames) -> Vec<u8> {
    let mut encoded = Vec::new();
    for dns in &names.dns {
        encoded.push(der::element(der::context_primitive(2), dns.as_bytes()));
    }
    for mail in &names.emails {
        encoded.push(der::element(der::context_primitive(1), mail.as_bytes()));
    }
    for ip in &names.ips {
        encoded.push(match ip {
            IpAddr::V4(v4) => der::element(der::context_primitive(7), &v4.octets()),
            IpAddr::V6(v6) => der::element(der::context_primitive(7), &v6.octets()),
        });
    }
    for uri in &names.uris {
        encoded.push(der::element(der::context_primitive(6), uri.as_bytes()));
    }
    der::sequence(&encoded.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn extension(arcs: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let value = der::element(der::OCTET_STRING, value);
    if critical {
        der::sequence(&[&der::oid(arcs), &der::boolean(true), &value])
    } else {
        der::sequence(&[&der::oid(arcs), &value])
    }
}

fn extensions(unsigned: &Unsigned<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    let bits = unsigned.usages.iter().fold(0, |bits, usage| match USAGES[usage.0].1 {
        UsageKind::Bit(bit) => bits | bit,
        UsageKind::Extended(_) => bits,
    });
    if bits != 0 {
        all.push(extension(&[2, 5, 29, 15], true, &der::named_bits(bits)));
    }
    let extended: Vec<Vec<u8>> = unsigned
        .usages
        .iter()
        .filter_map(|usage| match USAGES[usage.0].1 {
            UsageKind::Bit(_) => None,
            UsageKind::Extended(arcs) => Some(der::oid(arcs)),
        })
        .collect();
    if !extended.is_empty() {
        let list = der::sequence(&extended.iter().map(Vec::as_slice).collect::<Vec<_>>());
        all.push(extension(&[2, 5, 29, 37], false, &list));
    }
    let constraints = match unsigned.authority_with_key_id {
        Some(_) => der::sequence(&[&der::boolean(true)]),
        None => der::sequence(&[]),
    };
    all.push(extension(&[2, 5, 29, 19], true, &constraints));
    if let Some(id) = unsigned.authority_with_key_id {
        all.push(extension(&[2, 5, 29, 14], false, &der::element(der::OCTET_STRING, id)));
    }
    if let Some(id) = unsigned.authority_key_id {
        let value = der::sequence(&[&der::element(der::context_primitive(0), id)]);
        all.push(extension(&[2, 5, 29, 35], false, &value));
    }
    if !unsigned.names.is_empty() {
        // RFC 5280: with an empty subject the names are what counts, so they are critical.
        let critical = unsigned.subject_der == der::sequence(&[]).as_slice();
        all.push(extension(&[2, 5, 29, 17], critical, &encode_names(unsigned.names)));
    }
    let list = der::sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>());
    der::element(der::context(3), &list)
}

fn sign(unsigned: &Unsigned<'_>, key: &PrivateKey) -> Result<Certificate, PkiError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|ring::error::Unspecified| PkiError::Random)?;
    // Positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    let algorithm = key.public_key().scheme().signature_algorithm();
    let signed_part = der::sequence(&[
        &der::element(der::context(0), &der::unsigned(&[2])),
        &der::unsigned(&serial),
        &algorithm,
        unsigned.issuer_der,
        &der::sequence(&[&der::time(unsigned.not_before), &der::time(unsigned.not_after)]),
        unsigned.subject_der,
        unsigned.spki,
        &extensions(unsigned),
    ]);
    let signature = key.sign(&signed_part)?;
    Certificate::from_der(&der::sequence(&[&signed_part, &algorithm, &der::bit_string(&signature)]))
}
