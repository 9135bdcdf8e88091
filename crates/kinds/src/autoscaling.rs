//! The group autoscaling.

pub(crate) mod convert;
pub(crate) mod horizontalpodautoscaler;
pub mod scale;

const GROUP: &str = "autoscaling";
