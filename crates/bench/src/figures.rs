//! The figures, in the order in which they are measured: each finds the server as the ones before left it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;

use crate::client::{Call, JSON, PROTOBUF};
use crate::load::{self, Cost, Until};
use crate::process;
use crate::server::Server;
use crate::table::{self, Better, Row};
use crate::watch::{self, Fanout, Pace};
use crate::{Options, objects};

const STARTS: usize = 5;
const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);
const LOAD_SECONDS: f64 = 3.0;
const CONNECTIONS: usize = 16;
const PODS: u64 = 5_000;
const POD_BYTES: usize = 2_060;
const LISTS: u64 = 15;
const CONFIGMAPS: &str = "/api/v1/namespaces/bench/configmaps";
const PODS_PATH: &str = "/api/v1/namespaces/pods/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/bench/leases";

/// The rows so far.
struct Rows(Vec<Row>);

impl Rows {
    /// A figure with upstream's value and the limit, where there is one.
    #[expect(clippy::too_many_arguments, reason = "a row of a table has many cells, and reads best as a row")]
    fn add(
        &mut self,
        figure: &str,
        unit: &'static str,
        better: Better,
        measured: f64,
        upstream: impl Into<Option<f64>>,
        limit: impl Into<Option<f64>>,
        note: String,
    ) {
        eprintln!("{figure}: {measured:.3} {unit} ({note})");
        let (upstream, limit) = (upstream.into(), limit.into());
        self.0.push(Row { figure: figure.to_owned(), unit, better, measured, upstream, limit, note });
    }
}

/// The parts that can be measured alone. All but the last share a server; each finds it as the ones before left it.
pub(crate) const PARTS: [&str; 9] =
    ["starts", "idle", "gets", "creates", "updates", "lists", "watches", "memory", "leases"];

/// Measures what is wanted and returns the document.
pub(crate) fn measure(options: &Options) -> Result<String> {
    let began = process::load_average();
    let mut rows = Rows(Vec::new());
    if PARTS.iter().any(|part| *part != "leases" && options.wants(part)) {
        shared(options, &mut rows)?;
    }
    if options.wants("leases") {
        leases(options, &mut rows)?;
    }
    document(&began, &rows.0)
}

/// The parts that share a server.
fn shared(options: &Options, rows: &mut Rows) -> Result<()> {
    let server = match options.wants("starts") {
        true => starts(options, rows)?,
        false => Server::start(&options.kubox, &options.dir)?,
    };
    if options.wants("idle") {
        idle(&server, rows)?;
    }
    prepare(&server)?;
    if options.wants("gets") {
        gets(options, &server, rows)?;
    }
    let mut made = 0;
    if ["creates", "updates"].iter().any(|part| options.wants(part)) {
        made = creates(options, &server, rows)?;
    }
    if options.wants("updates") {
        updates(options, &server, made, rows)?;
    }
    let mut pods = 0;
    if options.wants("lists") {
        pods = lists(options, &server, rows)?;
    }
    if options.wants("watches") {
        made += watches(options, &server, rows)?;
    }
    if options.wants("memory") {
        memory(options, &server, made, pods, rows)?;
    }
    Ok(())
}

fn document(began: &str, rows: &[Row]) -> Result<String> {
    let mut out = String::from("# What kubox costs, beside upstream\n\n");
    write!(
        out,
        "Written by `cargo xtask bench --write` on {} UTC, with kubox {}. Machine: {}.\n\
         Load averages when it began: {began}; when it ended: {}.\n\n\
         TLS on, no gzip, durable writes. Server and client (ours, HTTP/1.1, two threads) share the cores, with each other\n\
         and with whatever else runs: **compare CPU per operation, not rates**; the notes say how many cores others kept\n\
         busy meanwhile. Loads are repeated and the best run counts. CPU is user and system time to the tick (10 ms) of the\n\
         whole process. The binary is built by the profile `release`.\n\
         Upstream's figures are Kubernetes v1.24.0-alpha.1 with etcd 3.4.23 on this kind of machine when it was quiet, CPU\n\
         and memory of both together. \"Times better\" and \"of the limit\" are ratios: above 1 is better; **bold** misses\n\
         the limit.\n\n",
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M"),
        env!("CARGO_PKG_VERSION"),
        process::machine(),
        process::load_average(),
    )
    .context("write the document")?;
    out.push_str(&table::markdown(rows));
    Ok(out)
}

fn starts(options: &Options, rows: &mut Rows) -> Result<Server> {
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..STARTS {
        // The one before has to be gone first.
        drop(last.take());
        let server = Server::start(&options.kubox, &options.dir)?;
        times.push((server.ready_ms, server.cpu_seconds()?));
        last = Some(server);
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, cpu) = times.get(STARTS / 2).copied().context("no start was measured")?;
    let worst = times.last().map_or(median, |time| time.0);
    let note = format!("median of {STARTS}, worst {worst:.0}; {:.0} ms of CPU", cpu * 1e3);
    rows.add("empty folder to `/readyz` ok", "ms", Better::Less, median, 2910.0, 150.0, note);
    last.context("no server was started")
}

