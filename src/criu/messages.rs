//! The messages of CRIU's RPC, as its `images/rpc.proto` defines them: protobuf, one message to a packet.
//!
//! Only the fields that this crate uses are here; the numbers are those of that file. A decoder skips fields that it does
//! not know, as protobuf demands, so a newer CRIU may send more.

/// `criu_req_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum RequestType {
    Empty = 0,
    Check = 3,
    Version = 10,
}

/// `criu_req`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(enumeration = "RequestType", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) options: Option<Options>,
}

/// `criu_opts`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Options {
    /// A descriptor of the process that made the connection; -1 for `images_dir`.
    #[prost(int32, required, tag = "1")]
    pub(super) images_dir_fd: i32,
    /// 1 for errors alone.
    #[prost(int32, optional, tag = "9")]
    pub(super) log_level: Option<i32>,
    /// CRIU works in this directory, even if it writes nothing there.
    #[prost(string, optional, tag = "68")]
    pub(super) images_dir: Option<String>,
    #[prost(bool, optional, tag = "71")]
    pub(super) log_to_stderr: Option<bool>,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(enumeration = "RequestType", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(super) success: bool,
    #[prost(int32, optional, tag = "7")]
    pub(super) errno: Option<i32>,
    #[prost(string, optional, tag = "9")]
    pub(super) error: Option<String>,
    #[prost(message, optional, tag = "10")]
    pub(super) version: Option<Version>,
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
        let version = Request { kind: RequestType::Version as i32, options: None };
        assert_eq!(version.encode_to_vec(), [8, 10]);
        let options = Options {
            images_dir_fd: -1,
            log_level: Some(1),
            images_dir: Some("/".into()),
            log_to_stderr: Some(true),
        };
        let check = Request { kind: RequestType::Check as i32, options: Some(options) };
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
