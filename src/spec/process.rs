//! `process`: the program, its user and its privileges.

use super::field::Field;
use super::linux::label;
use super::{Capabilities, ExecCpuAffinity, IdMap, IdMaps, IoPriority, Origin, Scheduler};
use crate::error::Result;
use oci_spec::runtime;
use oci_spec::runtime::PosixRlimitType;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How many additional groups a process can have (limits.h of the kernel, setgroups(2)).
const NGROUPS_MAX: usize = 65_536;

/// `process`, validated.
#[derive(Clone, Debug)]
pub(crate) struct ValidProcess {
    /// `process.terminal`.
    pub(crate) terminal: bool,
    /// `process.consoleSize`; only with a terminal ("Runtimes MUST ignore `consoleSize` if `terminal` is
    /// `false` or unset", OCI config.md).
    pub(crate) console_size: Option<ConsoleSize>,
    /// `process.args`: at least one, the first not empty, none with a NUL.
    pub(crate) args: Vec<CString>,
    /// `process.env`: each `NAME=value`, last duplicate wins, first-seen order kept.
    pub(crate) env: Vec<CString>,
    /// `process.cwd`: absolute.
    pub(crate) cwd: PathBuf,
    /// `process.user`.
    pub(crate) user: User,
    /// `process.capabilities`; all sets empty where the field is absent.
    pub(crate) capabilities: Capabilities,
    /// `process.rlimits`: no duplicates, soft at most hard.
    pub(crate) rlimits: Vec<Rlimit>,
    /// `process.noNewPrivileges`.
    pub(crate) no_new_privileges: bool,
    /// `process.oomScoreAdj`: -1000 to 1000.
    pub(crate) oom_score_adj: Option<i32>,
    /// `process.ioPriority`.
    pub(crate) io_priority: Option<IoPriority>,
    /// `process.scheduler`.
    pub(crate) scheduler: Option<Scheduler>,
    /// `process.execCPUAffinity`.
    pub(crate) exec_cpu_affinity: ExecCpuAffinity,
    /// `process.apparmorProfile`; not empty.
    pub(crate) apparmor_profile: Option<String>,
    /// `process.selinuxLabel`; not empty.
    pub(crate) selinux_label: Option<String>,
}

/// `process.consoleSize`, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConsoleSize {
    /// `height`.
    pub(crate) rows: u16,
    /// `width`.
    pub(crate) columns: u16,
}

/// `process.user`: ids as seen inside the container's user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    /// `uid`.
    pub(crate) uid: u32,
    /// `gid`.
    pub(crate) gid: u32,
    /// `additionalGids`.
    pub(crate) additional_gids: Vec<u32>,
    /// `umask`, at most `0o777`.
    pub(crate) umask: Option<u32>,
}

/// One entry of `process.rlimits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// The `RLIMIT_*` number (getrlimit(2)).
    pub(crate) resource: u32,
    /// The soft limit; `u64::MAX` is unlimited.
    pub(crate) soft: u64,
    /// The hard limit; `u64::MAX` is unlimited.
    pub(crate) hard: u64,
}

impl Rlimit {
    pub(crate) fn is_of_processes(self) -> bool {
        self.resource == resource(PosixRlimitType::RlimitNproc)
    }
}

impl ValidProcess {
    /// Checks `process`. `maps` is empty where ids are the host's or belong to a joined user namespace.
    pub(super) fn new(
        document: &Field<'_>,
        process: Option<&runtime::Process>,
        maps: &IdMaps,
    ) -> Result<Self> {
        let field = document.key("process");
        let Some(process) = process else {
            return Err(field.error("is missing"));
        };
        let (args, env) = (process.args().as_deref(), process.env().as_deref());
        Self::with_words(document, process, args.unwrap_or_default(), env.unwrap_or_default(), maps)
    }

