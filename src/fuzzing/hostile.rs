//! What a workload or an image can put before us: text of files, trees of files, and frames on a socket.

use crate::container::{OVERFLOW_UID, UidMap, split_command_line, terminal_name};
use crate::error::ErrorKind;
use crate::host::cgroups::CgroupLayout;
use crate::plan::Account;
use crate::process::Channel;
use crate::sandbox::{compare_and_export, home_in, look_up_in};
use crate::spec::{IdMap, IdMaps, Origin, User};
use crate::sys::{ProcStat, StatusText};
use crate::wire::control::{ExecReply, Operation, Reply, Request};
use crate::wire::files::{Change, FileReply, FileRequest};
use crate::wire::frame::{MAX_FDS, Message};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{IoSlice, Read, Seek};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Text that a container decides, or a part of. The first byte chooses what it is.
pub(super) fn text(bytes: &[u8]) {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 6 {
        0 => accounts(bytes),
        1 => stat(bytes),
        2 => status(bytes),
        3 => command_line(bytes),
        4 => uid_map(bytes),
        _ => cgroups(bytes),
    }
}

/// Two texts, with a byte between them that neither has.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    let middle = bytes.iter().position(|byte| *byte == 0xff).unwrap_or(bytes.len());
    (&bytes[..middle], bytes.get(middle + 1..).unwrap_or_default())
}

/// `/etc/passwd` and `/etc/group`. A user is one of the file, whose first line counts. Its ids are among those of the
/// container, or it is refused.
fn accounts(bytes: &[u8]) {
    let (passwd, group) = halves(bytes);
    let whole = IdMap { container: 0, host: 100_000, size: 65_536 };
    let maps = IdMaps { uids: vec![whole], gids: vec![whole] };
    let own = User { uid: 1, gid: 2, additional_gids: vec![3], umask: Some(0o22) };
    let names = passwd.split(|byte| matches!(byte, b':' | b'\n')).take(32);
    for account in names.filter_map(|name| Account::parse(std::str::from_utf8(name).ok()?)) {
        let look_up = |passwd: &[u8]| look_up_in(passwd, || Ok(group.to_vec()), &account, &own);
        let user = match look_up(passwd) {
            Ok(user) => user,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::InvalidSpec { .. }), "{error}");
                continue;
            }
        };
        if let Account::Uid(uid) = account {
            assert_eq!(user.uid, uid, "a number is no name");
        }
        assert_eq!(user.umask, own.umask);
        assert!(user.additional_gids.len() <= group.len() / 4, "a group takes a line of its own");
        let longer = [passwd, b"\nmore:x:0:0::/more:\nroot:x:0:0::/:"].concat();
        if passwd.split(|byte| *byte == b'\n').any(|line| is_about(line, &account)) {
            assert_eq!(look_up(&longer).expect("the same line"), user, "a later line decides");
        }
        if user.check_found(Origin::Exec, &maps).is_ok() {
            let ids = user.additional_gids.iter().chain([&user.uid, &user.gid]);
            assert!(ids.into_iter().all(|id| *id < 65_536), "{user:?}");
        }
        if let Some(home) = home_in(passwd, user.uid) {
            assert!(home.starts_with(b"/") && !home.iter().any(|byte| matches!(byte, 0 | b':' | b'\n')));
            assert_eq!(home_in(&longer, user.uid), Some(home), "a later line decides");
        }
    }
}

/// Whether a line of `/etc/passwd` begins with the name, or has the id in its third field.
fn is_about(line: &[u8], account: &Account) -> bool {
    let mut fields = line.split(|byte| *byte == b':');
    match account {
        Account::Name(name) => fields.next() == Some(name.as_bytes()),
        Account::Uid(uid) => fields.nth(2) == Some(uid.to_string().as_bytes()),
    }
}

