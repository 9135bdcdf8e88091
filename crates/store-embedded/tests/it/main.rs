//! The tests of `store-embedded`: what its files and its thread do. What every back end must do is tested by `store-tests`.