    /// As [`new`](Self::new), with arguments and environment given apart from the rest.
    fn with_words(
        document: &Field<'_>,
        process: &runtime::Process,
        args: &[impl AsRef<OsStr>],
        env: &[impl AsRef<OsStr>],
        maps: &IdMaps,
    ) -> Result<Self> {
        let field = document.key("process");
        let terminal = process.terminal().unwrap_or(false);
        Ok(Self {
            terminal,
            console_size: console_size(&field, process.console_size().filter(|_| terminal))?,
            args: checked_args(&field.key("args"), args)?,
            env: checked_env(&field.key("env"), env)?,
            cwd: field.key("cwd").absolute(process.cwd())?,
            user: User::new(&field.key("user"), process.user(), maps)?,
            capabilities: Capabilities::new(&field, process.capabilities().as_ref())?,
            rlimits: rlimits(&field.key("rlimits"), process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: oom_score_adj(&field.key("oomScoreAdj"), process.oom_score_adj())?,
            io_priority: process
                .io_priority()
                .as_ref()
                .map(|asked| IoPriority::new(&field.key("ioPriority"), asked))
                .transpose()?,
            scheduler: process
                .scheduler()
                .as_ref()
                .map(|asked| Scheduler::new(&field.key("scheduler"), asked))
                .transpose()?,
            exec_cpu_affinity: process
                .exec_cpu_affinity()
                .as_ref()
                .map(|asked| ExecCpuAffinity::new(&field.key("execCPUAffinity"), asked))
                .transpose()?
                .unwrap_or_default(),
            apparmor_profile: label(&field.key("apparmorProfile"), process.apparmor_profile())?,
            selinux_label: label(&field.key("selinuxLabel"), process.selinux_label())?,
        })
    }
}

impl ValidProcess {
    /// Whether any property is a label of a security module.
    pub(crate) fn asks_for_labels(&self) -> bool {
        self.apparmor_profile.is_some() || self.selinux_label.is_some()
    }

    /// Checks a process to execute in a running container with these id mappings: `process`, with `args` instead of its
    /// own if they are given, and with `env` after its own. Unlike in a configuration, both may be other than UTF-8.
    ///
    /// # Errors
    /// As for the `process` of a configuration.
    pub(crate) fn for_exec(
        process: &runtime::Process,
        args: Option<&[OsString]>,
        env: &[OsString],
        maps: &IdMaps,
    ) -> Result<Self> {
        let document = Field::document(Origin::Exec);
        let words = |words: &Option<Vec<String>>| words.iter().flatten().map(OsString::from).collect();
        let own_args: Vec<OsString> = words(process.args());
        let mut whole_env: Vec<OsString> = words(process.env());
        whole_env.extend_from_slice(env);
        Self::with_words(&document, process, args.unwrap_or(&own_args), &whole_env, maps)
    }
}

impl ValidProcess {
    /// Checks the process of a job, in a created container with these id mappings.
    ///
    /// # Errors
    /// As for the `process` of a configuration.
    pub(crate) fn for_job(process: &runtime::Process, maps: &IdMaps) -> Result<Self> {
        Self::new(&Field::document(Origin::Job), Some(process), maps)
    }
}

fn console_size(process: &Field<'_>, size: Option<runtime::Box>) -> Result<Option<ConsoleSize>> {
    let field = process.key("consoleSize");
    let side = |name: &str, length: u64| {
        u16::try_from(length)
            .map_err(|_| field.key(name).error(format_args!("{length} is above {}", u16::MAX)))
    };
    match size {
        None => Ok(None),
        Some(size) if size.height() == 0 && size.width() == 0 => Ok(None),
        Some(size) => Ok(Some(ConsoleSize {
            rows: side("height", size.height())?,
            columns: side("width", size.width())?,
        })),
    }
}

fn checked_args(field: &Field<'_>, args: &[impl AsRef<OsStr>]) -> Result<Vec<CString>> {
    match args {
        [] => return Err(field.error("is empty").hint("name the program to run")),
        [program, ..] if program.as_ref().is_empty() => {
            return Err(field.index(0).error("is empty").hint("name the program to run"));
        }
        _ => {}
    }
    args.iter().enumerate().map(|(index, arg)| field.index(index).c_string(arg.as_ref().as_bytes())).collect()
}

/// Of variables with the same name the last wins. It takes the place of the first, so that the order of the environment
/// is predictable.
fn checked_env(field: &Field<'_>, env: &[impl AsRef<OsStr>]) -> Result<Vec<CString>> {
    let mut variables: Vec<CString> = Vec::with_capacity(env.len());
    let mut places = HashMap::with_capacity(env.len());
    for (index, text) in env.iter().enumerate() {
        let text = text.as_ref().as_bytes();
        let variable = field.index(index).variable(text)?;
        let name = text.split(|byte| *byte == b'=').next().unwrap_or(text);
        match places.entry(name) {
            Entry::Occupied(place) => variables[*place.get()] = variable,
            Entry::Vacant(place) => {
                place.insert(variables.len());
                variables.push(variable);
            }
        }
    }
    Ok(variables)
}

impl User {
    fn new(field: &Field<'_>, user: &runtime::User, maps: &IdMaps) -> Result<Self> {
        let umask = user.umask();
        if let Some(umask) = umask
            && umask > 0o777
        {
            return Err(field.key("umask").error(format_args!("{umask:#o} is above 0o777")));
        }
        let additional_gids = user.additional_gids().clone().unwrap_or_default();
        let user = Self { uid: user.uid(), gid: user.gid(), additional_gids, umask };
        user.check_ids(field, maps)?;
        Ok(user)
    }

