//! Requests with all kinds of credentials, good and bad.

use crate::service_accounts::Cluster;
use crate::{DAY, ISSUER, NOW, issuer, order, strings};
use authn::authenticator::{TokenAuthenticator, TokenUser};
use authn::front_proxy::FrontProxy;
use authn::service_account::{Binding, Verifier};
use authn::token_file::{StaticTokens, TokenFileError};
use authn::{Anonymous, Authenticator, ClientChain, Config, Request, UserInfo};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use pki::{Authority, ClientVerifier, PrivateKey, Subject, Template};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct World {
    users: Authority,
    proxies: Authority,
    foreign: Authority,
    authenticator: Authenticator,
    token: String,
}

fn authority(name: &str) -> Authority {
    Authority::self_signed(name, PrivateKey::generate().unwrap(), NOW, 3650 * DAY).unwrap()
}

fn verifier(authority: &Authority) -> ClientVerifier {
    ClientVerifier::new(&[authority.certificate().clone()]).unwrap()
}

const TOKEN_FILE: &str = "s3cret,jane,u1,\"dev,ops\"\nplain,joe,u2\n";

fn world(anonymous: Anonymous) -> World {
    let (users, proxies, foreign) = (authority("users"), authority("proxies"), authority("foreign"));
    let key = PrivateKey::generate().unwrap();
    let api_audiences = strings(&[ISSUER]);
    let accounts =
        Verifier::new(&api_audiences, vec![key.public_key().clone()], &api_audiences, Arc::new(Cluster::new()));
    let tokens = StaticTokens::from_csv(TOKEN_FILE, &api_audiences).unwrap();
    let authenticator = Authenticator::new(Config {
        front_proxy: Some(FrontProxy::new(verifier(&proxies), strings(&["front-proxy-client"]))),
        client_certificates: Some(verifier(&users)),
        tokens: vec![Arc::new(tokens), Arc::new(accounts)],
        api_audiences,
        anonymous,
    })
    .unwrap();
    let token = issuer(&key).issue(&order(Binding::None), NOW).unwrap().token;
    World { users, proxies, foreign, authenticator, token }
}

fn certificate(authority: &Authority, subject: &Subject) -> ClientChain {
    let template = Template::client(subject.clone(), NOW, DAY);
    let certificate = authority.issue(&template, PrivateKey::generate().unwrap().public_key()).unwrap();
    ClientChain::new(&[certificate.der().clone()])
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .collect()
}

/// The user with groups and extra (hashes cut), or the reasons of the refusal; then the headers that are left.
fn show(world: &World, pairs: &[(&str, &str)], client: Option<&ClientChain>, path: &str, now: i64) -> String {
    let mut headers = headers(pairs);
    let result = world.authenticator.authenticate(Request { headers: &mut headers, path, client }, now);
    let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    let outcome = match result {
        Ok(found) => {
            let user = &found.user;
            let extra: Vec<String> = user
                .extra
                .iter()
                .map(|(key, values)| format!(" {}={}", key, values.join("+")))
                .filter(|shown| !shown.contains("credential-id"))
                .collect();
            let warning = found.warning.map(|warning| format!(" ({warning})")).unwrap_or_default();
            format!("{:?}: {} {:?}{}{warning}", found.method, user.name, user.groups, extra.concat())
        }
        Err(refusal) => {
            let text = refusal.to_string();
            let cut = text.find("certificate SN=").map_or(text.clone(), |at| {
                let end = text[at..].find(" failed").map_or(text.len(), |end| at + end);
                format!("{}certificate{}", &text[..at], &text[end..])
            });
            format!("401: {cut}")
        }
    };
    format!("{outcome} | {}", left.join(" "))
}

