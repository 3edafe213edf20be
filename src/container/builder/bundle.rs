//! OCI bundles on disk (OCI bundle.md): reading one, and writing one that any runtime accepts.

use super::default_spec::{build, mount};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host::facts::{Host, RESOLV_CONF};
use crate::plan::{Extras, Scratch};
use crate::spec::{self, MAX_CONFIG_BYTES, SETTINGS, Settings};
use oci_spec::runtime::{RootBuilder, Spec};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in a bundle.
const CONFIG: &str = "config.json";
/// Annotation of crun: the workload keeps the caller's groups. Written for crun, and not read.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// The mount points of the default configuration.
const MOUNT_POINTS: [&str; 6] = ["dev", "proc", "root", "run", "sys", "tmp"];

/// Reads `directory/config.json`. Returns it with the absolute path of the bundle directory, and its settings.
pub(in crate::container) fn load(directory: &Path) -> Result<(PathBuf, Spec, Extras)> {
    let bundle = std::path::absolute(directory).os(|| format!("open bundle {directory:?}"))?;
    if bundle.to_str().is_none() {
        let error = Error::new(ErrorKind::InvalidInput, "from_bundle", format!("{bundle:?} is not UTF-8"));
        return Err(error.hint("the record of a container is JSON"));
    }
    let path = bundle.join(CONFIG);
    // Do not block: in place of the file there may be a FIFO without a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(&path, flags, Mode::empty()).os(|| format!("open({path:?})"))?);
    let metadata = file.metadata().os(|| format!("fstat({path:?})"))?;
    if !metadata.is_file() {
        return Err(Error::spec(CONFIG, "", "is not a regular file"));
    }
    let mut bytes = Vec::new();
    // Read one byte more than is allowed, to see that the file is too large.
    file.take(MAX_CONFIG_BYTES as u64 + 1).read_to_end(&mut bytes).os(|| format!("read({path:?})"))?;
    let (spec, settings) = spec::parse_with_settings(&bytes)?;
    Ok((bundle, spec, extras_of(&settings)))
}

fn extras_of(settings: &Settings) -> Extras {
    Extras {
        scratch: settings.scratch.map(|size| Scratch { size: (size > 0).then_some(size) }),
        idmap_rootfs: settings.idmapped_rootfs,
        timeout: settings.timeout_ms.map(|limit| Duration::from_millis(limit.get())),
        keep_groups: settings.keep_caller_groups,
        without_cgroup: settings.without_cgroup,
        init: settings.init,
        // Only the caller may choose the rest. A bundle must not drop its own limits, and it lists all its mounts.
        ..Extras::default()
    }
}

/// The settings that say the same as `extras`, as far as a bundle can say it.
fn settings_of(extras: &Extras) -> Settings {
    let timeout = extras.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1));
    Settings {
        scratch: extras.scratch.as_ref().map(|scratch| scratch.size.unwrap_or(0)),
        idmapped_rootfs: extras.idmap_rootfs && !extras.host_rootfs,
        timeout_ms: timeout.and_then(NonZeroU64::new),
        keep_caller_groups: extras.keep_groups,
        without_cgroup: extras.without_cgroup,
        init: extras.init,
    }
}

/// Writes `spec` and its extras as a bundle to `directory`.
pub(in crate::container) fn write(
    directory: &Path,
    mut spec: Spec,
    extras: &Extras,
    host: &Host,
) -> Result<()> {
    if !extras.volumes.is_empty() {
        return Err(Error::unsupported("pod_volume", "a bundle cannot describe what containers share"));
    }
    if extras.user.is_some() {
        let why = "a bundle names its user by ids";
        return Err(Error::unsupported("user_name", why).hint("call user() instead"));
    }
    make_empty_directory(directory)?;
    if extras.host_rootfs {
        write_host_rootfs(directory, &mut spec, host)?;
    }
    if extras.keep_groups {
        let mut annotations = spec.annotations().clone().unwrap_or_default();
        annotations.insert(KEEP_GROUPS.into(), "1".into());
        spec.set_annotations(Some(annotations));
    }
    let step = || format!("write {:?}", directory.join(CONFIG));
    let not_json = |error: serde_json::Error| Error::new(ErrorKind::InvalidInput, step(), error.to_string());
    let mut document = serde_json::to_value(&spec).map_err(not_json)?;
    let settings = settings_of(extras);
    if settings != Settings::default() {
        document[SETTINGS] = serde_json::to_value(settings).map_err(not_json)?;
    }
    let text = serde_json::to_vec_pretty(&document).map_err(not_json)?;
    let mut file = tempfile::NamedTempFile::new_in(directory).os(step)?;
    file.write_all(&text).os(step)?;
    file.persist(directory.join(CONFIG)).map_err(|error| error.error).os(step)?;
    Ok(())
}

fn make_empty_directory(directory: &Path) -> Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut entries = std::fs::read_dir(directory).os(|| format!("open({directory:?})"))?;
            if entries.next().is_some() {
                let step = format!("write bundle {directory:?}");
                return Err(Error::new(ErrorKind::AlreadyExists, step, "the directory is not empty"));
            }
            Ok(())
        }
        result => result.os(|| format!("mkdir({directory:?})")),
    }
}

/// Writes the host's system directories as a bundle can have them: empty directories to mount on, and read-only binds.
fn write_host_rootfs(directory: &Path, spec: &mut Spec, host: &Host) -> Result<()> {
    let rootfs = directory.join("rootfs");
    let make = |name: &str| -> Result<()> {
        let mut path = rootfs.clone();
        name.split('/').try_for_each(|part| {
            path.push(part);
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                made => made.os(|| format!("mkdir({path:?})")),
            }
        })
    };
    std::fs::create_dir(&rootfs).os(|| format!("mkdir({rootfs:?})"))?;
    MOUNT_POINTS.into_iter().try_for_each(make)?;
    let mut mounts = Vec::new();
    for dir in &host.system_dirs {
        if let Some(link) = &dir.link {
            let path = rootfs.join(&dir.name);
            make(Path::new(&dir.name).parent().and_then(Path::to_str).unwrap_or_default())?;
            symlink(link, &path).os(|| format!("symlink({link:?}, {path:?})"))?;
            continue;
        }
        make(&dir.name)?;
        let path = format!("/{}", dir.name);
        mounts.push(build(|| mount(&path, "bind", &path, "rbind,ro,nosuid,nodev")));
    }
    if let Some(at) = &host.resolver {
        let at = at.display().to_string();
        mounts.push(build(|| mount(&at, "bind", RESOLV_CONF, "bind,ro,nosuid,nodev,noexec")));
    }
    mounts.extend(spec.mounts().clone().unwrap_or_default());
    spec.set_mounts(Some(mounts));
    let readonly = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(true);
    spec.set_root(Some(build(|| RootBuilder::default().path("rootfs").readonly(readonly).build())));
    Ok(())
}
