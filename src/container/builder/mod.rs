//! [`ContainerBuilder`]: a container described in Rust, or read from an OCI bundle.
//!
//! Both are the same underneath, an OCI configuration and a few extras that it has no field for, and go through the same
//! validation and the same plan. Nothing here changes the host. The methods are in a file for each subject: [`root`],
//! [`process`], [`privileges`], [`limits`] and [`pod`]; [`build`] ends the description.

mod build;
mod bundle;
pub(super) mod default_spec;
mod description;
mod limits;
mod pod;
mod privileges;
mod process;
mod root;

pub use description::ContainerBuilder;
pub use limits::IoLimit;
pub use root::Rootfs;
