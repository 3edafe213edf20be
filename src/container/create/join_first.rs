//! The namespaces that the sandbox joins before it is in its new user namespace: from there the kernel would not let it join
//! one that belongs to the host. Its new process does it, right before it executes, with what this opens.

use crate::error::{Error, OsContext, Result};
use crate::plan::{CloneFlags, NamespacePlan};
use crate::sys::SETNS;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// Opens the namespaces of the plan.
pub(super) fn open(plan: &NamespacePlan) -> Result<Vec<(i32, OwnedFd)>> {
    let open = |(kind, path): &(_, std::path::PathBuf)| {
        let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let namespace = namespace.os(|| format!("open({path:?})"))?;
        Ok((CloneFlags::of(*kind).bits().cast_signed(), namespace))
    };
    plan.join_first.iter().map(open).collect()
}

/// As a helper is started with them.
pub(super) fn borrowed(opened: &[(i32, OwnedFd)]) -> Vec<(i32, BorrowedFd<'_>)> {
    opened.iter().map(|(kind, namespace)| (*kind, namespace.as_fd())).collect()
}

/// The `error` of starting the sandbox, by the field if a namespace could not be joined.
pub(super) fn explain(error: Error, plan: &NamespacePlan) -> Error {
    let Some(errno) = error.raw_os_error().filter(|_| error.step().ends_with(SETNS)) else { return error };
    let cause = std::io::Error::from_raw_os_error(errno);
    let namespaces = plan.join_first.iter();
    let namespaces: Vec<_> = namespaces
        .map(|(kind, path)| format!("{}: cannot join this {kind:?} namespace", path.display()))
        .collect();
    Error::spec("config.json", "linux.namespaces", format!("{}: {cause}", namespaces.join(", or ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::host::cgroups::CgroupLayout;
    use crate::spec::{NamespaceKind, Namespaces};

    fn with(path: &str) -> NamespacePlan {
        let plan = NamespacePlan::new(&Namespaces::default(), &CgroupLayout::default(), true);
        NamespacePlan { join_first: vec![(NamespaceKind::Network, path.into())], ..plan }
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = open(&with("/proc/self/ns/nosuch")).unwrap_err();
        assert!(error.to_string().contains("/proc/self/ns/nosuch"), "{error}");
    }

    #[test]
    fn a_namespace_that_cannot_be_joined_is_named_with_its_field() {
        let plan = with("/proc/self/ns/net");
        let of =
            |call: &str| Error::new(ErrorKind::Os(libc::EPERM), format!("spawn sandbox: {call}"), "EPERM");
        let said = explain(of(SETNS), &plan).to_string();
        assert!(
            said.contains("linux.namespaces") && said.contains("/proc/self/ns/net: cannot join"),
            "{said}"
        );
        assert_eq!(explain(of("clone3"), &plan).step(), "spawn sandbox: clone3");
    }
}
