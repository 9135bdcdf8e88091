//! Flags about who clients are and what they get: a cluster run with an operator's own keys, as kubeadm's and other
//! manifests start it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use authn::service_account::{Issuer, ObjectRef, Order};
use base64::Engine as _;

use super::own_pki::{Curl, OwnPki, now};
use crate::harness::Server;

/// A kubelet that answers everything with the name in the certificate that it is shown.
fn kubelet(pki: &OwnPki) -> u16 {
    let pair = pki::load_key_pair(&pki.path("kubelet.crt"), &pki.path("kubelet.key"), now()).expect("a key pair");
    let certificates = pki::ServingCertificates::new(&pair, &[]).expect("a certificate");
    let options = pki::TlsOptions { http2: false, ..pki::TlsOptions::default() };
    let tls = pki::ServerTls::new(certificates, &[], options).expect("TLS");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(tls.config()).expect("TLS");
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let mut head = [0; 4096];
            let Ok(1..) = stream.read(&mut head) else { continue };
            let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
            let shown = shown.map(|der| pki::Certificate::from_der(der).expect("a certificate").subject.common_name);
            let name = shown.unwrap_or_else(|| "nobody".into());
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}", name.len());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

/// The claims of a token.
fn claims(token: &str) -> serde_json::Value {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64");
    serde_json::from_slice(&json).expect("JSON")
}

/// A node whose kubelet is at a port of this machine, by its external address only.
fn node(admin: &Curl, port: u16) {
    let made = admin.post("/api/v1/nodes", r#"{"metadata":{"name":"n"}}"#);
    assert_eq!(made.code, 201, "{made:?}");
    let status = format!(
        r#"{{"status":{{"addresses":[{{"type":"Hostname","address":"no-such-host.invalid"}},
            {{"type":"ExternalIP","address":"127.0.0.1"}}],"daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#
    );
    let merge = ["--request", "PATCH", "--header", "Content-Type: application/merge-patch+json", "--data", &status];
    let patched = admin.with(&merge).get("/api/v1/nodes/n/status");
    assert_eq!(patched.code, 200, "{patched:?}");
}

