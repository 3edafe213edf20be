//! The device nodes: the default ones, and those of `linux.devices`. Pure.

use super::{TreeBuilder, item, step};
use crate::error::{Error, Result};
use crate::plan::extras::relative_to_root;
use crate::plan::gofer::{GoferItem, GoferSource, NodeNumbers};
use crate::plan::init::{DeviceNode, StepSource};
use crate::spec::{Device, DeviceKind, MountAttrs};
use std::path::Path;

/// The devices of OCI config-linux.md, "Default Devices": name, major, minor.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// The attributes of the mount of a host's device. No nodev: the device must open. Read-only, so that a container that
/// maps the host's uid 0 cannot change mode and owner of the host's device; this does not keep it from writing to the
/// device.
const OF_A_DEVICE: MountAttrs = MountAttrs::NOSUID.union(MountAttrs::NOEXEC).union(MountAttrs::RDONLY);

impl TreeBuilder<'_> {
    pub(in crate::plan) fn devices(&mut self) -> Result<()> {
        for (index, device) in self.spec.devices.iter().enumerate() {
            let field = format!("linux.devices[{index}]");
            let name = device.path.strip_prefix("/dev").ok().and_then(Path::to_str);
            if let Some((name, major, minor)) = DEFAULT_DEVICES.into_iter().find(|(it, ..)| Some(*it) == name)
            {
                if (device.kind, device.major, device.minor) == (DeviceKind::Char, major, minor) {
                    // Among the default nodes, with this owner and mode.
                    continue;
                }
                let why = format!("/dev/{name} is always the character device {major}:{minor}");
                return Err(Error::unsupported(field, why));
            }
            // Skip ptmx: init makes it a link to that of the container's own devpts. Engines that list every device of
            // the host list it, too.
            if name == Some("ptmx") && (device.kind, device.major, device.minor) == (DeviceKind::Char, 5, 2) {
                continue;
            }
            let node = self.configured_node(device, &field);
            self.steps.push(step(node.path.clone(), StepSource::Node(node), &field));
        }
        Ok(())
    }

    pub(super) fn default_nodes(&mut self) -> Vec<DeviceNode> {
        DEFAULT_DEVICES
            .into_iter()
            .map(|(name, major, minor)| {
                let path = Path::new("dev").join(name);
                let handed = self.must_bind_devices().then(|| {
                    let source = GoferSource::Bind { path: Path::new("/").join(&path), recursive: false };
                    self.hand(GoferItem { set: OF_A_DEVICE, ..item(source, "linux.devices") })
                });
                let listed =
                    self.spec.devices.iter().find(|device| device.path == Path::new("/").join(&path));
                let (mode, uid, gid) =
                    listed.map_or((0o666, 0, 0), |device| (device.mode, device.uid, device.gid));
                DeviceNode { path, mode: libc::S_IFCHR | mode, major, minor, uid, gid, handed }
            })
            .collect()
    }

    fn configured_node(&mut self, device: &Device, field: &str) -> DeviceNode {
        let kind = match device.kind {
            DeviceKind::Char => libc::S_IFCHR,
            DeviceKind::Block => libc::S_IFBLK,
            DeviceKind::Fifo => libc::S_IFIFO,
        };
        let Device { major, minor, uid, gid, .. } = *device;
        let (path, mode) = (relative_to_root(&device.path), kind | device.mode);
        let source = if device.kind == DeviceKind::Fifo {
            None
        } else if self.must_bind_devices() {
            Some((GoferSource::Bind { path: device.path.clone(), recursive: false }, OF_A_DEVICE))
        } else if !path.starts_with("dev") {
            // On a mount of its own: the root may have nodev, and the image keeps no node.
            let node = GoferSource::Node(NodeNumbers { mode, major, minor, uid, gid });
            Some((node, OF_A_DEVICE - MountAttrs::RDONLY))
        } else {
            None
        };
        let handed = source.map(|(source, set)| self.hand(GoferItem { set, ..item(source, field) }));
        DeviceNode { path, mode, major, minor, uid, gid, handed }
    }

    /// Whether the gofer binds the host's nodes: mknod(2) of devices works only in the initial user namespace.
    fn must_bind_devices(&self) -> bool {
        self.in_user_namespace() || self.host.in_user_namespace || !self.host.privileged
    }
}
