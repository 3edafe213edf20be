//! The sandbox: parent and reaper of everything that runs in a container.
//!
//! ```text
//!   caller --plan, order--> sandbox --fork--> init --execve--> the workload
//!                              ^  control socket: start, signal, kill, detach, query
//!                              |  lifeline: the caller's end is gone -> kill
//!                              +- exit record, written before anyone is told
//! ```
//!
//! PID 1 of a pid namespace of its own, so its end is the end of everything inside. Single-threaded: it may fork and go
//! on in Rust. It holds no host path; what it needs of the host was opened by the caller and donated by descriptor.

mod become_workload;
pub(crate) mod client;
mod copy_up;
mod exit;
mod init;
mod monitor;
mod namespaces;
mod oom_score;
mod program;
mod resolve;
mod tree;

use crate::error::{Actor, OsContext, RemoteFailure, Result};
use crate::plan::SandboxPlan;
use crate::process::spawn::read_plan;
use crate::process::{Channel, Received};
use crate::protocol::message::{Order, Report};
use crate::sys;
use init::Init;
use monitor::Monitor;

/// The sandbox's whole life, entered from the constructor.
pub(crate) fn serve(mut donated: Received) {
    let Ok(caller) = donated.take("boot").map(Channel::from) else { return };
    let code = match prepare(&caller, donated) {
        Ok(monitor) => monitor.run(caller),
        Err(error) => {
            let _ = caller.send(&Report::Failed(RemoteFailure::pack(Actor::Sandbox, &error)), &[]);
            1
        }
    };
    // The exit status is the container's: whoever reaps this process sees the truth.
    sys::exit_now(code);
}

/// Everything up to a forked init and a loop to serve.
fn prepare(caller: &Channel, mut donated: Received) -> Result<Monitor> {
    sys::reset_signals();
    rustix::process::setsid().os(|| "setsid()")?;
    rustix::thread::set_name(c"cofferdam-sandbox").os(|| "prctl(PR_SET_NAME)")?;
    let plan: SandboxPlan = read_plan(donated.take("plan")?)?;
    join_cgroups(&mut donated)?;

    namespaces::make(&plan)?;
    // The ids are mapped meanwhile; nothing so far needed one.
    caller.receive::<Order>(None)?;
    let score = plan.init.oom_score_adj.map(oom_score::Lent::lend).transpose()?;
    namespaces::settle(&plan)?;
    let init = Init::fork(&plan, &mut donated)?;
    score.map(oom_score::Lent::take_back).transpose()?;
    Monitor::new(&plan, init, donated)
}

/// Moves this process into the container's cgroups, by the one write that does not wait for the whole machine: a
/// single-threaded process moving itself through `tasks`. The limits hold from here on, long before the workload.
fn join_cgroups(donated: &mut Received) -> Result<()> {
    for tasks in donated.take_all(crate::cgroup::SANDBOX_JOIN) {
        rustix::io::write(&tasks, b"0").os(|| "write(tasks, \"0\")")?;
    }
    Ok(())
}
