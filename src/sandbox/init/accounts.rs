//! The image's users and groups: `/etc/passwd` and `/etc/group` (passwd(5), group(5)), read from inside the container's
//! root. An image may have anything there, of any size.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::Account;
use crate::process::lease::name_lease;
use crate::sandbox::resolve;
use crate::spec::{IdMaps, Origin, User};
use crate::weaken::{Rule, leaves_out};
use rustix::fd::AsFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most that is read of either file.
const MAX_FILE: u64 = 1 << 20;

/// The home directory of the first user with this id, if it is an absolute path.
///
/// # Errors
/// As [`look_up`].
pub(in crate::sandbox) fn home_of(uid: u32) -> Result<Option<Vec<u8>>> {
    Ok(read("etc/passwd")?.and_then(|passwd| home_in(&passwd, uid)))
}

/// The workload's user: as [`look_up`]. Its ids have to be among `maps`.
pub(super) fn find_workload(account: &Account, user: &User, maps: &IdMaps) -> Result<User> {
    let found = look_up(account, user)?;
    found.check_found(Origin::Builder, maps)?;
    Ok(found)
}

/// `user` with the ids of `account`: its uid, its group, and the groups that list it. A uid without a line keeps the
/// group of `user`, and has no further ones.
///
/// # Errors
/// `EAGAIN` if another process keeps a lease on one of the files: without it, the ids would be others.
pub(in crate::sandbox) fn look_up(account: &Account, user: &User) -> Result<User> {
    let passwd = read("etc/passwd")?.unwrap_or_default();
    look_up_in(&passwd, || Ok(read("etc/group")?.unwrap_or_default()), account, user)
}

/// As [`look_up`], in the content of the two files. `group` is called only for a user that `passwd` has.
pub(crate) fn look_up_in(
    passwd: &[u8],
    group: impl FnOnce() -> Result<Vec<u8>>,
    account: &Account,
    user: &User,
) -> Result<User> {
    let groups = |name: &[u8]| Ok::<_, Error>(groups_in(&group()?, name));
    match account {
        Account::Name(name) => {
            let Some((uid, gid)) = ids_in(passwd, name.as_bytes()) else {
                let problem = format!("there is no user {name:?} in the container's /etc/passwd");
                return Err(Error::new(
                    ErrorKind::InvalidSpec { path: "process.user.username".into() },
                    "process.user.username",
                    problem,
                ));
            };
            Ok(User { uid, gid, additional_gids: groups(name.as_bytes())?, ..*user })
        }
        Account::Uid(uid) => {
            let (gid, additional_gids) = match group_of(passwd, *uid) {
                Some((name, gid)) => (gid, groups(name)?),
                None => (user.gid, Vec::new()),
            };
            Ok(User { uid: *uid, gid, additional_gids, ..*user })
        }
    }
}

/// The beginning of the file; `None` if it is missing or cannot be read.
fn read(path: &str) -> Result<Option<Vec<u8>>> {
    let opened = match open(Path::new(path)) {
        Err(Errno::AGAIN) => Err(Errno::AGAIN).os(|| format!("open(\"/{path}\")")).map_err(name_lease),
        opened => Ok(opened.ok().flatten()),
    };
    let Some(file) = opened? else { return Ok(None) };
    let mut bytes = Vec::new();
    Ok(file.take(MAX_FILE).read_to_end(&mut bytes).is_ok().then_some(bytes))
}

/// `None` if it is not a regular file.
fn open(path: &Path) -> rustix::io::Result<Option<File>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    // Opening a device or a FIFO has effects: look at its type first.
    let seen = rustix::fs::fstat(resolve::open(root.as_fd(), path)?)?;
    let is_file = FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile;
    if !is_file && !leaves_out(Rule::Fifos) {
        return Ok(None);
    }
    resolve::open_seen(root.as_fd(), path, &seen, OFlags::RDONLY).map(|file| Some(file.into()))
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':').collect())
}

fn number(field: Option<&&[u8]>) -> Option<u32> {
    // `parse` allows a sign.
    let digits = field.filter(|field| field.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The sixth field of the first line whose third is `uid`, if it is an absolute path.
pub(crate) fn home_in(passwd: &[u8], uid: u32) -> Option<Vec<u8>> {
    let line = lines(passwd).find(|fields| number(fields.get(2)) == Some(uid))?;
    let home = line.get(5).filter(|home| home.starts_with(b"/") && !home.contains(&0))?;
    Some(home.to_vec())
}

/// The third and fourth field of the first line whose first is `name`.
fn ids_in(passwd: &[u8], name: &[u8]) -> Option<(u32, u32)> {
    lines(passwd)
        .find(|fields| fields.first() == Some(&name))
        .and_then(|fields| Some((number(fields.get(2))?, number(fields.get(3))?)))
}

/// The first and the fourth field of the first line whose third is `uid`.
fn group_of(passwd: &[u8], uid: u32) -> Option<(&[u8], u32)> {
    lines(passwd)
        .find(|fields| number(fields.get(2)) == Some(uid))
        .and_then(|fields| Some((*fields.first()?, number(fields.get(3))?)))
}

/// The third field of every line that lists `name` in its fourth. No line lists the user of a line without a name.
fn groups_in(group: &[u8], name: &[u8]) -> Vec<u32> {
    if name.is_empty() {
        return Vec::new();
    }
    let lists =
        |fields: &[&[u8]]| fields.get(3).is_some_and(|users| users.split(|b| *b == b',').any(|u| u == name));
    lines(group).filter(|fields| lists(fields)).filter_map(|fields| number(fields.get(2))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::relative:\nbroken:x\nweb:x:1:1::/second:\n";

    #[test]
    fn homes_are_absolute_and_the_first_line_counts() {
        assert_eq!(home_in(PASSWD, 0).as_deref(), Some(b"/root".as_slice()));
        assert_eq!(home_in(PASSWD, 33), None);
        assert_eq!(home_in(PASSWD, 7), None);
        assert_eq!(home_in(b"a:x:33:34::relative:\nb:x:33:34::/second:\n", 33), None);
    }

    #[test]
    fn a_user_has_its_ids_and_the_groups_that_list_it() {
        assert_eq!(ids_in(PASSWD, b"web"), Some((33, 34)));
        assert_eq!(ids_in(PASSWD, b"33"), None);
        assert_eq!(ids_in(PASSWD, b"broken"), None);
        assert_eq!(group_of(PASSWD, 33), Some((b"web".as_slice(), 34)));
        assert_eq!(group_of(b"33:x:0:0::/:\n", 33), None, "a name of digits is no uid");
        assert_eq!(groups_in(b"a:x:5:\nb:x:6:web,\n", b""), [0_u32; 0]);
        assert_eq!(groups_in(b"a:x:5:web,root\nb:x:6:webber\nc:x:7:web\n", b"web"), [5, 7]);
    }
}
