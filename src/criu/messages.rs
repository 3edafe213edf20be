//! The messages of CRIU's RPC, as its `images/rpc.proto` defines them: protobuf, one message to a packet.
//!
//! Only the fields that this crate uses are here; the numbers are those of that file. A decoder skips fields that it does
//! not know, as protobuf demands, so a newer CRIU may send more.

/// `criu_req_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum RequestType {
    Empty = 0,
    Dump = 1,
    Restore = 2,
    Check = 3,
    /// In a response: something to answer before CRIU goes on. In a request: that answer.
    Notify = 6,
    Version = 10,
}

/// `criu_req`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(enumeration = "RequestType", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) options: Option<Options>,
    /// Of an answer to a notification: whether CRIU is to go on.
    #[prost(bool, optional, tag = "3")]
    pub(super) go_on: Option<bool>,
    /// Whether CRIU serves another request after this one.
    #[prost(bool, optional, tag = "4")]
    pub(super) keep_open: Option<bool>,
}

impl Request {
    pub(super) fn of(kind: RequestType, options: Option<Options>) -> Self {
        Self { kind: kind as i32, options, go_on: None, keep_open: None }
    }

    /// The answer to a notification.
    pub(super) fn answer(go_on: bool) -> Self {
        Self { go_on: Some(go_on), ..Self::of(RequestType::Notify, None) }
    }
}

/// `criu_opts`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Options {
    /// A descriptor of the process that made the connection; -1 for `images_dir`.
    #[prost(int32, required, tag = "1")]
    pub(super) images_dir_fd: i32,
    /// The root of the tree to dump, in CRIU's pid namespace.
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(super) leave_running: Option<bool>,
    /// 1 for errors alone.
    #[prost(int32, optional, tag = "9")]
    pub(super) log_level: Option<i32>,
    /// Whether it sends notifications.
    #[prost(bool, optional, tag = "12")]
    pub(super) notifications: Option<bool>,
    /// `link_remap`: whether it makes a name for a deleted file that has other names.
    #[prost(bool, optional, tag = "18")]
    pub(super) link_deleted: Option<bool>,
    /// Whether the restored root is a child of CRIU's parent.
    #[prost(bool, optional, tag = "26")]
    pub(super) sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(super) inherited: Vec<InheritedFd>,
    /// `criu_cg_mode`: 0 leaves cgroups alone.
    #[prost(int32, optional, tag = "34")]
    pub(super) cgroups: Option<i32>,
    /// `ghost_limit`: the largest deleted file that it writes down, in bytes.
    #[prost(uint32, optional, tag = "35")]
    pub(super) max_deleted: Option<u32>,
    /// `KIND[KEY]:LABEL`: what the image only refers to.
    #[prost(string, repeated, tag = "37")]
    pub(super) external: Vec<String>,
    /// The cgroup directory whose freezer stops the tree, and has stopped it if it is frozen already.
    #[prost(string, optional, tag = "44")]
    pub(super) freezer: Option<String>,
    /// `criu_network_lock_method`: 3 locks nothing.
    #[prost(int32, optional, tag = "64")]
    pub(super) network_lock: Option<i32>,
    /// Whether CRIU is no root of the initial user namespace.
    #[prost(bool, optional, tag = "67")]
    pub(super) unprivileged: Option<bool>,
    /// A link to the directory of the images, as CRIU reads where it leads.
    #[prost(string, optional, tag = "68")]
    pub(super) images_dir: Option<String>,
    #[prost(bool, optional, tag = "71")]
    pub(super) log_to_stderr: Option<bool>,
}

/// `inherit_fd`: a descriptor of CRIU's own in place of a file of the image.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct InheritedFd {
    /// What the file was at the dump, as `pipe:[INODE]`.
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(int32, required, tag = "2")]
    pub(super) fd: i32,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(enumeration = "RequestType", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(super) success: bool,
    #[prost(message, optional, tag = "5")]
    pub(super) notification: Option<Notification>,
    #[prost(int32, optional, tag = "7")]
    pub(super) errno: Option<i32>,
    #[prost(string, optional, tag = "9")]
    pub(super) error: Option<String>,
    #[prost(message, optional, tag = "10")]
    pub(super) version: Option<Version>,
}

