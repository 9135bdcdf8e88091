//! Handshakes between our server side and a rustls client, in memory.

use crate::{DAY, NOW, authority};
use pki::{
    Authority, ClientRejection, ClientVerifier, KeyPair, PrivateKey, ServerTls, ServingCertificates, SniCertificate,
    Subject, SubjectAltNames, Template, TlsOptions, TlsVersion,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};
use std::sync::Arc;

fn serving(ca: &Authority, name: &str) -> KeyPair {
    let key = PrivateKey::generate().unwrap();
    let names = SubjectAltNames { dns: vec![name.to_owned()], ..SubjectAltNames::default() };
    let now = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    let template = Template::server(Subject::new(name, &[]), names, now.unwrap(), DAY);
    KeyPair { chain: vec![ca.issue(&template, key.public_key()).unwrap()], key }
}

fn today_authority() -> Authority {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    Authority::self_signed("serving-ca", PrivateKey::generate().unwrap(), now, 30 * DAY).unwrap()
}

fn client(
    ca: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
    user: Option<&Authority>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(pki::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match user {
        None => builder.with_no_client_auth(),
        Some(user) => {
            let key = PrivateKey::generate().unwrap();
            let certificate =
                user.issue(&Template::client(Subject::new("jane", &["dev"]), NOW, DAY), key.public_key()).unwrap();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key.to_der()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

struct Outcome {
    server: ServerConnection,
    served: Vec<CertificateDer<'static>>,
}

fn connect(server: &ServerTls, client: &Arc<ClientConfig>, name: &'static str) -> Result<Outcome, rustls::Error> {
    let mut server = ServerConnection::new(server.config())?;
    let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from(name).unwrap())?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let served =
        client.peer_certificates().unwrap().iter().map(|certificate| certificate.clone().into_owned()).collect();
    Ok(Outcome { server, served })
}

fn server(default: &KeyPair, sni: &[SniCertificate], authorities: &[&Authority], options: TlsOptions) -> ServerTls {
    let authorities: Vec<_> = authorities.iter().map(|authority| authority.certificate().clone()).collect();
    ServerTls::new(ServingCertificates::new(default, sni).unwrap(), &authorities, options).unwrap()
}

#[test]
fn clients_may_show_a_certificate_and_need_not() {
    let (ca, users, foreign) = (today_authority(), authority("users"), authority("foreign"));
    let tls = server(&serving(&ca, "kubernetes"), &[], &[&users], TlsOptions::default());
    let verifier = ClientVerifier::new(&[users.certificate().clone()]).unwrap();
    for versions in [TLS13, TLS12] {
        let nobody = connect(&tls, &client(&ca, versions, None), "kubernetes").unwrap();
        assert!(nobody.server.peer_certificates().is_none());
        assert_eq!(nobody.server.alpn_protocol(), Some(&b"h2"[..]));

        let jane = connect(&tls, &client(&ca, versions, Some(&users)), "kubernetes").unwrap();
        let chain = jane.server.peer_certificates().unwrap();
        assert_eq!(verifier.verify(chain, NOW).unwrap().subject, Subject::new("jane", &["dev"]));

        // A certificate of another authority does not cost the connection; the authenticator refuses it.
        let stranger = connect(&tls, &client(&ca, versions, Some(&foreign)), "kubernetes").unwrap();
        let chain = stranger.server.peer_certificates().unwrap();
        assert!(matches!(verifier.verify(chain, NOW), Err(ClientRejection::UnknownAuthority { .. })));
    }
}

#[test]
fn a_reconnecting_client_resumes_and_is_still_known() {
    let (ca, users) = (today_authority(), authority("users"));
    let tls = server(&serving(&ca, "kubernetes"), &[], &[&users], TlsOptions::default());
    for versions in [TLS13, TLS12] {
        let client = client(&ca, versions, Some(&users));
        let first = connect(&tls, &client, "kubernetes").unwrap();
        assert_eq!(first.server.handshake_kind(), Some(HandshakeKind::Full));
        // Neither new certificates nor new authorities make tickets worthless.
        tls.certificates().replace(&serving(&ca, "kubernetes"), &[]).unwrap();
        tls.set_client_authorities(&[users.certificate().clone()]).unwrap();
        let second = connect(&tls, &client, "kubernetes").unwrap();
        assert_eq!(second.server.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(second.server.peer_certificates(), first.server.peer_certificates());
    }
}

#[test]
fn a_renewed_certificate_is_served_at_once() {
    let ca = today_authority();
    let (old, new) = (serving(&ca, "kubernetes"), serving(&ca, "kubernetes"));
    let tls = server(&old, &[], &[], TlsOptions::default());
    let served = |tls: &ServerTls| connect(tls, &client(&ca, TLS13, None), "kubernetes").unwrap().served;
    assert_eq!(served(&tls), [old.chain[0].der().clone()]);
    tls.certificates().replace(&new, &[]).unwrap();
    assert_eq!(served(&tls), [new.chain[0].der().clone()]);
}

#[test]
fn an_rsa_key_of_the_user_serves() {
    let ca = today_authority();
    let key = PrivateKey::from_pem(&crate::data("rsa-pkcs1.key")).unwrap();
    let mut pair = serving(&ca, "kubernetes");
    let names = SubjectAltNames { dns: vec!["kubernetes".to_owned()], ..SubjectAltNames::default() };
    let template = Template::server(Subject::new("s", &[]), names, pair.chain[0].not_before, DAY);
    pair = KeyPair { chain: vec![ca.issue(&template, key.public_key()).unwrap()], key };
    let tls = server(&pair, &[], &[], TlsOptions::default());
    for versions in [TLS13, TLS12] {
        let served = connect(&tls, &client(&ca, versions, None), "kubernetes").unwrap().served;
        assert_eq!(served, [pair.chain[0].der().clone()]);
    }
}

#[test]
fn the_name_asked_for_chooses_the_certificate() {
    let ca = today_authority();
    let default = serving(&ca, "default.example");
    let own = SniCertificate { pair: serving(&ca, "own.example"), names: Vec::new() };
    let wide = SniCertificate { pair: serving(&ca, "*.wide.example"), names: vec!["*.wide.example".to_owned()] };
    let exact = SniCertificate { pair: serving(&ca, "x.wide.example"), names: vec!["X.wide.example".to_owned()] };
    let tls = server(&default, &[own.clone(), wide.clone(), exact.clone()], &[], TlsOptions::default());
    for (name, want) in [
        ("default.example", &default),
        ("own.example", &own.pair),
        ("y.wide.example", &wide.pair),
        ("x.wide.example", &exact.pair),
    ] {
        let served = connect(&tls, &client(&ca, TLS13, None), name).unwrap().served;
        assert_eq!(served, [want.chain[0].der().clone()], "{name}");
    }
}

#[test]
fn options_are_honoured_or_refused() {
    let ca = today_authority();
    let pair = serving(&ca, "kubernetes");
    let only13 = TlsOptions { min_version: TlsVersion::Tls13, ..TlsOptions::default() };
    let tls = server(&pair, &[], &[], only13);
    assert!(connect(&tls, &client(&ca, TLS12, None), "kubernetes").is_err());
    assert!(connect(&tls, &client(&ca, TLS13, None), "kubernetes").is_ok());

    let curves = |curves: &[u16]| TlsOptions { curves: curves.into(), ..TlsOptions::default() };
    let group = connect(&server(&pair, &[], &[], curves(&[23])), &client(&ca, TLS13, None), "kubernetes");
    assert_eq!(group.unwrap().server.negotiated_key_exchange_group().map(|group| u16::from(group.name())), Some(23));
    let refusal = ServerTls::new(ServingCertificates::new(&pair, &[]).unwrap(), &[], curves(&[29, 4588]));
    let refusal = refusal.unwrap_err().to_string();
    assert!(refusal.starts_with("tls: curve 4588 is not supported; supported are 29, 23"), "{refusal}");
    let suites = |names: &[&str]| TlsOptions {
        cipher_suites: names.iter().map(|&name| name.to_owned()).collect(),
        ..TlsOptions::default()
    };
    let tls = server(&pair, &[], &[], suites(&["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_AES_128_GCM_SHA256"]));
    let suite = connect(&tls, &client(&ca, TLS12, None), "kubernetes").unwrap().server.negotiated_cipher_suite();
    assert_eq!(
        suite.unwrap().suite(),
        rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "the only one left for TLS 1.2"
    );
    let refused =
        ServerTls::new(ServingCertificates::new(&pair, &[]).unwrap(), &[], suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]));
    let error = refused.unwrap_err().to_string();
    assert!(error.starts_with("tls: cipher suite TLS_RSA_WITH_AES_128_CBC_SHA is not supported"), "{error}");

    let http1 = TlsOptions { http2: false, ..TlsOptions::default() };
    let tls = server(&pair, &[], &[], http1);
    assert!(connect(&tls, &client(&ca, TLS13, None), "kubernetes").is_err(), "the client offers h2 only");
}
