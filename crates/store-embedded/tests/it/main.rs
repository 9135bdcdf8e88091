//! The tests of `store-embedded` on the real disk. What every back end must do, and what happens when the disk fails, is
//! tested by `store-tests`.

mod folder;
