//! cofferdam
pub mod error;
pub mod id;
