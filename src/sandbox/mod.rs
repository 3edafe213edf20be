//! The sandbox: parent and reaper of everything that runs in a container.
//!
//! ```text
//!   caller --plan, begin--> sandbox --fork--> init --execve--> the workload
//!                              ^  control socket: start, signal, kill, detach, query
//!                              |  lifeline: the caller's end is gone -> kill
//!                              +- exit record, written before anyone is told
//! ```
//!
//! PID 1 of a pid namespace of its own, so its end is the end of everything inside. Single-threaded: it may fork and go
//! on in Rust. It holds no host path; what it needs of the host was opened by the caller and donated by descriptor.

mod exec;
mod files;
mod init;
mod monitor;
mod mounts;
mod namespaces;
mod volumes;

use crate::error::{Actor, OsContext, RemoteFailure, Result};
use crate::helper::Received;
use crate::helper::spawn::read_plan;
use crate::network::Network;
use crate::plan::SealedSandbox;
use crate::process::Channel;
use crate::sys;
use crate::wire::boot::{SandboxReport, SandboxStart};
use init::Init;
use monitor::oom_score::OomScore;
use monitor::{ContainerState, Monitor};
use rustix::fd::AsFd;
use volumes::Volumes;

/// The sandbox's whole life, entered from the constructor.
pub(crate) fn serve(mut donated: Received) {
    let Ok(caller) = donated.take("boot").map(Channel::from) else { return };
    let code = match prepare(&caller, &mut donated) {
        Ok((plan, made, init)) => match monitor(plan, made, init, caller, donated) {
            Ok(monitor) => monitor.run(),
            // Nothing of it was given; nothing can be told.
            Err(_) => 1,
        },
        Err(error) => {
            let _ = caller.send(&SandboxReport::Failed(RemoteFailure::pack(Actor::Sandbox, &error)), &[]);
            1
        }
    };
    // The exit status is the container's: whoever reaps this process sees the truth.
    sys::exit_now(code);
}

/// What the sandbox has for all of its containers.
struct Common {
    score: OomScore,
    volumes: Volumes,
}

/// Everything up to a forked init.
fn prepare(caller: &Channel, donated: &mut Received) -> Result<(SealedSandbox<'static>, Common, Init)> {
    sys::reset_signals();
    // The caller's working directory is a way to the host, which the pivot takes away only from who is at the root.
    rustix::process::chdir("/").os(|| "chdir(\"/\")")?;
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-sandbox").os(|| "prctl(PR_SET_NAME)")?;
    let plan: SealedSandbox<'_> = read_plan(donated.take("plan")?)?;
    join_cgroups(donated)?;

    let existing = namespaces::make(&plan)?;
    // The ids are mapped meanwhile; nothing so far needed one.
    donated.extend(caller.receive::<SandboxStart>(None)?.fds);
    let score = OomScore::open()?;
    namespaces::settle(&plan)?;
    let mut volumes = Volumes::default();
    let copies = volumes.copies(&plan.volumes)?;
    let init = score.lend(plan.init.oom_score_adj, || Init::fork(&plan, &existing, &copies, donated))?;
    if plan.hands_out_network {
        let network = Network::of_this_thread()?;
        caller.send(&SandboxReport::Network, &[("network", network.as_fd())])?;
    }
    Ok((plan, Common { score, volumes }, init))
}

fn monitor(
    plan: SealedSandbox<'_>,
    common: Common,
    init: Init,
    boot: Channel,
    mut donated: Received,
) -> Result<Monitor> {
    let (listener, creator) = (donated.take("control")?, donated.take("creator")?);
    let root = ContainerState::new(plan.into_plan(), init, boot, &mut donated)?;
    Monitor::new(root, common, listener, creator.into())
}

/// Moves this process into the container's cgroups, by the one write that does not wait for the whole machine: a
/// single-threaded process moving itself through `tasks`. The limits hold from here on, long before the workload.
fn join_cgroups(donated: &mut Received) -> Result<()> {
    for tasks in donated.take_all(crate::cgroup::SANDBOX_JOIN) {
        rustix::io::write(&tasks, b"0").os(|| "write(tasks, \"0\")")?;
    }
    Ok(())
}