#[test]
fn each_kind_of_credential_names_its_user() {
    let world = world(Anonymous::default());
    let jane = certificate(&world.users, &Subject::new("jane", &["dev", "ops"]));
    let nameless = certificate(&world.users, &Subject::new("", &["dev"]));
    let proxy = certificate(&world.proxies, &Subject::new("front-proxy-client", &[]));
    let other_proxy = certificate(&world.proxies, &Subject::new("somebody", &[]));
    let stranger = certificate(&world.foreign, &Subject::new("jane", &["system:masters"]));
    let uid = |uids: &[&str]| certificate(&world.users, &Subject { uids: strings(uids), ..Subject::new("jane", &[]) });
    let bearer = |token: &str| format!("Bearer {token}");
    let subprotocol = |token: &str| format!("base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode(token));
    let socket = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
    let with = |more: &'static str, value: String| {
        let mut all: Vec<(&str, String)> = socket.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.push((more, value));
        all
    };
    let robot = r#"Token: system:serviceaccount:ns:robot ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]"#;
    let token_file_jane = r#"Token: jane ["dev", "ops", "system:authenticated"]"#;
    let certificate_jane = r#"ClientCertificate: jane ["dev", "ops", "system:authenticated"]"#;
    let unknown = "401: verifying certificate failed: x509: certificate signed by unknown authority";
    let check = |case: &str, pairs: &[(&str, String)], client: Option<&ClientChain>, want: &str| {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(show(&world, &pairs, client, "/api/v1/pods", NOW), want, "{case}");
    };
    let one = |name: &'static str, value: &str| vec![(name, value.to_owned())];

    check("certificate", &[], Some(&jane), &format!("{certificate_jane} | "));
    check("again, from memory", &[], Some(&jane), &format!("{certificate_jane} | "));
    check("certificate without a name", &[], Some(&nameless), "401: no credentials | ");
    check("foreign certificate", &[], Some(&stranger), &format!("{unknown} | "));
    check("uid", &[], Some(&uid(&["u1"])), r#"ClientCertificate: jane ["system:authenticated"] | "#);
    check("two uids", &[], Some(&uid(&["a", "b"])), "401: expected 1 UID, but found multiple: [a b] | ");
    check("empty uid", &[], Some(&uid(&[""])), "401: UID cannot be an empty string | ");
    check("empty chain", &[], Some(&ClientChain::new(&[])), "401: no credentials | ");

    check("static token", &one("authorization", "Bearer s3cret"), None, &format!("{token_file_jane} | "));
    check("lower-case scheme", &one("authorization", "bearer s3cret "), None, &format!("{token_file_jane} | "));
    check("more words", &one("authorization", "Bearer s3cret x y"), None, &format!("{token_file_jane} | "));
    check("service account", &one("authorization", &bearer(&world.token)), None, &format!("{robot} | "));
    check("again, from the cache", &one("authorization", &bearer(&world.token)), None, &format!("{robot} | "));
    check("wrong token", &one("authorization", "Bearer wrong"), None, "401: invalid bearer token | authorization");
    check("basic", &one("authorization", "Basic s3cret"), None, "401: no credentials | authorization");
    check("no token", &one("authorization", "Bearer"), None, "401: no credentials | authorization");
    check("extra space", &one("authorization", "Bearer  s3cret"), None, "401: no credentials | authorization");
    check("nothing", &[], None, "401: no credentials | ");
    check(
        "bad certificate, good token",
        &one("authorization", "Bearer s3cret"),
        Some(&stranger),
        &format!("{token_file_jane} | "),
    );
    check(
        "both bad",
        &one("authorization", "Bearer wrong"),
        Some(&stranger),
        "401: [verifying certificate failed: x509: certificate signed by unknown authority, invalid bearer token] | authorization",
    );
    check(
        "certificate before token",
        &one("authorization", "Bearer plain"),
        Some(&jane),
        &format!("{certificate_jane} | "),
    );

    let protocols = |value: String| with("sec-websocket-protocol", value);
    let left = "connection sec-websocket-protocol upgrade";
    check(
        "subprotocol",
        &protocols(format!("v5.channel.k8s.io, {}", subprotocol("s3cret"))),
        None,
        &format!("{token_file_jane} | {left}"),
    );
    check(
        "subprotocol alone",
        &protocols(subprotocol("s3cret")),
        None,
        &format!("401: missing additional subprotocol | {left}"),
    );
    check(
        "two subprotocol tokens",
        &protocols(format!("x,{},{}", subprotocol("s3cret"), subprotocol("plain"))),
        None,
        &format!("401: multiple base64.bearer.authorization tokens specified | {left}"),
    );
    check(
        "broken subprotocol",
        &protocols("x,base64url.bearer.authorization.k8s.io.!!".to_owned()),
        None,
        &format!("401: invalid base64.bearer.authorization token encoding | {left}"),
    );
    check(
        "subprotocol not UTF-8",
        &protocols(format!("x,base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode(b"\xff"))),
        None,
        &format!("401: invalid base64.bearer.authorization token | {left}"),
    );
    check(
        "wrong subprotocol token",
        &protocols(format!("x,{}", subprotocol("wrong"))),
        None,
        &format!("401: invalid bearer token | {left}"),
    );
    check(
        "subprotocol without an upgrade",
        &one("sec-websocket-protocol", &format!("x,{}", subprotocol("s3cret"))),
        None,
        "401: no credentials | sec-websocket-protocol",
    );

    let proxied = [
        ("X-Remote-User", "ann".to_owned()),
        ("X-Remote-Group", "g1".to_owned()),
        ("x-remote-group", "g2".to_owned()),
        ("X-Remote-Extra-Acme.com%2FProject", "p1".to_owned()),
        ("X-Remote-Uid", "u9".to_owned()),
        ("accept", "x".to_owned()),
    ];
    check(
        "proxy",
        &proxied,
        Some(&proxy),
        r#"FrontProxy: ann ["g1", "g2", "system:authenticated"] acme.com/project=p1 | accept"#,
    );
    check(
        "proxy of another name",
        &proxied[..1],
        Some(&other_proxy),
        "401: [x509: subject with cn=somebody is not in the allowed list, verifying certificate failed: x509: certificate signed by unknown authority] | x-remote-user",
    );
    check("a user is no proxy", &proxied, Some(&jane), &format!("{certificate_jane} | accept"));
    check("nobody is no proxy", &proxied[..1], None, "401: no credentials | x-remote-user");
    let mut with_token = proxied.to_vec();
    with_token.push(("authorization", "Bearer s3cret".to_owned()));
    check("headers of a liar are taken out", &with_token, None, &format!("{token_file_jane} | accept"));
}

#[test]
fn the_subprotocol_with_the_token_is_taken_out() {
    let world = world(Anonymous::Off);
    let secret = format!("base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode("s3cret"));
    let mut headers = headers(&[
        ("connection", "Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-protocol", &format!("v5.channel.k8s.io,{secret}")),
        ("sec-websocket-protocol", "v4.channel.k8s.io"),
    ]);
    let request = Request { headers: &mut headers, path: "/", client: None };
    assert_eq!(world.authenticator.authenticate(request, NOW).unwrap().user.name, "jane");
    let left: Vec<_> = headers.get_all("sec-websocket-protocol").iter().collect();
    assert_eq!(left, ["v5.channel.k8s.io,v4.channel.k8s.io"]);
}

#[test]
fn only_some_paths_are_open_to_the_anonymous() {
    let anonymous = r#"Anonymous: system:anonymous ["system:unauthenticated"] | "#;
    let refused = "401: no credentials | ";
    let cases: [(Anonymous, &[(&str, &str)]); 3] = [
        (
            Anonymous::default(),
            &[
                ("/healthz", anonymous),
                ("/livez", anonymous),
                ("/readyz", anonymous),
                ("/version", anonymous),
                ("/healthz/etcd", refused),
                ("/metrics", refused),
                ("/api", refused),
                ("/", refused),
            ],
        ),
        (Anonymous::Off, &[("/healthz", refused), ("/api", refused)]),
        (Anonymous::Everywhere, &[("/healthz", anonymous), ("/api", anonymous)]),
    ];
    for (setting, paths) in cases {
        let world = world(setting.clone());
        for (path, want) in paths {
            assert_eq!(show(&world, &[], None, path, NOW), *want, "{setting:?} {path}");
        }
        let stranger = certificate(&world.foreign, &Subject::new("jane", &[]));
        let bad = show(&world, &[("authorization", "Bearer wrong")], None, "/healthz", NOW);
        assert_eq!(bad, "401: invalid bearer token | authorization", "bad credentials are worse than none");
        assert!(show(&world, &[], Some(&stranger), "/healthz", NOW).starts_with("401: verifying"));
    }
    let world = world(Anonymous::default());
    assert_eq!(
        show(&world, &[("authorization", "Bearer  s3cret")], None, "/healthz", NOW),
        r#"Anonymous: system:anonymous ["system:unauthenticated"] (the provided Authorization header contains extra space before the bearer token, and is ignored) | "#
    );
}

#[test]
fn a_connections_certificate_is_judged_again_when_time_passes() {
    let world = world(Anonymous::Off);
    let jane = certificate(&world.users, &Subject::new("jane", &[]));
    let good = r#"ClientCertificate: jane ["system:authenticated"] | "#;
    assert_eq!(show(&world, &[], Some(&jane), "/", NOW + DAY), good);
    assert!(
        show(&world, &[], Some(&jane), "/", NOW + DAY + 1).contains("has expired"),
        "memory ends with the certificate"
    );
    assert!(show(&world, &[], Some(&jane), "/", NOW - 400).contains("not yet valid"), "the clock may be set back");
    assert_eq!(show(&world, &[], Some(&jane), "/", NOW), good);
    // Another authenticator trusts others; what the first one found does not count.
    let other = self::world(Anonymous::Off);
    assert!(show(&other, &[], Some(&jane), "/", NOW).contains("unknown authority"));
    assert_eq!(show(&world, &[], Some(&jane), "/", NOW), good);
}

/// Counts how often it is asked.
struct Counting(Arc<AtomicUsize>, Option<i64>);

impl TokenAuthenticator for Counting {
    fn authenticate_token(&self, token: &str, audiences: &[String], _now: i64) -> Result<Option<TokenUser>, String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match token {
            "bad" => Err("no good".to_owned()),
            "unknown" => Ok(None),
            name => Ok(Some(TokenUser {
                user: Arc::new(UserInfo::new(name, &[])),
                audiences: audiences.into(),
                notes: None,
                expires_at: self.1,
            })),
        }
    }
}

#[test]
fn good_tokens_are_remembered_for_ten_seconds_and_bad_ones_never() {
    let check = |expires_at: Option<i64>, asked: &[(&str, &[&str], i64, usize)]| {
        let count = Arc::new(AtomicUsize::new(0));
        let authenticator = Authenticator::new(Config {
            tokens: vec![Arc::new(Counting(Arc::clone(&count), expires_at))],
            api_audiences: strings(&["api"]),
            ..Config::default()
        })
        .unwrap();
        for (step, (token, audiences, now, want)) in asked.iter().enumerate() {
            let result = authenticator.authenticate_token(token, &strings(audiences), *now);
            assert_eq!(result.is_ok(), *token == "good", "step {step}");
            assert_eq!(count.load(Ordering::Relaxed), *want, "step {step}");
        }
        assert!(!format!("{authenticator:?}").contains("good"));
    };
    check(
        None,
        &[
            ("good", &[], NOW, 1),
            ("good", &[], NOW + 9, 1),
            ("good", &["api"], NOW + 9, 1),
            ("good", &["vault"], NOW + 9, 2),
            ("good", &[], NOW + 10, 3),
            ("good", &[], NOW + 5, 4),
            ("bad", &[], NOW, 5),
            ("bad", &[], NOW, 6),
            ("unknown", &[], NOW, 7),
            ("unknown", &[], NOW, 8),
        ],
    );
    check(Some(NOW + 3), &[("good", &[], NOW, 1), ("good", &[], NOW + 3, 1), ("good", &[], NOW + 4, 2)]);
}

#[test]
fn the_memory_for_tokens_is_bounded() {
    let count = Arc::new(AtomicUsize::new(0));
    let authenticator =
        Authenticator::new(Config { tokens: vec![Arc::new(Counting(Arc::clone(&count), None))], ..Config::default() })
            .unwrap();
    for at in 0..100_000 {
        authenticator.authenticate_token(&format!("user-{at}"), &[], NOW).unwrap();
    }
    let shown = format!("{authenticator:?}");
    let kept: usize = shown.split("TokenCache(").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..=32_768).contains(&kept), "{kept}");
}

#[test]
fn token_reviews_get_the_user_or_the_reason() {
    let world = world(Anonymous::Everywhere);
    let review =
        |token: &str, audiences: &[&str]| match world.authenticator.authenticate_token(token, &strings(audiences), NOW)
        {
            Ok(found) => format!("{} {:?} {:?}", found.user.name, found.user.groups, found.audiences),
            Err(refusal) => refusal.to_string(),
        };
    assert_eq!(review("s3cret", &[]), format!(r#"jane ["dev", "ops", "system:authenticated"] ["{ISSUER}"]"#));
    assert_eq!(review("s3cret", &["vault"]), "invalid bearer token");
    assert_eq!(
        review(&world.token, &["vault"]),
        format!(r#"token audiences ["{ISSUER}"] is invalid for the target audiences ["vault"]"#)
    );
    assert!(review(&world.token, &["vault", ISSUER]).ends_with(&format!(r#"["{ISSUER}"]"#)));
    assert_eq!(review("", &[]), "invalid bearer token");
}

#[test]
fn the_token_file_is_read_as_upstream_does() {
    let read = |text: &str| StaticTokens::from_csv(text, &[]);
    let lookup = |tokens: &StaticTokens, token: &str| {
        let found = tokens.authenticate_token(token, &[], NOW).unwrap();
        found.map(|found| format!("{} {} {:?}", found.user.name, found.user.uid, found.user.groups))
    };
    let tokens = read("t1,a,1\nt2,b,2,\"g1,g2\",extra\n,c,3\nt1,d,4,g\n").unwrap();
    assert_eq!(lookup(&tokens, "t1").unwrap(), r#"d 4 ["g", "system:authenticated"]"#);
    assert_eq!(lookup(&tokens, "t2").unwrap(), r#"b 2 ["g1", "g2", "system:authenticated"]"#);
    assert_eq!(lookup(&tokens, ""), None);
    assert_eq!(lookup(&tokens, "t"), None);
    assert_eq!(
        tokens.warnings(),
        [
            "empty token has been found in token file, record number '3'",
            "duplicate token has been found in token file, record number '4'"
        ]
    );
    assert_eq!(format!("{tokens:?}"), "StaticTokens(2 tokens)");
    assert_eq!(read("t,a\n").unwrap_err(), TokenFileError::Columns { found: 2 });
    assert!(matches!(read("t,\"a\n"), Err(TokenFileError::Csv { record: 1, .. })));
}