/// `criu_notify`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Notification {
    /// What CRIU is about to do or has done, as `post-dump`.
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    /// The first process of the tree, in the pid namespace of CRIU, where that is news.
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
}

/// `pstree_entry` of CRIU's images: one process, by its pids in its own namespace.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TreeEntry {
    #[prost(uint32, required, tag = "1")]
    pub(super) pid: u32,
    #[prost(uint32, required, tag = "3")]
    pub(super) group: u32,
    #[prost(uint32, required, tag = "4")]
    pub(super) session: u32,
    #[prost(uint32, repeated, packed = "false", tag = "5")]
    pub(super) threads: Vec<u32>,
}

/// `seccomp_entry` of CRIU's images: every filter of every thread.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Filters {
    #[prost(message, repeated, tag = "1")]
    pub(super) filters: Vec<FilterEntry>,
}

/// `seccomp_filter`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FilterEntry {
    /// Its program, as the kernel has it.
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) program: Vec<u8>,
    /// The position of the filter that was loaded before it; none for the first of a thread.
    #[prost(uint32, optional, tag = "2")]
    pub(super) before: Option<u32>,
}

/// `task_kobj_ids_entry` of CRIU's images: numbers of what a process shares with others. Equal numbers are one object.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SharedObjects {
    #[prost(uint32, required, tag = "1")]
    pub(super) memory: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) files: u32,
    #[prost(uint32, required, tag = "3")]
    pub(super) fs: u32,
    #[prost(uint32, required, tag = "4")]
    pub(super) handlers: u32,
    #[prost(uint32, optional, tag = "5")]
    pub(super) pids: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) network: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) ipc: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    pub(super) uts: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    pub(super) mounts: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    pub(super) user: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    pub(super) cgroup: Option<u32>,
    #[prost(uint32, optional, tag = "12")]
    pub(super) time: Option<u32>,
}

/// `inventory_entry` of CRIU's images.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Inventory {
    /// What CRIU itself was in at the dump.
    #[prost(message, optional, tag = "3")]
    pub(super) root: Option<SharedObjects>,
}

/// `criu_version`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Version {
    #[prost(int32, required, tag = "1")]
    pub(super) major: i32,
    #[prost(int32, required, tag = "2")]
    pub(super) minor: i32,
    #[prost(int32, optional, tag = "4")]
    pub(super) sublevel: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    #[test]
    fn a_request_has_the_bytes_that_criu_reads() {
        let version = Request::of(RequestType::Version, None);
        assert_eq!(version.encode_to_vec(), [8, 10]);
        let options = Options { images_dir_fd: -1, ..Options::default() };
        let options = Options {
            log_level: Some(1),
            images_dir: Some("/".into()),
            log_to_stderr: Some(true),
            ..options
        };
        let check = Request::of(RequestType::Check, Some(options));
        let minus_one = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let mut expected = vec![8, 3, 18, 20, 8];
        expected.extend(minus_one);
        expected.extend([72, 1, 162, 4, 1, b'/', 184, 4, 1]);
        // The length of the options: all that follows its own byte.
        expected[3] = u8::try_from(expected.len() - 4).unwrap();
        assert_eq!(check.encode_to_vec(), expected);
    }

    #[test]
    fn the_reply_of_criu_4_1_1_is_read_and_its_unknown_fields_are_skipped() {
        let reply = [8, 10, 16, 1, 82, 6, 8, 4, 16, 1, 32, 1, 88, 7];
        let reply = Response::decode(reply.as_slice()).unwrap();
        assert_eq!((reply.kind, reply.success), (RequestType::Version as i32, true));
        assert_eq!(reply.version, Some(Version { major: 4, minor: 1, sublevel: Some(1) }));
    }

    proptest! {
        #[test]
        fn no_reply_breaks_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Response::decode(bytes.as_slice());
        }
    }
}
