//! Taking a range of host ids for a container.
//!
//! The claim is a lock on one file for the whole host, whatever the state root: a write lock of the open file (`F_OFD_SETLK`
//! of fcntl(2)) on the bytes whose positions are the ids. The container's sandbox gets the open file. So the kernel frees
//! the range when the last process that has the file ends, however that happens, and nothing stale can be left. The file
//! stays empty.
//!
//! ```text
//!   build: choose a free range, changing nothing
//!   create: take it, or choose again if another program was first; the sandbox holds it until it ends
//! ```

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host::facts::IdRange;
use crate::host::id_region::IdRegion;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;
use std::path::Path;

/// The file with the locks. Programs that see another `/run` do not see each other's claims.
const LOCKS: &str = "/run/cofferdam.ids";

/// Where the bytes for gids begin: above those for all uids.
const GIDS: i64 = 1 << 32;

/// A range of host ids that no other container has. Dropping it and all copies of its descriptor frees the range.
#[derive(Debug)]
pub(crate) struct IdClaim(OwnedFd);

impl IdClaim {
    /// A range of `region` that is free now. Does not take it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if all are taken; the errno of open(2) or fcntl(2).
    pub(crate) fn choose(region: &IdRegion) -> Result<(IdRange, IdRange)> {
        choose_in(Path::new(LOCKS), region)
    }

    /// Takes this range of uids and this of gids; `None` if another container has any of them.
    ///
    /// # Errors
    /// The errno of open(2) or fcntl(2).
    pub(crate) fn take(uids: IdRange, gids: IdRange) -> Result<Option<Self>> {
        take_in(Path::new(LOCKS), uids, gids)
    }
}

/// The open file: as long as a process has it, the range is taken.
impl AsFd for IdClaim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn choose_in(locks: &Path, region: &IdRegion) -> Result<(IdRange, IdRange)> {
    let file = match open(locks, OFlags::RDONLY) {
        // Nothing was ever claimed.
        Err(Errno::NOENT) => None,
        opened => Some(opened.os(|| format!("open({locks:?}, O_NOFOLLOW)"))?),
    };
    let mut seed = [0; 4];
    rustix::rand::getrandom(&mut seed, GetRandomFlags::empty()).os(|| "getrandom(4 bytes)")?;
    // From a random one on: the first that is free takes few attempts to find, and two programs hardly ever choose the same.
    let start = u32::from_ne_bytes(seed) % region.ranges().max(1);
    for index in (start..region.ranges()).chain(0..start) {
        let Some((uids, gids)) = region.range(index) else { continue };
        let is_free = |base, range| file.as_ref().map_or(Ok(true), |file| is_free(file.as_fd(), base, range));
        if is_free(0, uids)? && is_free(GIDS, gids)? {
            return Ok((uids, gids));
        }
    }
    let feature = "linux.uidMappings".to_owned();
    let why = format!("there are {region}, and none is free");
    Err(Error::new(ErrorKind::Unsupported { feature }, "host ids", why)
        .hint("delete containers, give root more ids in /etc/subuid and /etc/subgid, or call id_mappings"))
}

fn take_in(locks: &Path, uids: IdRange, gids: IdRange) -> Result<Option<IdClaim>> {
    let file = open(locks, OFlags::RDWR | OFlags::CREATE)
        .os(|| format!("open({locks:?}, O_CREAT|O_NOFOLLOW)"))
        .map_err(|error| {
            error.hint("host ids of containers are claimed there, unless id_mappings names them")
        })?;
    let both = lock(file.as_fd(), 0, uids)? && lock(file.as_fd(), GIDS, gids)?;
    // With only one of them, closing the file frees it.
    Ok(both.then_some(IdClaim(file)))
}

fn open(locks: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(locks, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
}

/// Locks the bytes of `range`; `false` if another open file has a lock there.
fn lock(file: BorrowedFd<'_>, base: i64, range: IdRange) -> Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&bytes_of(base, range))) {
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
        done => {
            done.map(|_| true).os(|| format!("fcntl(F_OFD_SETLK, {} ids from {})", range.count, range.start))
        }
    }
}

fn is_free(file: BorrowedFd<'_>, base: i64, range: IdRange) -> Result<bool> {
    let mut found = bytes_of(base, range);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))
        .os(|| format!("fcntl(F_OFD_GETLK, {} ids from {})", range.count, range.start))?;
    Ok(i32::from(found.l_type) == libc::F_UNLCK)
}

fn bytes_of(base: i64, range: IdRange) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: base + i64::from(range.start),
        l_len: i64::from(range.count),
        // "must be set to 0" - fcntl(2), of the locks of open files
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(locks: &Path, region: &IdRegion) -> Result<(u32, u32, IdClaim)> {
        let (uids, gids) = choose_in(locks, region)?;
        Ok((uids.start, gids.start, take_in(locks, uids, gids)?.expect("it is free")))
    }

    /// A process that another test forks has the file until it executes.
    fn until_free(claim: impl Fn() -> Result<(u32, u32, IdClaim)>) -> (u32, u32, IdClaim) {
        loop {
            match claim() {
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => {
                    std::thread::yield_now()
                }
                claimed => return claimed.unwrap(),
            }
        }
    }

    #[test]
    fn ranges_are_disjoint_and_free_again_and_a_full_region_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let locks = directory.path().join("ids");
        let region = IdRegion::of("root:1000000:196608\n", "root:2000000:196608\n");
        choose_in(&locks, &region).unwrap();
        assert!(!locks.exists(), "a choice changes nothing");
        let mut claims: Vec<_> = (0..3).map(|_| claim(&locks, &region).unwrap()).collect();
        let mut firsts: Vec<_> = claims.iter().map(|(uid, gid, _)| (*uid, *gid)).collect();
        firsts.sort_unstable();
        assert_eq!(firsts, [(1_000_000, 2_000_000), (1_065_536, 2_065_536), (1_131_072, 2_131_072)]);
        let refused = claim(&locks, &region).unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::Unsupported { feature } if feature == "linux.uidMappings")
        );
        let expected = "host ids: there are 3 ranges of root's subordinate ids, uids from 1000000 to 1196607 \
                        and gids from 2000000 to 2196607, and none is free (delete containers, give root more ids in \
                        /etc/subuid and /etc/subgid, or call id_mappings)";
        assert_eq!(refused.to_string(), expected);

        let (freed, _, one) = claims.remove(1);
        let kept = one.as_fd().try_clone_to_owned().unwrap();
        drop(one);
        assert!(claim(&locks, &region).is_err(), "the file is still open");
        drop(kept);
        assert_eq!(until_free(|| claim(&locks, &region)).0, freed);
    }

    #[test]
    fn ranges_overlap_by_their_ids_whatever_the_region() {
        let directory = tempfile::tempdir().unwrap();
        let locks = directory.path().join("ids");
        let range = |start| IdRange { start, count: 65_536 };
        let one = take_in(&locks, range(1_000_000), range(2_000_000)).unwrap().unwrap();
        for (uids, gids) in [(1_065_535, 5_000_000), (5_000_000, 1_934_465)] {
            assert!(take_in(&locks, range(uids), range(gids)).unwrap().is_none(), "{uids} {gids}");
            let text = |first: u32| format!("root:{first}:65536\n");
            assert!(choose_in(&locks, &IdRegion::of(&text(uids), &text(gids))).is_err());
        }
        // Gids are no uids.
        let other = take_in(&locks, range(2_000_000), range(1_000_000)).unwrap().unwrap();
        drop((one, other));
        until_free(|| claim(&locks, &IdRegion::of("root:1000000:65536\n", "root:2000000:65536\n")));
    }
}
