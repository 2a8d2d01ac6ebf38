//! What a person types and reads.

pub(crate) mod duration;
pub(crate) mod program;
pub(crate) mod signal;
