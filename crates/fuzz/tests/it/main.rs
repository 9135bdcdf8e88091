//! Every decoder, fuzzed for a moment; for as long as `KUBOX_LONG_SECONDS` says each, if it says so (`KUBOX_DECODER` names one).

use std::time::{Duration, Instant};

use fuzz::{Decoder, Tally, all};

/// Threads of the server have this much stack; nothing that comes in may need more.
const STACK_BYTES: usize = 2 << 20;

fn run(decoder: &'static Decoder) -> Tally {
    let long = std::env::var("KUBOX_LONG_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    match long.map(Duration::from_secs) {
        Some(long) => {
            let (start, first) = (Instant::now(), fastrand::u64(..));
            println!("{} from {first}", decoder.name);
            decoder.run(first, |_| start.elapsed() >= long)
        }
        None => decoder.run(0, |tried| tried >= decoder.rounds),
    }
}

#[test]
fn whatever_comes_in_is_answered() {
    let wanted = std::env::var("KUBOX_DECODER").ok();
    let chosen = all::ALL.iter().filter(|decoder| wanted.as_deref().is_none_or(|wanted| wanted == decoder.name));
    let runs: Vec<_> = chosen
        .map(|decoder| {
            let thread = std::thread::Builder::new().name(decoder.name.into()).stack_size(STACK_BYTES);
            (decoder, thread.spawn(move || (run(decoder), Instant::now())).expect("a thread"))
        })
        .collect();
    assert!(!runs.is_empty(), "no decoder is called {wanted:?}");
    let (mut failed, start) = (Vec::new(), Instant::now());
    for (decoder, run) in runs {
        match run.join() {
            Ok((tally, end)) => {
                println!("{}: {tally:?} in {:?}", decoder.name, end - start);
                // Inputs of which nearly all are refused would try nothing behind the first check.
                assert!(tally.accepted * 20 >= tally.tried, "{}: {tally:?}", decoder.name);
            }
            Err(_) => failed.push(decoder.name),
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
