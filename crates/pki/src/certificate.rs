//! Certificates and signing requests, read: the few facts that Kubernetes acts on.

use crate::key::to_pem;
use crate::{PkiError, PublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

/// The parts of a subject that name a Kubernetes user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The user's name (CN). The last one when there are several, as Go reads them.
    pub common_name: String,
    /// The user's groups (O).
    pub organizations: Vec<String>,
    /// Values of the attribute 1.3.6.1.4.1.57683.2, which holds a user's uid (KEP-4633, at most one makes sense).
    pub uids: Vec<String>,
}

impl Subject {
    /// A name with groups.
    pub fn new(common_name: &str, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|&organization| organization.to_owned()).collect(),
            uids: Vec::new(),
        }
    }
}

/// The names that a certificate is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectAltNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// Mail addresses; only signing requests have them.
    pub emails: Vec<String>,
    /// URIs; only signing requests have them.
    pub uris: Vec<String>,
}

impl SubjectAltNames {
    /// No name at all.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.emails.is_empty() && self.uris.is_empty()
    }

    /// The first name of `wanted` that is not among these. A wildcard here covers one label.
    pub fn first_missing(&self, wanted: &Self) -> Option<String> {
        let covers = |pattern: &String, name: &String| {
            pattern.eq_ignore_ascii_case(name)
                || pattern
                    .strip_prefix("*.")
                    .zip(name.split_once('.'))
                    .is_some_and(|(suffix, (_, rest))| suffix.eq_ignore_ascii_case(rest))
        };
        let dns = wanted.dns.iter().find(|name| !self.dns.iter().any(|pattern| covers(pattern, name))).cloned();
        dns.or_else(|| wanted.ips.iter().find(|ip| !self.ips.contains(ip)).map(IpAddr::to_string))
    }
}

// === Certificate ===

/// A certificate and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// Whom it is for.
    pub subject: Subject,
    /// The names it is good for.
    pub names: SubjectAltNames,
    /// First second of its validity, unix time.
    pub not_before: i64,
    /// Last second of its validity, unix time.
    pub not_after: i64,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    pub(crate) subject_der: Vec<u8>,
    pub(crate) issuer_der: Vec<u8>,
    spki: Vec<u8>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    signed_part: Vec<u8>,
    signature: Vec<u8>,
    signature_oid: String,
}

impl Certificate {
    /// Reads a DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let (rest, parsed) = x509_parser::certificate::X509Certificate::from_der(der)
            .map_err(|error| PkiError::Certificate(format!("malformed ({error})")))?;
        if !rest.is_empty() {
            return Err(PkiError::Certificate("followed by other bytes".to_owned()));
        }
        let mut names = SubjectAltNames::default();
        let (mut is_ca, mut subject_key_id, mut authority_key_id) = (false, None, None);
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => is_ca = constraints.ca,
                ParsedExtension::SubjectAlternativeName(san) => names = general_names(&san.general_names),
                ParsedExtension::SubjectKeyIdentifier(id) => subject_key_id = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        Ok(Self {
            subject: subject(parsed.subject()),
            names,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            is_ca,
            serial: parsed.raw_serial().to_vec(),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            spki: parsed.public_key().raw.to_vec(),
            subject_key_id,
            authority_key_id,
            signed_part: parsed.tbs_certificate.as_ref().to_vec(),
            signature: parsed.signature_value.data.to_vec(),
            signature_oid: parsed.signature_algorithm.algorithm.to_id_string(),
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// Reads every certificate of a PEM text; other blocks are passed over.
    pub fn from_pem(text: &[u8]) -> Result<Vec<Self>, PkiError> {
        let mut certificates = Vec::new();
        for der in CertificateDer::pem_slice_iter(text) {
            let der = der.map_err(|error| PkiError::Certificate(error.to_string()))?;
            certificates.push(Self::from_der(&der)?);
        }
        if certificates.is_empty() {
            return Err(PkiError::Certificate("no certificate found".to_owned()));
        }
        Ok(certificates)
    }

    /// The DER form.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The PEM form.
    pub fn to_pem(&self) -> String {
        to_pem("CERTIFICATE", &self.der)
    }

    /// The key it vouches for.
    pub fn public_key(&self) -> Result<PublicKey, PkiError> {
        PublicKey::from_spki(&self.spki)
    }

    /// Whether it vouches for this key.
    pub fn has_key(&self, key: &PublicKey) -> bool {
        self.spki == key.spki()
    }

    /// Whether `authority` signed it. Time and usages are not looked at.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        self.issuer_der == authority.subject_der
            && authority
                .public_key()
                .is_ok_and(|key| key.verify_with(&self.signature_oid, &self.signed_part, &self.signature))
    }

    /// When it is time to renew: less than 30 % of the validity is left then.
    pub fn renewal_due_at(&self) -> i64 {
        let lifetime = i128::from(self.not_after) - i128::from(self.not_before);
        let due = i128::from(self.not_after) - (lifetime * 3 + 9) / 10 + 1;
        i64::try_from(due).unwrap_or(i64::MAX)
    }

    /// Whether it is time to renew at `now`; also before its start, for then the clock was wrong when it was made.
    pub fn is_due_for_renewal(&self, now: i64) -> bool {
        now >= self.renewal_due_at() || now < self.not_before
    }

    /// The SHA-256 of the DER form in lower-case hex, as in `X509SHA256=` credential ids.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }

    /// How upstream names a certificate in messages: serial number and key identifiers.
    pub fn identifier(&self) -> String {
        let hex = |id: &Option<Vec<u8>>| {
            let pairs: Vec<String> = id.iter().flatten().map(|byte| format!("{byte:02X}")).collect();
            pairs.join(":")
        };
        format!(
            "SN={}, SKID={}, AKID={}",
            decimal(&self.serial),
            hex(&self.subject_key_id),
            hex(&self.authority_key_id)
        )
    }
}

/// The SHA-256 of a DER certificate in lower-case hex.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A big-endian number in decimal, as Go prints serial numbers.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 10) as u8;
            carry /= 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

/// The text of a name's value. Strings of the old alphabets are read as Go reads them.
fn value_text(value: &x509_parser::der_parser::asn1_rs::Any<'_>) -> Option<String> {
    const UTF8: u32 = 12;
    const PRINTABLE: u32 = 19;
    const T61: u32 = 20;
    const IA5: u32 = 22;
    const NUMERIC: u32 = 18;
    const BMP: u32 = 30;
    match value.tag().0 {
        UTF8 | PRINTABLE | IA5 | NUMERIC => std::str::from_utf8(value.data).ok().map(str::to_owned),
        T61 => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        BMP => {
            let (units, []) = value.data.as_chunks::<2>() else { return None };
            String::from_utf16(&units.iter().map(|unit| u16::from_be_bytes(*unit)).collect::<Vec<_>>()).ok()
        }
        _ => None,
    }
}

fn subject(name: &X509Name<'_>) -> Subject {
    let mut subject = Subject::default();
    for attribute in name.iter_attributes() {
        let Some(text) = value_text(attribute.attr_value()) else { continue };
        match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => subject.common_name = text,
            "2.5.4.10" => subject.organizations.push(text),
            "1.3.6.1.4.1.57683.2" => subject.uids.push(text),
            _ => {}
        }
    }
    subject
}