fn idle(server: &Server, rows: &mut Rows) -> Result<()> {
    std::thread::sleep(SETTLE);
    let before = server.cpu_seconds()?;
    std::thread::sleep(IDLE);
    let used = (server.cpu_seconds()? - before) / IDLE.as_secs_f64() * 100.0;
    let rss = server.memory_mib("VmRSS")?;
    rows.add("idle RSS", "MiB", Better::Less, rss, 292.0, 30.0, format!("peak {:.1}", server.memory_mib("VmHWM")?));
    // No tick at all is shown as one: the clock cannot tell less.
    let tick = 1.0 / IDLE.as_secs_f64();
    let (shown, words) = if used < tick { (tick, "no tick of 10 ms: at most this, ") } else { (used, "") };
    rows.add("idle CPU", "% of a core", Better::Less, shown, 4.0, 0.2, format!("{words}over {} s", IDLE.as_secs()));
    Ok(())
}

/// The namespaces, and what Pods need in theirs.
fn prepare(server: &Server) -> Result<()> {
    let object = |name: &str| format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}");
    let mut calls: Vec<Call> =
        ["bench", "pods", "watched"].into_iter().map(|name| Call::post("/api/v1/namespaces", object(name))).collect();
    calls.push(Call::post("/api/v1/namespaces/pods/serviceaccounts", object("default")));
    calls.push(Call::post(CONFIGMAPS, objects::configmap("read", 'r')));
    once(server, calls).map(|_| ())
}

/// Sends requests one after the other and returns their answers.
fn once(server: &Server, calls: Vec<Call>) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let mut connection = server.target.connect().await?;
        let mut answers = Vec::new();
        for call in calls {
            answers.push(connection.text(call).await?);
        }
        Ok(answers)
    })
}

/// Runs a load several times.
fn repeat(rounds: usize, mut round: impl FnMut() -> Result<Cost>) -> Result<Vec<Cost>> {
    (0..rounds).map(|_| round()).collect()
}

/// The smallest of the runs' values.
fn least(costs: &[Cost], value: impl Fn(&Cost) -> f64) -> f64 {
    costs.iter().map(value).fold(f64::INFINITY, f64::min)
}

/// The run with the highest rate.
fn fastest(costs: &[Cost]) -> Result<&Cost> {
    costs.iter().max_by(|a, b| a.rate().total_cmp(&b.rate())).context("nothing was measured")
}

fn note(cost: &Cost) -> String {
    format!(
        "p50 {:.2} ms, p99 {:.2} ms; client {:.0} us of CPU each; {:.0} B answers; others {:.1} cores",
        cost.percentile_ms(0.5),
        cost.percentile_ms(0.99),
        cost.client_us(),
        cost.answer_bytes,
        cost.others_cores()
    )
}

fn one_note(cost: &Cost) -> String {
    format!("{:.0}/s; server {:.0} us of CPU each; {}", cost.rate(), cost.server_us(), note(cost))
}

fn gets(options: &Options, server: &Server, rows: &mut Rows) -> Result<()> {
    let call: load::MakeCall = Arc::new(|_, _| Call::get(format!("{CONFIGMAPS}/read")));
    let one = repeat(options.rounds, || load::run(server, 1, Until::Seconds(LOAD_SECONDS), 0, call.clone()))?;
    let best = fastest(&one)?;
    let p50 = least(&one, |cost| cost.percentile_ms(0.5));
    rows.add("GET ConfigMap 1 KB, 1 connection, p50", "ms", Better::Less, p50, 0.97, 0.15, one_note(best));
    let many =
        repeat(options.rounds, || load::run(server, CONNECTIONS, Until::Seconds(LOAD_SECONDS), 0, call.clone()))?;
    let best = fastest(&many)?;
    rows.add("GET, 16 connections", "/s", Better::More, best.rate(), 3264.0, 20_000.0, note(best));
    let cpu = least(&many, Cost::server_us);
    rows.add("GET, 16 connections, server CPU", "us", Better::Less, cpu, 469.0, 50.0, String::new());
    Ok(())
}

