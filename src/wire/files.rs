//! What a client and a file worker say to each other, and the plain values among it that users of the crate see.
//!
//! One request, one answer; a listing takes as many frames as it needs. The contents of files never travel in frames: an
//! answer carries a descriptor instead.

use crate::error::RemoteFailure;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The longest value of an extended attribute that fits into a frame however it is spelled.
pub(crate) const MAX_VALUE: usize = 16 << 10;
/// How many bytes of names go into one frame of a listing, counting [`ENTRY`] more for each name: even if every byte
/// needs an escape, they fit.
pub(crate) const PAGE: usize = 12 << 10;
/// The bytes of an entry besides its name.
pub(crate) const ENTRY: usize = 16;

/// Bytes that are mostly text: file names, paths, values of attributes. In a frame, a byte that is not printable ASCII
/// becomes `%XX`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<&OsStr> for Bytes {
    fn from(name: &OsStr) -> Self {
        Self(name.as_bytes().to_vec())
    }
}

impl From<Bytes> for OsString {
    fn from(bytes: Bytes) -> Self {
        Self::from_vec(bytes.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let mut text = String::with_capacity(self.0.len());
        for &byte in &self.0 {
            // JSON would escape these with two or six characters; this takes three.
            if (b' '..=b'~').contains(&byte) && !matches!(byte, b'%' | b'"' | b'\\') {
                text.push(char::from(byte));
            } else {
                write!(text, "%{byte:02x}").expect("writing to a string cannot fail");
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let digits =
                rest.split_at_checked(2).filter(|(digits, _)| digits.iter().all(u8::is_ascii_hexdigit));
            let (digits, tail) = digits.ok_or_else(|| de::Error::custom("two digits belong after %"))?;
            let digits = std::str::from_utf8(digits).map_err(de::Error::custom)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(de::Error::custom)?);
            rest = tail;
        }
        Ok(Self(bytes))
    }
}

/// What a client asks of a file worker. Paths are resolved inside the container's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FileRequest {
    /// A regular file, for reading.
    Open {
        path: Bytes,
    },
    /// A new regular file, for reading and writing.
    Create {
        path: Bytes,
        mode: u32,
    },
    /// A regular file, emptied if it exists and created if not, for reading and writing.
    Replace {
        path: Bytes,
        mode: u32,
    },
    Stat {
        path: Bytes,
        follow: bool,
    },
    /// At most `limit` entries.
    List {
        path: Bytes,
        limit: u64,
    },
    Mkdir {
        path: Bytes,
        mode: u32,
        parents: bool,
    },
    RemoveFile {
        path: Bytes,
    },
    RemoveDir {
        path: Bytes,
    },
    RemoveAll {
        path: Bytes,
    },
    Rename {
        from: Bytes,
        to: Bytes,
    },
    Symlink {
        target: Bytes,
        path: Bytes,
    },
    HardLink {
        original: Bytes,
        path: Bytes,
    },
    ReadLink {
        path: Bytes,
    },
    SetMode {
        path: Bytes,
        mode: u32,
    },
    SetOwner {
        path: Bytes,
        uid: u32,
        gid: u32,
        follow: bool,
    },
    /// The time of the last change, since the epoch.
    SetModified {
        path: Bytes,
        seconds: i64,
        nanoseconds: u32,
        follow: bool,
    },
    GetXattr {
        path: Bytes,
        name: Bytes,
    },
    SetXattr {
        path: Bytes,
        name: Bytes,
        value: Bytes,
    },
    RemoveXattr {
        path: Bytes,
        name: Bytes,
    },
    ListXattrs {
        path: Bytes,
    },
    /// How the scratch differs from the image.
    Diff {
        limit: u64,
    },
    /// The same as an OCI layer, written to the pipe that comes along as `pipe`.
    Export,
    /// All that the one file system mounted at `path` holds, but devices, as a layer that hides what another has there.
    /// Written to `pipe`.
    ExportMount {
        path: Bytes,
    },
}

/// The first message of a file worker, or of a sandbox that could not start one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum WorkerReport {
    /// It waits for requests.
    Ready,
    Failed(RemoteFailure),
}

/// The answer of a file worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FileReply {
    /// Done. To a request that opens a file, the file comes along as `file`.
    Done,
    /// The metadata of the file, and the target if it is a symbolic link.
    Metadata {
        metadata: Metadata,
        target: Option<Bytes>,
    },
    /// Part of a listing.
    Entries {
        entries: Vec<Entry>,
        last: bool,
    },
    /// Part of a comparison.
    Changes {
        changes: Vec<Change>,
        last: bool,
    },
    Bytes(Bytes),
    Names(Vec<Bytes>),
    /// Not done, and why.
    Failed(RemoteFailure),
}

/// One name in a directory of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// The name: one component, whatever bytes it has.
    #[serde(serialize_with = "spelled::serialize", deserialize_with = "spelled::name")]
    pub name: OsString,
    /// What it is; a symbolic link is not followed.
    pub kind: FileKind,
}

