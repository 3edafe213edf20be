//! [`Template`]: a process that has got ready once, and containers that begin where it stopped.

use super::builder::description::ContainerBuilder;
use super::failed::{Failed, FailedAny, Recovered};
use super::handle::{TemplateMemory, extras_of};
use super::typestate::{Alive, Container, HasStreams, Running};
use crate::error::{Error, ErrorKind, OsContext, Result};
use crate::link::client::REPLY_LIMIT;
use crate::plan::writable_tmpfs;
use crate::process::Channel;
use crate::process::channel::wait_readable_until;
use crate::process::memory::filled;
use crate::wire::control::{Operation, Reply};
use crate::wire::template::{DESCRIPTION, PAGES};
use rustix::fd::OwnedFd;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A process in memory, of which any number of containers are copies: *clones*. A clone does not execute its program
/// from the beginning, but goes on where the process of the template stopped: an interpreter with its modules imported.
///
/// [`Container::into_template`] makes one of a running container, which ends by that. [`builder`](Self::builder)
/// describes a clone. The clone gets its root, ids, capabilities, filter, limits and namespaces from that description, as
/// every container does. From the template it gets memory, registers, signal actions, working directory, umask and its
/// name, and nothing that could be a right. It also gets a copy of the files that the template's container has in its
/// [scratch](ContainerBuilder::scratch) and in each tmpfs, and has the template's files open.
///
/// The template lives as long as this value and its copies, in memory that counts as this program's. It is for this boot
/// and this kernel. Clones share the pages that they do not write; the [files](crate::manual::templates#files) are each
/// clone's own.
///
/// # What clones have in common
/// All clones have the template's address layout, its stack protector, its hash seeds, and the state of every random
/// generator that it has used. So a program that prepares a template should do so without secrets, and reseed in each
/// clone, as soon as it goes on: from getrandom(2), which gives each clone other bytes. A workload that can read the
/// memory of one clone knows where everything is in the others. Do not mix clones that must not know that of each other.
/// [More](crate::manual::templates#what-clones-know-of-each-other).
///
/// Rights that the template's process had given up by itself, such as capabilities, a clone has again: [its rights are
/// those of its description](crate::manual::templates#what-the-process-had-given-up).
///
/// # What the workload sees
/// It goes on after its `raise(SIGSTOP)`, or in the system call that it waited in. `/proc/self/environ` and
/// `/proc/self/cmdline` are the clone's own: the environment of its description, in which `COFFERDAM_CLONE` is the
/// clone's id, and its arguments, which name no program: they are what the clone is told. The program's copies of both in
/// memory are the template's, until the program reads those files. Standard streams are the clone's own. What the template
/// has read into a buffer is in each clone's buffer.
///
/// # Clones that wait
/// [`create`](crate::Container::create) does most of the work for a clone. A [`Pool`](crate::pools::Pool) does it ahead of
/// time, and the job says with which arguments, variables and streams a clone goes on:
///
/// ```no_run
/// use cofferdam::pools::{Job, Pool};
/// # fn jobs(template: cofferdam::templates::Template) -> cofferdam::Result<()> {
/// let pool = Pool::new(template.builder("jobs"), 8)?;
/// let job = Job::new(["job", "17"]).env("LANG", "C").input("print(1 + 1)").stdout(cofferdam::Stdio::piped());
/// let mut created = pool.take(job)?.into_container();
/// let stdout = created.take_stdout();
/// let stopped = created.start()?.wait_stopped()?;
/// # stopped.delete()?;
/// # Ok(())
/// # }
/// ```
///
/// # What cannot be a template
/// A process with threads, children, shared writable mappings, timers or pending signals, or with other ids or another
/// root than it started with; one with [descriptors](crate::manual::templates#files) besides the standard streams that
/// are no regular files of its root; one whose container has more than 64 MiB of files in memory; and one whose filter
/// notifies an agent. Each is refused by its name.
#[derive(Clone)]
pub struct Template {
    inner: Arc<Inner>,
}

struct Inner {
    memory: TemplateMemory,
    builder: ContainerBuilder,
}

/// When a container is ready to be a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ready<'a> {
    /// When its process has sent itself SIGSTOP. Needs a container with [`init`](ContainerBuilder::init), because the
    /// kernel ignores a SIGSTOP that PID 1 sends itself.
    Stopped,
    /// When it has written this line, without its newline, to a standard output that is [piped](crate::Stdio::piped). A
    /// clone goes on from wherever the process is then, so the process should wait for something, such as its standard
    /// input.
    Line(&'a [u8]),
}

