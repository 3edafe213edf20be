//! Faults: what is left on the host when a process is killed, a call fails, a file is damaged, or several want the same.
//!
//! Every test runs as a process of its own that adopts orphans, so that "no process is left" is a fact and not a guess.
//! Kills and failing calls are injected by strace(1), counted in system calls: no sleep decides where they land.
#![expect(clippy::print_stderr, reason = "counts are for people to read")]
#![expect(clippy::disallowed_methods, reason = "a test prepares and damages things with the plain tools")]

mod caller;
mod damaged_files;
mod descriptors;
mod failing_calls;
mod images;
mod killed_processes;
#[path = "../kit/mod.rs"]
mod kit;
mod network_devices;
mod orphans;
mod races;
mod raw_client;
mod round;
mod templates;
mod tracer;
