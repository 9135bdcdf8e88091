//! One thread, virtual time, chance by a seed.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Options};
use parking_lot::Mutex;
use world::{Monotonic, SeededRandom, SystemDisk, Timestamp, TokioClock, World};

use crate::server::FakeServer;

/// When every simulation begins: 2026-01-01 in UTC.
const BEGINNING: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// What has happened, line by line, with the time. Clones share it.
#[derive(Clone, Debug)]
pub struct Trace {
    world: World,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    /// Nothing has happened yet.
    pub fn new(world: &World) -> Self {
        Self { world: world.clone(), lines: Arc::default() }
    }

    /// Writes a line down.
    pub fn note(&self, text: impl AsRef<str>) {
        let passed = self.world.clock.monotonic().saturating_since(Monotonic::START);
        self.lines.lock().push(format!("{:>10.3} {}", passed.as_secs_f64(), text.as_ref()));
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.lines.lock().join("\n")
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.lock().len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A simulated world with its server.
#[derive(Debug)]
pub struct Simulation {
    /// The seed of all chance.
    pub seed: u64,
    /// Time and chance.
    pub world: World,
    /// What has happened.
    pub trace: Trace,
    /// The API server.
    pub server: Arc<FakeServer>,
}

impl Simulation {
    /// A client of the server, which may lose its requests.
    pub fn client(&self, component: &str) -> Client {
        self.client_over(Arc::clone(&self.server) as Arc<dyn client::Transport>, component)
    }

    /// A client of the server that never meets a fault: for what the test itself does and looks at.
    pub fn tester(&self) -> Client {
        self.client_over(self.server.without_faults(), "tester")
    }

    fn client_over(&self, transport: Arc<dyn client::Transport>, component: &str) -> Client {
        Client::new(transport, Options { world: self.world.clone(), ..Options::new(component) })
    }

    /// Lets time pass.
    pub async fn pass(&self, duration: Duration) {
        world::timer::sleep(&*self.world.clock, duration).await;
    }

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// If it is not so after `limit`.
    pub async fn wait_for(&self, what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
        let deadline = self.world.clock.monotonic().saturating_add(limit);
        while !is_so() {
            assert!(self.world.clock.monotonic() < deadline, "after {limit:?} it is still not so that {what}");
            self.pass(Duration::from_millis(50)).await;
        }
    }

    /// A number below `bound`, by chance.
    pub fn below(&self, bound: u64) -> u64 {
        self.world.random.u64() % bound.max(1)
    }

    /// One of some things, by chance.
    ///
    /// # Panics
    /// If there is none.
    pub fn one_of<'a, T>(&self, things: &'a [T]) -> &'a T {
        assert!(!things.is_empty(), "there is nothing to choose from");
        &things[self.below(things.len() as u64) as usize]
    }
}

/// Says which seed failed.
struct Seed(u64, Option<Trace>);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let trace = self.1.as_ref().map(Trace::text).unwrap_or_default();
            let lines: Vec<&str> = trace.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("{last}\nthe simulation with seed {} failed; these were its last lines", self.0);
        }
    }
}

/// Runs a test in a world of its own. What the test returns is returned, with the trace of what happened.
///
/// # Panics
/// If the test does; the seed is printed.
pub fn simulate<T>(seed: u64, test: impl AsyncFnOnce(&Simulation) -> T) -> (T, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing from the system");
    let mut failure = Seed(seed, None);
    let result = runtime.block_on(async {
        let world = World {
            clock: Arc::new(TokioClock::new(BEGINNING)),
            random: Arc::new(SeededRandom::new(seed)),
            disk: Arc::new(SystemDisk),
        };
        let trace = Trace::new(&world);
        failure.1 = Some(trace.clone());
        let server = Arc::new(FakeServer::new(world.clone(), trace.clone()));
        let simulation = Simulation { seed, world, trace, server };
        let result = test(&simulation).await;
        (result, simulation.trace.text())
    });
    drop(runtime);
    result
}
