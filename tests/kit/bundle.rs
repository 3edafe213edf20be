//! Bundles: written from a builder, edited, and read again.

use super::Stage;
use cofferdam::{ContainerBuilder, Error};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

impl Stage {
    /// The bundle of what `builder` describes, in the directory `name`, its configuration edited.
    pub fn write_bundle(
        &self,
        name: &str,
        builder: ContainerBuilder,
        edit: impl FnOnce(&mut Value),
    ) -> PathBuf {
        let bundle = self.path().join(name);
        builder.to_bundle(&bundle).expect("a bundle");
        edit_config(&bundle, edit);
        bundle
    }

    /// The container `name` of a bundle.
    pub fn bundled(&self, name: &str, bundle: &Path) -> Result<ContainerBuilder, Error> {
        Ok(ContainerBuilder::from_bundle(bundle)?.id(self.id(name)).state_root(self.root().clone()))
    }

    /// Lets every user pass through this test's directory, as the root of a user namespace has to.
    pub fn open_to_everybody(&self) {
        std::fs::set_permissions(self.path(), PermissionsExt::from_mode(0o755)).expect("our directory");
    }
}

/// Changes the configuration of a bundle.
pub fn edit_config(bundle: &Path, change: impl FnOnce(&mut Value)) {
    let path = bundle.join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).expect("a bundle")).expect("a document");
    change(&mut config);
    std::fs::write(&path, config.to_string()).expect("a configuration");
}

/// Adds a mount to a configuration, after those it has.
pub fn add_mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().expect("a configuration with mounts").push(mount);
}