/// A `stat` file: no name that a process gives itself changes another field.
fn stat(bytes: &[u8]) {
    if let Some(stat) = ProcStat::parse(bytes) {
        let _ = (stat.is_dead(), stat.is_exiting(), terminal_name(stat.tty_nr.cast_unsigned()));
    }
    let tail = b") S 1 7 6 34816 9 4194304 0 0 0 0 25 75 9 9 20 0 3 0 4242 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    let named = ProcStat::parse(&[b"7 (", bytes, tail].concat()).expect("a name may be anything");
    assert_eq!((named.pid, named.state, named.ppid, named.starttime), (7, 'S', 1, 4242));
    assert_eq!(named.comm, String::from_utf8_lossy(bytes));
}

/// A `status` file: of lines with one name the first counts, and a name of a process is no line. The kernel escapes
/// newlines in it (proc_pid_status(5)).
fn status(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let found = StatusText(&text);
    for name in ["Name", "Uid", "NSpid", "Pid", "SigCgt"] {
        assert!(found.line(name).is_none_or(|line| !line.contains('\n')), "{name}");
        let _ = (found.number(name, 1), found.signals(name));
    }
    assert!(found.pids().count() <= text.len() / 2 + 1);
    let comm = text.replace('\n', "\\n");
    let kernels = format!("Name:\t{comm}\nUid:\t1\t2\t3\t4\nNSpid:\t9\t5\nSigCgt:\t0000000000004002\n");
    let kernels = StatusText(&kernels);
    assert_eq!((kernels.number("Uid", 1), kernels.signals("SigCgt")), (Some(2), 0x4002));
    assert!(kernels.pids().eq([9, 5]));
}

/// A command line: its words are the text between the NULs.
fn command_line(bytes: &[u8]) {
    let words = split_command_line(bytes);
    assert!(words.iter().all(|word| !word.contains('\0')));
    let text = words.join("\0");
    let whole = String::from_utf8_lossy(bytes);
    assert_eq!(text, whole.strip_suffix('\0').unwrap_or(&whole));
}

/// An id map: an id is inside one of its ranges, or the one for ids without a place.
fn uid_map(bytes: &[u8]) {
    let (id, text) = bytes.split_at(bytes.len().min(4));
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let text = String::from_utf8_lossy(text);
    let inside = UidMap::parse(&text).inside(id);
    let numbers = |line: &str| {
        let numbers: Option<Vec<u64>> =
            line.split_ascii_whitespace().take(3).map(|number| number.parse().ok()).collect();
        numbers.filter(|numbers| numbers.len() == 3)
    };
    let mut ranges = text.lines().filter_map(numbers);
    let holds = |range: Vec<u64>| (range[0]..range[0].saturating_add(range[2])).contains(&inside.into());
    assert!(inside == OVERFLOW_UID || ranges.any(holds), "{id} is {inside} in {text:?}");
    let _ = terminal_name(id);
}

/// A mount table and a list of cgroups, from a mount namespace whose owner mounted what he wanted: our own cgroup is
/// below its mount, whatever they say.
fn cgroups(bytes: &[u8]) {
    let (mounts, membership) = halves(bytes);
    let (mounts, membership) = (String::from_utf8_lossy(mounts), String::from_utf8_lossy(membership));
    let layout = CgroupLayout::parse(&mounts, &membership);
    assert!(layout.v1.len() <= membership.lines().count());
    let below = |own: &Path, dir: &Path, mountpoint: &Path| {
        let mut parts = own.components();
        assert_eq!(parts.next(), Some(Component::RootDir), "{own:?}");
        assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{own:?}");
        let inner = dir.strip_prefix(mountpoint).expect("below the mount point");
        assert!(inner.components().all(|part| matches!(part, Component::Normal(_))), "{dir:?}");
    };
    for hierarchy in &layout.v1 {
        assert!(!hierarchy.controllers.is_empty());
        assert!(hierarchy.controllers.iter().all(|name| layout.v1(name).is_some()));
        below(&hierarchy.own, &hierarchy.own_dir(), &hierarchy.mountpoint);
    }
    if let Some(unified) = &layout.unified {
        below(&unified.own, &unified.own_dir(), &unified.mountpoint);
        for dir in unified.point_dirs() {
            below(Path::new("/"), &dir, &unified.mountpoint);
        }
    }
}

/// A tree in a scratch: its layer has every name of the tree once, below the root, and a comparison with the empty
/// image finds the same names. A tree that a layer cannot hold is refused.
pub(super) fn tree(bytes: &[u8]) {
    let place = tempfile::tempdir().expect("a directory for the tree");
    let [upper, lower] = ["upper", "lower"].map(|name| {
        let path = place.path().join(name);
        std::fs::create_dir(&path).expect("a directory in it");
        path
    });
    let made = grow(&upper, bytes);
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).expect("it was made")
    };
    let export = || {
        let archive = rustix::fs::memfd_create("layer", MemfdFlags::CLOEXEC).expect("a file in memory");
        let mut file = File::from(archive.try_clone().expect("a duplicate"));
        compare_and_export([open(&upper), open(&lower)], archive).map(|changes| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what was written");
            (changes, bytes)
        })
    };
    let forged = made.values().any(|node| node.hides);
    match export() {
        Ok((changes, layer)) => {
            assert!(!forged, "a name of the container removes something");
            layer_has(&layer, &made);
            changes_are(&changes, &made);
            assert_eq!(export().expect("the same tree").1, layer, "another layer of the same tree");
        }
        Err(error) => {
            assert!(forged && *error.kind() == ErrorKind::InvalidInput, "{error}");
        }
    }
}

