//! Slurm, with a cluster of its own: each of its nodes is a daemon on this machine. It has two partitions of two nodes. On
//! the nodes of one the runtime is runc, which is the control, on those of the other the example `oci`.
//!
//! Each case runs as four jobs at once: in either partition, as root and as an ordinary user. Slurm starts a job's container
//! as the job's user, and asks for its state and deletes it as root.

mod cases;

use crate::daemon::Daemon;
use crate::engine::{limited, output, succeed, wait_until};
use crate::kit::bundle::edit_config;
use crate::kit::example::example;
use crate::kit::{Stage, find, is_installed, is_root, skip, stage, write_busybox_rootfs};
use crate::network;
use crate::remains::{Orphans, Records};
use crate::test_cases;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The partitions, which are also what the names of their nodes begin with.
const PARTITIONS: [&str; 2] = ["runc", "cofferdam"];
const NODES_EACH: u16 = 2;

const ROOT: User = User { name: "root", id: 0 };
/// The ordinary user. Slurm has to find it by its name.
const NOBODY: User = User { name: "nobody", id: 65_534 };

#[derive(Clone, Copy)]
struct User {
    name: &'static str,
    id: u32,
}

impl User {
    /// A command that ends in time, run by this user.
    fn command(self, program: &str) -> Command {
        let mut command = limited(program);
        command.uid(self.id).gid(self.id);
        command
    }
}

struct Slurm {
    directory: PathBuf,
    /// What the names of nodes begin with.
    prefix: String,
    // In this order they end.
    _daemons: Vec<Daemon>,
    _orphans: Orphans,
    _records: Vec<Records>,
}

fn start(stage: &Stage) -> Result<Slurm, String> {
    let runtime = example("oci")?;
    if !is_root() {
        return Err("slurmd needs root".into());
    }
    for program in ["munged", "slurmctld", "slurmd", "srun", "runc", "ip"] {
        if !is_installed(program) {
            return Err(format!("{program} is not installed"));
        }
    }
    network::isolate()?;
    stage.open_to_everybody();
    let directory = stage.readable_directory("slurm");
    let prefix = stage.id("");
    for (partition, program) in PARTITIONS.into_iter().zip([find("runc").expect("it is installed"), runtime])
    {
        let place = directory.join(partition);
        std::fs::create_dir(&place).expect("a directory");
        symlink(program, place.join("oci")).expect("the runtime");
        let records = place.join("records");
        std::fs::create_dir(&records).expect("a directory");
        std::fs::set_permissions(&records, PermissionsExt::from_mode(0o1777)).expect("like /tmp");
        for user in [ROOT, NOBODY] {
            write_bundle(&place, user);
        }
    }
    write_configuration(&directory, &prefix);
    let orphans = Orphans::inherit();
    let records = PARTITIONS.iter().flat_map(|partition| {
        [ROOT, NOBODY].map(|user| Records(directory.join(partition).join("records").join(user.name)))
    });
    let records = records.collect();
    let mut daemons = launch(&directory, &prefix);
    // The controller and what it needs end last.
    daemons.reverse();
    let slurm = Slurm { directory, prefix, _daemons: daemons, _orphans: orphans, _records: records };
    slurm.wait_until("every node is idle", || {
        let idle = slurm.ask("sinfo", &["--Node", "--noheader", "--states=idle", "--format=%N"]);
        idle.lines().count() == PARTITIONS.len() * usize::from(NODES_EACH)
    });
    Ok(slurm)
}

/// A bundle of the user's, with the runtime's own default configuration.
fn write_bundle(place: &Path, user: User) {
    let bundle = place.join("bundles").join(user.name);
    write_busybox_rootfs(&bundle.join("rootfs"));
    chown(&bundle, Some(user.id), Some(user.id)).expect("a directory of the user's");
    let mut spec = user.command(&place.join("oci").display().to_string());
    spec.arg("spec").args((user.id != 0).then_some("--rootless"));
    succeed(spec.current_dir(&bundle));
    edit_config(&bundle, |config| config["root"]["readonly"] = false.into());
}

