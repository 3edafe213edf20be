//! Decides how a writable bind shows the owner of its source, so that the container's user can write there and what it
//! makes belongs to that owner on the disk. Pure: the gofer looks at the source, and asks here what to do.
//!
//! | The source belongs to | By default | With `map_owner` |
//! |---|---|---|
//! | an id that the container has | as on disk | mapped, unless it is the user's own |
//! | another user of the host | mapped | mapped |
//! | the host's root | as on disk if everyone may write, else refused | mapped: the workload writes as the host's root |
//!
//! *Mapped* is a mount that shows the owner's ids as the user's and leaves all other ids as they are. If the caller may
//! not map ids, the source is shown as on disk if the user can write there, and otherwise refused.
//!
//! The files of all containers that have a range of host ids of their own have the same ids on disk
//! ([`IdRange::FOR_CONTAINERS`]), whatever the range: a mount shows them as ids of the range ([`OwnRange`]). For such a
//! container, read "as on disk" above as this, and the container "has" those ids.

use crate::host::facts::IdRange;
use crate::spec::{IdMap, IdMaps};
use serde::{Deserialize, Serialize};

/// How a bind shows its owner, with what the decision needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnerMapping {
    /// The uid and gid of the container's user, as the gofer sees ids.
    pub(crate) user: (u32, u32),
    /// The ids that the container has, as the gofer sees ids: first and count.
    pub(crate) uids: Vec<(u32, u32)>,
    pub(crate) gids: Vec<(u32, u32)>,
    /// `map_owner`: maps the host's root, too, and an owner that the container has an id for.
    pub(crate) always: bool,
    /// Whether the workload has the caller's groups, and so may write what these may write.
    pub(crate) groups_kept: bool,
    /// Whether the caller may map the ids of files.
    pub(crate) may_map: bool,
    /// The container's own range. `user`, `uids` and `gids` are then the ids on disk.
    pub(crate) range: Option<OwnRange>,
}

/// The range of host ids that no other container has, by its first uid and gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnRange {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl OwnRange {
    /// The maps of a mount that shows the ids on disk of containers as those of this range, and all others as they are.
    pub(crate) fn maps(self) -> IdMaps {
        IdMaps { uids: maps(Some(self.uid), None), gids: maps(Some(self.gid), None) }
    }
}

/// The owner of what is bound, as the gofer sees ids, and the permission bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// What the gofer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    AsOnDisk,
    /// With these maps; `or_as_on_disk` if the file system cannot map ids.
    Through {
        maps: IdMaps,
        or_as_on_disk: bool,
    },
    Refused {
        why: &'static str,
        hint: &'static str,
    },
}

/// The hint of a file system that cannot map ids, too.
/// The hint for a user who is known only inside.
pub(super) const NAME_BY_UID: &str =
    "call user_name with a uid, or user(); or bind it as it is on the disk with Bind::keep_ids";
pub(crate) const KEEP_IDS: &str = "Bind::keep_ids binds it as it is on the disk";

impl OwnerMapping {
    /// How to show what belongs to `owner`.
    pub(crate) fn show(&self, owner: Owner) -> Shown {
        // With the caller's groups, take a group that may write for one of them: its membership is not known here.
        let others_write = owner.mode & if self.groups_kept { 0o022 } else { 0o002 } != 0;
        if owner.uid == self.user.0 || (!self.always && has(&self.uids, owner.uid)) {
            return self.as_on_disk(others_write);
        }
        if !self.may_map {
            let why = "belongs to another user, and only a privileged caller can map its id to the container's user";
            return match others_write && !self.always {
                true => Shown::AsOnDisk,
                false => Shown::Refused { why, hint: KEEP_IDS },
            };
        }
        if owner.uid == 0 && !self.always {
            let why = "belongs to the host's root, and the container's user could not write there";
            let hint = "Bind::map_owner lets it write as the host's root; Bind::keep_ids binds it as it is";
            return if others_write { self.as_on_disk(true) } else { Shown::Refused { why, hint } };
        }
        // Map the host's group 0 only with `map_owner`, which lets the workload make files of root as well.
        let gid_is_free = self.always || (owner.gid != 0 && !has(&self.gids, owner.gid));
        let (uid, gid) = (self.range.map(|range| range.uid), self.range.map(|range| range.gid));
        let gids = maps(gid, gid_is_free.then_some((owner.gid, self.user.1)));
        let maps = IdMaps { uids: maps(uid, Some((owner.uid, self.user.0))), gids };
        Shown::Through { maps, or_as_on_disk: others_write && !self.always }
    }

