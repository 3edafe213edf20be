//! What our processes say to each other, as bytes.
//!
//! Pure: no socket, no clock. Frames and limits are in [`frame`], the vocabulary in [`message`] and [`files`]; sockets and descriptor
//! passing are in `process::channel`.
//!
//! ```text
//!   caller --order-->  gofer, sandbox      once: go (user namespace mapped)
//!   gofer, sandbox --report--> caller      once: ready | failed
//!   gofer --handed mounts--> init          detached mounts, with a manifest
//!   caller --fork/fork report--> zygote    where there is one
//!   any process of the owner --request/reply--> sandbox     the control socket
//!   any process of the owner --file request/reply--> file worker   a connection made over the control socket
//! ```

pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod message;
