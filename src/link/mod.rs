//! The caller's end of a sandbox: the control client, how to find a live sandbox, how to join a pod's, and how to end
//! one through kernel objects.
//!
//! Nothing here knows the phases of a container, and nothing here writes to the state root.

mod address;
pub(crate) mod client;
mod find;
mod kill;
mod pod;
mod sandbox;

pub(crate) use address::{Ending, SandboxAddress, has_ended};
pub(crate) use find::{Reach, find_live, find_pod_sandbox, observe, reach};
pub(crate) use kill::{KILL_LIMIT, kill_all, kill_by_socket, kill_process, leave_pod, stuck};
pub(crate) use pod::{PodSandbox, check_is_root, user_namespace_of};
pub(crate) use sandbox::SandboxLink;
