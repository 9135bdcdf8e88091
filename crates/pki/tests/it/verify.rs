//! Which client certificates are accepted.

use crate::{DAY, NOW, authority, data};
use pki::{Authority, CertificateDer, ClientRejection, ClientVerifier, PrivateKey, Subject, SubjectAltNames, Template};

fn issue(authority: &Authority, template: &Template) -> CertificateDer<'static> {
    authority.issue(template, PrivateKey::generate().unwrap().public_key()).unwrap().der().clone()
}

#[test]
fn good_certificates_are_accepted_and_bad_ones_refused_with_a_reason() {
    let (ca, foreign) = (authority("ca"), authority("ca"));
    let rsa = pki::Certificate::from_pem(&data("rsa-ca.crt")).unwrap().remove(0);
    let rsa = Authority::new(rsa, PrivateKey::from_pem(&data("rsa-pkcs8.key")).unwrap()).unwrap();
    let verifier = ClientVerifier::new(&[ca.certificate().clone(), rsa.certificate().clone()]).unwrap();
    let jane = Subject::new("jane", &["dev"]);
    let client = Template::client(jane.clone(), NOW, DAY);
    let server = Template::server(jane.clone(), SubjectAltNames::default(), NOW, DAY);
    let unlimited = Template { usages: Vec::new(), ..client.clone() };
    let good = issue(&ca, &client);

    let name = |result: Result<pki::ClientIdentity, ClientRejection>| match result {
        Ok(identity) => format!("{} {:?}", identity.subject.common_name, identity.subject.organizations),
        Err(ClientRejection::Missing) => "missing".to_owned(),
        Err(ClientRejection::Unreadable(_)) => "unreadable".to_owned(),
        Err(ClientRejection::Expired { .. }) => "expired".to_owned(),
        Err(ClientRejection::NotYetValid { .. }) => "not yet valid".to_owned(),
        Err(ClientRejection::UnknownAuthority { .. }) => "unknown authority".to_owned(),
        Err(ClientRejection::WrongUsage { .. }) => "wrong usage".to_owned(),
        Err(ClientRejection::Other { reason, .. }) => format!("other: {reason}"),
    };
    let ok = "jane [\"dev\"]";
    let mut forged = good.to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for (case, chain, now, want) in [
        ("good", vec![good.clone()], NOW, ok),
        ("rsa authority", vec![issue(&rsa, &client)], NOW, ok),
        ("no usage stated", vec![issue(&ca, &unlimited)], NOW, ok),
        ("stray intermediates", vec![good.clone(), foreign.certificate().der().clone()], NOW, ok),
        ("last second", vec![good.clone()], NOW + DAY, ok),
        ("expired", vec![good.clone()], NOW + DAY + 1, "expired"),
        ("clock behind", vec![good.clone()], NOW - 301, "not yet valid"),
        ("before 1970", vec![good.clone()], -5, "not yet valid"),
        ("foreign namesake", vec![issue(&foreign, &client)], NOW, "unknown authority"),
        ("forged", vec![CertificateDer::from(forged)], NOW, "unknown authority"),
        ("server only", vec![issue(&ca, &server)], NOW, "wrong usage"),
        ("nothing", vec![], NOW, "missing"),
        ("garbage", vec![CertificateDer::from(vec![0x30, 3, 1, 2, 3])], NOW, "unreadable"),
    ] {
        assert_eq!(name(verifier.verify(&chain, now)), want, "{case}");
    }
    let identity = verifier.verify(&[good], NOW).unwrap();
    assert_eq!((identity.fingerprint.len(), identity.not_after), (64, NOW + DAY));
}

#[test]
fn an_expired_authority_vouches_for_nobody() {
    let short = Authority::self_signed("short", PrivateKey::generate().unwrap(), NOW, DAY).unwrap();
    let long = authority("long");
    let verifier = ClientVerifier::new(&[short.certificate().clone(), long.certificate().clone()]).unwrap();
    // Issued by hand beyond the authority's end, as other tools allow.
    let template = Template::client(Subject::new("u", &[]), NOW, 30 * DAY);
    let outliving = issue(&short.renewed(NOW, 60 * DAY).unwrap(), &template);
    let other = issue(&long, &template);
    assert!(verifier.verify(std::slice::from_ref(&outliving), NOW).is_ok());
    assert!(matches!(verifier.verify(&[outliving], NOW + 2 * DAY), Err(ClientRejection::UnknownAuthority { .. })));
    assert!(verifier.verify(&[other], NOW + 2 * DAY).is_ok());
}

#[test]
fn a_verifier_needs_an_authority() {
    assert!(ClientVerifier::new(&[]).is_err());
}