/// [`Container::into_template`] failed: the error, and what there is now. Under `?` it becomes an [`Error`].
///
/// As [`Failed`](crate::Failed), it prints the line of that error, has it as its source, and holds the
/// container as long as it lives.
pub struct FailedTemplate {
    failed: Failed<Running>,
    template: Option<Template>,
}

impl FailedTemplate {
    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        self.failed.error()
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        self.failed.kind()
    }

    /// The reason, the container, and the template, if only the end or the deletion of the container failed.
    #[must_use]
    pub fn into_parts(self) -> (Error, Recovered<Running>, Option<Template>) {
        let (error, container) = self.failed.into_parts();
        (error, container, self.template)
    }
}

impl fmt::Debug for FailedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.failed, f)
    }
}

impl fmt::Display for FailedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failed, f)
    }
}

impl std::error::Error for FailedTemplate {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failed.source()
    }
}

impl From<FailedTemplate> for Error {
    fn from(failed: FailedTemplate) -> Self {
        failed.failed.into()
    }
}

impl Template {
    /// A clone of this id, described as the template's container was, with standard streams of its own: `/dev/null`, until
    /// the builder says otherwise. The methods of the builder change what is not the memory's: limits, network, scratch,
    /// streams, environment. A clone cannot be given [descriptors](ContainerBuilder::fd) besides its standard streams.
    ///
    /// [`create`](crate::Container::create) copies the template's files into the clone, and fails with the errno if they do
    /// not fit into its scratch or a tmpfs.
    pub fn builder(&self, id: impl Into<String>) -> ContainerBuilder {
        let mut builder = self.inner.builder.clone().id(id);
        builder.set_template(self.inner.memory.clone());
        builder
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}

impl Container<Running> {
    /// Makes a template of this container's process, when it is `ready`, and deletes the container.
    ///
    /// Waits until it is ready. A container that never is needs a [timeout](ContainerBuilder::timeout).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the name of what [cannot be a template](Template#what-cannot-be-a-template), and
    /// what the workload could do about it; the container then goes on as it was. [`ErrorKind::Ended`] if it ends
    /// before it is ready. [`ErrorKind::InvalidInput`] for a [`Ready::Line`] without a pipe to read it from.
    /// [`ErrorKind::TimedOut`] if it could be neither copied nor let go on in ten seconds; it was then killed.
    ///
    /// Also if this program runs out of descriptors or memory meanwhile: the container then goes on as it was.
    ///
    /// If the template was taken and only the end or the deletion of the container fails, the error has both.
    pub fn into_template(mut self, ready: Ready<'_>) -> Result<Template, FailedTemplate> {
        // The process goes on when this connection is closed, unless it is killed before.
        let (template, _held) = match self.take_template(ready) {
            Ok(taken) => taken,
            Err(error) => return Err(FailedTemplate { failed: self.recover(error), template: None }),
        };
        let stopped = match self.kill() {
            Ok(stopped) => stopped,
            Err(failed) => return Err(FailedTemplate { failed, template: Some(template) }),
        };
        match stopped.delete() {
            Ok(()) => Ok(template),
            Err(failed) => {
                let (error, container) = FailedAny::from(failed).into_parts();
                let failed = match container {
                    Some(container) => Failed::moved(error, container),
                    None => Failed::gone(error),
                };
                Err(FailedTemplate { failed, template: Some(template) })
            }
        }
    }

