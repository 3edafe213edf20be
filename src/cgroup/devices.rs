//! Attaches a device program to a cgroup: v2 has no control file for devices.

use super::dir::{CgroupDir, CgroupVersion};
use crate::error::{Error, OsContext, Result};
use crate::plan::DeviceProgram;
use crate::sys;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The size of the buffer for the verifier's log, in bytes. The reason is at the end of the log.
const LOG: usize = 64 << 10;

/// The file with the devices that a v1 cgroup allows, and its text if the cgroup allows everything (Linux
/// admin-guide/cgroup-v1/devices.rst).
const V1_LIST: &str = "devices.list";
const V1_EVERYTHING: &str = "a *:* rwm";

/// Attaches `program` to this cgroup. It decides about every use of a device there and below, as long as the cgroup
/// exists.
///
/// # Errors
/// The errno of bpf(2): `EPERM` for a caller without `CAP_BPF` and `CAP_NET_ADMIN` in the initial user namespace.
pub(super) fn attach(program: &DeviceProgram, dir: &CgroupDir) -> Result<()> {
    let program = load(&program.bytes())?;
    sys::attach_device_program(dir.as_fd(), program.as_fd())
        .os(|| format!("bpf(BPF_PROG_ATTACH, {:?}, BPF_CGROUP_DEVICE)", dir.path()))
}

/// Whether one of these directories of a container has rules about devices: the list of v1, or a program. `false` if
/// the answer cannot be read.
pub(crate) fn enforces(leaves: &[PathBuf]) -> bool {
    leaves.iter().any(|leaf| {
        let Ok(dir) = CgroupDir::open(leaf) else { return false };
        match dir.version() {
            CgroupVersion::V1 => dir.read(V1_LIST).is_ok_and(|list| list.trim() != V1_EVERYTHING),
            CgroupVersion::V2 => sys::device_programs(dir.as_fd()).is_ok_and(|count| count > 0),
        }
    })
}

fn load(instructions: &[u8]) -> Result<OwnedFd> {
    let step = || "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE)";
    let errno = match sys::load_device_program(instructions, &mut []) {
        Err(errno @ (Errno::INVAL | Errno::ACCESS)) => errno,
        loaded => return loaded.os(step),
    };
    // The verifier refused the program. Load it again, with a buffer for the reason.
    let mut log = vec![0; LOG];
    match sys::load_device_program(instructions, &mut log) {
        Ok(program) => Ok(program),
        Err(_) => Err(errno).os(step).map_err(|error: Error| error.hint(last_line(&log))),
    }
}

fn last_line(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let reason =
        text.lines().rfind(|line| !line.is_empty() && !line.starts_with("processed ")).unwrap_or_default();
    format!("the kernel's verifier: {reason:?}")
}
