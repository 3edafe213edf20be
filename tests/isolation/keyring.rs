//! No process of a container has its caller's session keyring, not even when the quota of keys is used up.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read plain files of their own, and run this executable again"
)]

use crate::kit::caller::{self, say};
use crate::kit::process::again;
use crate::kit::{Stage, is_root, keys, skip, stage, start, stdout_of};
use cofferdam::builder::{HookKind, IdMap};
use cofferdam::{ContainerBuilder, Exec};
use oci_spec::runtime::HookBuilder;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Stdio};

/// A key of the caller, which no container may find.
const TOKEN: &str = "cofferdam-test-token";
/// Set in a container: this executable looks for [`TOKEN`], and writes the result to the path in this variable.
const LOOK: &str = "COFFERDAM_TEST_LOOK_FOR_KEY";
/// Set on the host: this executable uses up the quota of its user.
const FILL: &str = "COFFERDAM_TEST_FILL_KEYS";
/// More than the quota of any user but root.
const MANY: usize = 100_000;

/// Does what the environment asks of this process. Returns whether it asked for anything.
fn played_a_part() -> bool {
    if let Some(path) = std::env::var_os(LOOK) {
        let found = keys::is_in_session(TOKEN);
        let added = keys::add_to_session("mine").map_err(|error| error.raw_os_error());
        std::fs::write(path, format!("found {found}, added {added:?}")).unwrap();
        return true;
    }
    if std::env::var_os(FILL).is_some() {
        assert!(keys::join_new_session());
        let full = (0..MANY).find(|number| keys::add_to_session(&number.to_string()).is_err());
        say(full.map_or("never full", |_| "full"));
        caller::stay();
        return true;
    }
    false
}

/// A process of another user that holds as many keys as this user may have.
struct Filler(Child, Lines<BufReader<ChildStdout>>);

impl Filler {
    fn of(uid: u32) -> Self {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut child = again(&name)
            .env(FILL, "yes")
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.find_map(|line| line.unwrap().strip_prefix("caller: ").map(str::to_owned));
        assert_eq!(said.as_deref(), Some("full"));
        Self(child, lines)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.1.by_ref().map_while(Result::ok).for_each(drop);
        let _ = self.0.wait();
    }
}

/// A container that has this executable in it and may use keys.
fn with_this_program(stage: &Stage, name: &str) -> ContainerBuilder {
    let program = std::env::current_exe().unwrap();
    stage.container(name).bind_ro(program, "/tmp/test").seccomp(None)
}

fn arguments() -> [String; 5] {
    let name = std::thread::current().name().unwrap().to_owned();
    ["/tmp/test", "--exact", &name, "--nocapture", "--test-threads=1"].map(str::to_owned)
}

/// Ids of the host that only this process uses.
fn own_ids() -> IdMap {
    IdMap { container: 0, host: 2_000_000_000 + (std::process::id() % 10_000) * 65_536, size: 65_536 }
}

#[test]
fn no_process_of_a_container_finds_the_callers_keys() {
    if played_a_part() {
        return;
    }
    let stage = stage!();
    if !keys::join_new_session() {
        skip!("this kernel has no keyrings");
    }
    keys::add_to_session(TOKEN).unwrap();
    assert!(keys::is_in_session(TOKEN), "the caller finds it");
    let seen = stage.open_directory("seen");
    let look = |name: &str| std::fs::read_to_string(seen.join(name)).unwrap();
    let hook = HookBuilder::default().path("/tmp/test").args(arguments());
    let hook = hook.env([format!("{LOOK}=/tmp/seen/hook")]).build().unwrap();
    let describe = |name: &str| with_this_program(&stage, name).bind_rw(&seen, "/tmp/seen");
    let check = |name: &str, shape: &dyn Fn(ContainerBuilder) -> ContainerBuilder, added: &str| {
        let builder = shape(describe(name).hook(HookKind::StartContainer, hook.clone()));
        let running = start(builder.args(["sleep", "1000"]));
        let exec = Exec::new(arguments()).env(LOOK, "/tmp/seen/exec");
        let output = running.exec_output(exec).unwrap();
        assert!(output.exit.outcome.success(), "{}", String::from_utf8_lossy(&output.stdout));
        running.kill().unwrap().delete().unwrap();
        stdout_of(shape(describe(name)).args(arguments()).env(LOOK, "/tmp/seen/init"));
        for process in ["hook", "exec", "init"] {
            assert_eq!(look(process), format!("found false, added {added}"), "{name}: {process}");
            std::fs::remove_file(seen.join(process)).unwrap();
        }
    };
    check("free", &|builder| builder, "Ok(())");
    if !is_root() {
        skip!("the quota of this user is that of other tests, too");
    }
    let ids = own_ids();
    let _filler = Filler::of(ids.host);
    // The keyring that it gets is the spare one, which it may not write to.
    let refused = format!("Err(Some({}))", libc::EACCES);
    check("used-up", &|builder| builder.id_mappings(&[ids], &[ids]), &refused);
}

#[test]
fn a_caller_without_keys_left_is_refused_by_name() {
    if played_a_part() {
        return;
    }
    if let Some(directory) = caller::role() {
        let refused = ContainerBuilder::new()
            .id(format!("it-{}-refused", std::process::id()))
            .state_root(caller::root(&directory))
            .args(["true"])
            .without_cgroup()
            .run()
            .unwrap_err();
        say(refused);
        return;
    }
    let stage = stage!();
    if !is_root() {
        skip!("the quota of this user is that of other tests, too");
    }
    if !keys::join_new_session() {
        skip!("this kernel has no keyrings");
    }
    let uid = own_ids().host;
    let state = stage.path().join("state-of-another");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(uid), Some(uid)).unwrap();
    stage.open_to_everybody();
    let _filler = Filler::of(uid);
    let name = std::thread::current().name().unwrap().to_owned();
    let said = again(&name).env(caller::ROLE, &state).uid(uid).gid(uid).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let wanted = "caller: init: keyctl(KEYCTL_JOIN_SESSION_KEYRING): EDQUOT";
    assert!(said.contains(wanted) && said.contains("kernel.keys.maxkeys"), "{said}");
}
