//! Writes the id maps of a new user namespace (user_namespaces(7)).

use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::plan::Plan;
use crate::spec::{IdMap, IdMaps, NamespaceKind};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::fmt::Write as _;
use std::path::Path;

/// Maps the ids of the sandbox's new user namespace, if it has one. Returns that namespace, or the one that the sandbox
/// joins: the gofer needs it for its mounts.
pub(super) fn apply(plan: &Plan, sandbox: i32) -> Result<Option<OwnedFd>> {
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .os(|| format!("open({path:?})"))
            .map(Some)
    };
    if plan.id_maps.uids.is_empty() {
        let mut joined = plan.sandbox.namespaces.join.iter().filter(|(kind, _)| *kind == NamespaceKind::User);
        return joined.next().map_or(Ok(None), |(_, path)| open(path));
    }
    write(sandbox, &plan.id_maps)?;
    open(Path::new(&format!("/proc/{sandbox}/ns/user")))
}

/// Maps the ids of `pid`'s user namespace: directly where the kernel allows it, else through newuidmap(1) and
/// newgidmap(1).
fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let single = |maps: &[IdMap], id: u32| matches!(maps, [map] if map.size == 1 && map.host == id);
    let alone = single(&maps.uids, own.0) && single(&maps.gids, own.1);
    let privileged =
        caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETUID).unwrap_or(false);
    if !alone && !privileged {
        run_helper("newuidmap", pid, &maps.uids)?;
        return run_helper("newgidmap", pid, &maps.gids);
    }
    if alone && !privileged {
        // "Writing 'deny' to the /proc/[pid]/setgroups file before writing to /proc/[pid]/gid_map" is what makes the
        // the write to gid_map legal without privilege.
        write_file(pid, "setgroups", "deny")?;
    }
    write_file(pid, "uid_map", &lines(&maps.uids))?;
    write_file(pid, "gid_map", &lines(&maps.gids))
}

fn write_file(pid: i32, name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .os(|| format!("open({path:?})"))?;
    // Use one write(2): the kernel takes a map as a whole or not at all.
    rustix::io::write(file, text.as_bytes()).os(|| format!("write({path:?}, {text:?})")).map(drop)
}

fn lines(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut text, map| {
        let _ = writeln!(text, "{} {} {}", map.container, map.host, map.size);
        text
    })
}

fn run_helper(program: &str, pid: i32, maps: &[IdMap]) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a set-user-ID program: there is no other way to run one")]
    let mut command = std::process::Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.container.to_string(), map.host.to_string(), map.size.to_string()]);
    }
    let output =
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/local/bin").output().os(|| program.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(ErrorKind::Os(libc::EPERM), program.to_owned(), said)
        .hint("check /etc/subuid and /etc/subgid"))
}
