//! Issuing and reading certificates.

use crate::{DAY, NOW, authority, data};
use pki::{
    Authority, Certificate, Csr, CsrPolicy, PkiError, PrivateKey, Subject, SubjectAltNames, Template, UnknownUsage,
    Usage,
};

#[test]
fn a_client_certificate_names_its_user_and_every_group() {
    let authority = authority("ca");
    let key = PrivateKey::generate().unwrap();
    let mut subject = Subject::new("jane doe@example", &["b-team", "a-team", "system:masters"]);
    subject.uids.push("u-1".to_owned());
    let template = Template::client(subject, NOW, DAY);
    let certificate = authority.issue(&template, key.public_key()).unwrap();
    assert_eq!(certificate.subject.common_name, "jane doe@example");
    // A set's members are ordered by their bytes, the shorter first.
    assert_eq!(certificate.subject.organizations, ["a-team", "b-team", "system:masters"]);
    assert_eq!(certificate.subject.uids, ["u-1"]);
    assert_eq!((certificate.not_before, certificate.not_after), (NOW - 300, NOW + DAY));
    assert!(certificate.is_signed_by(authority.certificate()) && certificate.has_key(key.public_key()));
    assert!(!certificate.is_ca);
    assert_eq!(Certificate::from_pem(certificate.to_pem().as_bytes()).unwrap(), [certificate]);
}

#[test]
fn a_certificate_never_outlives_its_authority() {
    let authority = Authority::self_signed("ca", PrivateKey::generate().unwrap(), NOW, DAY).unwrap();
    let key = PrivateKey::generate().unwrap();
    let template = Template::client(Subject::new("u", &[]), NOW, 365 * DAY);
    assert_eq!(authority.issue(&template, key.public_key()).unwrap().not_after, NOW + DAY);
}

#[test]
fn a_renewed_authority_vouches_for_what_it_issued_before() {
    let authority = authority("ca");
    let key = PrivateKey::generate().unwrap();
    let template = Template::client(Subject::new("u", &[]), NOW, DAY);
    let certificate = authority.issue(&template, key.public_key()).unwrap();
    let renewed = authority.renewed(NOW + 100 * DAY, 3650 * DAY).unwrap();
    assert_ne!(renewed.certificate(), authority.certificate());
    assert!(certificate.is_signed_by(renewed.certificate()));
}

