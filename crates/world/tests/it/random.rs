//! Names and ids made of chance.

use std::collections::HashSet;

use world::{NAME_SUFFIX_ALPHABET, Random, SeededRandom, SystemRandom};

#[test]
fn a_uid_is_a_version_4_uuid() {
    for random in [&SystemRandom as &dyn Random, &SeededRandom::new(1)] {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let uid = random.uuid_v4();
            let shape: String =
                uid.chars().map(|c| if c.is_ascii_digit() || ('a'..='f').contains(&c) { 'x' } else { c }).collect();
            assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "{uid}");
            assert_eq!(&uid[14..15], "4", "{uid}");
            assert!(matches!(&uid[19..20], "8" | "9" | "a" | "b"), "{uid}");
            assert!(seen.insert(uid));
        }
    }
}

#[test]
fn name_suffixes_use_the_whole_alphabet_evenly() {
    let random = SeededRandom::new(7);
    let mut counts = [0; 256];
    for _ in 0..27_000 {
        let suffix = random.name_suffix();
        assert_eq!(suffix.len(), 5);
        for byte in suffix.bytes() {
            counts[usize::from(byte)] += 1;
        }
    }
    // 5,000 of each are expected; a favoured letter (byte % 27) would have 5,273 and more, five deviations off.
    for letter in NAME_SUFFIX_ALPHABET {
        let count = counts[usize::from(*letter)];
        assert!((4_740..5_260).contains(&count), "{} appeared {count} times", char::from(*letter));
    }
    assert_eq!(counts.iter().sum::<i32>(), 135_000);
}

#[test]
fn a_seed_repeats_its_sequence() {
    assert_eq!(SeededRandom::new(3).uuid_v4(), SeededRandom::new(3).uuid_v4());
    assert_ne!(SeededRandom::new(3).uuid_v4(), SeededRandom::new(4).uuid_v4());
}