/// Creates a part of the ConfigMaps; returns how many there are then.
fn creates(options: &Options, server: &Server, rows: &mut Rows) -> Result<u64> {
    // Memory is measured at a stated number of objects, however fast they were made.
    let count = options.configmaps * 3 / 4 / options.rounds as u64;
    let mut made = 0;
    let costs = repeat(options.rounds, || {
        let cost = load::run(server, CONNECTIONS, Until::Count(count), made, Arc::new(create_call))?;
        made += cost.count;
        Ok(cost)
    })?;
    let best = fastest(&costs)?;
    rows.add("durable create 1 KB, 16 connections", "/s", Better::More, best.rate(), 1408.0, 8000.0, note(best));
    let cpu = least(&costs, Cost::server_us);
    rows.add("create, server CPU", "us", Better::Less, cpu, 1138.0, None, String::new());
    Ok(made)
}

fn create_call(_: usize, number: u64) -> Call {
    Call::post(CONFIGMAPS, objects::configmap(&format!("c-{number}"), 'c'))
}

fn updates(options: &Options, server: &Server, made: u64, rows: &mut Rows) -> Result<()> {
    let existing = made.max(1);
    let mut first = 0;
    let costs = repeat(options.rounds, || {
        let call: load::MakeCall = Arc::new(move |_, number| {
            let name = format!("c-{}", number % existing);
            // Another letter each time round: an update that changes nothing is not written.
            let letter = if (number / existing).is_multiple_of(2) { 'u' } else { 'v' };
            Call::put(format!("{CONFIGMAPS}/{name}"), objects::configmap(&name, letter))
        });
        let cost = load::run(server, CONNECTIONS, Until::Seconds(LOAD_SECONDS), first, call)?;
        first += cost.count;
        Ok(cost)
    })?;
    let best = fastest(&costs)?;
    rows.add("durable update 1 KB, 16 connections", "/s", Better::More, best.rate(), 1110.0, 7000.0, note(best));
    let cpu = least(&costs, Cost::server_us);
    rows.add("update, server CPU", "us", Better::Less, cpu, 1573.0, None, String::new());
    Ok(())
}

/// Measures lists; returns how many Pods there are then.
fn lists(options: &Options, server: &Server, rows: &mut Rows) -> Result<u64> {
    // One Pod tells how much padding makes them as large as upstream's were.
    let probe = once(
        server,
        vec![
            Call::post(PODS_PATH, objects::pod("probe-0", 0)),
            Call { method: http::Method::DELETE, ..Call::get(format!("{PODS_PATH}/probe-0?gracePeriodSeconds=0")) },
        ],
    )?;
    let padding = POD_BYTES.saturating_sub(probe.first().map_or(0, String::len));
    let call: load::MakeCall =
        Arc::new(move |_, number| Call::post(PODS_PATH, objects::pod(&format!("pod-{number}"), padding)));
    let filled = load::run(server, CONNECTIONS, Until::Count(PODS), 0, call)?;
    rows.add("create Pod 2 KB, 16 connections", "/s", Better::More, filled.rate(), None, None, note(&filled));
    rows.add("create Pod, server CPU", "us", Better::Less, filled.server_us(), None, None, String::new());
    for (format, accept, upstream, limit) in [("JSON", JSON, Some(137.0), 20.0), ("protobuf", PROTOBUF, None, 5.0)] {
        let call: load::MakeCall = Arc::new(move |_, _| Call { accept, ..Call::get(PODS_PATH) });
        let costs = repeat(options.rounds, || load::run(server, 1, Until::Count(LISTS), 0, call.clone()))?;
        let p50 = least(&costs, |cost| cost.percentile_ms(0.5));
        let best = fastest(&costs)?;
        let note = format!(
            "{:.1} MB; worst {:.1} ms; CPU of one: server {:.1} ms, client {:.1} ms; others {:.1} cores",
            best.answer_bytes / 1e6,
            best.percentile_ms(1.0),
            least(&costs, Cost::server_us) / 1e3,
            best.client_us() / 1e3,
            best.others_cores()
        );
        rows.add(&format!("LIST 5,000 pods, {format}, p50"), "ms", Better::Less, p50, upstream, limit, note);
    }
    Ok(PODS)
}

