//! Many watchers of one resource while objects are created: how many events arrive in a second, and how late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use crate::client::{Call, Target};
use crate::load::{Cpu, connect_all, percentile};
use crate::objects;
use crate::server::Server;

/// Watchers, each on its own connection.
pub(crate) const WATCHERS: usize = 200;
/// Objects created while they watch.
pub(crate) const CREATES: usize = 500;
/// Connections that create at once.
const CREATORS: usize = 16;
const WATCH_THREADS: usize = 2;
const ARRIVAL_SECONDS_MAX: u64 = 60;

/// How fast the objects are created.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As fast as 16 connections can.
    AtOnce,
    /// One each time so much has passed.
    Every(Duration),
}

/// What the watchers saw.
pub(crate) struct Fanout {
    /// Events that arrived in a second, from the first request to the last arrival.
    pub(crate) events_per_second: f64,
    /// Milliseconds from sending the create to the arrival of its event, by share of the events.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Bytes of an event.
    pub(crate) event_bytes: f64,
    /// CPU microseconds for one event.
    pub(crate) server_us: f64,
    pub(crate) client_us: f64,
    /// Cores that others kept busy meanwhile.
    pub(crate) others_cores: f64,
}

/// Creates `CREATES` ConfigMaps, named after the round, in a namespace that `WATCHERS` watch.
pub(crate) fn run(server: &Server, namespace: &str, round: usize, pace: Pace) -> Result<Fanout> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let listed =
        runtime.block_on(async { server.target.connect().await?.text(Call::get(format!("{path}?limit=1"))).await })?;
    let listed: serde_json::Value = serde_json::from_str(&listed).context("read the list")?;
    let version = listed.pointer("/metadata/resourceVersion").and_then(|value| value.as_str());
    let version = version.context("the list has no resourceVersion")?;
    let shared = Arc::new(Shared {
        watch_path: format!("{path}?watch=true&resourceVersion={version}&timeoutSeconds=600"),
        create_path: path,
        name: format!("w{round}-"),
        epoch: Instant::now(),
        sent_micros: (0..CREATES).map(|_| AtomicU64::new(0)).collect(),
        next: AtomicU64::new(0),
    });
    let barrier = Barrier::new(WATCH_THREADS + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WATCH_THREADS)
            .map(|_| {
                let (barrier, shared, target) = (&barrier, &shared, &server.target);
                scope.spawn(move || watch(target, WATCHERS / WATCH_THREADS, barrier, shared))
            })
            .collect();
        let creators = runtime.block_on(connect_all(&server.target, CREATORS));
        barrier.wait();
        let (started, before) = (shared.epoch.elapsed(), Cpu::now(server)?);
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for connection in creators? {
                tasks.spawn(create(connection, shared.clone(), pace, started));
            }
            while let Some(done) = tasks.join_next().await {
                done.context("a creator's task panicked")??;
            }
            anyhow::Ok(())
        })?;
        let (mut latencies, mut bytes, mut ended) = (Vec::new(), 0, started);
        for thread in threads {
            for seen in thread.join().map_err(|_| anyhow!("a watching thread panicked"))?? {
                latencies.extend(seen.latencies);
                bytes += seen.bytes;
                ended = ended.max(seen.last);
            }
        }
        let (seconds, cpu) = ((ended - started).as_secs_f64(), before.since(server)?);
        latencies.sort_unstable();
        let count = latencies.len() as f64;
        Ok(Fanout {
            events_per_second: count / seconds,
            p50_ms: percentile(&latencies, 0.5).as_secs_f64() * 1e3,
            p99_ms: percentile(&latencies, 0.99).as_secs_f64() * 1e3,
            event_bytes: bytes as f64 / count,
            server_us: cpu.server * 1e6 / count,
            client_us: cpu.client * 1e6 / count,
            others_cores: cpu.others / seconds,
        })
    })
}

struct Shared {
    watch_path: String,
    create_path: String,
    name: String,
    epoch: Instant,
    /// When each create was sent, counted from the epoch.
    sent_micros: Vec<AtomicU64>,
    next: AtomicU64,
}

/// What one watcher saw.
struct Seen {
    latencies: Vec<Duration>,
    bytes: usize,
    last: Duration,
}

