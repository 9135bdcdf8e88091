//! The group batch.

pub(crate) mod cronjob;
pub(crate) mod job;

const GROUP: &str = "batch";
