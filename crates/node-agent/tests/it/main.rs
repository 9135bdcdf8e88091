//! What the node agent decides, as data.

mod plan;
mod status;
mod story;
