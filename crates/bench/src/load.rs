//! Load: many connections that each send the next request as soon as the last was answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tokio::task::JoinSet;

use crate::client::{Call, Connection, Target};
use crate::process;
use crate::server::Server;

/// Threads of the client; each drives its share of the connections on a runtime of its own.
const THREADS: usize = 2;

/// When a load ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After so many seconds.
    Seconds(f64),
    /// After so many requests.
    Count(u64),
}

/// What a load cost.
pub(crate) struct Cost {
    /// Requests answered.
    pub(crate) count: u64,
    /// Wall time.
    pub(crate) seconds: f64,
    /// Times from request to the end of the answer, ascending.
    pub(crate) latencies: Vec<Duration>,
    /// Bytes of a body sent back, on average.
    pub(crate) answer_bytes: f64,
    /// CPU seconds of the server, of this client, and of everything else on the machine.
    pub(crate) cpu: Cpu,
}

/// CPU seconds by who used them.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) server: f64,
    pub(crate) client: f64,
    pub(crate) others: f64,
}

impl Cpu {
    /// What was used until now.
    pub(crate) fn now(server: &Server) -> Result<Cpu> {
        let (machine, client) = (process::machine_busy_seconds()?, process::cpu_seconds(std::process::id())?);
        let server = server.cpu_seconds()?;
        Ok(Cpu { server, client, others: machine - server - client })
    }

    /// What was used since.
    pub(crate) fn since(self, server: &Server) -> Result<Cpu> {
        let now = Cpu::now(server)?;
        Ok(Cpu {
            server: now.server - self.server,
            client: now.client - self.client,
            others: (now.others - self.others).max(0.0),
        })
    }
}

impl Cost {
    /// Requests in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// Milliseconds that the given share of the requests took at most.
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        percentile(&self.latencies, share).as_secs_f64() * 1e3
    }

    /// Microseconds of the server's CPU for one request.
    pub(crate) fn server_us(&self) -> f64 {
        self.cpu.server * 1e6 / self.count as f64
    }

    /// Microseconds of this client's CPU for one request.
    pub(crate) fn client_us(&self) -> f64 {
        self.cpu.client * 1e6 / self.count as f64
    }

    /// Cores that others kept busy meanwhile.
    pub(crate) fn others_cores(&self) -> f64 {
        self.cpu.others / self.seconds
    }
}

/// The value that the given share of an ascending list does not exceed.
pub(crate) fn percentile(ascending: &[Duration], share: f64) -> Duration {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Makes the request with a running number, for a connection.
pub(crate) type MakeCall = Arc<dyn Fn(usize, u64) -> Call + Send + Sync>;

/// Is told the answer that a connection got, where the next request depends on it.
pub(crate) type Answered = Arc<dyn Fn(usize, &str) + Send + Sync>;

/// Runs a load whose answers nobody reads; the numbers of its requests begin at `first`.
pub(crate) fn run(server: &Server, connections: usize, until: Until, first: u64, call: MakeCall) -> Result<Cost> {
    run_reading(server, connections, until, first, call, None)
}

/// Runs a load, and hands its answers on if somebody asks.
pub(crate) fn run_reading(
    server: &Server,
    connections: usize,
    until: Until,
    first: u64,
    call: MakeCall,
    answered: Option<Answered>,
) -> Result<Cost> {
    let threads = THREADS.min(connections);
    let barrier = Barrier::new(threads + 1);
    let (last, deadline) = match until {
        Until::Seconds(seconds) => (u64::MAX, Duration::from_secs_f64(seconds)),
        Until::Count(count) => (first + count, Duration::MAX),
    };
    let plan = Arc::new(Plan { next: AtomicU64::new(first), last, deadline, call, answered });
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, plan, target) = (&barrier, &plan, &server.target);
                let mine: Vec<usize> = (thread..connections).step_by(threads).collect();
                scope.spawn(move || worker(target, &mine, barrier, plan))
            })
            .collect();
        barrier.wait();
        let (started, before) = (Instant::now(), Cpu::now(server)?);
        let (mut latencies, mut bytes) = (Vec::new(), 0);
        for worker in workers {
            let (more, read) = worker.join().map_err(|_| anyhow!("a client thread panicked"))??;
            latencies.extend(more);
            bytes += read;
        }
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), before.since(server)?);
        latencies.sort_unstable();
        let count = latencies.len() as u64;
        Ok(Cost { count, seconds, latencies, answer_bytes: bytes as f64 / count as f64, cpu })
    })
}

/// What the connections of one load share.
struct Plan {
    next: AtomicU64,
    last: u64,
    deadline: Duration,
    call: MakeCall,
    answered: Option<Answered>,
}

/// One thread: its connections, opened before the barrier, each sending until the end.
fn worker(
    target: &Target,
    connections: &[usize],
    barrier: &Barrier,
    plan: &Arc<Plan>,
) -> Result<(Vec<Duration>, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime");
    let opened = runtime.and_then(|runtime| {
        let opened = runtime.block_on(connect_all(target, connections.len()))?;
        Ok((runtime, opened))
    });
    // Everybody passes the barrier, also who failed: the others would wait forever.
    barrier.wait();
    let (runtime, opened) = opened?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (connection, &index) in opened.into_iter().zip(connections) {
            tasks.spawn(send_all(connection, index, plan.clone()));
        }
        let (mut latencies, mut bytes) = (Vec::new(), 0);
        while let Some(done) = tasks.join_next().await {
            let (more, read) = done.context("a connection's task panicked")??;
            latencies.extend(more);
            bytes += read;
        }
        Ok((latencies, bytes))
    })
}

/// One connection: the next request as soon as the last was answered.
async fn send_all(mut connection: Connection, index: usize, plan: Arc<Plan>) -> Result<(Vec<Duration>, usize)> {
    let (mut latencies, mut bytes) = (Vec::new(), 0);
    let started = Instant::now();
    while started.elapsed() < plan.deadline {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.last {
            break;
        }
        let call = (plan.call)(index, number);
        let sent = Instant::now();
        match &plan.answered {
            None => bytes += connection.drain(call).await?,
            Some(answered) => {
                let answer = connection.text(call).await?;
                bytes += answer.len();
                answered(index, &answer);
            }
        }
        latencies.push(sent.elapsed());
    }
    Ok((latencies, bytes))
}

/// Opens several connections.
pub(crate) async fn connect_all(target: &Target, count: usize) -> Result<Vec<Connection>> {
    let mut opened = Vec::with_capacity(count);
    for _ in 0..count {
        opened.push(target.connect().await?);
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    fn check(ascending: &[u64], share: f64, expect: u64) {
        let ascending: Vec<Duration> = ascending.iter().map(|&ms| Duration::from_millis(ms)).collect();
        assert_eq!(super::percentile(&ascending, share), Duration::from_millis(expect), "{share} of {ascending:?}");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        check(&[], 0.5, 0);
        check(&[7], 0.5, 7);
        check(&[7], 0.99, 7);
        check(&[1, 2, 3, 4], 0.5, 2);
        check(&[1, 2, 3, 4], 0.99, 4);
        check(&(1..=200).collect::<Vec<_>>(), 0.99, 198);
    }
}
