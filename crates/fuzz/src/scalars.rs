//! Values with a form of their own: quantities, times, durations.

use api_semantics::quantity::{self, Quantity};
use api_semantics::time::{self, Timestamp};

/// What they are made of.
pub(crate) const WORDS: &[&str] = &[
    "0",
    "1",
    "9",
    "000",
    "999999999999999999",
    "9223372036854775807",
    ".",
    "-",
    "+",
    "e",
    "E",
    "e3",
    "E-7",
    "m",
    "u",
    "n",
    "k",
    "M",
    "G",
    "T",
    "P",
    "Ki",
    "Mi",
    "Gi",
    "Ei",
    "i",
    "T",
    "Z",
    ":",
    "+01:00",
    "-00:00",
    ".123456",
    "24",
    "60",
    "-02-30",
    "h",
    "ms",
    "µs",
    "é",
    " ",
];

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn quantity_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        "0",
        "1",
        "100m",
        "1.5Gi",
        "-12e6",
        "1E3",
        "5u",
        "0.001",
        "9223372036854775807",
        "1Ki",
        "+3k",
        "123456789012345678901n",
    ])
}

pub(crate) fn check_quantity(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    match Quantity::parse(text) {
        Ok(read) => {
            let canonical = read.canonical();
            let again = Quantity::parse(&canonical).unwrap_or_else(|error| panic!("{canonical}: {error}"));
            assert_eq!(again.canonical(), canonical);
            assert_eq!(quantity::canonical(text).as_deref(), Some(&*canonical));
            // Beyond `E` there is no suffix, and Go leaves it out: `1000E` is shown as `1`.
            let is_small = !matches!(read.value(), i64::MIN | i64::MAX);
            if is_small {
                let values = |quantity: &Quantity| (quantity.sign(), quantity.value(), quantity.milli_value());
                assert_eq!(values(&again), values(&read), "{canonical}");
            }
            // Nothing that is done with it panics.
            let mut sum = read.clone();
            sum.add(&again);
            sum.sub(&again);
            assert!(!is_small || sum.value() == read.value(), "{canonical}");
            sum.neg();
            sum.mul(i64::MAX);
            let _ = (sum.canonical(), sum.to_f64(), sum.is_whole(), sum.scaled_value(-9), sum.scaled_value(9));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

pub(crate) fn time_seeds() -> Vec<Vec<u8>> {
    bytes(&[
        "2026-11-23T17:00:00Z",
        "2026-11-23T17:00:00.123456Z",
        "1996-12-19T16:39:57-08:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "2024-02-29T00:00:00+14:00",
        "1h30m",
        "1.5s",
        "-2h45m0.25s",
        "100ns",
        "0",
    ])
}

pub(crate) fn check_time(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut accepted = false;
    match Timestamp::parse(text) {
        Ok(read) => {
            accepted = true;
            let written = read.to_time();
            let again = Timestamp::parse(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!((again.seconds, again.to_time()), (read.seconds, written));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Timestamp::parse_micro(text) {
        Ok(read) => {
            accepted = true;
            let written = read.to_micro_time();
            let again = Timestamp::parse_micro(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!((again, again.to_micro_time()), (read, written));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match time::parse_duration(text) {
        Ok(read) => {
            accepted = true;
            let written = time::format_duration(read);
            assert_eq!(time::parse_duration(&written), Ok(read), "{written}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    accepted
}
