//! Handing a device program to the kernel: cgroup v2 has no control file for devices.

use super::dir::{CgroupDir, CgroupVersion};
use crate::error::{Error, OsContext, Result};
use crate::plan::DeviceProgram;
use crate::sys;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// How much of the verifier's log is kept. It ends in the reason.
const LOG: usize = 64 << 10;

/// What a cgroup of v1 allows, and what the file says of one that allows everything (Linux admin-guide/cgroup-v1/devices.rst).
const V1_LIST: &str = "devices.list";
const V1_EVERYTHING: &str = "a *:* rwm";

/// Has `program` decide about every use of a device in this cgroup and below, for as long as it exists.
///
/// # Errors
/// The errno of bpf(2): `EPERM` for who has not `CAP_BPF` and `CAP_NET_ADMIN` in the initial user namespace.
pub(super) fn attach(program: &DeviceProgram, dir: &CgroupDir) -> Result<()> {
    let program = load(&program.bytes())?;
    sys::attach_device_program(dir.as_fd(), program.as_fd())
        .os(|| format!("bpf(BPF_PROG_ATTACH, {:?}, BPF_CGROUP_DEVICE)", dir.path()))
}

/// Whether one of these directories, a container's, has rules about devices: those of v1, or a program. What cannot be
/// found out is not so.
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
    // The verifier refused it, and is asked once more for the reason.
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
