//! Why the kernel refuses what a container needs first, and what a person can do about it.

use super::probe::read_bounded;
use crate::error::Error;
use crate::sys::{TrialStep, try_namespaces};
use rustix::io::Errno;
use std::path::Path;

/// The namespaces of the builder's default container, `CLONE_NEW*`.
pub(crate) const DEFAULT_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// A fact about the host because of which the crate cannot make a container, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// The fact.
    pub(crate) cause: String,
    /// What a person can do about it.
    pub(crate) remedy: String,
}

impl Obstacle {
    pub(crate) fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), remedy: remedy.into() }
    }

    /// An error about this host as an obstacle: its text without the field, and its hint.
    pub(crate) fn of(error: &Error) -> Self {
        Self::new(error.message(), error.hint_text().unwrap_or_default())
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.cause, self.remedy)
    }
}

/// The texts of the host's files that explain a refusal. A file that does not exist is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switches {
    /// `kernel.unprivileged_userns_clone`, of Debian's kernels.
    userns_clone: String,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    apparmor: String,
    /// `user.max_KIND_namespaces`, by the kind.
    max_namespaces: Vec<(&'static str, String)>,
    /// `/proc/self/status`.
    status: String,
}

impl Switches {
    fn read() -> Self {
        let read = |path: &str| read_bounded(Path::new(path)).unwrap_or_default().trim().to_owned();
        let kinds = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];
        Self {
            userns_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            max_namespaces: kinds
                .map(|kind| (kind, read(&format!("/proc/sys/user/max_{kind}_namespaces"))))
                .into(),
            status: read("/proc/self/status"),
        }
    }

    /// Whether a seccomp filter holds this process, as in a container of an engine.
    fn is_filtered(&self) -> bool {
        self.status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
    }
}

/// Tries to make the namespaces of a default container, and two mounts in them. Returns what stands in the way.
pub(crate) fn namespaces_obstacle() -> Option<Obstacle> {
    let (step, errno) = try_namespaces(DEFAULT_NAMESPACES as u32).err()?;
    Some(explain(step, errno, &Switches::read()))
}

/// Explains the refusal of one step by what the host's switches say.
fn explain(step: TrialStep, errno: Errno, switches: &Switches) -> Obstacle {
    match (step, errno) {
        (TrialStep::Clone, Errno::NOSYS) => Obstacle::new(
            "a seccomp filter of an outer container refuses clone3(2)",
            "run the outer container with `--security-opt seccomp=unconfined`, or with a profile that allows namespaces",
        ),
        // ENOSPC, or EUSERS before Linux 4.9: a limit of user_namespaces(7) or of namespaces(7) is reached.
        (TrialStep::Clone, Errno::NOSPC | Errno::USERS) => no_more_namespaces(switches),
        (TrialStep::Clone, _) if switches.userns_clone == "0" => Obstacle::new(
            "kernel.unprivileged_userns_clone is 0: only root may make user namespaces",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (TrialStep::Clone, _) if switches.is_filtered() => Obstacle::new(
            format!("a seccomp filter holds this process, and clone3 into new namespaces fails with {errno}"),
            "run the outer container with `--security-opt seccomp=unconfined`, or with a profile that allows namespaces",
        ),
        (TrialStep::Clone, _) => Obstacle::new(
            format!("clone3 into new namespaces fails with {errno}"),
            "see user_namespaces(7): a chroot, a security module or the end of nesting refuses them",
        ),
        (TrialStep::ChangeMount, _) if switches.apparmor == "1" => Obstacle::new(
            "kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor takes the capabilities in a user namespace away",
            "give this program an AppArmor profile with the rule `userns,`, or sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (TrialStep::ChangeMount, _) => Obstacle::new(
            format!("mount(2) in a new user namespace fails with {errno}"),
            "a security module or a seccomp filter of an outer container refuses it: allow mount(2) there",
        ),
        // The kernel shows no new proc to a user namespace where the old one is partly covered (`mount_too_revealing`).
        (TrialStep::MountProc, Errno::PERM) => Obstacle::new(
            "parts of /proc are covered here, so the kernel mounts no new proc in a user namespace",
            "run the outer container with `--security-opt systempaths=unconfined`",
        ),
        (TrialStep::MountProc, _) => Obstacle::new(
            format!("mounting a proc in a new pid namespace fails with {errno}"),
            "mount a proc at /proc where this program runs",
        ),
    }
}

fn no_more_namespaces(switches: &Switches) -> Obstacle {
    match switches.max_namespaces.iter().find(|(_, max)| max == "0") {
        Some((kind, _)) => Obstacle::new(
            format!("user.max_{kind}_namespaces is 0"),
            format!("sysctl -w user.max_{kind}_namespaces=15000"),
        ),
        None => Obstacle::new(
            "this user has as many namespaces as user.max_*_namespaces allows",
            "end containers that are not needed, or raise the limits: sysctl user | grep max_",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(step: TrialStep, errno: Errno, switches: &Switches) -> String {
        let obstacle = explain(step, errno, switches);
        assert!(!obstacle.remedy.is_empty());
        obstacle.cause
    }

    #[test]
    fn each_way_to_refuse_namespaces_is_named_by_its_switch() {
        let none = Switches::default();
        let clone = |errno, switches: &Switches| cause(TrialStep::Clone, errno, switches);
        let debian = Switches { userns_clone: "0".into(), ..none.clone() };
        assert!(clone(Errno::PERM, &debian).starts_with("kernel.unprivileged_userns_clone is 0"));
        let ubuntu = Switches { apparmor: "1".into(), ..none.clone() };
        let said = cause(TrialStep::ChangeMount, Errno::ACCESS, &ubuntu);
        assert!(said.starts_with("kernel.apparmor_restrict_unprivileged_userns is 1"), "{said}");
        let full =
            Switches { max_namespaces: vec![("user", "9".into()), ("net", "0".into())], ..none.clone() };
        assert_eq!(clone(Errno::NOSPC, &full), "user.max_net_namespaces is 0");
        let docker = Switches { status: "Name:\tx\nSeccomp:\t2\n".into(), ..none.clone() };
        assert!(clone(Errno::PERM, &docker).starts_with("a seccomp filter holds this process"));
        assert!(clone(Errno::NOSYS, &none).contains("outer container refuses clone3(2)"));
        let said = cause(TrialStep::MountProc, Errno::PERM, &docker);
        assert!(said.starts_with("parts of /proc are covered"), "{said}");
    }
}