#[test]
fn a_cluster_with_an_operators_own_keys() {
    let pki = OwnPki::new();
    let ca = pki.authority("ca", now());
    let proxies = pki.authority("proxies", now());
    pki.server(&ca, "api.example");
    pki.client(&ca, "admin", &["system:masters"]);
    pki.client(&ca, "to-kubelets", &[]);
    pki.client(&proxies, "proxy", &[]);
    pki.client(&proxies, "other", &[]);
    pki.server(&ca, "kubelet");
    pki.key("sa");
    pki.key("sa-before");
    pki.write("tokens", "token-of-alice,alice,7,\"devs,testers\"\n");
    let list = |flag: &str, value: &str| format!("--{flag}={value}");
    let flags = [
        list("advertise-address", "192.0.2.7"),
        list("bind-address", "127.0.0.1"),
        list("external-hostname", "api.example"),
        list("anonymous-auth", "false"),
        list("allow-privileged", "true"),
        list("authorization-mode", "Node,RBAC"),
        list("feature-gates", "AllAlpha=false"),
        list("enable-bootstrap-token-auth", "true"),
        list("api-audiences", "api,other"),
        list("service-account-issuer", "https://api.example"),
        list("service-account-issuer", "https://before.example"),
        list("service-cluster-ip-range", "10.200.0.0/16"),
        list("service-node-port-range", "31000-31003"),
        list("kubelet-preferred-address-types", "ExternalIP"),
        list("requestheader-allowed-names", "proxy"),
        list("requestheader-username-headers", "X-User"),
        list("requestheader-group-headers", "X-Group"),
        list("requestheader-uid-headers", "X-Uid,X-Remote-Uid"),
        list("requestheader-extra-headers-prefix", "X-Extra-"),
        pki.flag("client-ca-file", "ca.crt"),
        pki.flag("tls-cert-file", "api.example.crt"),
        pki.flag("tls-private-key-file", "api.example.key"),
        pki.flag("service-account-key-file", "sa.pub"),
        pki.flag("service-account-key-file", "sa-before.pub"),
        pki.flag("service-account-signing-key-file", "sa.key"),
        pki.flag("token-auth-file", "tokens"),
        pki.flag("kubelet-client-certificate", "to-kubelets.crt"),
        pki.flag("kubelet-client-key", "to-kubelets.key"),
        pki.flag("kubelet-certificate-authority", "ca.crt"),
        pki.flag("requestheader-client-ca-file", "proxies.crt"),
        pki.flag("proxy-client-cert-file", "proxy.crt"),
        pki.flag("proxy-client-key-file", "proxy.key"),
    ];
    let server = Server::new(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(server.address.starts_with("127.0.0.1:"), "{}", server.address);
    assert!(!server.kubeconfig().exists(), "nobody would be let in with it");
    let anybody = Curl::new(&server.address, &pki.path("ca.crt"));
    let admin = anybody.certificate(&pki, "admin");

    // Users.
    assert_eq!(anybody.get("/version").code, 401, "nobody stays anonymous");
    assert_eq!(admin.user(), "admin");
    let alice = anybody.token("token-of-alice").whoami();
    assert_eq!(alice.at("/status/userInfo/username"), "alice");
    assert_eq!(alice.at("/status/userInfo/groups"), r#"["devs","testers","system:authenticated"]"#);
    assert_eq!(anybody.token("token-of-bob").whoami().code, 401);
    let named =
        ["--header", "X-User: eve", "--header", "X-Group: g", "--header", "X-Uid: 9", "--header", "X-Extra-A: b"];
    let eve = anybody.certificate(&pki, "proxy").with(&named).whoami();
    assert_eq!(eve.at("/status/userInfo/username"), "eve");
    assert_eq!(eve.at("/status/userInfo/groups"), r#"["g","system:authenticated"]"#);
    assert_eq!(eve.at("/status/userInfo/uid"), "9");
    assert_eq!(eve.at("/status/userInfo/extra/a"), r#"["b"]"#);
    assert_eq!(anybody.certificate(&pki, "other").with(&named).whoami().code, 401, "not a proxy that is trusted");
    let published = admin.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication");
    let file = |name: &str| std::fs::read_to_string(pki.path(name)).expect("the file is there");
    assert_eq!(published.at("/data/client-ca-file"), file("ca.crt"));
    assert_eq!(published.at("/data/requestheader-client-ca-file"), file("proxies.crt"));
    assert_eq!(published.at("/data/requestheader-allowed-names"), r#"["proxy"]"#);
    assert_eq!(published.at("/data/requestheader-username-headers"), r#"["X-User"]"#);

    // Bootstrap tokens.
    let secret = r#"{"metadata":{"name":"bootstrap-token-abcdef"},"type":"bootstrap.kubernetes.io/token","stringData":
        {"token-id":"abcdef","token-secret":"0123456789abcdef","usage-bootstrap-authentication":"true",
         "expiration":"2999-01-01T00:00:00Z"}}"#;
    assert_eq!(admin.post("/api/v1/namespaces/kube-system/secrets", secret).code, 201);
    assert_eq!(anybody.token("abcdef.0123456789abcdef").user(), "system:bootstrap:abcdef");
    assert_eq!(anybody.token("abcdef.0123456789abcdee").whoami().code, 401);

    // Service account tokens: ours, and those of the former issuer and key.
    let account = admin.post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"sa"}}"#);
    let request = admin.post("/api/v1/namespaces/default/serviceaccounts/sa/token", "{}");
    let token = request.at("/status/token");
    assert_eq!(claims(&token)["iss"], "https://api.example", "{request:?}");
    assert_eq!(claims(&token)["aud"], serde_json::json!(["api", "other"]));
    assert_eq!(anybody.token(&token).user(), "system:serviceaccount:default:sa");
    let before = pki::load_private_key(&pki.path("sa-before.key")).and_then(|key| key.jws_signer()).expect("a key");
    let order = Order {
        namespace: "default".into(),
        service_account: ObjectRef::new("sa", &account.at("/metadata/uid")),
        audiences: vec!["api".into()],
        binding: authn::service_account::Binding::None,
        lifetime_seconds: 600,
        warn_after_seconds: None,
    };
    let issued = |issuer: &str| Issuer::new(issuer, before.clone()).issue(&order, now()).expect("a token").token;
    assert_eq!(anybody.token(&issued("https://before.example")).user(), "system:serviceaccount:default:sa");
    assert_eq!(anybody.token(&issued("https://foreign.example")).whoami().code, 401);
    let port = server.address.rsplit(':').next().unwrap_or_default().to_owned();
    let discovery = admin.get("/.well-known/openid-configuration");
    assert_eq!(discovery.at("/issuer"), "https://api.example");
    assert_eq!(discovery.at("/jwks_uri"), format!("https://api.example:{port}/openid/v1/jwks"));
    assert_eq!(admin.get("/openid/v1/jwks").at("/keys").matches("\"kid\"").count(), 2);

    // Addresses and ports of Services.
    let kubernetes = admin.get("/api/v1/namespaces/default/services/kubernetes");
    assert_eq!(kubernetes.at("/spec/clusterIP"), "10.200.0.1");
    let endpoints = admin.get("/api/v1/namespaces/default/endpoints/kubernetes");
    assert_eq!(endpoints.at("/subsets/0/addresses/0/ip"), "192.0.2.7");
    let service = r#"{"metadata":{"generateName":"s"},"spec":{"type":"NodePort","ports":[{"port":80}]}}"#;
    let services = "/api/v1/namespaces/default/services";
    for _ in 0..4 {
        let made = admin.post(services, service);
        let port: u16 = made.at("/spec/ports/0/nodePort").parse().unwrap_or_default();
        assert!((31_000..=31_003).contains(&port), "{made:?}");
        assert!(made.at("/spec/clusterIP").starts_with("10.200."), "{made:?}");
    }
    let one_more = admin.post(services, service);
    assert!(one_more.code >= 400 && one_more.body.contains("range is full"), "all ports are taken: {one_more:?}");

    // Kubelets: which address, which certificate, and whose.
    node(&admin, kubelet(&pki));
    let answer = admin.get("/api/v1/nodes/n/proxy/");
    assert_eq!((answer.code, answer.body.as_str()), (200, "to-kubelets"), "{answer:?}");

    // What changes is read again: another certificate, another authority.
    let changed = pki.authority("changed", now());
    pki.server(&changed, "api.example");
    let new = Curl::new(&server.address, &pki.path("changed.crt")).certificate(&pki, "admin");
    wait_for(|| new.user() == "admin");
    pki.client(&changed, "new-admin", &["system:masters"]);
    std::fs::copy(pki.path("changed.crt"), pki.path("ca.crt")).expect("the file can be replaced");
    let new = Curl::new(&server.address, &pki.path("changed.crt"));
    wait_for(|| new.certificate(&pki, "new-admin").user() == "new-admin");
    assert_eq!(new.certificate(&pki, "admin").whoami().code, 401, "the former authority vouches for nobody now");
    // The kubelet's certificate is from the former authority.
    let answer = new.certificate(&pki, "new-admin").get("/api/v1/nodes/n/proxy/");
    assert!(answer.code >= 500, "{answer:?}");
}

/// Waits until something is so; ends the test if that takes far too long.
#[track_caller]
fn wait_for(is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it never came to be");
        std::thread::yield_now();
    }
}

/// A client with the administrator's kubeconfig.
fn administrator(server: &Server, pki: &OwnPki) -> Curl {
    let text = |name: &str| String::from_utf8(server.data(name)).expect("PEM");
    pki.write("server-ca.crt", &text("certificate-authority-data"));
    pki.write("kubeconfig.crt", &text("client-certificate-data"));
    pki.write("kubeconfig.key", &text("client-key-data"));
    Curl::new(&server.address, &pki.path("server-ca.crt")).certificate(pki, "kubeconfig")
}

const POD: &str =
    r#"{"metadata":{"name":"p"},"spec":{"serviceAccountName":"sa","containers":[{"name":"c","image":"i"}]}}"#;

#[test]
fn pods_and_tokens_as_flags_want_them() {
    let pki = OwnPki::new();
    let flags = [
        "--default-not-ready-toleration-seconds=11",
        "--default-unreachable-toleration-seconds=12",
        "--disable-admission-plugins=ServiceAccount",
        "--enable-admission-plugins=Priority",
        "--endpoint-reconciler-type=none",
        "--advertise-address=192.0.2.7",
        "--runtime-config=batch/v1=false,apps/v1/daemonsets=false",
        "--service-account-max-token-expiration=2h",
        "--service-account-extend-token-expiration=false",
        "--service-account-jwks-uri=https://keys.example/jwks",
    ];
    let server = Server::new(&flags);
    let admin = administrator(&server, &pki);
    assert_eq!(admin.get("/apis/batch/v1").code, 404);
    assert_eq!(admin.get("/apis/apps/v1/daemonsets").code, 404);
    assert_eq!(admin.get("/apis/apps/v1/deployments").code, 200);
    assert_eq!(admin.get("/.well-known/openid-configuration").at("/jwks_uri"), "https://keys.example/jwks");
    assert_eq!(admin.get("/api/v1/namespaces/default/endpoints/kubernetes").code, 404);

    // The service account is not there: without the plugin nobody asks.
    let pod = admin.post("/api/v1/namespaces/default/pods", POD);
    assert_eq!(pod.code, 201, "{pod:?}");
    assert_eq!(pod.at("/spec/volumes"), "", "the plugin would mount a token");
    assert_eq!(pod.at("/spec/priority"), "0");
    let seconds = [pod.at("/spec/tolerations/0/tolerationSeconds"), pod.at("/spec/tolerations/1/tolerationSeconds")];
    assert_eq!(seconds, ["11", "12"]);

    assert_eq!(admin.post("/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"sa"}}"#).code, 201);
    let tokens = "/api/v1/namespaces/default/serviceaccounts/sa/token";
    let long = admin.post(tokens, r#"{"spec":{"expirationSeconds":86400}}"#);
    assert_eq!(long.at("/spec/expirationSeconds"), "7200");
    assert!(long.header("warning").contains("requested expiration of 86400 seconds shortened to 7200 seconds"));
    let bound = format!(
        r#"{{"spec":{{"expirationSeconds":3607,"boundObjectRef":{{"apiVersion":"v1","kind":"Pod","name":"p","uid":"{}"}}}}}}"#,
        pod.at("/metadata/uid")
    );
    let claims = claims(&admin.post(tokens, &bound).at("/status/token"));
    assert_eq!(claims["exp"].as_i64().unwrap_or_default() - claims["iat"].as_i64().unwrap_or_default(), 3607);
}

#[test]
fn events_end_when_their_time_is_over() {
    let pki = OwnPki::new();
    let server = Server::new(&["--event-ttl=1s"]);
    let admin = administrator(&server, &pki);
    let event = r#"{"metadata":{"name":"e"},"involvedObject":{"namespace":"default"},"reason":"r","type":"Normal"}"#;
    let made = admin.post("/api/v1/namespaces/default/events", event);
    assert_eq!(made.code, 201, "{made:?}");
    // Events share their leases, which last a minute longer (upstream's figure); the watch says when it is over.
    let watch = format!(
        "/api/v1/namespaces/default/events?watch=1&timeoutSeconds=150&resourceVersion={}",
        made.at("/metadata/resourceVersion")
    );
    let until_deleted = format!("{}{watch}", server.url());
    let arguments = ["--cacert", "server-ca.crt", "--cert", "kubeconfig.crt", "--key", "kubeconfig.key"];
    let arguments = arguments.map(|word| match Path::new(word).extension() {
        Some(_) => pki.path(word).display().to_string(),
        None => word.to_owned(),
    });
    let mut curl = std::process::Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "200"])
        .args(arguments)
        .arg(until_deleted)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("curl starts");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(curl.stdout.take().expect("stdout is piped")));
    let deleted = lines.map_while(Result::ok).find(|line| line.contains(r#""type":"DELETED""#));
    let _ = curl.kill();
    let _ = curl.wait();
    assert!(deleted.is_some_and(|line| line.contains(r#""name":"e""#)), "the Event was never deleted");
}
