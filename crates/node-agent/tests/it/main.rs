//! What the node agent decides, as data.

mod fake;
mod make;
mod plan;
mod status;
mod story;
mod worker;
