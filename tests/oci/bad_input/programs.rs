//! What a container executes: `process`, and hooks.

use crate::bad_input::Change::{Builder, Config};
use crate::bad_input::{Row, row, spec, unsupported};
use cofferdam::ErrorKind;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

pub(crate) fn rows_of_programs() -> Vec<Row> {
    vec![
        spec(
            Builder(|builder, _| builder.args::<&str>([])),
            "process.args",
            "builder: args: is empty (name the program to run)",
        ),
        spec(
            Config(|| vec![("/process/args", json!([]))]),
            "process.args",
            "config.json: process.args: is empty (name the program to run)",
        ),
        spec(
            Config(|| vec![("/process/args", json!(["true", "a\0b"]))]),
            "process.args[1]",
            "config.json: process.args[1]: contains a NUL byte",
        ),
        row(
            Builder(|builder, _| builder.args(["nope"])),
            ErrorKind::ProgramNotFound,
            "exec: \"nope\": executable file not found in $PATH",
        ),
        row(
            Builder(|builder, _| builder.args(["/bin/nope"])),
            ErrorKind::ProgramNotFound,
            "exec: \"/bin/nope\": stat /bin/nope: no such file or directory",
        ),
        row(
            Builder(|builder, _| builder.args(["/etc"])),
            ErrorKind::ProgramNotExecutable,
            "exec: \"/etc\": permission denied",
        ),
        row(
            Builder(|builder, place| {
                let path = place.rootfs().join("bin/data");
                std::fs::write(&path, "data").unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
                builder.args(["data"])
            }),
            ErrorKind::ProgramNotExecutable,
            "exec: \"data\": permission denied",
        ),
        spec(
            Config(|| vec![("/process/cwd", json!("tmp"))]),
            "process.cwd",
            "config.json: process.cwd: \"tmp\" is relative (use an absolute path)",
        ),
        row(
            Config(|| vec![("/process/cwd", json!("/bin/busybox"))]),
            ErrorKind::Os(libc::ENOTDIR),
            "init: process.cwd: bin/busybox: is not a directory",
        ),
        spec(
            Config(|| vec![("/process/env", json!(["PATH"]))]),
            "process.env[0]",
            "config.json: process.env[0]: has no \"=\" (write NAME=value)",
        ),
        spec(
            Config(|| vec![("/process/env", json!(["=x"]))]),
            "process.env[0]",
            "config.json: process.env[0]: has an empty name (write NAME=value)",
        ),
        spec(
            Builder(|builder, _| builder.env("A", "b\0c")),
            "process.env[1]",
            "builder: env(\"A\"): contains a NUL byte",
        ),
        spec(
            Builder(|builder, _| builder.args(["true", "a\0b"])),
            "process.args[1]",
            "builder: args[1]: contains a NUL byte",
        ),
        spec(
            Config(|| vec![("/process/user/uid", json!(7))]),
            "process.user.uid",
            "config.json: process.user.uid: 7 is not mapped (add it to linux.uidMappings)",
        ),
        spec(
            Config(|| vec![("/process/user/uid", json!(-1))]),
            "process.user.uid",
            "config.json: process.user.uid: expected an integer from 0 to 4294967295, found -1",
        ),
        spec(
            Config(|| vec![("/process/user/umask", json!(0o1000))]),
            "process.user.umask",
            "config.json: process.user.umask: 0o1000 is above 0o777",
        ),
        spec(
            Config(|| vec![("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]))]),
            "process.rlimits[0].soft",
            "config.json: process.rlimits[0].soft: 9 is above hard, 8",
        ),
        spec(
            Config(|| vec![("/process/rlimits", json!([{"type": "RLIMIT_LUCK", "soft": 8, "hard": 8}]))]),
            "process.rlimits[0].type",
            "config.json: process.rlimits[0].type: unknown rlimit type \"RLIMIT_LUCK\" (known are RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME)",
        ),
        spec(
            Config(|| vec![("/process/capabilities", json!({"effective": ["CAP_KILL"]}))]),
            "process.capabilities.effective",
            "config.json: process.capabilities.effective: CAP_KILL is not in permitted",
        ),
        unsupported(
            Config(|| vec![("/process/terminal", json!(true))]),
            "process.terminal",
            "process.terminal: no devpts is mounted at /dev/pts (add {\"destination\": \"/dev/pts\", \"type\": \"devpts\"} to mounts)",
        ),
        unsupported(
            Config(|| vec![("/process/apparmorProfile", json!("strict"))]),
            "process.apparmorProfile",
            "process.apparmorProfile: AppArmor is not enabled on this host",
        ),
    ]
}

pub(crate) fn rows_of_hooks() -> Vec<Row> {
    vec![
        spec(
            Config(|| vec![("/hooks", json!({"poststop": [{"path": "/bin/hook", "timeout": 0}]}))]),
            "hooks.poststop[0].timeout",
            "config.json: hooks.poststop[0].timeout: 0 is not positive (give whole seconds, or leave it out)",
        ),
        spec(
            Config(|| vec![("/hooks", json!({"poststart": [{"path": "/bin/hook", "args": ["a\0b"]}]}))]),
            "hooks.poststart[0].args[0]",
            "config.json: hooks.poststart[0].args[0]: contains a NUL byte",
        ),
        spec(
            Config(|| {
                vec![(
                    "/hooks",
                    json!({"createRuntime": [{"path": "/bin/a"}, {"path": "/bin/b", "env": ["A"]}]}),
                )]
            }),
            "hooks.createRuntime[1].env[0]",
            "config.json: hooks.createRuntime[1].env[0]: has no \"=\" (write NAME=value)",
        ),
    ]
}
