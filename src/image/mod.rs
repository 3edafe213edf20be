//! Images: directories with all that a container was, for its restore.
//!
//! ```text
//!   DIRECTORY/             0700
//!     criu/                CRIU's files: the processes and their memory
//!     layers/N.tar         what the container wrote to its scratch, and to each tmpfs
//!     config.json          the configuration of its record
//!     manifest.json        what it is an image of, and the length and digest of each file above
//! ```
//!
//! The manifest gets its name when everything else is on the disk, so that a directory without it is no image, and one
//! with it is whole. A reader takes nothing on trust: [`open`] compares every file with the manifest, and refuses what
//! the manifest does not list. A digest proves that a file is the one that was written. It does not prove who wrote it: what
//! a restored process may do is for the restore to say, and never for the image.
//!
//! What may not live here: what a container or CRIU is.

mod digest;
mod manifest;
mod open;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage images of their own")]
mod tests;
mod write;

pub(crate) use digest::hex_digest;
pub(crate) use manifest::Description;
pub use manifest::{ImageLayer, StreamKind};
pub use open::Image;
pub(crate) use write::NewImage;