/// What a tree has under one path.
struct Node {
    /// In the layer: the name, the type of the entry, and the content.
    entry: (Vec<u8>, u8, Vec<u8>),
    /// Its own name is one that removes something of the image.
    hides: bool,
    is_whiteout: bool,
}

/// Makes a tree of a few names. A step is: what to make, in which of the directories, the length of the name, the name.
#[expect(clippy::disallowed_methods, reason = "writes below a directory that is its own")]
fn grow(top: &Path, mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Node> {
    let mut made: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
    let mut directories: Vec<Vec<u8>> = vec![Vec::new()];
    while let [what, parent, length, rest @ ..] = bytes {
        let (name, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        let within = directories[usize::from(*parent) % directories.len()].clone();
        let inner = if within.is_empty() { name.to_vec() } else { [&within, &b"/"[..], name].concat() };
        let unusable = name.is_empty() || name == b"." || name == b".." || name.contains(&0);
        // A longer path has no name for the calls below.
        if unusable || name.contains(&b'/') || inner.len() > 2000 || made.len() == 64 {
            continue;
        }
        let path = top.join(OsStr::from_bytes(&inner));
        let node = |mode| rustix::fs::mknodat(CWD, &path, mode, Mode::from_raw_mode(0o600), 0).is_ok();
        let first = made
            .iter()
            .find(|(_, node)| node.entry.1 == b'0' && !node.is_whiteout)
            .map(|(path, _)| path.clone());
        let mut is_whiteout = false;
        let (done, kind, content) = match what % 6 {
            0 => (std::fs::create_dir(&path).is_ok(), b'5', Vec::new()),
            1 => (std::os::unix::fs::symlink(OsStr::from_bytes(name), &path).is_ok(), b'2', name.to_vec()),
            2 => (node(FileType::Fifo), b'6', Vec::new()),
            3 => {
                is_whiteout = true;
                (node(FileType::CharacterDevice), b'0', Vec::new())
            }
            4 if let Some(first) = first => {
                let linked = rustix::fs::linkat(
                    CWD,
                    top.join(OsStr::from_bytes(&first)),
                    CWD,
                    &path,
                    AtFlags::empty(),
                );
                (linked.is_ok(), b'1', first)
            }
            _ => {
                let content = name.repeat(usize::from(*what));
                let new = !path.exists() && std::fs::write(&path, &content).is_ok();
                (new, b'0', content)
            }
        };
        if !done {
            continue;
        }
        if kind == b'5' {
            directories.push(inner.clone());
        }
        let written = match kind {
            b'5' => [&inner, &b"/"[..]].concat(),
            _ if is_whiteout && within.is_empty() => [b".wh.", name].concat(),
            _ if is_whiteout => [&within, &b"/.wh."[..], name].concat(),
            _ => inner.clone(),
        };
        let hides = name.starts_with(b".wh.");
        made.insert(inner, Node { entry: (written, kind, content), hides, is_whiteout });
    }
    made
}

/// The layer has the entries of this tree and no other. Which name of a file with several has the content is open.
fn layer_has(layer: &[u8], made: &BTreeMap<Vec<u8>, Node>) {
    let mut found = BTreeSet::new();
    for (name, kind, content) in entries_of(layer) {
        let path = Path::new(OsStr::from_bytes(&name));
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        assert!(plain && !name.is_empty(), "{path:?} is not below the root");
        let wanted = made.values().find(|node| node.entry.0 == name).expect("a name of the tree");
        let is_file = |kind| matches!(kind, b'0' | b'1');
        if is_file(kind) && is_file(wanted.entry.1) {
            assert!(kind == b'0' || found.contains(&content), "a link to what comes later");
        } else {
            assert_eq!((kind, &content), (wanted.entry.1, &wanted.entry.2), "{path:?}");
        }
        assert!(found.insert(name), "twice the same name");
    }
    assert_eq!(found.len(), made.len(), "names are missing");
}

/// A reader of its own: the name, the type, and the content or target of each entry (pax(1), "ustar Interchange
/// Format" and "pax Extended Header").
fn entries_of(layer: &[u8]) -> Vec<(Vec<u8>, u8, Vec<u8>)> {
    assert!(
        layer.len().is_multiple_of(512) && layer.ends_with(&[0; 1024]),
        "an archive ends in two empty blocks"
    );
    let mut entries = Vec::new();
    let (mut rest, mut long) = (layer, BTreeMap::new());
    while let Some((header, after)) =
        rest.split_first_chunk::<512>().filter(|(header, _)| **header != [0; 512])
    {
        let header = tar::Header::from_byte_slice(header);
        let size = usize::try_from(header.entry_size().expect("a size")).expect("a size that fits");
        let (content, _) = after.split_at(size);
        rest = &after[size.next_multiple_of(512)..];
        let kind = header.entry_type().as_byte();
        if kind == b'x' {
            long = extensions_of(content);
            continue;
        }
        let name = long.remove("path").unwrap_or_else(|| header.path_bytes().into_owned());
        let target = long.remove("linkpath").or_else(|| Some(header.link_name_bytes()?.into_owned()));
        assert!(long.is_empty(), "extended values of {:?}: {long:?}", OsStr::from_bytes(&name));
        let content = if matches!(kind, b'1' | b'2') { target.unwrap_or_default() } else { content.to_vec() };
        entries.push((name, kind, content));
    }
    entries
}

/// Records of the form "LENGTH KEY=VALUE\n", where the length counts all of them.
fn extensions_of(mut records: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut values = BTreeMap::new();
    while let Some(space) = records.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(&records[..space]).ok().and_then(|length| length.parse().ok());
        let (record, rest) = records.split_at(length.expect("a length"));
        let record = record[space + 1..].strip_suffix(b"\n").expect("a record ends in a newline");
        let equals = record.iter().position(|byte| *byte == b'=').expect("a key and a value");
        let key = String::from_utf8(record[..equals].to_vec()).expect("a key in UTF-8");
        values.insert(key, record[equals + 1..].to_vec());
        records = rest;
    }
    assert!(records.is_empty(), "a record without a length");
    values
}

/// Every path that is there was added; a whiteout of what the image does not have is no change.
fn changes_are(changes: &[Change], made: &BTreeMap<Vec<u8>, Node>) {
    let found: BTreeSet<Vec<u8>> =
        changes.iter().map(|change| change.path.as_os_str().as_bytes().to_vec()).collect();
    let there = made.iter().filter(|(_, node)| !node.is_whiteout);
    let wanted: BTreeSet<Vec<u8>> = there.map(|(path, _)| [b"/", path.as_slice()].concat()).collect();
    assert_eq!(found, wanted);
    assert_eq!(found.len(), changes.len(), "twice the same path");
}

/// A sequence of frames on one connection, with descriptors. Each arrives with as many descriptors as names or is refused;
/// no descriptor stays open; and none changes how the next frame is read.
///
/// A frame is: the type that is expected, the number of descriptors, how many times 512 spaces follow, the length in two
/// bytes, the bytes.
pub(super) fn frames(mut bytes: &[u8]) {
    let (ours, theirs) = Channel::pair().expect("a connection");
    let (witness, given) = rustix::pipe::pipe().expect("a descriptor to give away");
    for _ in 0..16 {
        let [kind, descriptors, spaces, high, low, rest @ ..] = bytes else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        bytes = rest;
        let frame = [frame, &vec![b' '; usize::from(*spaces) * 512]].concat();
        // An empty one is how the end of a connection looks.
        if frame.is_empty() {
            continue;
        }
        let count = usize::from(*descriptors) % (MAX_FDS + 8);
        match send_raw(theirs.as_fd(), &frame, &vec![given.as_fd(); count]) {
            Ok(()) => {}
            // The machine has no memory for it, or other programs of this user have too many descriptors on their way.
            Err(Errno::NOBUFS | Errno::TOOMANYREFS) => return,
            Err(errno) => panic!("room for a frame: {errno}"),
        }
        match kind % 4 {
            0 => receive::<Request>(&ours, count),
            1 => receive::<Reply>(&ours, count),
            2 => receive::<FileRequest>(&ours, count),
            _ => receive::<ExecReply>(&ours, count),
        }
    }
    let last = Request { container: None, operation: Operation::Start };
    theirs.send(&last, &[("last", given.as_fd())]).expect("room for a frame");
    let delivery = ours.receive_now::<Request>().expect("a good frame");
    assert_eq!(delivery.message, last);
    drop(delivery.fds.take_only("last").expect("its descriptor"));
    drop(given);
    // Waits for ever if another copy is open.
    assert_eq!(rustix::io::read(&witness, &mut [0; 1]), Ok(0));
}

fn send_raw(socket: BorrowedFd<'_>, frame: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn receive<M: Message + std::fmt::Debug>(connection: &Channel, sent: usize) {
    let (mut delivery, missing) = match connection.receive_part::<M>() {
        Ok(delivered) => delivered,
        Err(error) => return assert_eq!(*error.kind(), ErrorKind::PeerMisbehaved, "{error}"),
    };
    let count = delivery.fds.fds().count();
    assert!(count <= sent && count <= MAX_FDS);
    assert!(missing.is_some() || count == sent, "{count} of {sent} descriptors");
    let extra = delivery.fds.take_all("extra-").len();
    let known = delivery.fds.take_those(&["plan", "stdin", "stdout", "stderr"]).into_named();
    let names: BTreeSet<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), known.len(), "two descriptors of one name");
    let left: Vec<(String, OwnedFd)> = delivery.fds.into_named();
    assert_eq!(extra + known.len() + left.len(), count);
}

/// Names and paths that a hostile file worker lists lead nowhere else when they are joined with another path.
pub(super) fn listing(reply: &FileReply) {
    let stays = |path: &Path| path.components().all(|part| !matches!(part, Component::ParentDir));
    match reply {
        FileReply::Entries { entries, .. } => {
            for entry in entries {
                let mut parts = Path::new(&entry.name).components();
                assert!(matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none());
            }
        }
        FileReply::Changes { changes, .. } => {
            assert!(changes.iter().all(|change| change.path.is_absolute() && stays(&change.path)));
        }
        _ => {}
    }
}
