//! Fuzzing of everything that reads what comes from outside.
//!
//! A decoder is one file and one row in [`all::ALL`]: seeds that are good, how they are best changed, and what must hold of any
//! input. What must hold: no panic, no long thought, an error that says something; and what is accepted can be written, and what
//! was written is read as the same again.
//!
//! * `cargo test` runs a few thousand changed seeds for each; a failure prints the input, and where it was kept.
//! * `KUBOX_LONG_SECONDS=600 cargo test -p fuzz` runs that long for each, from new seeds.
//! * `libfuzzer/` runs the same checks guided by coverage; it needs a nightly compiler and cargo-fuzz. Its first lines say how.
//! * `kubox-fuzz repeat DECODER FILE` runs one input again.

pub mod all;
mod json;
mod mutate;
mod objects;
mod patches;
mod protobuf;
mod requests;
mod scalars;
mod selectors;
mod tokens;
mod yaml;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use mutate::{Dialect, Mutator};

/// How long one input may take: far more than it does, for debug builds on busy machines. Inputs are small: what takes more than
/// time in proportion takes hours.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest input.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Something that reads what comes from outside.
#[derive(Debug)]
pub struct Decoder {
    /// What it is called.
    pub name: &'static str,
    /// Good inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How they are changed.
    pub dialect: Dialect,
    /// How many changed inputs a short run tries.
    pub rounds: u64,
    /// Reads an input and panics if what must hold does not; says whether the input was accepted.
    pub check: fn(&[u8]) -> bool,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Inputs that were tried.
    pub tried: u64,
    /// Inputs that were accepted.
    pub accepted: u64,
}

/// Finds a decoder by name.
pub fn find(name: &str) -> Option<&'static Decoder> {
    all::ALL.iter().find(|decoder| decoder.name == name)
}

impl Decoder {
    /// Tries one input.
    ///
    /// # Panics
    /// If what must hold does not. The input is kept in a file then, which the message names.
    pub fn try_input(&self, input: &[u8]) -> bool {
        let start = Instant::now();
        let run = || {
            let accepted = (self.check)(input);
            assert!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
            accepted
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            let file = kept(self.name, input);
            panic!("{}: {:?} (kept in {})", self.name, String::from_utf8_lossy(input), file.display())
        })
    }

    /// Tries all seeds, which must be accepted, and then changed ones until it is enough.
    ///
    /// # Panics
    /// As [`Decoder::try_input`].
    pub fn run(&self, first: u64, mut enough: impl FnMut(u64) -> bool) -> Tally {
        let seeds = (self.seeds)();
        let good = seeds.iter().filter(|seed| self.try_input(seed)).count();
        assert!(good * 2 > seeds.len(), "{}: {good} of {} seeds are accepted", self.name, seeds.len());
        let mut tally = Tally::default();
        while !enough(tally.tried) {
            let mut mutator = Mutator::new(first.wrapping_add(tally.tried));
            let mut input = mutator.change(self.dialect, &seeds);
            input.truncate(INPUT_BYTES_MAX);
            tally.tried += 1;
            tally.accepted += u64::from(self.try_input(&input));
        }
        tally
    }
}

/// Keeps an input that found something.
fn kept(name: &str, input: &[u8]) -> PathBuf {
    let hash = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let file = std::env::temp_dir().join(format!("kubox-fuzz-{name}-{hash:016x}"));
    let _ = std::fs::write(&file, input);
    file
}