#[test]
fn an_rsa_authority_of_the_user_issues() {
    let certificate = Certificate::from_pem(&data("rsa-ca.crt")).unwrap().remove(0);
    let authority = Authority::new(certificate, PrivateKey::from_pem(&data("rsa-pkcs1.key")).unwrap()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let template = Template::client(Subject::new("u", &["g"]), NOW, DAY);
    let issued = authority.issue(&template, key.public_key()).unwrap();
    assert!(issued.is_signed_by(authority.certificate()));
    assert!(!issued.is_signed_by(crate::authority("rsa-ca").certificate()), "a namesake is no authority");
}

#[test]
fn what_is_no_authority_cannot_become_one() {
    let authority = authority("ca");
    let key = PrivateKey::generate().unwrap();
    let leaf = authority.issue(&Template::client(Subject::new("u", &[]), NOW, DAY), key.public_key()).unwrap();
    assert!(matches!(Authority::new(leaf, key.clone()), Err(PkiError::Certificate(_))));
    assert!(matches!(Authority::new(authority.certificate().clone(), key), Err(PkiError::Certificate(_))));
}

#[test]
fn a_request_made_by_openssl_is_read_and_answered() {
    let csr = Csr::from_pem(&data("node.csr")).unwrap();
    assert_eq!(csr.subject, Subject::new("system:node:n1", &["system:nodes", "extra group"]));
    let names = SubjectAltNames {
        dns: vec!["n1.example".to_owned()],
        ips: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        emails: vec!["a@b.example".to_owned()],
        uris: vec!["spiffe://x/y".to_owned()],
    };
    assert_eq!(csr.names, names);
    let usages = ["digital signature", "key encipherment", "server auth"];
    let policy = CsrPolicy {
        usages: usages.iter().map(|usage| usage.parse().unwrap()).collect(),
        not_before: NOW,
        not_after: NOW + DAY,
    };
    let authority = authority("ca");
    let certificate = authority.sign_csr(&csr, &policy).unwrap();
    assert_eq!((&certificate.subject, &certificate.names), (&csr.subject, &csr.names));
    assert!(certificate.has_key(&csr.public_key().unwrap()) && certificate.is_signed_by(authority.certificate()));
    assert_eq!(Csr::from_pem(&data("rsa-sha512.csr")).unwrap().subject, Subject::new("jane", &["dev"]));
}

#[test]
fn damaged_requests_and_certificates_are_refused_without_a_panic() {
    let authority = authority("ca");
    let (csr, certificate) = (der_of(&data("node.csr")), authority.certificate().der().to_vec());
    let original = Csr::from_der(&csr).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3000 {
        let mut damaged = csr.clone();
        damaged[random.usize(..csr.len())] ^= 1 << random.u8(..8);
        // A bit of the wrapping around the signature may not matter; what is asked for may not change.
        if let Ok(read) = Csr::from_der(&damaged) {
            assert_eq!(read, original);
        }
        damaged.truncate(random.usize(..csr.len()));
        assert!(Csr::from_der(&damaged).is_err());
        let mut damaged = certificate.clone();
        damaged[random.usize(..certificate.len())] ^= 1 << random.u8(..8);
        if let Ok(read) = Certificate::from_der(&damaged)
            && read.is_signed_by(authority.certificate())
        {
            let facts =
                |of: &Certificate| (of.subject.clone(), of.names.clone(), of.not_before, of.not_after, of.is_ca);
            assert_eq!(facts(&read), facts(authority.certificate()));
            assert_eq!(read.public_key().unwrap(), authority.certificate().public_key().unwrap());
        }
        damaged.truncate(random.usize(..certificate.len()));
        assert!(Certificate::from_der(&damaged).is_err());
    }
    assert!(matches!(Csr::from_pem(&data("rsa-ca.crt")), Err(PkiError::Csr(_))));
}

fn der_of(text: &[u8]) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(text).unwrap().to_vec()
}

#[test]
fn usages_have_the_names_of_the_api() {
    for name in ["signing", "digital signature", "client auth", "server auth", "cert sign", "netscape sgc"] {
        assert_eq!(name.parse::<Usage>().unwrap().name(), name);
    }
    for (usage, name) in [
        (Usage::DIGITAL_SIGNATURE, "digital signature"),
        (Usage::KEY_ENCIPHERMENT, "key encipherment"),
        (Usage::CERT_SIGN, "cert sign"),
        (Usage::SERVER_AUTH, "server auth"),
        (Usage::CLIENT_AUTH, "client auth"),
    ] {
        assert_eq!(usage.name(), name);
    }
    assert_eq!("Client Auth".parse::<Usage>(), Err(UnknownUsage("Client Auth".to_owned())));
}

#[test]
fn names_cover_names() {
    let names = |dns: &[&str], ips: &[&str]| SubjectAltNames {
        dns: dns.iter().map(|&name| name.to_owned()).collect(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        ..SubjectAltNames::default()
    };
    let have = names(&["a.example", "*.b.example"], &["10.0.0.1", "::1"]);
    for (wanted, missing) in [
        (names(&[], &[]), None),
        (names(&["A.Example"], &["::1"]), None),
        (names(&["x.b.example"], &[]), None),
        (names(&["x.y.b.example"], &[]), Some("x.y.b.example")),
        (names(&["b.example"], &[]), Some("b.example")),
        (names(&["a.example"], &["10.0.0.2"]), Some("10.0.0.2")),
    ] {
        assert_eq!(have.first_missing(&wanted).as_deref(), missing, "{wanted:?}");
    }
}

#[test]
fn a_certificate_is_identified_as_upstream_does() {
    let certificate = Certificate::from_pem(&data("rsa-ca.crt")).unwrap().remove(0);
    // As `openssl x509 -serial -ext subjectKeyIdentifier` prints them, the serial number in decimal.
    let key_id = "E5:32:F3:62:C2:37:86:9B:5C:46:8E:B4:C2:8A:E7:3A:7F:88:62:82";
    assert_eq!(
        certificate.identifier(),
        format!("SN=544630393155099836590573187305750850998430334866, SKID={key_id}, AKID={key_id}")
    );
}
