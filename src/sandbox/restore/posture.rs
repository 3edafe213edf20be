//! What every restored thread must be before it runs an instruction: no more than the plan's own process could have become.
//!
//! | What | Compared with |
//! |---|---|
//! | namespaces | equal to those of init, which assembled the root |
//! | uids and gids, groups | the plan's user, unless the configuration lets a process change them |
//! | capability sets | within the plan's |
//! | no_new_privs | set, if the plan sets it |
//! | seccomp | at least one filter, if the plan has one; the image's own copies of it were compared before |
//! | limits | at most the plan's |
//! | tracer | CRIU; or one outside of the pid namespace, where CRIU is if it makes that |
//!
//! Everything comes from the kernel, through the container's own proc, which no process inside can change.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::helper::Received;
use crate::plan::InitPlan;
use crate::sandbox::members;
use crate::sandbox::members::Member;
use crate::sandbox::namespaces::{InitNamespaces, OWN};
use crate::sandbox::reaper::REAPER_PID;
use crate::spec::{CapSet, Rlimit, User};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::thread::CapabilitySet;

/// The columns of `/proc/PID/limits` (proc_pid_limits(5)): the names are this wide.
const LIMIT_NAMES: usize = 26;

/// What is allowed.
pub(in crate::sandbox) struct Posture {
    user: User,
    /// Groups beside those of the user, which the kernel did not let the sandbox drop.
    own_groups: Vec<u32>,
    /// Whether a process may take other ids.
    changes_ids: bool,
    bounding: CapSet,
    /// The most of the permitted set, and with it of the effective and the ambient one.
    permitted: CapSet,
    inheritable: CapSet,
    no_new_privileges: bool,
    filter: bool,
    rlimits: Vec<Rlimit>,
    /// By their files in `/proc/PID/ns`, their numbers.
    namespaces: Vec<(String, u64)>,
}

impl Posture {
    pub(super) fn new(plan: &InitPlan) -> Self {
        let process = &plan.process;
        let sets = process.capabilities;
        // With no_new_privs, execve(2) adds no capability. Without, a program of the image may have any of the bounding set.
        let permitted = if process.no_new_privileges {
            sets.permitted | sets.ambient
        } else {
            sets.bounding | sets.permitted
        };
        let other_ids = (CapabilitySet::SETUID | CapabilitySet::SETGID).bits();
        Self {
            user: process.user.clone(),
            own_groups: Vec::new(),
            changes_ids: !process.no_new_privileges || permitted.bits() & other_ids != 0,
            bounding: sets.bounding,
            permitted,
            inheritable: sets.inheritable | permitted,
            no_new_privileges: process.no_new_privileges,
            filter: plan.seccomp.is_some(),
            rlimits: process.rlimits.clone(),
            namespaces: Vec::new(),
        }
    }

