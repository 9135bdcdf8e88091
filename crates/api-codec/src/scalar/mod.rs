//! Values with a text form of their own: times, durations, base64.

pub(crate) mod bytes;
pub(crate) mod duration;
pub(crate) mod time;
