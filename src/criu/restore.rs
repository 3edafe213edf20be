//! One restore, as messages: a process of the container's own runs CRIU and speaks to it. See `sandbox::restore`.
//!
//! ```text
//!   sandbox                        criu swrk
//!     RESTORE ----------------------> makes the processes
//!     <----------------------- Notice  pre-restore, post-restore, ..: go on
//!     <------------------- pre-resume  all stand still, complete
//!     [compared; held until the start]
//!     go on ------------------------> lets them run
//!     <--------------------- Restored
//! ```

use super::messages::{InheritedFd, Notification, Options, Request, RequestType, Response};
use crate::error::{Error, ErrorKind, Result};
use prost::Message;

/// The most bytes of what CRIU sends at once.
pub(crate) const MAX_MESSAGE: usize = super::worker::MAX_RESPONSE;
/// `criu_cg_mode`, IGNORE: the processes stay in the cgroups that CRIU is in.
const IGNORE_CGROUPS: i32 = 0;
/// `criu_network_lock_method`, SKIP.
const LOCK_NOTHING: i32 = 3;

/// What CRIU says meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It goes on after an [`answer`].
    Notice(Notice),
    /// The processes run.
    Restored,
    /// It gave up, and says why if it knows.
    Failed(Option<String>),
}

/// At which point of a restore CRIU waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It has read what it needs to make the first process, and makes that next.
    Begins,
    /// The first process exists, with this pid in CRIU's pid namespace.
    First(i32),
    /// The first process has made its namespaces, and has used no file yet.
    Namespaces,
    /// Every process is complete, and stands still.
    Complete,
    Other,
}

impl Notice {
    fn of(notification: Notification) -> Self {
        match (notification.name.as_deref(), notification.pid) {
            (Some("pre-restore"), _) => Self::Begins,
            (Some("setup-namespaces"), Some(pid)) => Self::First(pid),
            (Some("post-setup-namespaces"), _) => Self::Namespaces,
            (Some("pre-resume"), _) => Self::Complete,
            _ => Self::Other,
        }
    }
}

/// The request to restore from the directory `images`, with a descriptor in place of each file of these names. The numbers
/// are CRIU's own.
pub(crate) fn request(images: i32, inherited: impl Iterator<Item = (String, i32)>) -> Vec<u8> {
    let options = Options {
        images_dir_fd: -1,
        images_dir: Some(format!("/proc/self/fd/{images}")),
        log_level: Some(1),
        log_to_stderr: Some(true),
        notifications: Some(true),
        sibling: Some(true),
        unprivileged: Some(true),
        cgroups: Some(IGNORE_CGROUPS),
        network_lock: Some(LOCK_NOTHING),
        inherited: inherited.map(|(key, fd)| InheritedFd { key, fd }).collect(),
        ..Options::default()
    };
    Request::of(RequestType::Restore, Some(options)).encode_to_vec()
}

/// The answer to a notice: go on.
pub(crate) fn answer() -> Vec<u8> {
    Request::answer(true).encode_to_vec()
}

/// Reads what CRIU sent.
///
/// # Errors
/// [`ErrorKind::PeerMisbehaved`] if it makes no sense.
pub(crate) fn read(bytes: &[u8]) -> Result<Said> {
    let misbehaved = |problem: String| Error::new(ErrorKind::PeerMisbehaved, "criu", problem);
    let response = Response::decode(bytes).map_err(|error| misbehaved(error.to_string()))?;
    match RequestType::try_from(response.kind) {
        Ok(RequestType::Notify) => Ok(Said::Notice(response.notification.map_or(Notice::Other, Notice::of))),
        Ok(RequestType::Restore) if response.success => Ok(Said::Restored),
        Ok(_) if !response.success => Ok(Said::Failed(response.error)),
        _ => Err(misbehaved(format!("a response of kind {}", response.kind))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(kind: RequestType, success: bool) -> Response {
        Response { kind: kind as i32, success, ..Response::default() }
    }

    #[test]
    fn what_criu_says_is_read_and_what_it_cannot_say_is_refused() {
        let notice = |name: &str| {
            let notification = Some(Notification { name: Some(name.into()), pid: Some(7) });
            read(&Response { notification, ..response(RequestType::Notify, true) }.encode_to_vec()).unwrap()
        };
        assert_eq!(notice("pre-restore"), Said::Notice(Notice::Begins));
        assert_eq!(notice("setup-namespaces"), Said::Notice(Notice::First(7)));
        assert_eq!(notice("post-setup-namespaces"), Said::Notice(Notice::Namespaces));
        assert_eq!(notice("post-restore"), Said::Notice(Notice::Other));
        assert_eq!(notice("pre-resume"), Said::Notice(Notice::Complete));
        let said = |kind, success| read(&response(kind, success).encode_to_vec());
        assert_eq!(said(RequestType::Restore, true).unwrap(), Said::Restored);
        assert_eq!(said(RequestType::Restore, false).unwrap(), Said::Failed(None));
        assert_eq!(*said(RequestType::Dump, true).unwrap_err().kind(), ErrorKind::PeerMisbehaved);
        assert!(read(b"\xff\xff\xff").is_err());
    }

    #[test]
    fn a_request_names_each_descriptor() {
        let bytes = request(7, [("pipe:[5]".to_owned(), 9)].into_iter());
        let options = Request::decode(&*bytes).unwrap().options.unwrap();
        assert_eq!(options.images_dir.as_deref(), Some("/proc/self/fd/7"));
        assert_eq!(options.inherited, [InheritedFd { key: "pipe:[5]".into(), fd: 9 }]);
    }
}
