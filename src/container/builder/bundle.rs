//! OCI bundles on disk (OCI bundle.md): reading one, and writing one that any runtime accepts.

use super::default_spec::{build, mount};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::host::facts::{Host, RESOLV_CONF};
use crate::plan::{Extras, Scratch};
use crate::spec::{self, MAX_CONFIG_BYTES};
use oci_spec::runtime::{RootBuilder, Spec};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in a bundle.
const CONFIG: &str = "config.json";
/// The annotation with the size of the writable layer in memory, in bytes; 0 is the kernel's default.
const SCRATCH: &str = "dev.cofferdam.scratch";
/// The annotation that says whether the rootfs's ids are mapped into the user namespace.
const IDMAP: &str = "dev.cofferdam.rootfs.idmap";
/// The annotation with the time limit in milliseconds.
const TIMEOUT: &str = "dev.cofferdam.timeout-ms";
/// The annotation of a container that has no cgroup unless it needs one.
const WITHOUT_CGROUP: &str = "dev.cofferdam.without-cgroup";
/// Annotation of crun, which podman sets for `--group-add keep-groups`: the workload keeps the caller's groups.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// The annotation of a container whose PID 1 is this crate's reaper.
const INIT: &str = "dev.cofferdam.init";
/// The mount points of the default configuration.
const MOUNT_POINTS: [&str; 6] = ["dev", "proc", "root", "run", "sys", "tmp"];

/// Reads `directory/config.json`. Returns it with the absolute path of the bundle directory.
pub(in crate::container) fn load(directory: &Path) -> Result<(PathBuf, Spec)> {
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
    Ok((bundle, spec::parse(&bytes)?))
}

/// Reads the annotations that [`write`] makes. They can only narrow what the workload can reach, except that one lets it
/// keep the caller's groups.
pub(in crate::container) fn extras_of(spec: &Spec) -> Result<Extras> {
    let annotations = spec.annotations().clone().unwrap_or_default();
    let number = |key: &str| -> Result<Option<u64>> {
        let Some(text) = annotations.get(key) else { return Ok(None) };
        let parsed = text.parse();
        let field = format!("annotations[{key:?}]");
        parsed.map(Some).map_err(|_| Error::spec(CONFIG, field, format!("{text:?} is not a number")))
    };
    Ok(Extras {
        host_rootfs: false,
        scratch: number(SCRATCH)?.map(|size| Scratch { size: (size > 0).then_some(size) }),
        idmap_rootfs: annotations.get(IDMAP).is_some_and(|value| value == "true"),
        timeout: number(TIMEOUT)?.map(Duration::from_millis),
        pod: None,
        volumes: Vec::new(),
        // Only the caller may choose this: a bundle must not be able to drop its own limits.
        best_effort_limits: false,
        keep_groups: annotations.get(KEEP_GROUPS).is_some_and(|value| value == "1"),
        without_cgroup: annotations.get(WITHOUT_CGROUP).is_some_and(|value| value == "true"),
        // Only the caller may choose this, too.
        accounting: false,
        // A bundle lists all its mounts.
        cgroup_view: false,
        init: annotations.get(INIT).is_some_and(|value| value == "true"),
    })
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
    make_empty_directory(directory)?;
    if extras.host_rootfs {
        write_host_rootfs(directory, &mut spec, host)?;
    }
    let mut annotations = spec.annotations().clone().unwrap_or_default();
    if let Some(scratch) = &extras.scratch {
        annotations.insert(SCRATCH.into(), scratch.size.unwrap_or(0).to_string());
    }
    if extras.idmap_rootfs && !extras.host_rootfs {
        annotations.insert(IDMAP.into(), "true".into());
    }
    if let Some(timeout) = extras.timeout {
        annotations.insert(TIMEOUT.into(), timeout.as_millis().to_string());
    }
    if extras.keep_groups {
        annotations.insert(KEEP_GROUPS.into(), "1".into());
    }
    if extras.without_cgroup {
        annotations.insert(WITHOUT_CGROUP.into(), "true".into());
    }
    if extras.init {
        annotations.insert(INIT.into(), "true".into());
    }
    spec.set_annotations(Some(annotations));
    let step = || format!("write {:?}", directory.join(CONFIG));
    let text = serde_json::to_vec_pretty(&spec)
        .map_err(|error| Error::new(ErrorKind::InvalidInput, step(), error.to_string()))?;
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