    fn as_on_disk(&self, or_unmapped: bool) -> Shown {
        match self.range {
            Some(range) => Shown::Through { maps: range.maps(), or_as_on_disk: or_unmapped },
            None => Shown::AsOnDisk,
        }
    }
}

fn has(ranges: &[(u32, u32)], id: u32) -> bool {
    ranges.iter().any(|(first, count)| id.checked_sub(*first).is_some_and(|offset| offset < *count))
}

/// Exchanges the ids on disk of containers and those of `range`, and maps every other id to itself: a process cannot write
/// to a file whose id is not mapped, whatever the file's mode. Then shows `owner`, its first id, as its second is shown,
/// and nothing else so. Leaves out the highest number, which means "no id" (user_namespaces(7)).
fn maps(range: Option<u32>, owner: Option<(u32, u32)>) -> Vec<IdMap> {
    let (on_disk, size) = (IdRange::FOR_CONTAINERS.start, IdRange::FOR_CONTAINERS.count);
    let exchange = |id: u32| match range {
        Some(range) if id.wrapping_sub(on_disk) < size => id - on_disk + range,
        Some(range) if id.wrapping_sub(range) < size => id - range + on_disk,
        _ => id,
    };
    // The mapping is even between two of these.
    let mut bounds = vec![0, u32::MAX];
    bounds.extend(range.into_iter().flat_map(|range| [on_disk, on_disk + size, range, range + size]));
    // Neither of the two may be mapped a second time.
    let taken = owner.map_or(Vec::new(), |(owner, user)| vec![owner, user]);
    bounds.extend(taken.iter().flat_map(|id| [*id, id.saturating_add(1)]));
    bounds.sort_unstable();
    bounds.dedup();
    let mut maps: Vec<_> = owner
        .map(|(owner, user)| IdMap { container: owner, host: exchange(user), size: 1 })
        .into_iter()
        .collect();
    for (from, to) in bounds.iter().zip(&bounds[1..]) {
        if !taken.contains(from) {
            maps.push(IdMap { container: *from, host: exchange(*from), size: to - from });
        }
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root of a container whose ids are 1000 from 70000 on.
    fn mapping(always: bool, may_map: bool) -> OwnerMapping {
        let ids = vec![(70_000, 1000)];
        OwnerMapping {
            user: (70_000, 70_000),
            uids: ids.clone(),
            gids: ids,
            always,
            groups_kept: false,
            may_map,
            range: None,
        }
    }

    fn owner(uid: u32, gid: u32, mode: u32) -> Owner {
        Owner { uid, gid, mode }
    }

    fn map(container: u32, host: u32, size: u32) -> IdMap {
        IdMap { container, host, size }
    }

    fn maps(shown: Shown) -> IdMaps {
        match shown {
            Shown::Through { maps, .. } => maps,
            other => panic!("{other:?}"),
        }
    }

    fn is_refused(shown: &Shown) -> bool {
        matches!(shown, Shown::Refused { .. })
    }

    #[test]
    fn an_owner_becomes_the_user_and_the_other_ids_stay() {
        let rest = map(70_001, 70_001, u32::MAX - 70_001);
        let shown = maps(mapping(false, true).show(owner(1000, 1001, 0o755)));
        assert_eq!(shown.uids, [map(1000, 70_000, 1), map(0, 0, 1000), map(1001, 1001, 68_999), rest]);
        assert_eq!(shown.gids, [map(1001, 70_000, 1), map(0, 0, 1001), map(1002, 1002, 68_998), rest]);
        let root = OwnerMapping { user: (0, 0), ..mapping(true, true) };
        let shown = maps(root.show(owner(1, 0, 0o755)));
        assert_eq!(shown.uids, [map(1, 0, 1), map(2, 2, u32::MAX - 2)]);
        assert_eq!(shown.gids, [map(0, 0, 1), map(1, 1, u32::MAX - 1)]);
    }

    #[test]
    fn what_the_container_has_an_id_for_stays_unless_asked() {
        assert_eq!(mapping(false, true).show(owner(70_000, 5, 0o700)), Shown::AsOnDisk);
        assert_eq!(mapping(false, true).show(owner(70_999, 5, 0o700)), Shown::AsOnDisk);
        let shown = maps(mapping(true, true).show(owner(70_999, 70_999, 0o700)));
        assert_eq!(shown.uids[0], map(70_999, 70_000, 1));
    }

    #[test]
    fn nothing_is_written_as_the_hosts_root_unless_asked() {
        assert!(is_refused(&mapping(false, true).show(owner(0, 1000, 0o775))));
        assert_eq!(mapping(false, true).show(owner(0, 0, 0o1777)), Shown::AsOnDisk);
        let shown = maps(mapping(false, true).show(owner(1000, 0, 0o755)));
        assert_eq!(shown.gids, [map(0, 0, u32::MAX)], "not as its group either");
        let shown = maps(mapping(true, true).show(owner(0, 0, 0o755)));
        assert_eq!((shown.uids[0], shown.gids[0]), (map(0, 70_000, 1), map(0, 70_000, 1)));
    }

    #[test]
    fn a_caller_who_may_not_map_gets_what_works_without() {
        assert_eq!(mapping(false, false).show(owner(70_000, 5, 0o700)), Shown::AsOnDisk);
        assert_eq!(mapping(false, false).show(owner(1000, 1000, 0o777)), Shown::AsOnDisk);
        assert!(is_refused(&mapping(false, false).show(owner(1000, 1000, 0o755))));
        assert!(is_refused(&mapping(true, false).show(owner(1000, 1000, 0o777))));
        let groups = OwnerMapping { groups_kept: true, ..mapping(false, false) };
        assert_eq!(groups.show(owner(1000, 4242, 0o770)), Shown::AsOnDisk, "by a group of the caller's");
        assert!(is_refused(&groups.show(owner(1000, 4242, 0o750))));
        assert_eq!(mapping(true, false).show(owner(70_000, 70_000, 0o700)), Shown::AsOnDisk);
    }

    /// What `maps` shows of an id on the disk.
    fn shown(maps: &[IdMap], id: u32) -> Option<u32> {
        let mut found = maps.iter().filter(|map| has(&[(map.container, map.size)], id));
        let shown = found.next().map(|map| id - map.container + map.host);
        assert_eq!(found.next(), None, "{id} is mapped once");
        shown
    }

    #[test]
    fn a_range_of_its_own_shows_the_ids_that_containers_have_on_disk() {
        const RANGE: u32 = 1_900_000_000;
        let on_disk = IdRange::FOR_CONTAINERS.start;
        let mapping = OwnerMapping {
            user: (on_disk + 7, on_disk + 7),
            uids: vec![(on_disk, 65_536)],
            gids: vec![(on_disk, 65_536)],
            range: Some(OwnRange { uid: RANGE, gid: RANGE }),
            ..mapping(false, true)
        };
        let all = maps(mapping.show(owner(on_disk + 9, on_disk, 0o700)));
        assert_eq!(all, OwnRange { uid: RANGE, gid: RANGE }.maps());
        for (disk, mount) in [(0, 0), (1000, 1000), (on_disk, RANGE), (on_disk + 65_535, RANGE + 65_535)] {
            assert_eq!((shown(&all.uids, disk), shown(&all.gids, disk)), (Some(mount), Some(mount)));
            assert_eq!(shown(&all.uids, mount), Some(disk), "an exchange");
        }
        let mine = maps(mapping.show(owner(1000, 0, 0o755)));
        assert_eq!(shown(&mine.uids, 1000), Some(RANGE + 7), "the owner is the user");
        assert_eq!(shown(&mine.uids, on_disk + 7), None);
        assert_eq!(shown(&mine.uids, on_disk + 8), Some(RANGE + 8));
        assert_eq!(shown(&mine.gids, on_disk + 7), Some(RANGE + 7), "and group 0 stays");
        let open = Shown::Through { maps: all, or_as_on_disk: true };
        assert_eq!(mapping.show(owner(0, 0, 0o1777)), open);
    }
}
