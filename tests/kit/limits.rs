//! What tests of limits share: containers with any `linux.resources`, and block devices to limit.

use super::Stage;
use cofferdam::builder::DeviceNumber;
use cofferdam::{Container, ContainerBuilder, Error, Rootfs, Running};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

impl Stage {
    /// A container that sleeps, with these `linux.resources` and no others.
    pub fn with_resources(&self, name: &str, resources: &Value) -> Result<ContainerBuilder, Error> {
        let builder = self.container(name).args(["sleep", "1000"]);
        let builder = builder.rootfs(Rootfs::directory(self.busybox()));
        let bundle =
            self.write_bundle(name, builder, |config| config["linux"]["resources"] = resources.clone());
        self.bundled(name, &bundle)
    }
}

/// The container's cgroups: first those with its own processes alone, then those that contain the sandbox, too.
pub fn own_cgroups(container: &Container<Running>) -> Vec<PathBuf> {
    let cgroups = container.info().cgroups;
    let own = cgroups.iter().map(|dir| dir.join("container")).filter(|dir| dir.exists());
    own.chain(cgroups.iter().cloned()).collect()
}

/// The text of the first of these files that one of the container's cgroups has.
pub fn kernel(container: &Container<Running>, files: &[&str]) -> Option<String> {
    let cgroups = own_cgroups(container);
    let mut texts = cgroups.iter().flat_map(|dir| files.iter().map(move |file| dir.join(file)));
    texts.find_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
}

/// A disk of the host.
pub fn disk() -> Option<DeviceNumber> {
    let mut disks = fs::read_dir("/sys/block").ok()?.flatten();
    disks.find_map(|disk| {
        let read = |file: &str| fs::read_to_string(disk.path().join(file)).ok();
        let number = read("dev")?;
        let (major, minor) = number.trim().split_once(':')?;
        let number = DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? };
        (read("size")?.trim() != "0").then_some(number)
    })
}

/// A directory that every user may write to, with the disk it is on, if it is on a whole one: a partition has no limits.
pub fn directory_on_a_disk() -> Option<(TempDir, DeviceNumber)> {
    let dir = tempfile::tempdir().unwrap();
    // The container's root is another user's.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let device = fs::metadata(dir.path()).unwrap().dev();
    let number = DeviceNumber { major: rustix::fs::major(device), minor: rustix::fs::minor(device) };
    Path::new(&format!("/sys/dev/block/{number}/queue")).exists().then_some((dir, number))
}
