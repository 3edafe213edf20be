//! The caller's end of a container: how a live sandbox is found, asked and ended.

pub(crate) mod client;
