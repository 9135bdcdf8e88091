//! Chance: unpredictable bytes, and the names Kubernetes makes of them.

use std::fmt::Debug;

use parking_lot::Mutex;

/// The characters of generated name suffixes: no vowels and no look-alikes, so that no words appear by accident.
pub const NAME_SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many characters `generateName` appends.
pub const NAME_SUFFIX_LENGTH: usize = 5;

/// A source of chance.
pub trait Random: Debug + Send + Sync {
    /// Fills the whole of `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// A random (version 4) UUID in its usual text form, as `metadata.uid` wants it.
    fn uuid_v4(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.into_iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            for nibble in [byte >> 4, byte & 0x0f] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        text
    }

    /// What `generateName` appends to its prefix.
    fn name_suffix(&self) -> String {
        let mut suffix = String::with_capacity(NAME_SUFFIX_LENGTH);
        // The largest multiple of 27 that fits a byte: bytes from there on would favour the first letters.
        let even_max = 256 / NAME_SUFFIX_ALPHABET.len() * NAME_SUFFIX_ALPHABET.len();
        while suffix.len() < NAME_SUFFIX_LENGTH {
            let mut bytes = [0; 8];
            self.fill(&mut bytes);
            let even = bytes.into_iter().map(usize::from).filter(|byte| *byte < even_max);
            let letters = even.map(|byte| char::from(NAME_SUFFIX_ALPHABET[byte % NAME_SUFFIX_ALPHABET.len()]));
            suffix.extend(letters.take(NAME_SUFFIX_LENGTH - suffix.len()));
        }
        suffix
    }

    /// A random number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The kernel's random numbers, fit for secrets.
#[derive(Clone, Copy, Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    /// If the kernel has no random numbers to give: nothing that needs them could be done safely.
    fn fill(&self, buffer: &mut [u8]) {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel gives no random numbers: {error}"),
            }
        }
    }
}

/// Numbers that look random and repeat with their seed: for tests and the simulator, never for secrets.
#[derive(Debug)]
pub struct SeededRandom {
    generator: Mutex<fastrand::Rng>,
}

impl SeededRandom {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom { generator: Mutex::new(fastrand::Rng::with_seed(seed)) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        self.generator.lock().fill(buffer);
    }
}
