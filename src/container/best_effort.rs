//! Limits as far as the host and the caller can set them, where that is enough; what could not be is said.

use super::{AnyContainer, Container, ContainerBuilder, Phase};

impl ContainerBuilder {
    /// Does without the limits whose controller this host lacks or this caller may not use, instead of refusing them:
    /// for a user without a delegated cgroup, who would rather run without than not at all. All limits of such a
    /// controller are left out together; [`Container::unapplied_limits`] has their fields, and a `tracing` warning the
    /// reason. A value that makes no sense stays an error, and so does a control file that the kernel lacks or refuses
    /// when the container is made. A bundle does not carry it.
    pub fn best_effort_limits(mut self) -> Self {
        self.extras.best_effort_limits = true;
        self
    }
}

impl<P: Phase> Container<P> {
    /// The limits that were asked for and are not in force, by their fields in the configuration
    /// (`linux.resources.memory.limit`). Empty unless [`best_effort_limits`](ContainerBuilder::best_effort_limits)
    /// allowed it.
    #[must_use]
    pub fn unapplied_limits(&self) -> &[String] {
        &self.core.record.unapplied_limits
    }
}

impl AnyContainer {
    /// As [`Container::unapplied_limits`].
    #[must_use]
    pub fn unapplied_limits(&self) -> &[String] {
        &self.record().unapplied_limits
    }
}
