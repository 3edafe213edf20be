//! One frame is one `SOCK_SEQPACKET` datagram: a fixed header and a JSON body.
//!
//! ```text
//!   0      4         6        8
//!   | CFDM | version | kind   | body: [names of the descriptors, message], JSON, at most MAX_FRAME - 8 bytes
//! ```
//!
//! The kernel keeps datagrams whole, so there is no length field that could lie and no partial frame to wait for.
//! The descriptors travel beside the frame, in the order of their names (unix(7), `SCM_RIGHTS`).

use crate::error::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;

/// The largest frame. Control messages are a few hundred bytes; the largest, a batch of mounts, has one word for each
/// mount. What can be large (plans, filters) travels in sealed memory instead.
pub(crate) const MAX_FRAME: usize = 64 << 10;

/// The most descriptors one frame may carry. The kernel allows 253 (`SCM_MAX_FD`).
pub(crate) const MAX_FDS: usize = 64;

/// The protocol version. Both ends run the same executable image, except after an upgrade: then a control client may be
/// newer than the sandbox it talks to, and the error names both versions.
pub(crate) const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"CFDM";
const HEADER: usize = 8;

/// A type that is sent in frames. Its number is in the table of `wire::kinds`.
pub(crate) trait Message: Serialize + DeserializeOwned {
    /// The header's `kind`: another type's frame is refused before its body is read.
    const KIND: u16;
}

/// Packs `message`, and the names of the descriptors that accompany it.
pub(crate) fn encode<M: Message>(names: &[&str], message: &M) -> Result<Vec<u8>> {
    let refuse = |problem: String| Error::new(ErrorKind::InvalidInput, "encode frame", problem);
    if names.len() > MAX_FDS {
        return Err(refuse(format!("{} descriptors, the limit is {MAX_FDS}", names.len())));
    }
    let mut frame = Vec::with_capacity(256);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&VERSION.to_le_bytes());
    frame.extend_from_slice(&M::KIND.to_le_bytes());
    serde_json::to_writer(&mut frame, &(names, message)).map_err(|error| refuse(error.to_string()))?;
    if frame.len() > MAX_FRAME {
        return Err(refuse(format!("{} bytes, the limit is {MAX_FRAME}", frame.len())));
    }
    Ok(frame)
}

/// Unpacks a frame from a peer that may be hostile: the names of its descriptors, all different, and its message.
pub(crate) fn decode<M: Message>(frame: &[u8]) -> Result<(Vec<String>, M)> {
    let refuse = |problem: String| Error::new(ErrorKind::PeerMisbehaved, "decode frame", problem);
    if frame.len() > MAX_FRAME {
        return Err(refuse(format!("{} bytes, the limit is {MAX_FRAME}", frame.len())));
    }
    let Some((header, body)) = frame.split_first_chunk::<HEADER>() else {
        return Err(refuse(format!("{} bytes are too few for a header", frame.len())));
    };
    let [m0, m1, m2, m3, v0, v1, k0, k1] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(refuse("not a frame of this protocol".into()));
    }
    let (version, kind) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([k0, k1]));
    if version != VERSION {
        return Err(refuse(format!("protocol version {version}, this side speaks {VERSION}")));
    }
    if kind != M::KIND {
        return Err(refuse(format!("message kind {kind} where {} belongs", M::KIND)));
    }
    let (names, message): (Vec<String>, M) =
        serde_json::from_slice(body).map_err(|error| refuse(error.to_string()))?;
    if names.len() > MAX_FDS {
        return Err(refuse(format!("{} descriptors, the limit is {MAX_FDS}", names.len())));
    }
    let different: BTreeSet<&String> = names.iter().collect();
    if different.len() != names.len() {
        return Err(refuse("two descriptors have the same name".into()));
    }
    Ok((names, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::{Operation, Reply, Request, SignalTarget};
    use proptest::prelude::*;

    const START: Request = Request { container: None, operation: Operation::Start };

    #[test]
    fn a_request_survives_the_trip_with_the_names_of_its_descriptors() {
        let operation = Operation::Signal { number: 15, to: SignalTarget::Group(7) };
        let request = Request { container: None, operation };
        let (names, message) = decode::<Request>(&encode(&["a", "b"], &request).unwrap()).unwrap();
        assert_eq!((names, message), (vec!["a".to_owned(), "b".to_owned()], request));
    }

    #[test]
    fn a_frame_of_another_kind_version_or_protocol_is_refused_by_name() {
        let frame = encode(&[], &START).unwrap();
        let problem = |bytes: &[u8]| decode::<Reply>(bytes).unwrap_err().to_string();
        assert_eq!(problem(&frame), "decode frame: message kind 1 where 2 belongs");
        assert_eq!(problem(&frame[..7]), "decode frame: 7 bytes are too few for a header");
        let mut newer = frame.clone();
        newer[4] = 9;
        assert_eq!(problem(&newer), "decode frame: protocol version 9, this side speaks 1");
        assert_eq!(problem(b"GET / HTTP/1.1"), "decode frame: not a frame of this protocol");
        assert_eq!(problem(&vec![0; MAX_FRAME + 1]), "decode frame: 65537 bytes, the limit is 65536");
    }

    #[test]
    fn two_descriptors_of_one_name_and_too_many_are_refused() {
        let problem = |names: &[&str]| {
            let frame = [b"CFDM\x01\x00\x02\x00".to_vec(), serde_json::to_vec(&(names, "done")).unwrap()];
            decode::<Reply>(&frame.concat()).unwrap_err().to_string()
        };
        assert_eq!(problem(&["a", "a"]), "decode frame: two descriptors have the same name");
        assert_eq!(problem(&["a"; MAX_FDS + 1]), "decode frame: 65 descriptors, the limit is 64");
        assert!(encode(&["a"; MAX_FDS + 1], &START).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&bytes);
            let mut framed = encode(&[], &START).unwrap();
            framed.truncate(8);
            framed.extend_from_slice(&bytes);
            let _ = decode::<Request>(&framed);
        }
    }
}
