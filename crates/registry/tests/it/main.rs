//! The tests of `registry` over the embedded store. What clients see of it is tested by `conformance` and `kubox`.

mod history;