    /// The template, and the connection for as long as which the process is held.
    fn take_template(&mut self, ready: Ready<'_>) -> Result<(Template, Channel)> {
        let builder = ContainerBuilder::like(&self.core)?;
        let stopped = match ready {
            Ready::Stopped => true,
            Ready::Line(line) => {
                self.await_line(line)?;
                false
            }
        };
        let (held, scratch, tmpfs, mut fds) = loop {
            let live = self.phase.live();
            let answer = live.connect(Operation::Template { stopped }, &[])?;
            let reply = answer.receive::<Reply>(Some(Instant::now() + REPLY_LIMIT));
            let reply = reply.map_err(|error| live.explain("into_template", error))?;
            match reply.message {
                Reply::Template { scratch, tmpfs } => break (answer, scratch, tmpfs, reply.fds),
                Reply::NotStopped => {
                    // No descriptor says that a process has stopped. This one says that it has ended.
                    wait_readable_until(live.ended(), Some(Instant::now() + LOOK_AGAIN))?;
                }
                Reply::Failed(failure) => return Err(failure.into()),
                _ => {
                    return Err(Error::new(
                        ErrorKind::PeerMisbehaved,
                        "into_template",
                        "another answer came",
                    ));
                }
            }
        };
        let (description, pages) = (fds.take(DESCRIPTION)?, fds.take(PAGES)?);
        fds.finish()?;
        let tmpfs = tmpfs.into_iter().map(|at| OsString::from(at).into()).collect();
        let memory = TemplateMemory::new(description, pages, self.read_files(scratch, tmpfs)?);
        Ok((Template { inner: Arc::new(Inner { memory, builder }) }, held))
    }

    /// Archives of the files that the container has changed in its scratch, if it has, and of those in each tmpfs.
    fn read_files(&self, scratch: bool, tmpfs: Vec<PathBuf>) -> Result<Vec<(Option<PathBuf>, OwnedFd)>> {
        if !scratch && tmpfs.is_empty() {
            return Ok(Vec::new());
        }
        let refuse = |problem: String, hint: &'static str| {
            Err(Error::unsupported("into_template", problem).hint(hint))
        };
        let known = writable_tmpfs(&self.core.configured()?.valid, &extras_of(&self.core.record)?);
        if let Some(other) = tmpfs.iter().find(|at| !known.contains(at)) {
            let problem = format!(
                "there are files in {}, which is no file system in memory of the configuration",
                other.display()
            );
            return refuse(problem, "remove them before the stop, and make them in the clone");
        }
        let files = self.files()?;
        let mut left = MOST_FILES;
        let mut archives = Vec::new();
        for at in scratch.then_some(None).into_iter().chain(tmpfs.into_iter().map(Some)) {
            let archive = filled("cofferdam-template-files", |archive| {
                let written = match &at {
                    None => files.export_layer(left, &mut *archive),
                    Some(at) => files.export_mount(at, left, archive),
                };
                left -= archive.stream_position().os(|| "lseek()")?.min(left);
                written
            });
            match archive {
                Ok(archive) => archives.push((at, archive)),
                Err(error) if matches!(error.kind(), ErrorKind::TooLarge { .. }) => {
                    let at = at.map_or("its scratch".to_owned(), |at| at.display().to_string());
                    let problem = format!(
                        "its files in memory, as those in {at}, are more than {} MiB",
                        MOST_FILES >> 20
                    );
                    return refuse(
                        problem,
                        "put them into the rootfs or a bind, or remove them before the stop",
                    );
                }
                Err(error) => return Err(error.during("into_template")),
            }
        }
        Ok(archives)
    }

    /// Reads standard output until it has had this line.
    fn await_line(&mut self, line: &[u8]) -> Result<()> {
        const STEP: &str = "Ready::Line";
        let Some(mut stdout) = self.phase.streams_mut().pipes.take_stdout() else {
            let problem = "standard output is no pipe, or was taken";
            return Err(Error::new(ErrorKind::InvalidInput, STEP, problem)
                .hint("build it with stdout(Stdio::piped())"));
        };
        let mut current = Vec::new();
        loop {
            match next_byte(&mut stdout)? {
                Some(b'\n') if current == line => return Ok(()),
                Some(b'\n') => current.clear(),
                // What is longer than the line cannot be it: this bounds what is kept.
                Some(byte) if current.len() <= line.len() => current.push(byte),
                Some(_) => {}
                None => {
                    let problem = "standard output ended without that line";
                    return Err(Error::new(ErrorKind::Ended, STEP, problem));
                }
            }
        }
    }
}

/// The most bytes of archives: each clone gets a copy of the files.
const MOST_FILES: u64 = 64 << 20;

/// How long to wait before the sandbox is asked again whether the process has stopped.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// One byte at a time: what follows the line stays in the pipe.
fn next_byte(from: &mut File) -> Result<Option<u8>> {
    let mut byte = [0];
    Ok((from.read(&mut byte).os(|| "read(stdout)")? == 1).then_some(byte[0]))
}