fn general_names(parsed: &[GeneralName<'_>]) -> SubjectAltNames {
    let mut names = SubjectAltNames::default();
    for name in parsed {
        match name {
            GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
            GeneralName::RFC822Name(mail) => names.emails.push((*mail).to_owned()),
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                    names.ips.push(IpAddr::from(v4));
                } else if let Ok(v6) = <[u8; 16]>::try_from(*bytes) {
                    names.ips.push(IpAddr::from(v6));
                }
            }
            _ => {}
        }
    }
    names
}

// === Csr ===

/// A certificate signing request whose own signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    /// Who asks.
    pub subject: Subject,
    /// The names asked for.
    pub names: SubjectAltNames,
    pub(crate) subject_der: Vec<u8>,
    pub(crate) spki: Vec<u8>,
}

impl Csr {
    /// Reads a PEM request (`CERTIFICATE REQUEST`) and checks that it is signed with its own key.
    pub fn from_pem(text: &[u8]) -> Result<Self, PkiError> {
        use rustls_pki_types::CertificateSigningRequestDer;
        let der = CertificateSigningRequestDer::from_pem_slice(text)
            .map_err(|_| PkiError::Csr("PEM block type must be CERTIFICATE REQUEST".to_owned()))?;
        Self::from_der(&der)
    }

    /// Reads a DER request and checks that it is signed with its own key.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let malformed = |error: &dyn std::fmt::Display| PkiError::Csr(format!("malformed ({error})"));
        let (rest, parsed) = X509CertificationRequest::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(PkiError::Csr("followed by other bytes".to_owned()));
        }
        let info = &parsed.certification_request_info;
        let key = PublicKey::from_spki(info.subject_pki.raw).map_err(|error| PkiError::Csr(error.to_string()))?;
        let algorithm = parsed.signature_algorithm.algorithm.to_id_string();
        if !key.verify_with(&algorithm, info.raw, &parsed.signature_value.data) {
            return Err(PkiError::Csr("the signature does not fit the key".to_owned()));
        }
        let mut names = SubjectAltNames::default();
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(san) = extension {
                names = general_names(&san.general_names);
            }
        }
        Ok(Self {
            subject: subject(&info.subject),
            names,
            subject_der: info.subject.as_raw().to_vec(),
            spki: info.subject_pki.raw.to_vec(),
        })
    }

    /// The key that asks to be vouched for.
    pub fn public_key(&self) -> Result<PublicKey, PkiError> {
        PublicKey::from_spki(&self.spki)
    }
}