    /// Checks the ids of a user that was found by its name. `maps` is as for [`ValidProcess::new`].
    ///
    /// # Errors
    /// As for a process that names the ids themselves.
    pub(crate) fn check_found(&self, origin: Origin, maps: &IdMaps) -> Result<()> {
        self.check_ids(&Field::document(origin).key("process").key("user"), maps)
    }

    fn check_ids(&self, field: &Field<'_>, maps: &IdMaps) -> Result<()> {
        check_id(&field.key("uid"), self.uid, &maps.uids, "linux.uidMappings")?;
        check_id(&field.key("gid"), self.gid, &maps.gids, "linux.gidMappings")?;
        let gids = field.key("additionalGids");
        if self.additional_gids.len() > NGROUPS_MAX {
            let number = self.additional_gids.len();
            return Err(gids.error(format_args!("{number} groups; a process has at most {NGROUPS_MAX}")));
        }
        for (index, gid) in self.additional_gids.iter().enumerate() {
            check_id(&gids.index(index), *gid, &maps.gids, "linux.gidMappings")?;
        }
        Ok(())
    }
}

fn check_id(field: &Field<'_>, id: u32, maps: &[IdMap], maps_name: &str) -> Result<()> {
    // (uid_t) -1 means "leave unchanged" to setresuid(2).
    if id == u32::MAX {
        return Err(field.error(format_args!("{id} is out of range")).hint("the highest id is 4294967294"));
    }
    if !maps.is_empty() && !maps.iter().any(|map| map.holds(id)) {
        let error = field.error(format_args!("{id} is not mapped"));
        return Err(error.hint(format!("add it to {maps_name}")));
    }
    Ok(())
}

fn rlimits(field: &Field<'_>, rlimits: &[runtime::PosixRlimit]) -> Result<Vec<Rlimit>> {
    let mut checked: Vec<Rlimit> = Vec::with_capacity(rlimits.len());
    for (index, rlimit) in rlimits.iter().enumerate() {
        let field = field.index(index);
        let (resource, soft, hard) = (resource(rlimit.typ()), rlimit.soft(), rlimit.hard());
        // "If `rlimits` contains duplicated entries with same `type`, the runtime MUST generate an error." - config.md
        if checked.iter().any(|earlier| earlier.resource == resource) {
            return Err(field.key("type").error(format_args!("{} appears twice", rlimit.typ())));
        }
        if soft > hard {
            return Err(field.key("soft").error(format_args!("{soft} is above hard, {hard}")));
        }
        checked.push(Rlimit { resource, soft, hard });
    }
    Ok(checked)
}

/// The `RLIMIT_*` number (getrlimit(2)).
#[allow(clippy::unnecessary_cast, reason = "the constants are unsigned in glibc, and signed in musl")]
fn resource(kind: PosixRlimitType) -> u32 {
    let number = match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    };
    number as u32
}

fn oom_score_adj(field: &Field<'_>, score: Option<i32>) -> Result<Option<i32>> {
    match score {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(field.error(format_args!("{score} is not between -1000 and 1000")))
        }
        score => Ok(score),
    }
}