fn write_configuration(directory: &Path, prefix: &str) {
    let path = |name: &str| directory.join(name).display().to_string();
    for name in ["controller", "munge"] {
        std::fs::create_dir(path(name)).expect("a directory");
    }
    let mut cluster = format!(
        "ClusterName=test\n\
         SlurmctldHost=localhost(127.0.0.1)\n\
         SlurmUser=root\n\
         AuthInfo=socket={munge}\n\
         StateSaveLocation={controller}\n\
         SlurmctldPidFile={controller}/pid\n\
         SlurmdSpoolDir={spool}/%n\n\
         SlurmdPidFile={spool}/%n.pid\n\
         SlurmdParameters=config_overrides\n\
         ProctrackType=proctrack/linuxproc\n\
         TaskPlugin=task/none\n\
         JobAcctGatherType=jobacct_gather/none\n\
         MpiDefault=none\n\
         SelectType=select/cons_tres\n\
         KillWait=1\n",
        munge = path("munge/socket"),
        controller = path("controller"),
        spool = path("spool"),
    );
    for (number, partition) in (0..).zip(PARTITIONS) {
        let first = 17_000 + number * NODES_EACH;
        let ports = format!("[{first}-{}]", first + NODES_EACH - 1);
        let nodes = format!("{prefix}{partition}[1-{NODES_EACH}]");
        cluster += &format!(
            "NodeName={nodes} NodeAddr=127.0.0.1 Port={ports} CPUs=4\n\
             PartitionName={partition} Nodes={nodes} State=UP\n"
        );
    }
    std::fs::create_dir(path("spool")).expect("a directory");
    std::fs::write(path("slurm.conf"), cluster).expect("a configuration");
    // A node's name says which runtime it has.
    for partition in PARTITIONS {
        for number in 1..=NODES_EACH {
            symlink(partition, path(&format!("{prefix}{partition}{number}"))).expect("a link");
        }
    }
    let place = path("%n");
    let verb = |verb: &str| format!("{place}/oci --root={place}/records/%u {verb} %n.%u.%j.%s.%t");
    let runtime = format!(
        "RunTimeRun=\"exec {} -b %b\"\n\
         RunTimeQuery=\"{}\"\n\
         RunTimeKill=\"{} SIGKILL\"\n\
         RunTimeDelete=\"{}\"\n",
        verb("run"),
        verb("state"),
        verb("kill"),
        verb("delete --force"),
    );
    std::fs::write(path("oci.conf"), runtime).expect("a configuration");
}

/// Starts every daemon, in the order in which they need each other.
fn launch(directory: &Path, prefix: &str) -> Vec<Daemon> {
    let path = |name: &str| directory.join(name).display().to_string();
    let key = path("munge/key");
    let mut secret = [0; 64];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut secret)).expect("a secret");
    std::fs::write(&key, secret).expect("a key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o400)).expect("for root alone");
    let mut munged = Command::new("munged");
    munged.args(["--foreground", "--force", "--key-file", &key]);
    for (option, name) in [("--socket", "socket"), ("--pid-file", "pid"), ("--seed-file", "seed")] {
        munged.args([option, &path(&format!("munge/{name}"))]);
    }
    let mut slurmctld = Command::new("slurmctld");
    slurmctld.arg("-D");
    let mut daemons = vec![
        Daemon::launch(&mut munged, &directory.join("munged.log")),
        Daemon::launch(slurmctld.env("SLURM_CONF", path("slurm.conf")), &directory.join("slurmctld.log")),
    ];
    for partition in PARTITIONS {
        for number in 1..=NODES_EACH {
            let node = format!("{prefix}{partition}{number}");
            let mut slurmd = Command::new("slurmd");
            slurmd.args(["-D", "-N", &node]).env("SLURM_CONF", path("slurm.conf"));
            daemons.push(Daemon::launch(&mut slurmd, &directory.join(format!("{node}.log"))));
        }
    }
    daemons
}

impl Slurm {
    /// What a command of Slurm's says; nothing if it fails, as while the controller starts.
    fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = output(self.client(ROOT, program).args(args));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A command of Slurm's, run by a user. Slurm passes its environment on to the job.
    fn client(&self, user: User, program: &str) -> Command {
        let mut command = user.command(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.current_dir(&self.directory).env("SLURM_CONF", self.directory.join("slurm.conf"));
        command
    }

    /// Asks the controller over and over.
    fn wait_until(&self, what: &str, is_so: impl FnMut() -> bool) {
        wait_until(what, is_so, || self.log());
    }

    fn log(&self) -> String {
        let entries = std::fs::read_dir(&self.directory).expect("our directory").flatten();
        let logs =
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|is| is == "log"));
        let texts = logs.map(|log| std::fs::read_to_string(log).unwrap_or_default());
        texts.collect()
    }
}

/// Starts a cluster, has jobs of all kinds go through a case, and ends it.
fn go_through(case: fn(&cases::Place<'_>)) {
    let stage = stage!();
    let slurm = match start(&stage) {
        Ok(slurm) => slurm,
        Err(reason) => skip!("{reason}"),
    };
    std::thread::scope(|scope| {
        for partition in PARTITIONS {
            for user in [ROOT, NOBODY] {
                let place = cases::Place { slurm: &slurm, partition, user };
                let thread = std::thread::Builder::new().name(format!("{} on {partition}", user.name));
                thread.spawn_scoped(scope, move || case(&place)).expect("a thread");
            }
        }
    });
    slurm.wait_until("every job has ended", || slurm.ask("squeue", &["--noheader"]).is_empty());
}

test_cases! {
    streams_and_exit_code_are_the_programs
    a_missing_program_is_an_error_that_names_it
    one_task_runs_on_each_of_two_nodes
    to_cancel_is_to_ask_first
    what_does_not_end_when_cancelled_is_killed
    a_signal_is_the_workloads_and_ends_nothing_else
}
