//! The methods of [`ContainerBuilder`] that give the workload more than the default does, or other ids. Each is named
//! after what it gives away.

use super::default_spec::build;
use super::description::ContainerBuilder;
use crate::spec::{IdMap, Origin};
use oci_spec::runtime::{Capabilities, LinuxCapabilitiesBuilder, LinuxNamespaceType, LinuxSeccomp};

impl ContainerBuilder {
    /// Gives the workload these capabilities in its user namespace: bounding, permitted, effective, inheritable and
    /// ambient. The seccomp allow-list then also has the system calls that they are for.
    pub fn grant_capabilities(mut self, granted: Capabilities) -> Self {
        let sets = build(|| {
            LinuxCapabilitiesBuilder::default()
                .bounding(granted.clone())
                .effective(granted.clone())
                .inheritable(granted.clone())
                .permitted(granted.clone())
                .ambient(granted.clone())
                .build()
        });
        self.process().set_capabilities(Some(sets));
        let names: Vec<String> = granted.iter().map(ToString::to_string).collect();
        let bits = crate::spec::parse_capability_set(Origin::Builder, "process.capabilities", &names);
        let bits = bits.unwrap_or_default();
        if self.linux().seccomp().is_some() {
            self.linux().set_seccomp(Some(crate::seccomp::default_profile(bits)));
        }
        self
    }

    /// Lets set-user-ID programs and file capabilities raise the workload's privileges inside its namespaces.
    pub fn allow_new_privileges(mut self) -> Self {
        self.process().set_no_new_privileges(Some(false));
        self
    }

    /// Replaces the seccomp allow-list. With `None` the workload may make every system call.
    pub fn seccomp(mut self, profile: Option<LinuxSeccomp>) -> Self {
        if let Some(path) = profile.as_ref().and_then(|profile| profile.listener_path().as_deref()) {
            self.path("seccomp", path);
        }
        self.linux().set_seccomp(profile);
        self
    }

    /// Uses the caller's network instead of an empty one. With the host's rootfs, names resolve as on the host: if
    /// `/etc/resolv.conf` is a link to a file in `/run`, the container sees that file, too, read-only.
    pub fn host_network(mut self) -> Self {
        self.without_namespace(LinuxNamespaceType::Network);
        self
    }

    /// Lets the workload keep the caller's supplementary groups, so that it can use files which only these may use: a
    /// directory of mode 0770 that belongs to a group of the caller's, bound with [`bind_rw`](Self::bind_rw). Inside, they
    /// show as `65534(nogroup)`. A process with [`groups`](Self::groups) of its own does not keep them. As root, the
    /// caller's groups usually include the host's group 0.
    ///
    /// Not for a further container of a pod. crun calls this `run.oci.keep_original_groups`.
    pub fn keep_caller_groups(mut self) -> Self {
        self.extras.keep_groups = true;
        self
    }

    /// Runs without a user namespace: root inside is root on the host. Only root can do this.
    pub fn without_user_namespace(mut self) -> Self {
        self.without_namespace(LinuxNamespaceType::User);
        self.default_ids = false;
        self.linux().set_uid_mappings(None).set_gid_mappings(None);
        self
    }

    /// Maps the container's ids to these host ids, instead of to a range that the crate chooses. It claims nothing: other
    /// containers may have the same ids.
    pub fn id_mappings(mut self, uids: &[IdMap], gids: &[IdMap]) -> Self {
        self.default_ids = false;
        self.set_id_mappings(uids, gids);
        self
    }
}
