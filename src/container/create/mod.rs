//! Making a container, all or nothing: [`blueprint`] is what is decided beforehand, [`transaction`] what is done.

mod blueprint;
mod id_maps;
mod pod;
mod sockets;
mod transaction;

pub(super) use blueprint::{Blueprint, blueprint, blueprint_of};
pub(super) use transaction::launch;
