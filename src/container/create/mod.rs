//! Making a container: from the [`Blueprint`] to its processes, all or nothing.

mod blueprint;
mod id_maps;
mod pod;
mod sockets;
mod transaction;

pub(super) use blueprint::{Blueprint, blueprint, blueprint_of};
pub(super) use transaction::launch;
