//! [`Job`]: what one container of a pool executes, and with which streams.

use crate::container::builder::description::NO_LIMIT;
use crate::container::builder::process::set_variables;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Stdio;
use oci_spec::runtime::Process;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the container that [`Pool::take`](crate::pools::Pool::take) returns executes, and with which streams.
///
/// What this value cannot say is the template's: root, mounts, ids, capabilities, filter, limits, network. What it can say
/// and does not say is the template's too, except the streams: these are `/dev/null`, as for a
/// [`ContainerBuilder`](crate::ContainerBuilder).
///
/// `Debug` shows the names of variables, and not their values, which may be secrets.
#[must_use = "a job does nothing until `Pool::take`"]
#[derive(Default)]
pub struct Job {
    args: Option<Vec<String>>,
    env: Vec<(String, String)>,
    cwd: Option<PathBuf>,
    pub(super) stdio: [Stdio; 3],
    pub(super) timeout: Option<Duration>,
    /// The first argument that a method could not take.
    refused: Option<Error>,
}

impl Job {
    /// The template's own program, with its own arguments.
    pub fn of_template() -> Self {
        Self::default()
    }

    /// This program and its arguments. [`take`](crate::pools::Pool::take) looks for a name without a slash in the `PATH` of
    /// the job's environment, inside the container.
    ///
    /// In a pool of [clones](crate::templates::Template#clones-that-wait) the program is the template's, and these are the
    /// arguments that the clone finds in `/proc/self/cmdline`.
    pub fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut job = Self::default();
        let args = args.into_iter().map(|arg| job.text("new", arg.as_ref())).collect();
        Self { args: Some(args), ..job }
    }

    /// Sets one environment variable, besides the template's own.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (self.text("env", name.as_ref()), self.text("env", value.as_ref()));
        self.env.push((name, value));
        self
    }

    /// Sets environment variables, each as [`env`](Self::env) does.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(self, vars: impl IntoIterator<Item = (N, V)>) -> Self {
        vars.into_iter().fold(self, |job, (name, value)| job.env(name, value))
    }

    /// The working directory: an absolute path in the container. It must exist: only that of the template is made where it
    /// is missing. If it does not, [`start`](crate::Container::start) fails. Refused in a pool of clones, whose working
    /// directory is their template's.
    pub fn cwd(mut self, cwd: impl AsRef<Path>) -> Self {
        self.cwd = Some(self.text("cwd", cwd.as_ref().as_os_str()).into());
        self
    }

    /// Standard input; nothing by default.
    pub fn stdin(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[0] = stdio.into();
        self
    }

    /// Standard input: these bytes, as [`ContainerBuilder::input`](crate::ContainerBuilder::input).
    pub fn input(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin(Stdio::bytes(bytes))
    }

    /// Standard output; discarded by default.
    pub fn stdout(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[1] = stdio.into();
        self
    }

    /// Standard error; discarded by default.
    pub fn stderr(mut self, stdio: impl Into<Stdio>) -> Self {
        self.stdio[2] = stdio.into();
        self
    }

    /// All three standard streams are the caller's.
    pub fn inherit_stdio(mut self) -> Self {
        self.stdio = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
        self
    }

    /// Kills the workload if it runs longer than this, in place of the template's
    /// [`timeout`](crate::ContainerBuilder::timeout). A limit of zero is refused.
    pub fn timeout(mut self, limit: Duration) -> Self {
        if limit.is_zero() {
            self.refuse("timeout", "must not be 0".to_owned(), NO_LIMIT);
        }
        self.timeout = Some(limit);
        self
    }

    fn refuse(&mut self, method: &'static str, problem: String, hint: &'static str) {
        let error = Error::new(ErrorKind::InvalidInput, format!("Job::{method}"), problem);
        self.refused.get_or_insert(error.hint(hint));
    }

    /// `text` for the record; if it is not UTF-8, [`check`](Self::check) refuses it in the name of `method`.
    fn text(&mut self, method: &'static str, text: &OsStr) -> String {
        match text.to_str() {
            Some(text) => text.to_owned(),
            None => {
                self.refuse(method, format!("{text:?} is not UTF-8"), "the record of a container is JSON");
                String::new()
            }
        }
    }

    /// Fails with the first argument that a method could not take.
    pub(super) fn check(&mut self) -> Result<()> {
        self.refused.take().map_or(Ok(()), Err)
    }

    /// Fails for what a clone has of its template's process.
    pub(super) fn check_for_clone(&self) -> Result<()> {
        if self.cwd.is_none() {
            return Ok(());
        }
        let problem = "a clone begins in the working directory of its template's process";
        let error = Error::new(ErrorKind::InvalidInput, "Job::cwd", problem);
        Err(error.hint("change it in the clone, as by an argument"))
    }

    /// Changes the template's process into the job's.
    pub(super) fn apply(&self, process: &mut Process) {
        if let Some(args) = &self.args {
            process.set_args(Some(args.clone()));
        }
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if !self.env.is_empty() {
            set_variables(process, self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, env, cwd, stdio: _, timeout, refused: _ } = self;
        let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Job")
            .field("args", args)
            .field("env", &names)
            .field("cwd", cwd)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_job_changes_what_it_names_and_nothing_else() {
        let mut process = Process::default();
        process.set_env(Some(vec!["PATH=/bin".into(), "A=1".into()])).set_args(Some(vec!["template".into()]));
        let before = process.clone();
        Job::of_template().apply(&mut process);
        assert_eq!(process, before);
        Job::new(["job"]).env("A", "2").env("B", "3").cwd("/srv").apply(&mut process);
        assert_eq!(process.env().as_deref().unwrap(), ["PATH=/bin", "A=2", "B=3"]);
        assert_eq!(process.args().as_deref().unwrap(), ["job"]);
        assert_eq!((process.cwd().as_path(), process.user()), (Path::new("/srv"), before.user()));
    }

    #[test]
    fn the_first_mistake_is_told_by_the_name_of_the_method() {
        let said = |mut job: Job| job.check().unwrap_err().to_string();
        let odd = OsStr::from_bytes(b"\xff");
        let text = "\"\\xFF\" is not UTF-8 (the record of a container is JSON)";
        assert_eq!(said(Job::new([odd])), format!("Job::new: {text}"));
        assert_eq!(said(Job::of_template().env("A", odd).cwd(odd)), format!("Job::env: {text}"));
        assert_eq!(
            said(Job::of_template().timeout(Duration::ZERO)),
            "Job::timeout: must not be 0 (to set no limit, leave the call out)"
        );
    }

    #[test]
    fn a_value_of_the_environment_is_not_shown() {
        let shown = format!("{:?}", Job::new(["job"]).env("TOKEN", "hidden"));
        assert!(shown.contains("TOKEN") && !shown.contains("hidden"), "{shown}");
    }
}
