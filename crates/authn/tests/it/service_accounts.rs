//! Service account tokens: issued, verified, forged, damaged.

use crate::{DAY, ISSUER, NOW, data, issuer, order, strings};
use authn::service_account::{
    Binding, ObjectRef, ObjectState, SecretState, ServiceAccountState, TokenObjects, TokenUse, Verified, Verifier,
    peek_claims,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::PrivateKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A cluster with some objects; none is there unless it is put there.
#[derive(Default)]
pub(crate) struct Cluster {
    accounts: HashMap<(String, String), ServiceAccountState>,
    pods: HashMap<(String, String), ObjectState>,
    secrets: Mutex<HashMap<(String, String), SecretState>>,
    nodes: HashMap<String, ObjectState>,
    broken: bool,
}

fn object(uid: &str, deletion_timestamp: Option<i64>) -> ObjectState {
    ObjectState { uid: uid.into(), deletion_timestamp }
}

fn named(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

impl Cluster {
    /// With `ns/robot`, the pod `ns/p`, the Secret `ns/s` and the node `n`.
    pub(crate) fn new() -> Self {
        let mut cluster = Self::default();
        let account =
            ServiceAccountState { object: object("sa-uid", None), secrets: vec!["made-by-controller".into()] };
        cluster.accounts.insert(named("ns", "robot"), account);
        cluster.pods.insert(named("ns", "p"), object("pod-uid", None));
        let secret = SecretState { object: object("secret-uid", None), ..SecretState::default() };
        cluster.secrets.lock().unwrap().insert(named("ns", "s"), secret);
        cluster.nodes.insert("n".to_owned(), object("node-uid", None));
        cluster
    }

    fn account_state(mut self, state: Option<ObjectState>) -> Self {
        match state {
            Some(object) => self.accounts.get_mut(&named("ns", "robot")).unwrap().object = object,
            None => drop(self.accounts.remove(&named("ns", "robot"))),
        }
        self
    }

    fn pod_state(mut self, state: Option<ObjectState>) -> Self {
        self.pods.clear();
        self.pods.extend(state.map(|state| (named("ns", "p"), state)));
        self
    }

    fn node_state(mut self, state: Option<ObjectState>) -> Self {
        self.nodes.clear();
        self.nodes.extend(state.map(|state| ("n".to_owned(), state)));
        self
    }

    fn secret_state(self, name: &str, state: Option<SecretState>) -> Self {
        let mut secrets = self.secrets.lock().unwrap();
        secrets.clear();
        secrets.extend(state.map(|state| (named("ns", name), state)));
        drop(secrets);
        self
    }
}

impl TokenObjects for Cluster {
    fn service_account(&self, namespace: &str, name: &str) -> Result<Option<ServiceAccountState>, String> {
        if self.broken { Err("no quorum".to_owned()) } else { Ok(self.accounts.get(&named(namespace, name)).cloned()) }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Option<ObjectState>, String> {
        Ok(self.pods.get(&named(namespace, name)).cloned())
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretState>, String> {
        Ok(self.secrets.lock().unwrap().get(&named(namespace, name)).cloned())
    }

    fn node(&self, name: &str) -> Result<Option<ObjectState>, String> {
        Ok(self.nodes.get(name).cloned())
    }
}

fn verifier(key: &PrivateKey, cluster: Cluster) -> Verifier {
    Verifier::new(&strings(&[ISSUER]), vec![key.public_key().clone()], &[], Arc::new(cluster))
}

/// A token in a line: the user with its extra, or the reason, or that it is not ours.
fn show(result: &Result<Option<Verified>, authn::service_account::TokenError>) -> String {
    match result {
        Ok(None) => "not ours".to_owned(),
        Err(error) => error.to_string(),
        Ok(Some(verified)) => {
            let extra: Vec<String> = verified
                .user
                .extra
                .iter()
                .filter(|(key, _)| !key.ends_with("credential-id"))
                .map(|(key, values)| format!(" {}={}", key.rsplit('/').next().unwrap(), values.join("+")))
                .collect();
            format!("{} {}{}", verified.user.name, verified.user.uid, extra.concat())
        }
    }
}

const ROBOT: &str = "system:serviceaccount:ns:robot sa-uid";

fn pod() -> ObjectRef {
    ObjectRef::new("p", "pod-uid")
}

#[test]
fn a_token_says_what_upstreams_say() {
    let key = PrivateKey::generate().unwrap();
    let mut order = order(Binding::Pod(pod(), Some(ObjectRef::new("n", "node-uid"))));
    order.warn_after_seconds = Some(60);
    let issued = issuer(&key).issue(&order, NOW).unwrap();
    let header = URL_SAFE_NO_PAD.decode(issued.token.split('.').next().unwrap()).unwrap();
    let kid = key.public_key().key_id();
    assert_eq!(String::from_utf8(header).unwrap(), format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#));
    let jti = issued.credential_id.strip_prefix("JTI=").unwrap();
    let claims = String::from_utf8(peek_claims(&issued.token).unwrap()).unwrap();
    assert_eq!(
        claims,
        format!(
            r#"{{"aud":["{ISSUER}"],"exp":{},"iat":{NOW},"iss":"{ISSUER}","jti":"{jti}","kubernetes.io":{{"namespace":"ns","node":{{"name":"n","uid":"node-uid"}},"pod":{{"name":"p","uid":"pod-uid"}},"serviceaccount":{{"name":"robot","uid":"sa-uid"}},"warnafter":{}}},"nbf":{NOW},"sub":"system:serviceaccount:ns:robot"}}"#,
            NOW + 3600,
            NOW + 60
        )
    );
    let dashes: Vec<usize> = jti.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!((jti.len(), dashes, &jti[14..15]), (36, vec![8, 13, 18, 23], "4"), "a random UUID");
}

#[test]
fn tokens_are_good_for_their_time_audience_and_objects() {
    let key = PrivateKey::generate().unwrap();
    let check = |case: &str, binding: Binding, cluster: Cluster, now: i64, want: &str| {
        let issued = issuer(&key).issue(&order(binding), NOW).unwrap();
        let result = verifier(&key, cluster).verify(&issued.token, None, now);
        assert_eq!(show(&result), want, "{case}");
        if let Ok(Some(verified)) = result {
            assert_eq!(verified.user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns"]);
            assert_eq!(
                verified.user.extra_value("authentication.kubernetes.io/credential-id"),
                Some(issued.credential_id.as_str())
            );
            assert_eq!(verified.audiences, [ISSUER]);
        }
    };
    let none = || Binding::None;
    let to_pod = || Binding::Pod(pod(), None);
    let to_both = || Binding::Pod(pod(), Some(ObjectRef::new("n", "node-uid")));
    let to_node = || Binding::Node(ObjectRef::new("n", "node-uid"));
    let to_secret = || Binding::Secret(ObjectRef::new("s", "secret-uid"));
    let gone = "service account token has been invalidated";

    check("plain", none(), Cluster::new(), NOW, ROBOT);
    check("to a pod", to_pod(), Cluster::new(), NOW, &format!("{ROBOT} pod-name=p pod-uid=pod-uid"));
    let both = format!("{ROBOT} node-name=n node-uid=node-uid pod-name=p pod-uid=pod-uid");
    check("to a pod on a node", to_both(), Cluster::new(), NOW, &both);
    let nameless = Binding::Pod(pod(), Some(ObjectRef::new("n", "")));
    check(
        "node without uid",
        nameless,
        Cluster::new(),
        NOW,
        &format!("{ROBOT} node-name=n pod-name=p pod-uid=pod-uid"),
    );
    check("to a node", to_node(), Cluster::new(), NOW, &format!("{ROBOT} node-name=n node-uid=node-uid"));
    check("to a secret", to_secret(), Cluster::new(), NOW, ROBOT);

    check("last second with leeway", none(), Cluster::new(), NOW + 3660, ROBOT);
    check("expired", none(), Cluster::new(), NOW + 3661, "service account token has expired");
    check("first second with leeway", none(), Cluster::new(), NOW - 60, ROBOT);
    check("too early", none(), Cluster::new(), NOW - 61, "service account token is not valid yet");

    let account = |state| Cluster::new().account_state(state);
    check("no account", none(), account(None), NOW, "serviceaccounts \"robot\" not found");
    check(
        "new account",
        none(),
        account(Some(object("new", None))),
        NOW,
        "service account UID (new) does not match claim (sa-uid)",
    );
    check("account going", none(), account(Some(object("sa-uid", Some(NOW - 60)))), NOW, ROBOT);
    check(
        "account gone",
        none(),
        account(Some(object("sa-uid", Some(NOW - 61)))),
        NOW,
        "service account ns/robot has been deleted",
    );
    let broken = Cluster { broken: true, ..Cluster::new() };
    check("no look-up", none(), broken, NOW, "service account token could not be looked up: no quorum");

    let pods = |state| Cluster::new().pod_state(state);
    check("no pod", to_pod(), pods(None), NOW, gone);
    check(
        "new pod",
        to_pod(),
        pods(Some(object("new", None))),
        NOW,
        "pod UID (new) does not match service account pod ref claim (pod-uid)",
    );
    check("pod gone", to_pod(), pods(Some(object("pod-uid", Some(NOW - 61)))), NOW, gone);
    let on_node = format!("{ROBOT} pod-name=p pod-uid=pod-uid");
    check("pod going", to_pod(), pods(Some(object("pod-uid", Some(NOW - 60)))), NOW, &on_node);

    let nodes = |state| Cluster::new().node_state(state);
    check("no node", to_node(), nodes(None), NOW, gone);
    check("a pod's token does not hang on the node", to_both(), nodes(None), NOW, &both);
    check(
        "new node",
        to_node(),
        nodes(Some(object("new", None))),
        NOW,
        "node UID (new) does not match service account node ref claim (node-uid)",
    );
    check("node gone", to_node(), nodes(Some(object("node-uid", Some(0)))), NOW, gone);

    let secrets = |state| Cluster::new().secret_state("s", state);
    check("no secret", to_secret(), secrets(None), NOW, gone);
    let new = SecretState { object: object("new", None), ..SecretState::default() };
    check(
        "new secret",
        to_secret(),
        secrets(Some(new)),
        NOW,
        "secret UID (new) does not match service account secret ref claim (secret-uid)",
    );
    let old = SecretState { object: object("secret-uid", Some(0)), ..SecretState::default() };
    check("secret gone", to_secret(), secrets(Some(old)), NOW, gone);
}

#[test]
fn audiences_meet_or_the_token_is_refused() {
    let key = PrivateKey::generate().unwrap();
    let verifier = Verifier::new(
        &strings(&[ISSUER, "old-issuer"]),
        vec![key.public_key().clone()],
        &strings(&["api", "api2"]),
        Arc::new(Cluster::new()),
    );
    for (token, wanted, want) in [
        (&["api"][..], None, Ok(&["api"][..])),
        (&["x", "api2", "api"], None, Ok(&["api2", "api"])),
        (&["vault"], Some(&["vault", "y"][..]), Ok(&["vault"])),
        (&["vault"], None, Err(r#"token audiences ["vault"] is invalid for the target audiences ["api" "api2"]"#)),
        (&["api"], Some(&["vault"]), Err(r#"token audiences ["api"] is invalid for the target audiences ["vault"]"#)),
        // A token without audiences is for the API server only.
        (&[], None, Ok(&["api", "api2"])),
        (&[], Some(&["vault"]), Err(r#"token audiences ["api" "api2"] is invalid for the target audiences ["vault"]"#)),
    ] {
        let mut order = order(Binding::None);
        order.audiences = strings(token);
        let issued = issuer(&key).issue(&order, NOW).unwrap();
        let wanted = wanted.map(strings);
        let got = verifier.verify(&issued.token, wanted.as_deref(), NOW);
        match (got, want) {
            (Ok(Some(verified)), Ok(want)) => assert_eq!(verified.audiences, want, "{token:?} {wanted:?}"),
            (Err(error), Err(want)) => assert_eq!(error.to_string(), want, "{token:?} {wanted:?}"),
            (got, want) => panic!("{token:?} {wanted:?}: {got:?}, wanted {want:?}"),
        }
    }
}

#[test]
fn tokens_with_an_extended_life_tell_when_they_are_stale() {
    let key = PrivateKey::generate().unwrap();
    let mut order = order(Binding::Pod(pod(), None));
    (order.lifetime_seconds, order.warn_after_seconds) = (365 * DAY, Some(3607));
    let token = issuer(&key).issue(&order, NOW).unwrap().token;
    let verifier = verifier(&key, Cluster::new());
    let fresh = verifier.verify(&token, None, NOW + 3607).unwrap().unwrap();
    assert_eq!((fresh.token_use, fresh.annotations.len()), (TokenUse::Extended { stale: false }, 0));
    let stale = verifier.verify(&token, None, NOW + 3617).unwrap().unwrap();
    assert_eq!(stale.token_use, TokenUse::Extended { stale: true });
    assert_eq!(
        stale.annotations,
        [(
            "authentication.k8s.io/stale-token",
            "subject: system:serviceaccount:ns:robot, seconds after warning threshold: 10".to_owned()
        )]
    );
}

/// A token with any header and claims, signed by this key.
fn forge(key: &PrivateKey, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.jws_signer().unwrap().sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn forged_tokens_are_refused() {
    let (key, stranger) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let verifier = verifier(&key, Cluster::new());
    let issued = issuer(&key).issue(&order(Binding::None), NOW).unwrap().token;
    let claims = String::from_utf8(peek_claims(&issued).unwrap()).unwrap();
    let kid = key.public_key().key_id();
    let spki = key.public_key().to_pem();
    let es256 = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    let parts: Vec<&str> = issued.split('.').collect();
    let master = claims.replace("robot", "admin");
    let hmac = {
        // The old confusion: the public key, which everybody has, used as the secret of an HMAC.
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#)),
            URL_SAFE_NO_PAD.encode(&master)
        );
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, spki.as_bytes());
        let tag = ring::hmac::sign(&secret, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let none = |signature: &str| {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","kid":"{kid}"}}"#));
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(&master))
    };
    let invalid = "invalid signature";
    let no_key = "invalid signature, no keys found";
    for (case, token, want) in [
        ("good", issued.clone(), ROBOT),
        ("no key id", forge(&key, r#"{"alg":"ES256"}"#, &claims), ROBOT),
        ("alg none", none(""), invalid),
        ("alg none with a signature", none(parts[2]), invalid),
        ("HMAC with the public key", hmac, invalid),
        ("stranger", issuer(&stranger).issue(&order(Binding::None), NOW).unwrap().token, no_key),
        ("stranger with our key id", forge(&stranger, &es256, &claims), invalid),
        ("stranger without key id", forge(&stranger, r#"{"alg":"ES256"}"#, &claims), invalid),
        ("other claims", format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(&master), parts[2]), invalid),
        ("another algorithm", forge(&key, &es256.replace("ES256", "RS256"), &claims), invalid),
        ("lower-case algorithm", forge(&key, &es256.replace("ES256", "es256"), &claims), invalid),
        ("critical extension", forge(&key, r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, &claims), "not ours"),
        ("no algorithm", forge(&key, "{}", &claims), "not ours"),
        ("no signature", format!("{}.{}", parts[0], parts[1]), "not ours"),
        ("four parts", format!("{issued}.x"), "not ours"),
        ("padding", format!("{issued}="), "not ours"),
        ("space", format!(" {issued}"), "not ours"),
        ("other issuer", forge(&key, &es256, &claims.replace(ISSUER, "https://evil.example")), "not ours"),
        ("issuer of another type", forge(&key, &es256, r#"{"iss":["x"]}"#), "not ours"),
        ("claims no object", forge(&key, &es256, "[]"), "not ours"),
        ("JSON form", format!(r#"{{"payload":"{}"}}"#, parts[1]), "not ours"),
        ("empty", String::new(), "not ours"),
        ("dots", "..".to_owned(), "not ours"),
    ] {
        assert_eq!(show(&verifier.verify(&token, None, NOW)), want, "{case}");
    }
    for (case, claims, want) in [
        ("no account", format!(r#"{{"iss":"{ISSUER}"}}"#), "serviceaccounts \"\" not found"),
        ("date of text", format!(r#"{{"iss":"{ISSUER}","exp":"soon"}}"#), "service account token claims could not be"),
        ("expired long ago", format!(r#"{{"iss":"{ISSUER}","exp":-1e300}}"#), "service account token has expired"),
        ("far future", format!(r#"{{"iss":"{ISSUER}","nbf":1e300}}"#), "service account token is not valid yet"),
        (
            "issued later",
            format!(r#"{{"iss":"{ISSUER}","iat":{}}}"#, NOW + 61),
            "service account token is issued in the",
        ),
        ("one audience as text", claims.replace(&format!("[\"{ISSUER}\"]"), &format!("\"{ISSUER}\"")), ROBOT),
        ("date with a fraction", claims.replace(&format!("\"exp\":{}", NOW + 3600), "\"exp\":1800003600.5"), ROBOT),
        ("audience of another type", format!(r#"{{"iss":"{ISSUER}","aud":7}}"#), "service account token claims could"),
        ("issuer twice", format!(r#"{{"iss":"x","iss":"{ISSUER}"}}"#), "not ours"),
    ] {
        let got = show(&verifier.verify(&forge(&key, &es256, &claims), None, NOW));
        assert!(got.starts_with(want), "{case}: {got}");
    }
}

#[test]
fn thousands_of_damaged_tokens_are_refused_without_a_panic() {
    let key = PrivateKey::generate().unwrap();
    let verifier = verifier(&key, Cluster::new());
    let token = issuer(&key).issue(&order(Binding::Pod(pod(), None)), NOW).unwrap().token;
    assert!(verifier.verify(&token, None, NOW).unwrap().is_some());
    let alphabet = b"ABCxyz019-_.={}\"\\ \0+/\x7f";
    let mut random = fastrand::Rng::with_seed(11);
    let (mut not_ours, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = token.clone().into_bytes();
        for _ in 0..random.usize(1..4) {
            if bytes.is_empty() {
                break;
            }
            let at = random.usize(..bytes.len());
            let other = alphabet[random.usize(..alphabet.len())];
            match random.u8(..5) {
                0 => bytes[at] = other,
                1 => bytes.insert(at, other),
                2 => drop(bytes.remove(at)),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let next = (at + 1) % bytes.len();
                    bytes.swap(at, next);
                }
            }
        }
        let damaged = String::from_utf8(bytes).unwrap();
        if damaged == token {
            continue;
        }
        match verifier.verify(&damaged, None, NOW) {
            Ok(None) => not_ours += 1,
            Err(_) => refused += 1,
            Ok(Some(verified)) => panic!("{damaged} is taken for {:?}", verified.user),
        }
    }
    assert!(not_ours > 1000 && refused > 1000, "both ways must have been tried: {not_ours} {refused}");
    // Damaged claims under a good signature must be judged without a panic too.
    let claims = peek_claims(&token).unwrap();
    for _ in 0..5_000 {
        let mut claims = claims.clone();
        let at = random.usize(..claims.len());
        claims[at] = alphabet[random.usize(..alphabet.len())];
        claims.truncate(random.usize(at..=claims.len()));
        let token = authn::jwt::sign(&key.jws_signer().unwrap(), &claims).unwrap();
        let _judged = verifier.verify(&token, None, NOW);
    }
}

#[test]
fn keys_of_users_verify_and_may_be_many() {
    let rsa = PrivateKey::from_pem(&data("rsa-pkcs1.key")).unwrap();
    let p384 = PrivateKey::from_pem(&data("ec384-sec1.key")).unwrap();
    let p256 = PrivateKey::generate().unwrap();
    let public = |keys: &[&PrivateKey]| keys.iter().map(|key| key.public_key().clone()).collect();
    let all = Verifier::new(&strings(&[ISSUER]), public(&[&rsa, &p384, &p256]), &[], Arc::new(Cluster::new()));
    let without = Verifier::new(&strings(&[ISSUER]), public(&[&p384, &p256]), &[], Arc::new(Cluster::new()));
    for (key, algorithm) in [(&rsa, "RS256"), (&p384, "ES384"), (&p256, "ES256")] {
        let token = issuer(key).issue(&order(Binding::None), NOW).unwrap().token;
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        assert!(String::from_utf8(header).unwrap().contains(algorithm));
        assert_eq!(show(&all.verify(&token, None, NOW)), ROBOT, "{algorithm}");
        let want = if algorithm == "RS256" { "invalid signature, no keys found" } else { ROBOT };
        assert_eq!(show(&without.verify(&token, None, NOW)), want, "{algorithm}");
    }
}

#[test]
fn tokens_kept_in_secrets_are_good_while_the_secret_holds_them() {
    let key = PrivateKey::generate().unwrap();
    let account = ObjectRef::new("robot", "sa-uid");
    let token = issuer(&key).issue_legacy("ns", &account, "t").unwrap();
    let state = |token: &str| SecretState {
        object: object("secret-uid", None),
        token: token.as_bytes().to_vec(),
        invalid_since: None,
    };
    let check = |case: &str, secret: Option<SecretState>, want: &str| {
        let cluster = Cluster::new().secret_state("t", secret);
        assert_eq!(show(&verifier(&key, cluster).verify(&token, None, NOW + 9000 * DAY)), want, "{case}");
    };
    let gone = "service account token has been invalidated";
    check("good", Some(state(&token)), ROBOT);
    check("no secret", None, gone);
    check("deleted", Some(SecretState { object: object("u", Some(NOW)), ..state(&token) }), gone);
    check("another token", Some(state("x")), "service account token does not match server's copy");
    let marked = SecretState { invalid_since: Some("2027-01-01".into()), ..state(&token) };
    check(
        "marked",
        Some(marked),
        "the token in secret ns/t for service account ns/robot has been marked invalid. Use tokens from the \
         TokenRequest API or manually created secret-based tokens, or remove the \
         'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token",
    );

    let verified = |token: &str, secret: &str| {
        let cluster = Cluster::new().secret_state(secret, Some(state(token)));
        verifier(&key, cluster).verify(token, None, NOW).unwrap().unwrap()
    };
    let manual = verified(&token, "t");
    assert_eq!(manual.audiences, [ISSUER]);
    let legacy = |secret: &str, auto_generated| TokenUse::Legacy {
        namespace: "ns".into(),
        secret: secret.into(),
        auto_generated,
    };
    assert_eq!((manual.token_use, manual.warnings.len()), (legacy("t", false), 0));
    assert_eq!(
        manual.annotations,
        [
            ("authentication.k8s.io/legacy-token", "system:serviceaccount:ns:robot".to_owned()),
            ("authentication.k8s.io/legacy-token-manual-secret", "t".to_owned())
        ]
    );
    let auto = issuer(&key).issue_legacy("ns", &account, "made-by-controller").unwrap();
    let auto = verified(&auto, "made-by-controller");
    assert_eq!((auto.token_use, auto.warnings.len()), (legacy("made-by-controller", true), 1));

    // Claims that a signer of ours would never make.
    let good = String::from_utf8(peek_claims(&token).unwrap()).unwrap();
    for (from, to, want) in [
        ("\"sub\":\"system:serviceaccount:ns:robot\"", "\"sub\":\"\"", "sub claim is missing"),
        (
            "\"sub\":\"system:serviceaccount:ns:robot\"",
            "\"sub\":\"system:serviceaccount:ns:x\"",
            "sub claim is invalid",
        ),
        ("namespace\":\"ns\"", "namespace\":\"\"", "namespace claim is missing"),
        ("secret.name\":\"t\"", "secret.name\":\"\"", "secretName claim is missing"),
        ("service-account.name\":\"robot\"", "service-account.name\":\"\"", "serviceAccountName claim is missing"),
        ("service-account.uid\":\"sa-uid\"", "service-account.uid\":\"\"", "serviceAccountUID claim is missing"),
    ] {
        assert!(good.contains(from), "{from}");
        let token = authn::jwt::sign(&key.jws_signer().unwrap(), good.replace(from, to).as_bytes()).unwrap();
        let cluster = Cluster::new().secret_state("t", Some(state(&token)));
        assert_eq!(show(&verifier(&key, cluster).verify(&token, None, NOW)), want);
    }
}

#[test]
fn debug_output_holds_no_token() {
    let key = PrivateKey::generate().unwrap();
    let issued = issuer(&key).issue(&order(Binding::None), NOW).unwrap();
    let secret = SecretState { token: issued.token.clone().into_bytes(), ..SecretState::default() };
    let verifier = verifier(&key, Cluster::new());
    let verified = verifier.verify(&issued.token, None, NOW).unwrap();
    for shown in [
        format!("{issued:?}"),
        format!("{secret:?}"),
        format!("{verifier:?}"),
        format!("{verified:?}"),
        format!("{:?}", issuer(&key)),
    ] {
        assert!(!shown.contains(&issued.token[..20]) && !shown.contains("101, 121"), "{shown}");
    }
}
