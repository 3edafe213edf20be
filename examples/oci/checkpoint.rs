//! The verbs checkpoint and restore.
//!
//! Engines give a directory in which they look for a file of CRIU's, so the image is a directory in that one, beside a
//! copy of the file.

use super::create::Run;
use super::failure::{Done, Failure};
use super::{Options, find};
use cofferdam::checkpoint::{Criu, Image};
use cofferdam::{AnyContainer, Error, StateRoot};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The image, below the directory of `--image-path`.
const IMAGE: &str = "cofferdam";
/// podman takes a checkpoint without this file for an incomplete one.
const INVENTORY: &str = "inventory.img";

/// The options of both verbs.
#[derive(Clone, clap::Args)]
struct ImageOptions {
    /// The directory of the image
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    image_path: PathBuf,
    /// Accepted and ignored: nothing is left of the work
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    #[command(flatten)]
    permitted: Permitted,
    /// Accepted and ignored: the container's cgroups are always those of its configuration
    #[arg(long, value_name = "MODE")]
    manage_cgroups_mode: Option<String>,
    /// Accepted and ignored
    #[arg(long)]
    auto_dedup: bool,
    /// Not supported
    #[arg(long)]
    lazy_pages: bool,
    /// Not supported
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Only `network`, which always is that of the configuration
    #[arg(long, value_name = "KIND", value_parser = ["network"])]
    empty_ns: Vec<String>,
}

/// What the caller permits an image to have. No image has it, so a checkpoint fails where it would be needed, and says so.
#[derive(Clone, clap::Args)]
struct Permitted {
    /// Accepted, but connections of TCP are refused
    #[arg(long)]
    tcp_established: bool,
    /// Accepted, but connections of TCP are refused
    #[arg(long)]
    tcp_close: bool,
    /// Accepted, but connections of TCP are refused
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Accepted, but sockets that are connected to the outside are refused
    #[arg(long)]
    ext_unix_sk: bool,
    /// Accepted, but locks of files are refused
    #[arg(long)]
    file_locks: bool,
    /// Accepted, but terminals are refused by a restore
    #[arg(long)]
    shell_job: bool,
}

impl ImageOptions {
    /// Fails for the first option that was `given` and that this program does not have.
    fn refuse(&self, given: &[(&str, bool)]) -> Result<(), Failure> {
        let both = [("--lazy-pages", self.lazy_pages), ("--parent-path", self.parent_path.is_some())];
        match both.iter().chain(given).find(|(_, given)| *given) {
            Some((option, _)) => Err(format!("{option} is not supported").into()),
            None => Ok(()),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    image: ImageOptions,
    /// Let the container go on
    #[arg(long)]
    leave_running: bool,
    /// Not supported
    #[arg(long)]
    pre_dump: bool,
    /// Not supported
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Not supported
    #[arg(long, value_name = "FD")]
    status_fd: Option<i32>,
    /// The container
    id: String,
}

impl Checkpoint {
    pub(crate) fn obey(self, root: &StateRoot, options: &Options) -> Done {
        self.image.refuse(&[
            ("--pre-dump", self.pre_dump),
            ("--page-server", self.page_server.is_some()),
            ("--status-fd", self.status_fd.is_some()),
        ])?;
        let (container, criu) = (find(root, &self.id)?, criu(options)?);
        let directory = &self.image.image_path;
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let image = directory.join(IMAGE);
        match (container, self.leave_running) {
            (AnyContainer::Running(running), true) => running.snapshot(&criu, &image)?,
            (AnyContainer::Paused(paused), true) => paused.snapshot(&criu, &image)?,
            (AnyContainer::Running(running), false) => drop(running.checkpoint(&criu, &image)?),
            (AnyContainer::Paused(paused), false) => drop(paused.checkpoint(&criu, &image)?),
            (other, _) => return Err(format!("container not running: {}", other.status()).into()),
        }
        std::fs::copy(image.join("criu").join(INVENTORY), directory.join(INVENTORY))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(clap::Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    image: ImageOptions,
    /// Accepted and ignored: the container has the label of its configuration
    #[arg(long, value_name = "LABEL")]
    lsm_profile: Option<String>,
    /// Accepted and ignored: mounts have the context of the configuration
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    #[command(flatten)]
    run: Run,
}

impl Restore {
    pub(crate) fn obey(self, root: &StateRoot, options: &Options) -> Done {
        self.image.refuse(&[])?;
        let image = Image::open(self.image.image_path.join(IMAGE))?;
        let criu = criu(options)?;
        self.run.obey_with(root, options, Some((&image, &criu)))
    }
}

/// The program of `--criu`, or the one that is installed.
fn criu(options: &Options) -> Result<Criu, Failure> {
    let criu = options.criu.as_deref().map_or_else(Criu::find, |path| Criu::at(Path::new(path)));
    Ok(criu.map_err(Error::from)?)
}
