//! The tests of `world`: one file per concern.

mod clock;
mod disk;
mod random;
