//! Registries that misbehave: what passes is survived, what does not is told in words that help.

use std::time::Duration;

use images::{Credentials, ErrorKind, Image, PullOptions, Result};

use crate::support::Bench;
use crate::support::image::{Packing, TestImage};
use crate::support::registry::{FaultyRegistry, Reply, Request};
use crate::support::tarball::Tar;

/// Three layers; the second is large.
fn image() -> TestImage {
    let noise: Vec<u8> = (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let layers = [
        Tar::new().file("one", b"1").finish(),
        Tar::new().file("noise", &noise).finish(),
        Tar::new().file("three", b"3").finish(),
    ];
    TestImage::new(&layers, Packing::Plain)
}

struct Trial {
    bench: Bench,
    registry: FaultyRegistry,
    image: TestImage,
}

impl Trial {
    fn new(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Trial {
        let bench = Bench::with(|config| {
            config.registry.backoff_min = Duration::from_millis(1);
            config.registry.timeouts.answer = Duration::from_millis(500);
            config.registry.timeouts.idle = Duration::from_millis(500);
        });
        let registry = FaultyRegistry::start(script);
        let image = image();
        registry.put("a", "1", &image);
        Trial { bench, registry, image }
    }

    fn name(&self) -> String {
        format!("{}/a:1", self.registry.address())
    }

    fn pull(&self, options: PullOptions) -> Result<Image> {
        self.bench.wait(self.bench.images().pull(&self.name(), options))
    }

    /// The large layer's requests: their ranges.
    fn ranges(&self) -> Vec<String> {
        let large = images::Digest::of(&self.image.layers[1].0);
        let of_large = |request: &Request| request.path.ends_with(large.as_str());
        self.registry
            .requests()
            .iter()
            .filter(|request| of_large(request))
            .map(|request| request.header("range").to_owned())
            .collect()
    }
}

fn is_blob(request: &Request) -> bool {
    request.path.contains("/blobs/")
}

/// The pull works in spite of the script.
fn survived(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Trial {
    let trial = Trial::new(script);
    let image = trial.pull(PullOptions::default()).unwrap_or_else(|error| panic!("{}", error.message()));
    assert_eq!(image.id, trial.image.id());
    assert_eq!(std::fs::read_dir(trial.bench.path("store/ingest")).unwrap().count(), 0);
    trial
}

/// The pull fails, with this kind and these last words (`{}` is the registry's address).
fn failed(kind: ErrorKind, words: &str, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Trial {
    let trial = Trial::new(script);
    let error = trial.pull(PullOptions::default()).unwrap_err();
    let words = words.replace("{}", &trial.registry.address()).replace("{manifest}", trial.image.digest().as_str());
    assert!(error.message().ends_with(&words), "{}", error.message());
    assert_eq!(error.kind(), kind, "{}", error.message());
    assert!(error.message().starts_with(&format!("failed to pull and unpack image {:?}: ", trial.name())));
    assert!(trial.bench.images().list().is_empty());
    trial
}

#[test]
fn passing_failures_are_survived() {
    for reply in [Reply::status(500), Reply::status(503), Reply::status(429), Reply::HangUp] {
        survived(move |request| if request.earlier == 0 { reply.clone() } else { Reply::Well });
    }
}

#[test]
fn broken_downloads_go_on_where_they_broke() {
    let trial = survived(|request| if is_blob(request) { Reply::Cut(500_000) } else { Reply::Well });
    assert_eq!(trial.ranges(), ["", "bytes=500000-", "bytes=1000000-", "bytes=1500000-"]);
    let trial =
        survived(|request| if is_blob(request) && request.earlier == 0 { Reply::Stall(700_000) } else { Reply::Well });
    assert_eq!(trial.ranges(), ["", "bytes=700000-"]);
    let trial = survived(|request| match request.earlier {
        0 if is_blob(request) => Reply::Cut(900_000),
        _ => Reply::NoRange,
    });
    assert_eq!(trial.ranges(), ["", "bytes=900000-"], "what comes from the start again is taken from the start");
}

#[test]
fn a_registry_without_head_is_asked_with_get() {
    survived(|request| if request.method == "HEAD" { Reply::status(405) } else { Reply::Well });
}

#[test]
fn wrong_content_is_never_taken() {
    let trial = failed(ErrorKind::DigestMismatch, ": failed precondition", |request| {
        if is_blob(request) && request.path.len() > 80 { Reply::Lie } else { Reply::Well }
    });
    assert_eq!(trial.bench.images().usage().inodes, 1, "only the manifest came");
}

#[test]
fn lasting_failures_are_told() {
    let head = "Head \"http://{}/v2/a/manifests/1\": ";
    failed(ErrorKind::NotFound, "failed to resolve reference \"{}/a:1\": {}/a:1: not found", |_| Reply::status(404));
    failed(
        ErrorKind::Registry,
        "unexpected status from HEAD request to http://{}/v2/a/manifests/1: 503 Service Unavailable",
        |_| Reply::status(503),
    );
    failed(ErrorKind::TooManyRequests, "429 Too Many Requests", |_| Reply::status(429));
    failed(ErrorKind::Unauthorized, "403 Forbidden", |_| Reply::status(403));
    failed(ErrorKind::Unreachable, &format!("{head}EOF"), |_| Reply::HangUp);
    failed(ErrorKind::Unreachable, &format!("{head}net/http: timeout awaiting response headers"), |_| Reply::Silence);
    failed(
        ErrorKind::NotFound,
        ": not found",
        |request| if is_blob(request) { Reply::status(404) } else { Reply::Well },
    );
    failed(
        ErrorKind::Unreachable,
        "unexpected EOF",
        |request| if is_blob(request) { Reply::Cut(0) } else { Reply::Well },
    );
    failed(
        ErrorKind::Registry,
        "unexpected status from GET request to http://{}/v2/a/manifests/{manifest}: 500 Internal Server Error: broken: no disk",
        |request| {
            let body = r#"{"errors":[{"code":"BROKEN","message":"no disk"}]}"#.to_owned();
            if request.method == "GET" { Reply::Status(500, Vec::new(), body) } else { Reply::Well }
        },
    );
}

#[test]
fn who_asks_for_much_patience_is_not_waited_for() {
    let later = || Reply::Status(429, vec![("Retry-After".to_owned(), "3600".to_owned())], String::new());
    let trial = failed(ErrorKind::TooManyRequests, "429 Too Many Requests", move |_| later());
    assert_eq!(trial.registry.log().len(), 1);
}

#[test]
fn registries_that_are_not_there_are_unreachable() {
    let bench = Bench::new();
    let error = bench.wait(bench.images().pull("127.0.0.1:1/a:1", PullOptions::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        error.message(),
        "failed to pull and unpack image \"127.0.0.1:1/a:1\": failed to resolve reference \"127.0.0.1:1/a:1\": \
         failed to do request: Head \"https://127.0.0.1:1/v2/a/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
}

/// A registry that wants a token, and the service that gives it.
fn token_script(wanted: &'static str) -> impl Fn(&Request) -> Reply + Send + Sync {
    move |request| {
        if request.path.starts_with("/token") {
            let known = request.header("authorization") == wanted || request.body.contains(wanted);
            let body = r#"{"access_token":"t0ken"}"#.to_owned();
            return if known { Reply::Status(200, Vec::new(), body) } else { Reply::status(401) };
        }
        if request.header("authorization") == "Bearer t0ken" {
            return Reply::Well;
        }
        let realm = format!(
            "Bearer realm=\"http://{}/token?x=1\",service=\"s\",scope=\"repository:a:pull\"",
            request.header("host")
        );
        Reply::Status(401, vec![("WWW-Authenticate".to_owned(), realm)], String::new())
    }
}

#[test]
fn tokens_are_fetched_once_a_pull() {
    let trial = survived(token_script(""));
    let log = trial.registry.log();
    assert_eq!(
        log.iter().filter(|line| line.contains("/token")).collect::<Vec<_>>(),
        ["GET /token?x=1&service=s&scope=repository%3Aa%3Apull"]
    );
}

#[test]
fn tokens_are_fetched_with_passwords_and_identities() {
    let by_password = Credentials { username: "u".to_owned(), password: "p".to_owned(), ..Credentials::default() };
    let trial = Trial::new(token_script("Basic dTpw"));
    trial.pull(PullOptions { credentials: by_password, progress: None }).unwrap();
    assert!(trial.registry.log().iter().any(|line| line.ends_with("&account=u")));

    let by_identity = Credentials { identity_token: "who".to_owned(), ..Credentials::default() };
    let trial = Trial::new(token_script("refresh_token=who"));
    trial.pull(PullOptions { credentials: by_identity, progress: None }).unwrap();

    let by_token = Credentials { registry_token: "t0ken".to_owned(), ..Credentials::default() };
    let trial = Trial::new(token_script("nobody"));
    trial.pull(PullOptions { credentials: by_token, progress: None }).unwrap();
    assert!(!trial.registry.log().iter().any(|line| line.contains("/token")));
}

#[test]
fn tokens_that_are_refused_are_told() {
    failed(
        ErrorKind::Unauthorized,
        "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to \
         http://{}/token?x=1&service=s&scope=repository%3Aa%3Apull: 401 Unauthorized",
        token_script("somebody"),
    );
    failed(
        ErrorKind::Unauthorized,
        "pull access denied, repository does not exist or may require authorization: \
         server message: insufficient_scope: authorization failed",
        |request| match request.path.starts_with("/token") {
            true => Reply::Status(200, Vec::new(), r#"{"token":"t"}"#.to_owned()),
            false => {
                let realm =
                    format!("Bearer realm=\"http://{}/token\",error=\"insufficient_scope\"", request.header("host"));
                Reply::Status(401, vec![("WWW-Authenticate".to_owned(), realm)], String::new())
            }
        },
    );
}

#[test]
fn redirections_do_not_carry_our_secrets_away() {
    let storage = std::sync::Arc::new(FaultyRegistry::start(|request| {
        if request.header("authorization").is_empty() { Reply::Well } else { Reply::status(400) }
    }));
    let there = storage.address();
    let token = token_script("");
    let trial = Trial::new(move |request| match token(request) {
        Reply::Well if is_blob(request) => {
            Reply::Status(307, vec![("Location".to_owned(), format!("http://{there}{}", request.path))], String::new())
        }
        other => other,
    });
    storage.put("a", "1", &trial.image);
    trial.pull(PullOptions::default()).unwrap();
    assert_eq!(storage.log().len(), 4, "the config and three layers");
    failed(ErrorKind::Unreachable, "stopped after 10 redirects", |request| {
        Reply::Status(302, vec![("Location".to_owned(), request.path.clone())], String::new())
    });
}

#[test]
fn pulls_at_the_same_time_share_their_downloads() {
    let trial = Trial::new(|_| Reply::Well);
    let images = trial.bench.images().clone();
    let name = trial.name();
    trial.bench.wait(async move {
        let mut pulls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (images, name) = (images.clone(), name.clone());
            pulls.spawn(async move { images.pull(&name, PullOptions::default()).await });
        }
        while let Some(pulled) = pulls.join_next().await {
            pulled.unwrap().unwrap();
        }
    });
    for blob in trial.image.blobs() {
        let path = format!("GET /v2/a/blobs/{}", images::Digest::of(blob));
        assert_eq!(trial.registry.log().iter().filter(|line| **line == path).count(), 1, "{path}");
    }
    assert_eq!(std::fs::read_dir(trial.bench.path("store/layers")).unwrap().count(), 3);
}

#[test]
fn a_dropped_pull_stops_and_the_next_one_works() {
    let trial =
        Trial::new(|request| if is_blob(request) && request.earlier == 0 { Reply::Stall(1000) } else { Reply::Well });
    let images = trial.bench.images().clone();
    let name = trial.name();
    trial.bench.wait(async {
        let progress = std::sync::Arc::new(images::Progress::default());
        let options = PullOptions { progress: Some(progress.clone()), ..PullOptions::default() };
        let pull = tokio::spawn(async move { images.pull(&name, options).await });
        while progress.bytes().0 == 0 {
            tokio::task::yield_now().await;
        }
        pull.abort();
        assert!(pull.await.unwrap_err().is_cancelled());
    });
    trial.pull(PullOptions::default()).unwrap();
}