/// One difference between a container's scratch and its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// How it differs.
    pub kind: ChangeKind,
    /// Where, as an absolute path in the container.
    #[serde(serialize_with = "spelled::serialize", deserialize_with = "spelled::path")]
    pub path: PathBuf,
}

/// Names and paths in public types, sent as [`Bytes`]. The sender works in the container and may be hostile, and users
/// join these with paths of the host: what would lead elsewhere is refused here.
mod spelled {
    use super::{Bytes, Deserialize, Deserializer, OsStr, OsString, PathBuf, Serialize, Serializer, de};
    use std::path::Component;

    pub(super) fn serialize<T: AsRef<OsStr>, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Bytes::from(value.as_ref()).serialize(serializer)
    }

    /// One component of a path.
    pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OsString, D::Error> {
        let name = Bytes::deserialize(deserializer)?;
        match name.0.as_slice() {
            b"" | b"." | b".." => Err(de::Error::custom("a name in a directory belongs here")),
            bytes if bytes.contains(&b'/') || bytes.contains(&0) => {
                Err(de::Error::custom("one name, and not a path, belongs here"))
            }
            _ => Ok(name.into()),
        }
    }

    /// An absolute path without `..`.
    pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        let path = bytes.path();
        let climbs = path.components().any(|component| component == Component::ParentDir);
        if !path.is_absolute() || climbs || bytes.0.contains(&0) {
            return Err(de::Error::custom("an absolute path without .. belongs here"));
        }
        Ok(OsString::from(bytes).into())
    }
}

/// What a file is: the type bits of `st_mode` (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A type this crate does not know.
    Unknown,
}

impl std::fmt::Display for FileKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Unknown => "of an unknown type",
        })
    }
}

/// What stat(2) tells of a file in a container. Ids are the container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, set-id and sticky bits included: `0o7777` at most.
    pub mode: u32,
    /// Owner, as the container sees it.
    pub uid: u32,
    /// Group, as the container sees it.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Last change of its content: seconds since the epoch.
    pub modified_seconds: i64,
    /// And nanoseconds.
    pub modified_nanoseconds: u32,
    /// How many names it has.
    pub links: u64,
    /// Of a device, its major number.
    pub device_major: u32,
    /// Of a device, its minor number.
    pub device_minor: u32,
    /// The file system it is on, as far as that tells files with the same inode number apart.
    pub file_system: u64,
    /// Its inode number.
    pub inode: u64,
    /// Where it leads, if it is a symbolic link.
    #[serde(skip)]
    pub target: Option<PathBuf>,
}

/// How a path of the scratch differs from the image.
///
/// Closed on purpose: a path was added, changed or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The image has nothing there.
    Added,
    /// The image has something else there, or the same with other content, mode or owner.
    Modified,
    /// The image has it, and the container no longer does.
    Deleted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{decode, encode};
    use proptest::prelude::*;

    #[test]
    fn the_longest_paths_fit_into_a_frame_however_they_are_spelled() {
        let longest = Bytes(vec![0xff; 4096]);
        encode(&[], &FileRequest::Rename { from: longest.clone(), to: longest.clone() }).unwrap();
        let (name, value) = (Bytes(vec![1; 255]), Bytes(vec![0; MAX_VALUE]));
        encode(&[], &FileRequest::SetXattr { path: longest, name, value }).unwrap();
        let entry = Entry { name: OsString::from_vec(vec![0xff; 1]), kind: FileKind::CharDevice };
        encode(&[], &FileReply::Entries { entries: vec![entry; PAGE / ENTRY], last: false }).unwrap();
    }

    #[test]
    fn a_name_or_path_that_leads_elsewhere_is_refused() {
        let listing = |name: &str| {
            let text =
                format!(r#"{{"entries":{{"entries":[{{"name":"{name}","kind":"file"}}],"last":true}}}}"#);
            serde_json::from_str::<FileReply>(&text).is_ok()
        };
        assert!(listing("a b") && listing("..a") && listing("%ff"));
        for name in ["", ".", "..", "a/b", "../b", "/etc", "a%2fb", "%2e%2e", "a%00"] {
            assert!(!listing(name), "{name}");
        }
        let changes = |path: &str| {
            let text =
                format!(r#"{{"changes":{{"changes":[{{"kind":"added","path":"{path}"}}],"last":true}}}}"#);
            serde_json::from_str::<FileReply>(&text).is_ok()
        };
        assert!(changes("/a/..b") && changes("/%ff"));
        for path in ["", "a", "../a", "/..", "/a/../b", "/a/%2e%2e", "/a%00"] {
            assert!(!changes(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_the_trip(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let request = FileRequest::ReadLink { path: Bytes(bytes) };
            prop_assert_eq!(decode::<FileRequest>(&encode(&[], &request).unwrap()).unwrap().1, request);
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in ".{0,100}") {
            let _ = serde_json::from_value::<Bytes>(serde_json::Value::String(text));
        }
    }
}
