//! Where the host ids of root's containers come from: each container gets a range of its own. Pure.
//!
//! What the kernel counts for each uid (descriptors in flight, pipes, pending signals, message queues, keys) is then
//! counted for each container, and no container can use up what another needs.

use super::facts::IdRange;
use std::fmt;

/// The host ids that are there to give, in ranges of [`SIZE`](Self::SIZE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdRegion {
    source: Source,
    first_uid: u32,
    first_gid: u32,
    ranges: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Root has subordinate ids (subuid(5)).
    OfRoot,
    Fixed,
}

impl IdRegion {
    /// The ids of one container.
    pub(crate) const SIZE: u32 = 65_536;

    /// The ids from 0x7000_0000 to 0x7ffd_ffff, which systemd lists as unused: above the range that it gives to containers,
    /// and below the ids of foreign images (systemd.io, "Users, Groups, UIDs and GIDs").
    const FIXED: (u32, u32) = (0x7000_0000, 0x7ffe_0000);

    /// The region of a host whose `/etc/subuid` and `/etc/subgid` have these texts: what root has there, if it is enough
    /// for a container; otherwise a fixed region, above all subordinate ids that are in it.
    pub(crate) fn of(subuid: &str, subgid: &str) -> Self {
        let largest = |text: &str| {
            let of_root = entries(text).filter(|(owner, _)| ["root", "0"].contains(owner));
            of_root.map(|(_, range)| range).max_by_key(|range| range.count)
        };
        if let (Some(uids), Some(gids)) = (largest(subuid), largest(subgid)) {
            let ranges = uids.count.min(gids.count) / Self::SIZE;
            if ranges > 0 {
                return Self { source: Source::OfRoot, first_uid: uids.start, first_gid: gids.start, ranges };
            }
        }
        let (start, end) = Self::FIXED;
        let ends = entries(subuid).chain(entries(subgid)).filter_map(|(_, range)| {
            let stop = range.start.saturating_add(range.count);
            (range.start < end && stop > start).then_some(stop.min(end))
        });
        let start = ends.max().map_or(start, |stop| stop.next_multiple_of(Self::SIZE));
        let ranges = (end - start) / Self::SIZE;
        Self { source: Source::Fixed, first_uid: start, first_gid: start, ranges }
    }

    /// How many ranges it has, those included that [`range`](Self::range) leaves out.
    pub(crate) fn ranges(&self) -> u32 {
        self.ranges
    }

    /// The uids and gids of the range `index`. `None` above the last, and for one with the ids that files of containers
    /// have on disk.
    pub(crate) fn range(&self, index: u32) -> Option<(IdRange, IdRange)> {
        let offset = (index < self.ranges).then_some(index * Self::SIZE)?;
        let range = |first: u32| IdRange { start: first + offset, count: Self::SIZE };
        let on_disk = |range: IdRange| range.start.abs_diff(IdRange::FOR_CONTAINERS.start) < Self::SIZE;
        let (uids, gids) = (range(self.first_uid), range(self.first_gid));
        (!on_disk(uids) && !on_disk(gids)).then_some((uids, gids))
    }
}

/// For errors.
impl fmt::Display for IdRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, first_uid, first_gid, ranges } = self;
        let last = |first: u32| first + (ranges * Self::SIZE).saturating_sub(1);
        match source {
            _ if *ranges == 0 => {
                write!(f, "no range of host ids, because subordinate ids take up the region")
            }
            Source::Fixed => {
                write!(f, "{ranges} ranges of host ids from {first_uid} to {}", last(*first_uid))
            }
            Source::OfRoot => write!(
                f,
                "{ranges} ranges of root's subordinate ids, uids from {first_uid} to {} and gids from {first_gid} to {}",
                last(*first_uid),
                last(*first_gid)
            ),
        }
    }
}

/// The lines of `/etc/subuid` or `/etc/subgid` that make sense: owner and range. A range ends below the highest number,
/// which is no id.
fn entries(text: &str) -> impl Iterator<Item = (&str, IdRange)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = IdRange { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
        (range.count > 0 && range.start.checked_add(range.count).is_some()).then_some((owner, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: &str = "ann:100000:65536\nbroken:x:y\nhigh:4294967295:9\n";

    #[test]
    fn the_fixed_region_begins_above_all_subordinate_ids() {
        let region = IdRegion::of(FREE, "");
        assert_eq!(region.to_string(), "4094 ranges of host ids from 1879048192 to 2147352575");
        let first = IdRange { start: 1_879_048_192, count: 65_536 };
        assert_eq!(region.range(0), Some((first, first)));
        assert_eq!(region.range(4093).unwrap().0.start, 0x7ffd_0000);
        assert_eq!(region.range(4094), None);
        let above = IdRegion::of("ann:1879048192:1\n", "bob:1879048000:131072\neve:2147352576:65536\n");
        assert_eq!(above.range(0).unwrap().0.start, 1_879_048_192 + 2 * 65_536);
        assert_eq!(above.ranges(), 4092);
        let full = IdRegion::of("ann:1000000000:2000000000\n", "");
        assert_eq!((full.ranges(), full.range(0)), (0, None));
        assert_eq!(full.to_string(), "no range of host ids, because subordinate ids take up the region");
    }

    #[test]
    fn subordinate_ids_of_root_come_first_if_they_are_enough() {
        let region = IdRegion::of("root:500000:10\n0:600000:200000\n", "root:900000:131072\n");
        let range = |start| IdRange { start, count: 65_536 };
        assert_eq!(region.range(1), Some((range(665_536), range(965_536))));
        assert_eq!(region.range(2), None, "too few gids");
        assert!(
            region.to_string().starts_with("2 ranges of root's subordinate ids, uids from 600000 to 731071")
        );
        let few = IdRegion::of("root:500000:65535\n", "root:500000:65536\n");
        assert_eq!(few, IdRegion::of("", ""), "none is large enough");
    }

    #[test]
    fn the_ids_on_disk_are_no_containers() {
        let text = format!("root:{}:196608\n", IdRange::FOR_CONTAINERS.start - 65_536 + 1);
        let region = IdRegion::of(&text, &text);
        let given: Vec<_> = (0..region.ranges()).map(|index| region.range(index).is_some()).collect();
        assert_eq!(given, [false, false, true]);
    }
}
