//! The resource limits of a container whose description has none of its own: what the kernel counts for each user, or for
//! the caller together with all its containers, so that no container uses up what the caller needs.
//!
//! A limit is never above the caller's, which takes a privilege to exceed (setrlimit(2)).

use super::description::ContainerBuilder;
use crate::spec::Resource;
use rustix::process::{Resource as Counted, getrlimit};

/// Queued signals, which POSIX timers also count as. A host allows some thousands for each user, and more if it has much
/// memory. The kernel counts those of a container for its caller, too.
const SIGNALS: u64 = 1024;

/// Bytes of POSIX message queues: two queues of the default size. A host allows 819200 for each user (mq_overview(7)), and
/// the kernel counts those of a container for its caller, too.
const MESSAGE_QUEUES: u64 = 204_800;

/// Descriptors of a process, and descriptors of a user that wait in sockets (unix(7)).
const OPEN_FILES: u64 = 65_536;

impl ContainerBuilder {
    /// Sets those of the limits that no method has set. Not for a bundle, which lists all its limits.
    pub(super) fn set_default_limits(&mut self) {
        if !self.extras.default_limits {
            return;
        }
        let [signals, queues, files] =
            [Counted::Sigpending, Counted::Msgqueue, Counted::Nofile].map(|counted| {
                let own = getrlimit(counted);
                (own.current.unwrap_or(u64::MAX), own.maximum.unwrap_or(u64::MAX))
            });
        let process = self.process();
        let mut limits = process.rlimits().clone().unwrap_or_default();
        for (resource, (soft, hard)) in [
            (Resource::PendingSignals, both(SIGNALS.min(signals.1))),
            (Resource::MessageQueues, both(MESSAGE_QUEUES.min(queues.1))),
            (Resource::OpenFiles, open_files(files)),
        ] {
            let limit = resource.limit(soft, hard);
            if !limits.iter().any(|other| other.typ() == limit.typ()) {
                limits.push(limit);
            }
        }
        process.set_rlimits(Some(limits));
    }
}

fn both(limit: u64) -> (u64, u64) {
    (limit, limit)
}

/// The soft limit stays the caller's: programs that use select(2) or close every possible descriptor work badly with a
/// large one. The hard one is below the caller's, because the sandbox has that: when the workload has filled every socket,
/// the sandbox can still pass descriptors on.
fn open_files((soft, hard): (u64, u64)) -> (u64, u64) {
    let most = OPEN_FILES.min(hard - hard / 4);
    (soft.min(most), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_stay_below_the_callers() {
        assert_eq!(open_files((1024, 524_288)), (1024, 65_536));
        assert_eq!(open_files((20_000, 20_000)), (15_000, 15_000));
        assert_eq!(open_files((u64::MAX, u64::MAX)), (65_536, 65_536));
        assert_eq!(open_files((3, 3)), (3, 3));
    }

    #[test]
    fn what_a_method_has_set_stays() {
        let limits = |mut builder: ContainerBuilder| {
            builder.set_default_limits();
            let process = builder.spec().process().clone().unwrap();
            let limits = process.rlimits().clone().unwrap_or_default();
            limits.iter().map(|limit| (limit.typ(), limit.hard())).collect::<Vec<_>>()
        };
        use oci_spec::runtime::PosixRlimitType::{RlimitMsgqueue, RlimitSigpending};
        let own = limits(ContainerBuilder::new().rlimit(Resource::MessageQueues, 5));
        assert_eq!(own.iter().filter(|(kind, _)| *kind == RlimitMsgqueue).count(), 1);
        assert!(own.contains(&(RlimitMsgqueue, 5)));
        assert!(own.iter().any(|(kind, hard)| *kind == RlimitSigpending && *hard <= SIGNALS));
    }
}