    /// Learns the numbers of the namespaces from init's handles, and of the groups that no process here can drop.
    pub(super) fn expect_namespaces(&mut self, handles: &mut Received, known: &InitNamespaces) -> Result<()> {
        let groups = rustix::process::getgroups().os(|| "getgroups()")?;
        self.own_groups = groups.iter().map(|group| group.as_raw()).collect();
        let number =
            |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).os(|| "fstat(namespace)").map(|stat| stat.st_ino);
        self.namespaces =
            vec![("mnt".to_owned(), known.mount_number()), ("pid".to_owned(), number(known.pids())?)];
        for (name, namespace) in handles.take_named(OWN) {
            self.namespaces.push((name[OWN.len()..].to_owned(), number(namespace.as_fd())?));
        }
        Ok(())
    }

    /// Learns the number of the pid namespace that CRIU has made.
    pub(super) fn expect_pids(&mut self, number: u64) {
        self.namespaces.retain(|(name, _)| name != "pid");
        self.namespaces.push(("pid".to_owned(), number));
    }

    /// Compares every thread of the container but those of CRIU, if that is there, and the reaper that then is.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] with the process, the field and both values.
    pub(super) fn check(&self, proc: BorrowedFd<'_>, init: i32, criu: Option<i32>) -> Result<()> {
        let mut found = false;
        for member in members::all(proc)? {
            if criu.is_some_and(|criu| [REAPER_PID, criu].contains(&member.pid())) {
                continue;
            }
            found |= member.pid() == init;
            self.check_member(&member, criu).map_err(|problem| {
                Error::new(ErrorKind::Stale, "image", format!("process {}: {problem}", member.pid()))
            })?;
        }
        match found {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Stale, "image", format!("it has no process {init}"))),
        }
    }

    fn check_member(&self, member: &Member, criu: Option<i32>) -> Result<(), String> {
        // A zombie runs nothing any more, and has no namespaces.
        if member.stat().ok_or("its state cannot be read")?.state == 'Z' {
            return Ok(());
        }
        for (name, expected) in &self.namespaces {
            let number = member.namespace(name);
            if number != Some(*expected) {
                return Err(format!("its {name} namespace is {number:?}, and the container's is {expected}"));
            }
        }
        let limits = member.limits().ok_or("its limits cannot be read")?;
        self.check_limits(&limits)?;
        let threads = member.threads().ok_or("its threads cannot be read")?;
        threads.iter().try_for_each(|status| self.check_status(status, criu))
    }

    /// Compares `/proc/PID/task/TID/status`.
    fn check_status(&self, status: &str, criu: Option<i32>) -> Result<(), String> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).ok_or_else(|| format!("the kernel shows no {name}"))
        };
        let numbers = |name: &str| -> Result<Vec<u32>, String> {
            let words = field(name)?.split_whitespace().map(str::parse);
            words.collect::<Result<_, _>>().map_err(|_| format!("its {name} are no numbers"))
        };
        // A tracer outside of the pid namespace has the number 0 there.
        let tracer = criu.unwrap_or(0);
        if numbers("TracerPid")? != [tracer.cast_unsigned()] {
            return Err(format!("its TracerPid is {}, and CRIU's pid is {tracer}", field("TracerPid")?));
        }
        if !field("State")?.starts_with('t') {
            return Err(format!("its State is {:?}, and nothing traces it", field("State")?));
        }
        let within = |name: &str, allowed: CapSet| {
            let set = u64::from_str_radix(field(name)?, 16).map_err(|_| format!("its {name} is no set"))?;
            match set & !allowed.bits() {
                0 => Ok(()),
                _ => {
                    Err(format!("its {name} is {set:#x}, and the configuration allows {:#x}", allowed.bits()))
                }
            }
        };
        within("CapBnd", self.bounding)?;
        within("CapPrm", self.permitted)?;
        within("CapEff", self.permitted)?;
        within("CapInh", self.inheritable)?;
        within("CapAmb", self.permitted)?;
        if self.no_new_privileges && field("NoNewPrivs")? != "1" {
            return Err("its NoNewPrivs is 0, and the configuration's is 1".into());
        }
        if self.filter {
            let mode = field("Seccomp")?;
            if mode != "2" {
                return Err(format!("its Seccomp mode is {mode}, and the configuration's is 2"));
            }
            // Since Linux 5.9.
            if field("Seccomp_filters").is_ok_and(|filters| filters == "0") {
                return Err("it has no Seccomp_filters, and the configuration has one".into());
            }
        }
        if !self.changes_ids {
            for (name, own) in [("Uid", self.user.uid), ("Gid", self.user.gid)] {
                if numbers(name)?.iter().any(|id| *id != own) {
                    return Err(format!("its {name} are {}, and the configuration's is {own}", field(name)?));
                }
            }
            let allowed = |group: &u32| {
                [&self.user.additional_gids, &self.own_groups]
                    .into_iter()
                    .any(|groups| groups.contains(group))
                    || *group == self.user.gid
            };
            if let Some(group) = numbers("Groups")?.iter().find(|group| !allowed(group)) {
                return Err(format!("its Groups have {group}, which the configuration does not give it"));
            }
        }
        Ok(())
    }

    /// Compares `/proc/PID/limits`, which has a line for each resource, in the order of their numbers.
    fn check_limits(&self, limits: &str) -> Result<(), String> {
        self.rlimits.iter().try_for_each(|limit| {
            let line = limits.lines().skip(1).nth(limit.resource as usize);
            let mut values = line.and_then(|line| line.get(LIMIT_NAMES..)).unwrap_or("").split_whitespace();
            let hard = match values.nth(1) {
                Some("unlimited") => u64::MAX,
                Some(number) => number.parse().map_err(|_| format!("its limits have {number:?}"))?,
                None => return Err(format!("the kernel shows no limit {}", limit.resource)),
            };
            match hard <= limit.hard {
                true => Ok(()),
                false => Err(format!(
                    "its limit {} is {hard}, and the configuration's is {}",
                    line.and_then(|line| line.get(..LIMIT_NAMES)).unwrap_or("").trim(),
                    limit.hard
                )),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRIU: Option<i32> = Some(300);
    /// Of a process of the builder's default container, while CRIU holds it.
    const STATUS: &str = "Name:\tsh\nState:\tt (tracing stop)\nTracerPid:\t300\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max cpu time              unlimited            unlimited            seconds   \n\
        Max file size             10                   20                   bytes     \n";

    fn posture() -> Posture {
        Posture {
            user: User::default(),
            own_groups: Vec::new(),
            changes_ids: false,
            bounding: CapSet::empty(),
            permitted: CapSet::empty(),
            inheritable: CapSet::empty(),
            no_new_privileges: true,
            filter: true,
            rlimits: Vec::new(),
            namespaces: Vec::new(),
        }
    }

    #[test]
    fn what_is_more_than_the_plan_is_named_with_both_values() {
        let posture = posture();
        assert_eq!(posture.check_status(STATUS, CRIU), Ok(()));
        let differs = [
            ("t (tracing stop)", "S (sleeping)", "its State is \"S (sleeping)\", and nothing traces it"),
            ("TracerPid:\t300", "TracerPid:\t7", "its TracerPid is 7, and CRIU's pid is 300"),
            ("Uid:\t0\t0\t0\t0", "Uid:\t0\t0\t0\t5", "its Uid are 0\t0\t0\t5, and the configuration's is 0"),
            ("Groups:\t ", "Groups:\t4 ", "its Groups have 4, which the configuration does not give it"),
            (
                "CapInh:\t0",
                "CapInh:\t8",
                "its CapInh is 0x8000000000000000, and the configuration allows 0x0",
            ),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "its NoNewPrivs is 0, and the configuration's is 1"),
            ("Seccomp:\t2", "Seccomp:\t0", "its Seccomp mode is 0, and the configuration's is 2"),
            (
                "Seccomp_filters:\t1",
                "Seccomp_filters:\t0",
                "it has no Seccomp_filters, and the configuration has one",
            ),
        ];
        for (from, to, problem) in differs {
            assert_eq!(posture.check_status(&STATUS.replacen(from, to, 1), CRIU), Err(problem.into()));
        }
        for field in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let more = STATUS.replacen(&format!("{field}:\t0"), &format!("{field}:\t1"), 1);
            assert!(
                posture.check_status(&more, CRIU).is_err_and(|problem| problem.contains(field)),
                "{field}"
            );
            let without = STATUS.replacen(field, "None", 1);
            assert!(posture.check_status(&without, CRIU).is_err(), "a kernel that shows no {field}");
        }
    }

    #[test]
    fn a_tracer_outside_of_the_pid_namespace_is_none_inside() {
        let outside = STATUS.replacen("TracerPid:\t300", "TracerPid:\t0", 1);
        assert_eq!(posture().check_status(&outside, None), Ok(()));
        assert!(posture().check_status(STATUS, None).is_err());
        assert!(posture().check_status(&outside, CRIU).is_err());
    }

    #[test]
    fn less_than_the_plan_is_allowed() {
        let all = CapSet::all();
        let more = Posture {
            changes_ids: true,
            bounding: all,
            permitted: all,
            inheritable: all,
            no_new_privileges: false,
            filter: false,
            ..posture()
        };
        assert_eq!(more.check_status(STATUS, CRIU), Ok(()));
        assert_eq!(more.check_status(&STATUS.replacen("Uid:\t0", "Uid:\t33", 1), CRIU), Ok(()));
    }

    #[test]
    fn a_limit_is_at_most_the_plans() {
        let with =
            |resource, hard| Posture { rlimits: vec![Rlimit { resource, soft: 0, hard }], ..posture() };
        assert_eq!(with(1, 20).check_limits(LIMITS), Ok(()));
        let problem = "its limit Max file size is 20, and the configuration's is 19";
        assert_eq!(with(1, 19).check_limits(LIMITS), Err(problem.into()));
        assert!(with(0, 5).check_limits(LIMITS).is_err());
        assert!(with(2, 5).check_limits(LIMITS).is_err(), "a line that is not there");
    }
}
