//! What the node agent decides, as data.

mod fake;
mod plan;
mod status;
mod story;
mod worker;
