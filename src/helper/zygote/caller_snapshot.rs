//! What a helper inherits and a request cannot carry: of the caller when the zygote was made, and now.

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::sys::{self, StatusText};

/// Lines of proc_pid_status(5), and words for them in errors.
const STATUS: [(&str, &str); 11] = [
    ("Uid", "uids"),
    ("Gid", "gids"),
    ("Groups", "groups"),
    ("CapInh", "inheritable capabilities"),
    ("CapPrm", "permitted capabilities"),
    ("CapEff", "effective capabilities"),
    ("CapBnd", "capability bounding set"),
    ("CapAmb", "ambient capabilities"),
    ("NoNewPrivs", "no_new_privs"),
    ("Seccomp", "seccomp mode"),
    ("Seccomp_filters", "number of seccomp filters"),
];

/// Entries of `/proc/PID/ns` (namespaces(7)).
const NAMESPACES: [&str; 8] =
    ["user", "mnt", "pid_for_children", "net", "ipc", "uts", "cgroup", "time_for_children"];

/// The resource limits of setrlimit(2), by number.
const LIMITS: std::ops::Range<u32> = 0..16;

/// Everything about a thread that decides what its helpers may do, or that a container can see.
#[derive(Debug)]
pub(super) struct CallerSnapshot {
    facts: Vec<(&'static str, String)>,
    umask: u32,
}

impl CallerSnapshot {
    pub(super) fn of_this_thread() -> Result<Self> {
        let path = "/proc/thread-self/status";
        let status = std::fs::read_to_string(path).os(|| format!("read({path:?})"))?;
        let status = StatusText(&status);
        let line = |name: &str| status.line(name).unwrap_or_default().replace('\t', " ");
        let mut facts: Vec<_> = STATUS.iter().map(|(name, words)| (*words, line(name))).collect();
        for name in NAMESPACES {
            let path = format!("/proc/thread-self/ns/{name}");
            let namespace = match std::fs::read_link(&path) {
                // The kernel does not have this kind.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                link => link.os(|| format!("readlink({path:?})"))?,
            };
            facts.push(("namespace", namespace.display().to_string()));
        }
        let root = rustix::fs::stat("/").os(|| "stat(\"/\")")?;
        facts.push(("root directory", format!("{}:{}", root.st_dev, root.st_ino)));
        // Without a security module the file cannot be read.
        let label = std::fs::read_to_string("/proc/thread-self/attr/current").unwrap_or_default();
        facts.push(("security label", label));
        for limit in LIMITS {
            let (soft, hard) = sys::rlimit(limit).os(|| format!("getrlimit({limit})"))?;
            facts.push(("resource limit", format!("{soft}:{hard} of resource {limit}")));
        }
        let umask = u32::from_str_radix(&line("Umask"), 8).map_err(|error| {
            Error::new(ErrorKind::Os(libc::EINVAL), format!("read({path:?})"), format!("Umask: {error}"))
        })?;
        Ok(Self { facts, umask })
    }

    /// The file mode creation mask. A request carries it, so it need not be the same.
    pub(super) fn umask(&self) -> u32 {
        self.umask
    }

    /// Fails if something differs from `then`, when the zygote was made.
    pub(super) fn check(&self, then: &Self) -> Result<()> {
        let mut pairs = then.facts.iter().zip(&self.facts);
        match pairs.find(|(then, now)| then != now) {
            None => Ok(()),
            Some(((what, then), (_, now))) => {
                let problem = format!("the caller's {what}: {then:?} when it was made, {now:?} now");
                let kind = ErrorKind::OutdatedZygote { difference: (*what).to_owned() };
                Err(Error::new(kind, "zygote", problem).hint("make another: Zygote::spawn"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thread_has_no_difference_and_an_error_names_one() {
        let then = CallerSnapshot::of_this_thread().unwrap();
        let mut now = CallerSnapshot::of_this_thread().unwrap();
        now.check(&then).unwrap();
        now.facts[0].1 = "1000 1000 1000 1000".to_owned();
        let error = now.check(&then).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::OutdatedZygote { difference: "uids".to_owned() });
        assert!(
            error.to_string().ends_with("\"1000 1000 1000 1000\" now (make another: Zygote::spawn)"),
            "{error}"
        );
    }
}