/// Measures the watchers; returns how many ConfigMaps were made.
fn watches(options: &Options, server: &Server, rows: &mut Rows) -> Result<u64> {
    let burst = (0..options.rounds)
        .map(|round| watch::run(server, "watched", round, Pace::AtOnce))
        .collect::<Result<Vec<Fanout>>>()?;
    let rate = burst.iter().map(|fanout| fanout.events_per_second).fold(0.0, f64::max);
    let smallest = |value: fn(&Fanout) -> f64| burst.iter().map(value).fold(f64::INFINITY, f64::min);
    let name = format!("{} watchers x {} creates at once", watch::WATCHERS, watch::CREATES);
    let others = smallest(|fanout| fanout.others_cores);
    let note = format!(
        "events of {:.0} B; CPU of one: server {:.1} us, client {:.1} us; others {others:.1} cores",
        burst.first().map_or(0.0, |fanout| fanout.event_bytes),
        smallest(|fanout| fanout.server_us),
        smallest(|fanout| fanout.client_us),
    );
    rows.add(&name, "events/s", Better::More, rate, 51_600.0, 200_000.0, note);
    let note =
        format!("from sending the create, 16 at a time, to arrival; p50 {:.0} ms", smallest(|fanout| fanout.p50_ms));
    rows.add("the same, p99", "ms", Better::Less, smallest(|fanout| fanout.p99_ms), 905.0, 500.0, note);
    let paced = watch::run(server, "watched", options.rounds, Pace::Every(Duration::from_millis(20)))?;
    let note = format!(
        "p50 {:.1} ms; CPU of an event: server {:.1} us, client {:.1} us; others {:.1} cores",
        paced.p50_ms, paced.server_us, paced.client_us, paced.others_cores
    );
    rows.add("the same at 50 creates/s, p99", "ms", Better::Less, paced.p99_ms, 13.4, 5.0, note);
    Ok((options.rounds as u64 + 1) * watch::CREATES as u64)
}

fn memory(options: &Options, server: &Server, made: u64, pods: u64, rows: &mut Rows) -> Result<()> {
    let missing = options.configmaps.saturating_sub(made);
    if missing > 0 {
        let call: load::MakeCall =
            Arc::new(|_, number| Call::post(CONFIGMAPS, objects::configmap(&format!("f-{number}"), 'f')));
        load::run(server, CONNECTIONS, Until::Count(missing), 0, call)?;
    }
    let note = format!(
        "{} ConfigMaps of 1 KB, {pods} Pods; peak {:.0} MiB; data folder {:.0} MiB",
        made.max(options.configmaps),
        server.memory_mib("VmHWM")?,
        server.data_mib()?
    );
    rows.add("RSS after all of it", "MiB", Better::Less, server.memory_mib("VmRSS")?, 2120.0, 200.0, note);
    Ok(())
}

/// On a server of its own: its data folder shall hold nothing else.
fn leases(options: &Options, rows: &mut Rows) -> Result<()> {
    let server = &Server::start(&options.kubox, &options.dir)?;
    let mut calls = vec![Call::post("/api/v1/namespaces", "{\"metadata\":{\"name\":\"bench\"}}")];
    calls.extend((0..CONNECTIONS).map(|index| Call::post(LEASES, objects::lease(&format!("node-{index}"), 0, None))));
    once(server, calls)?;
    let before = server.data_mib()?;
    let path = |connection: usize| format!("{LEASES}/node-{connection}");
    let known = once(server, (0..CONNECTIONS).map(|connection| Call::get(path(connection))).collect())?;
    let version_of = |lease: &str| objects::resource_version(lease).unwrap_or_default().to_owned();
    let versions: Arc<Vec<Mutex<String>>> = Arc::new(known.iter().map(|lease| Mutex::new(version_of(lease))).collect());
    let call: load::MakeCall = Arc::new({
        let versions = versions.clone();
        move |connection, number| {
            let version = versions.get(connection).map(|version| version.lock().clone());
            let body = objects::lease(&format!("node-{connection}"), number + 1, version.as_deref());
            Call::put(path(connection), body)
        }
    });
    let answered: load::Answered = Arc::new(move |connection, lease| {
        if let Some(version) = versions.get(connection) {
            *version.lock() = version_of(lease);
        }
    });
    // In tenths, so that the first can be compared with the last.
    let tenth = (options.lease_updates / 10).max(1);
    let tenths = (0..10)
        .map(|index| {
            let until = Until::Count(tenth);
            load::run_reading(server, CONNECTIONS, until, index * tenth, call.clone(), Some(answered.clone()))
        })
        .collect::<Result<Vec<Cost>>>()?;
    let (first, last) = (tenths.first().context("no updates")?, tenths.last().context("no updates")?);
    let folder = server.data_mib()?;
    let name = format!("{} lease updates: data folder", tenth * 10);
    let state = format!("{before:.0} MiB before; RSS then {:.0} MiB", server.memory_mib("VmRSS")?);
    rows.add(&name, "MiB", Better::Less, folder, None, 64.0, state);
    rows.add("the same: growth of the data folder", "MiB", Better::Less, folder - before, None, None, String::new());
    let words =
        format!("first tenth {:.0}/s, others {:.1} cores; last: {}", first.rate(), first.others_cores(), note(last));
    rows.add("the same: rate in the last tenth", "/s", Better::More, last.rate(), None, first.rate(), words);
    let each: Vec<String> = tenths.iter().map(|tenth| format!("{:.0}", tenth.server_us())).collect();
    let words = format!("the first tenth's is the limit; each tenth: {}", each.join(", "));
    rows.add("the same: server CPU", "us", Better::Less, last.server_us(), None, first.server_us(), words);
    Ok(())
}
