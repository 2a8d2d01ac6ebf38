//! What a person types and reads.

pub(crate) mod duration;
pub(crate) mod signal;
