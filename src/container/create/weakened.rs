//! Leaves rules out of a configuration that is about to be planned: those that a plan only carries out. In a build without
//! `--cfg weaken` this does nothing.

use crate::plan::Plan;
use crate::spec::{CapSet, Capabilities, Device, DeviceKind, NamespaceSource, ValidSpec};
use crate::weaken::{Rule, leaves_out};

/// Leaves out of the configuration what it has of the rule.
pub(super) fn weaken(valid: &mut ValidSpec) {
    let process = &mut valid.process;
    if leaves_out(Rule::Capabilities) {
        let (bounding, effective, permitted) = (CapSet::SYS_ADMIN, CapSet::SYS_ADMIN, CapSet::SYS_ADMIN);
        process.capabilities = Capabilities { bounding, effective, permitted, ..Capabilities::default() };
    }
    if leaves_out(Rule::NoNewPrivileges) {
        process.no_new_privileges = false;
    }
    if leaves_out(Rule::ResourceLimits) {
        process.rlimits.clear();
    }
    if leaves_out(Rule::ReadOnlyRoot) {
        valid.root_readonly = false;
    }
    if leaves_out(Rule::ReadOnlyPaths) {
        valid.readonly_paths.clear();
    }
    if leaves_out(Rule::Network) {
        valid.namespaces.network = NamespaceSource::Inherit;
    }
    if leaves_out(Rule::DeviceRules) {
        valid.resources.devices.clear();
    }
    if leaves_out(Rule::Devices) {
        let (path, kind) = ("/dev/kmsg".into(), DeviceKind::Char);
        valid.devices.push(Device { path, kind, major: 1, minor: 11, mode: 0o600, uid: 0, gid: 0 });
    }
}

/// Leaves out of the plan what only it has of the rule.
pub(super) fn weaken_plan(plan: &mut Plan) {
    if leaves_out(Rule::NamespaceLimits) {
        plan.sandbox.namespace_limits.clear();
    }
}
