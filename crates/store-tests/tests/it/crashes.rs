//! Faults, kills and power failures, on the simulated disk.

use store_tests::driver::{Chaos, Met, run, run_with_fault};
use store_tests::repeats;
use world::Fault;

fn sum(runs: impl Iterator<Item = Met>) -> Met {
    runs.fold(Met::default(), |sum, met| Met {
        reopened: sum.reopened + met.reopened,
        unknown_done: sum.unknown_done + met.unknown_done,
        unknown_undone: sum.unknown_undone + met.unknown_undone,
        taken_back: sum.taken_back + met.taken_back,
        stopped: sum.stopped + met.stopped,
        open_failed: sum.open_failed + met.open_failed,
        cut_off: sum.cut_off + met.cut_off,
        batches: sum.batches + met.batches,
        disk_operations: sum.disk_operations + met.disk_operations,
    })
}

#[test]
fn without_faults_the_store_is_the_model() {
    let chaos = Chaos { steps: 300, fault_every: 0, crash_every: 0 };
    let met = sum((0..repeats(12, 400)).map(|seed| run(seed, chaos)));
    assert!(met.batches > 500 && met.cut_off > 0 && met.reopened > 100, "{met:?}");
}

#[test]
fn kills_and_power_failures_lose_nothing_acknowledged() {
    let chaos = Chaos { steps: 150, fault_every: 0, crash_every: 8 };
    let met = sum((1000..1000 + repeats(40, 1000)).map(|seed| run(seed, chaos)));
    assert!(met.reopened > 300, "{met:?}");
}

#[test]
fn faults_at_any_time_lose_nothing_acknowledged() {
    let chaos = Chaos { steps: 150, fault_every: 6, crash_every: 60 };
    let met = sum((2000..2000 + repeats(80, 4000)).map(|seed| run(seed, chaos)));
    let enough = met.unknown_done > 5
        && met.unknown_undone > 5
        && met.taken_back > 5
        && met.stopped > 5
        && met.open_failed > 5
        && met.batches > 500;
    assert!(enough, "{met:?}");
}

#[test]
fn a_fault_at_every_single_disk_operation_loses_nothing_acknowledged() {
    let steps = 40;
    for seed in 0..repeats(2, 40) {
        let end = run(seed, Chaos { steps, fault_every: 0, crash_every: 0 }).disk_operations;
        for fault in [Fault::Io, Fault::NoSpace, Fault::PowerOff] {
            let met = (0..end).filter(|at| run_with_fault(seed, steps, *at, fault)).count() as u64;
            assert!(met > end * 9 / 10, "only {met} of {end} faults were met");
        }
    }
}
