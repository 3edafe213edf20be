//! A root file system with a single program: the host's static busybox.

#![expect(clippy::disallowed_methods, reason = "works in a new private directory")]

use super::Result;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Creates a directory for all files of the bench, if possible on a file system in memory, where the runtimes measured
/// here keep their state by default.
pub(super) fn directory() -> Result<TempDir> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = runtime.into_iter().chain(["/dev/shm".into(), "/run".into(), std::env::temp_dir()]);
    let made =
        places.into_iter().find_map(|place| tempfile::Builder::new().prefix("bench-").tempdir_in(place).ok());
    let made = made.ok_or("no place for temporary files")?;
    // Root of another user namespace must be able to pass.
    std::fs::set_permissions(made.path(), Permissions::from_mode(0o755))?;
    Ok(made)
}

/// Creates `place/rootfs` with `/bin/busybox`, links to it named `true`, `sh` and `sleep`, and empty mount points.
pub(super) fn busybox(place: &Path) -> Result<PathBuf> {
    let busybox =
        find_on_path("busybox").ok_or("busybox is not on the PATH: install a static one (busybox-static)")?;
    if !is_static(&std::fs::read(&busybox)?) {
        return Err(format!(
            "{} is linked dynamically: install a static one (busybox-static)",
            busybox.display()
        )
        .into());
    }
    let rootfs = place.join("rootfs");
    for name in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"] {
        std::fs::create_dir_all(rootfs.join(name))?;
    }
    std::fs::copy(busybox, rootfs.join("bin/busybox"))?;
    for name in ["true", "sh", "sleep"] {
        symlink("busybox", rootfs.join("bin").join(name))?;
    }
    Ok(rootfs)
}

/// The first executable file with that name on the `PATH`; an absolute name is returned unchanged.
pub(super) fn find_on_path(name: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(&name)).find(|file| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

/// Whether a 64-bit little-endian ELF file has no dynamic loader, that is, no program header `PT_INTERP` (elf(5)).
fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, bytes: usize| {
        let field = elf.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let headers = || {
        let (first, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        (0..count)
            .map(|index| number(usize::try_from(first + index * size).ok()?, 4))
            .collect::<Option<Vec<_>>>()
    };
    elf.starts_with(b"\x7fELF\x02\x01") && headers().is_some_and(|kinds| !kinds.contains(&PT_INTERP))
}
