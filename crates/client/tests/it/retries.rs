//! What is sent again, and when: on virtual time, over a transport that answers by a script.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Body, Client, DeleteOptions, Options, Rate, Reply, Status, Transport, TransportError, Value};
use http::{Request, Response, StatusCode, header};
use world::{Clock as _, Monotonic, SeededRandom, Timestamp, TokioClock, World};

/// Answers requests one by one: `l` is lost, `r` refused, `h` never comes, `b` breaks within its body, `429`, `503` and
/// so on come with a Retry-After of 2 seconds if a `+` follows, `e` is the refusal of an eviction; after the last all is
/// well.
#[derive(Debug)]
struct Script {
    words: parking_lot::Mutex<Vec<&'static str>>,
    asked: parking_lot::Mutex<Vec<String>>,
    clock: TokioClock,
}

impl Transport for Script {
    fn send(&self, request: Request<Bytes>) -> Reply<'_> {
        Box::pin(async move {
            let passed = self.clock.monotonic().saturating_since(Monotonic::START);
            self.asked.lock().push(format!("{}@{:.1}", request.method(), passed.as_secs_f64()));
            let word = {
                let mut words = self.words.lock();
                if words.is_empty() { "ok" } else { words.remove(0) }
            };
            let status = |status: Status| {
                let text = serde_json(&status.to_value());
                let mut response = Response::new(Body::full(text));
                *response.status_mut() = StatusCode::from_u16(status.code).expect("a code");
                response
            };
            let mut response = match word {
                "ok" => Response::new(Body::full(&b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\"}"[..])),
                "l" => return Err(TransportError::Lost("told to".into())),
                "r" => return Err(TransportError::Connect { server: "it".into(), source: "told to".into() }),
                "h" => std::future::pending().await,
                "b" => Response::new(Body::new(Broken)),
                "e" => {
                    let mut refusal = Status::too_many_requests("a budget forbids it", 2);
                    refusal.causes =
                        vec![api_semantics::status::Cause { reason: "DisruptionBudget".into(), ..Default::default() }];
                    let mut response = status(refusal);
                    response.headers_mut().insert(header::RETRY_AFTER, 2.into());
                    response
                }
                code => {
                    let (code, retry) = code.strip_suffix('+').map_or((code, false), |code| (code, true));
                    let mut response = status(Status::generic(code.parse().expect("a code"), "Told", "told to"));
                    if retry {
                        response.headers_mut().insert(header::RETRY_AFTER, 2.into());
                    }
                    response
                }
            };
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            Ok(response)
        })
    }
}

fn serde_json(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    api_codec::json::encode(None, value, &mut text);
    text
}

/// A body that breaks off.
struct Broken;

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

async fn check(method: &str, script: &[&'static str], asked: &str, result: &str) {
    let clock = TokioClock::new(Timestamp::default());
    let words = parking_lot::Mutex::new(script.to_vec());
    let transport = Arc::new(Script { words, asked: parking_lot::Mutex::default(), clock });
    let world = World { clock: Arc::new(clock), random: Arc::new(SeededRandom::new(1)), ..World::system() };
    let client = Client::new(Arc::clone(&transport) as _, Options { world, ..Options::new("it") });
    let maps = client.resource("", "v1", "configmaps").namespace("default");
    let mut map = Value::default();
    map.set(&["metadata", "name"], "a");
    let answer = match method {
        "GET" => maps.get("a").await.map(drop),
        "POST" => maps.create(&map).await.map(drop),
        "DELETE" => maps.delete("a", &DeleteOptions::default()).await.map(drop),
        other => panic!("{other} is not in the script"),
    };
    let shown = answer.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
    // In whole seconds: the pauses after a loss are fractions of one, by chance.
    let seconds: Vec<String> =
        transport.asked.lock().iter().filter_map(|ask| ask.split('.').next().map(str::to_owned)).collect();
    assert_eq!((seconds.join(" ").as_str(), shown.as_str()), (asked, result), "{method} {script:?}");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_safe_is_sent_again() {
    // A lost read is tried again soon, a lost write is its caller's to judge.
    check("GET", &["l", "b"], "GET@0 GET@0 GET@0", "ok").await;
    check("GET", &["l", "l", "l", "l"], "GET@0 GET@0 GET@0 GET@0", "the connection was lost").await;
    check("POST", &["l"], "POST@0", "the connection was lost").await;
    check("DELETE", &["b"], "DELETE@0", "the connection was lost").await;
    check("GET", &["r"], "GET@0", "connect to it").await;
    check("GET", &["h"], "GET@0", "no answer within 70s").await;
    // Whoever is told when to come back comes back, whatever was asked.
    check("GET", &["429+", "503+"], "GET@0 GET@2 GET@4", "ok").await;
    check("POST", &["429+"], "POST@0 POST@2", "ok").await;
    check("POST", &["500"], "POST@0", "told to").await;
    check("POST", &["429"], "POST@0", "told to").await;
    check("GET", &["409+"], "GET@0", "told to").await;
    check("POST", &["e"], "POST@0", "a budget forbids it").await;
    let asked: Vec<String> = (0..=10).map(|number| format!("GET@{}", number * 2)).collect();
    check("GET", &["429+"; 20], &asked.join(" "), "told to").await;
}

#[tokio::test(start_paused = true)]
async fn a_limited_client_asks_at_its_rate() {
    let clock = TokioClock::new(Timestamp::default());
    let transport =
        Arc::new(Script { words: parking_lot::Mutex::default(), asked: parking_lot::Mutex::default(), clock });
    let world = World { clock: Arc::new(clock), ..World::system() };
    let rate = Some(Rate { per_second: 2.0, burst: 3 });
    let client = Client::new(Arc::clone(&transport) as _, Options { world, rate, ..Options::new("it") });
    let nodes = client.resource("", "v1", "configmaps");
    for _ in 0..5 {
        nodes.namespace("default").get("a").await.expect("an answer");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    nodes.namespace("default").get("a").await.expect("an answer");
    assert_eq!(transport.asked.lock().join(" "), "GET@0.0 GET@0.0 GET@0.0 GET@0.5 GET@1.0 GET@2.0");
}