async fn create(
    mut connection: crate::client::Connection,
    shared: Arc<Shared>,
    pace: Pace,
    started: Duration,
) -> Result<()> {
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(sent) = usize::try_from(number).ok().and_then(|index| shared.sent_micros.get(index)) else {
            return Ok(());
        };
        let body = objects::configmap(&format!("{}{number:06}", shared.name), 'w');
        if let Pace::Every(pause) = pace {
            let due = shared.epoch + started + pause * u32::try_from(number).context("count the creates")?;
            tokio::time::sleep_until(due.into()).await;
        }
        sent.store(u64::try_from(shared.epoch.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Release);
        connection.drain(Call::post(shared.create_path.clone(), body)).await?;
    }
}

/// One thread with its share of the watchers, which all stand before the barrier opens.
fn watch(target: &Target, count: usize, barrier: &Barrier, shared: &Arc<Shared>) -> Result<Vec<Seen>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime");
    let opened = runtime.and_then(|runtime| {
        let bodies = runtime.block_on(async {
            let mut bodies = Vec::new();
            for mut connection in connect_all(target, count).await? {
                let body = connection.send(Call::get(shared.watch_path.clone())).await?.into_body();
                bodies.push((connection, body));
            }
            anyhow::Ok(bodies)
        })?;
        Ok((runtime, bodies))
    });
    barrier.wait();
    let (runtime, bodies) = opened?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (connection, body) in bodies {
            let shared = shared.clone();
            tasks.spawn(async move {
                let read = tokio::time::timeout(Duration::from_secs(ARRIVAL_SECONDS_MAX), read(body, &shared));
                let seen = read.await.context("events did not arrive in time")?;
                drop(connection);
                seen
            });
        }
        let mut all = Vec::new();
        while let Some(done) = tasks.join_next().await {
            all.push(done.context("a watcher's task panicked")??);
        }
        Ok(all)
    })
}

/// Reads a watch until every created object was seen.
async fn read(mut body: Incoming, shared: &Shared) -> Result<Seen> {
    let needle = format!("\"name\":\"{}", shared.name);
    let finder = memchr::memmem::Finder::new(&needle);
    let mut seen = Seen { latencies: Vec::with_capacity(CREATES), bytes: 0, last: Duration::ZERO };
    let mut pending: Vec<u8> = Vec::new();
    while seen.latencies.len() < CREATES {
        let Some(frame) = body.frame().await else { bail!("a watch ended after {} events", seen.latencies.len()) };
        let now = shared.epoch.elapsed();
        let Ok(data) = frame.context("read the watch")?.into_data() else { continue };
        seen.bytes += data.len();
        pending.extend_from_slice(&data);
        let mut rest = pending.as_slice();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            let number =
                number_after(line, &finder).with_context(|| format!("not an event of ours: {}", show(line)))?;
            let sent = shared.sent_micros.get(number).context("an event of an object that was not created")?;
            seen.latencies.push(now.saturating_sub(Duration::from_micros(sent.load(Ordering::Acquire))));
            seen.last = now;
        }
        let kept = rest.len();
        pending.drain(..pending.len() - kept);
    }
    Ok(seen)
}

/// The running number in the name of an event's object.
fn number_after(line: &[u8], name: &memchr::memmem::Finder<'_>) -> Option<usize> {
    let start = name.find(line)? + name.needle().len();
    std::str::from_utf8(line.get(start..start + 6)?).ok()?.parse().ok()
}

fn show(line: &[u8]) -> String {
    String::from_utf8_lossy(line.get(..200).unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    fn check(line: &str, expect: Option<usize>) {
        let finder = memchr::memmem::Finder::new("\"name\":\"w1-");
        assert_eq!(super::number_after(line.as_bytes(), &finder), expect, "{line}");
    }

    #[test]
    fn an_event_tells_which_create_it_is_of() {
        check(r#"{"type":"ADDED","object":{"metadata":{"name":"w1-000042"}}}"#, Some(42));
        check(r#"{"type":"ADDED","object":{"metadata":{"name":"w2-000042"}}}"#, None);
        check(r#"{"type":"ADDED","object":{"metadata":{"name":"w1-0000"}}}"#, None);
        check(r#"{"type":"ERROR","object":{"kind":"Status"}}"#, None);
    }
}
