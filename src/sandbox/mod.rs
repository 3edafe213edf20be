//! The sandbox: parent and reaper of everything that runs in a container.
//!
//! ```text
//!   caller --plan, start--> sandbox --fork--> init --execve--> the workload
//!                              ^  control socket: start, signal, kill, detach, query
//!                              |  lifeline: if the caller's end closes -> kill
//!                              +- exit record, written before any client learns of the end
//! ```
//!
//! It is PID 1 of a pid namespace of its own, so its end is the end of everything inside. It is single-threaded, so it may
//! fork and go on in Rust. It has no path to the host: the caller opens what the sandbox needs and donates descriptors.
//!
//! [`init`] assembles the root and becomes the workload. [`monitor`] is the event loop. [`exec`] adds processes, [`mounts`]
//! changes mounts of a live container, [`files`] serves its files: these three see the container as an
//! [`ExecTarget`](target::ExecTarget) or less, and never the monitor. [`restore`] has CRIU make processes in place of init.

mod cgroups;
mod exec;
pub(crate) mod files;
mod init;
mod keyring;
mod members;
mod monitor;
mod mounts;
mod namespaces;
mod offspring;
mod oom_score;
mod own_device;
mod reaper;
mod resolve;
mod restore;
mod target;
pub(crate) mod template;
mod volumes;

use crate::error::{Actor, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::network::Network;
use crate::plan::SealedSandbox;
use crate::process::Channel;
use crate::sys;
use crate::wire::boot::{SandboxReport, SandboxStart};
#[cfg(any(test, fuzzing))]
pub(crate) use files::compare_and_export;
use init::Init;
#[cfg(any(test, fuzzing))]
pub(crate) use init::accounts::{home_in, look_up_in};
#[cfg(any(test, fuzzing))]
pub(crate) use init::room::unpack_below;
use monitor::{ContainerState, Monitor};
use oom_score::OomScore;
use rustix::fd::AsFd;
use volumes::Volumes;

/// The sandbox's whole life, entered from the constructor.
pub(crate) fn serve(mut donated: Received) {
    let Ok(caller) = donated.take("boot").map(Channel::from) else { return };
    let code = match prepare(&caller, &mut donated) {
        Ok(prepared) => match monitor(prepared, caller, donated) {
            Ok(monitor) => monitor.run(),
            // The caller learns it from the end of its connection.
            Err(_) => 1,
        },
        Err(error) => {
            let failure = RemoteFailure::pack(Actor::Sandbox, &error);
            let _ = caller.send(&SandboxReport::Failed(failure), &[]);
            1
        }
    };
    // With the container's exit status: engines that reap this process see how the container ended.
    sys::exit_now(code);
}

/// What exists when init is forked.
struct Prepared {
    plan: SealedSandbox<'static>,
    init: Init,
    score: OomScore,
    volumes: Volumes,
}

fn prepare(caller: &Channel, donated: &mut Received) -> Result<Prepared> {
    // The dispositions are those that the workload will have. It unblocks what is blocked here; the monitor reads the signals
    // that it passes on.
    sys::reset_dispositions();
    sys::block_signals();
    // The caller's working directory would be a way to the host: a pivot moves only processes that are at the root.
    rustix::process::chdir("/").os(|| "chdir(\"/\")")?;
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-sandbox").os(|| "prctl(PR_SET_NAME)")?;
    let plan: SealedSandbox<'_> = read_plan(donated.take("plan")?)?;
    cgroups::join_as_sandbox(donated)?;
    keyring::make_spare(&plan)?;

    let existing = namespaces::make(&plan)?;
    // The caller maps the ids meanwhile; nothing so far needs one.
    donated.extend(caller.receive::<SandboxStart>(None)?.fds);
    let score = OomScore::open()?;
    namespaces::settle(&plan)?;
    namespaces::limit(&plan)?;
    let mut volumes = Volumes::default();
    let copies = volumes.copies(&plan.volumes)?;
    let init = score.lend(plan.init.oom_score_adj, || Init::fork(&plan, &existing, &copies, donated))?;
    if plan.hands_out_network {
        let network = Network::of_this_thread()?;
        caller.send(&SandboxReport::Network, &[("network", network.as_fd())])?;
    }
    Ok(Prepared { plan, init, score, volumes })
}

fn monitor(prepared: Prepared, boot: Channel, mut donated: Received) -> Result<Monitor> {
    let Prepared { plan, init, score, volumes } = prepared;
    let (listener, creator) = (donated.take("control")?, donated.take("creator")?);
    let ids = donated.take_optional("ids");
    let root = ContainerState::new(plan.into_plan(), init, boot, donated)?;
    Monitor::new(root, score, volumes, ids, listener, creator.into())
}
