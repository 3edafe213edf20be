//! Rules of isolation that a build for tests can leave out, one at a time, so that each trap of `tests/isolation` is
//! seen to fire. Only a build with `--cfg weaken` can: in every other one each question here is a constant.
//!
//! A rule is left out at one place: where the code that upholds it is called, `if !leaves_out(Rule::Groups)`, or, if
//! a plan only carries out what its configuration says, in `container/create/weakened.rs`.

use std::ffi::CString;

/// A rule that can be left out. `tests/isolation/teeth.rs` has the traps of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The workload runs behind its seccomp filter.
    Seccomp,
    /// The workload's bounding set has the capabilities of its configuration only.
    BoundingSet,
    /// The workload has none of the caller's supplementary groups.
    Groups,
    /// The workload has a session keyring of its own.
    SessionKeyring,
    /// A hook of the image has the workload's privileges.
    ImageHooks,
    /// What an image names is looked up inside its root.
    ResolveInRoot,
    /// Masked paths are covered.
    MaskedPaths,
    /// Read-only paths cannot be written.
    ReadOnlyPaths,
    /// The root is read-only.
    ReadOnlyRoot,
    /// New file systems have the attributes that the configuration gives them: nosuid, nodev, noexec.
    MountAttributes,
    /// The container's devpts has only so many terminals.
    Terminals,
    /// `/dev` has the default devices and no others.
    Devices,
    /// Only devices on the list of the configuration open.
    DeviceRules,
    /// The workload has the capabilities of its configuration only.
    Capabilities,
    /// No program of the workload raises its privileges by execve(2).
    NoNewPrivileges,
    /// The workload has the resource limits of its configuration.
    ResourceLimits,
    /// The container's user namespace limits what the kernel counts for the caller.
    NamespaceLimits,
    /// The container has a network of its own.
    Network,
    /// No two containers of root have the same host ids.
    IdRanges,
    /// No lease on a file stops an operation for long.
    Leases,
    /// No FIFO of an image stops an operation.
    Fifos,
    /// No descriptor of a memory device of the host reaches a workload.
    OwnDevices,
    /// The waiting gofer keeps no mount of the host.
    HostMounts,
    /// The waiting gofer has no capability, and a filter.
    GoferFilter,
}

/// The environment variable that names the rule, by the name of its variant.
#[cfg(weaken)]
const VARIABLE: &str = "COFFERDAM_WEAKEN";

/// Whether this process leaves the rule out.
#[cfg(weaken)]
pub(crate) fn leaves_out(rule: Rule) -> bool {
    std::env::var(VARIABLE).is_ok_and(|name| name == format!("{rule:?}"))
}

/// Whether this process leaves the rule out.
#[cfg(not(weaken))]
pub(crate) const fn leaves_out(_: Rule) -> bool {
    false
}

/// What a helper inherits to leave out the same rule, as an entry of its environment.
#[cfg(weaken)]
pub(crate) fn inherited() -> Option<CString> {
    CString::new(format!("{VARIABLE}={}", std::env::var(VARIABLE).ok()?)).ok()
}

/// What a helper inherits to leave out the same rule, as an entry of its environment.
#[cfg(not(weaken))]
pub(crate) const fn inherited() -> Option<CString> {
    None
}
