//! The sandbox's loop: one thread, one poll(2), no timer but those that a deadline needs.
//!
//! ```text
//!   signalfd          signals sent to this process are meant for the root container's init
//!   control socket    connections of clients, one request at a time, one reply each
//!   each container    init's channel    ready (create is done), failed, or end of file (the program was executed)
//!                     init's pidfd      the end: exit record, replies; of the root container: _exit with its status
//!                     lifeline          its creator is gone: kill, and have the gofer remove the cgroups; also after the end
//!                     gofer             it is gone: kill
//!   each process      its channel, its pidfd, the client that asked for it
//! ```
//!
//! [`event_loop`] waits, and hands what happened to the part that knows what it means: [`container`] is one container,
//! [`stage`] its stages, [`creation`] how it is created, [`waiting`] what it is asked for before it runs, [`processes`]
//! what was executed later, [`mounts`] changes of mounts, [`pod`] containers that come and go, [`restoring`] CRIU,
//! [`requests`] the requests, [`client`] their connections, [`signals`] who gets which signal, [`pause`] the freezer,
//! [`checkpoint`] who has an image written.

mod checkpoint;
mod client;
mod container;
mod creation;
mod event_loop;
mod exit;
mod leaves;
mod mounts;
mod pause;
mod pod;
mod processes;
mod requests;
mod restoring;
mod signals;
mod stage;
mod templates;
mod user_log;
mod waiting;

pub(super) use container::ContainerState;
pub(super) use event_loop::Monitor;
