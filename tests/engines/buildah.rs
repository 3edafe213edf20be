//! buildah, as root: it runs commands in working containers, and those of a build. Each case is gone through twice: first
//! with runc, which is the control.

use crate::engine::{limited, output, said, succeed};
use crate::image;
use crate::kit::example::example;
use crate::kit::{Stage, find, is_installed, is_root, skip, stage};
use crate::podman::with_root;
use crate::remains::{Orphans, Records};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Buildah {
    directory: PathBuf,
    runtime: PathBuf,
    /// Where every container is, below each hierarchy's root.
    cgroup: String,
    // In this order they end.
    _orphans: Orphans,
    _records: Records,
}

impl Buildah {
    fn start(stage: &Stage, name: &str, program: &Path) -> Self {
        let directory = stage.readable_directory(name);
        let records = directory.join("records");
        let runtime = with_root(program, &directory, &records);
        // Not above those of this process, which may be all that it may ask for.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        std::fs::write(directory.join("containers.conf"), limits).expect("a configuration");
        let buildah = Self {
            directory,
            runtime,
            cgroup: stage.id(name),
            _orphans: Orphans::inherit(),
            _records: Records(records),
        };
        let archive = image::archive(&buildah.directory).display().to_string();
        let container =
            buildah.tell(&["from", "--cgroup-parent", &format!("/{}", buildah.cgroup), "scratch"]);
        buildah.tell(&["add", &container, &archive, "/"]);
        buildah.tell(&["config", "--env", "PATH=/bin", &container]);
        buildah.tell(&["rename", &container, "box"]);
        buildah
    }

    fn client(&self) -> Command {
        let mut command = limited("buildah");
        command.current_dir(&self.directory).args(["--storage-driver", "vfs"]);
        for (flag, name) in [("--root", "root"), ("--runroot", "run")] {
            command.arg(flag).arg(self.directory.join(name));
        }
        command.env("BUILDAH_ISOLATION", "oci").env("BUILDAH_RUNTIME", &self.runtime);
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        command
    }

    /// Has it do something that must succeed. What it wrote, without the last newline.
    fn tell(&self, args: &[&str]) -> String {
        succeed(self.client().args(args)).trim_end().to_owned()
    }

    /// Runs a command in the working container.
    fn run(&self, options: &[&str], args: &[&str]) -> Output {
        output(self.client().args(["run", "--network=none"]).args(options).args(["box", "--"]).args(args))
    }

    /// Builds an image with these instructions.
    fn build(&self, name: &str, instructions: &str) -> Output {
        std::fs::write(self.directory.join("Dockerfile"), instructions).expect("a file");
        let mut client = self.client();
        client.args(["build", "--quiet", "--network=none", "--cgroup-parent", &format!("/{}", self.cgroup)]);
        output(client.args(["--tag", name, "."]))
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        let _ = self.client().args(["rm", "--all"]).output();
    }
}

/// Has buildah go through a case with either runtime. Without runc there is no control.
fn go_through(case: fn(&Buildah)) {
    let stage = stage!();
    let runtime = match example("oci") {
        Ok(runtime) => runtime,
        Err(reason) => skip!("{reason}"),
    };
    if !is_root() {
        skip!("about buildah run by root");
    }
    if !is_installed("buildah") {
        skip!("buildah is not installed");
    }
    for (name, runtime) in [("runc", find("runc")), ("cofferdam", Some(runtime))] {
        if let Some(runtime) = runtime {
            case(&Buildah::start(&stage, name, &runtime));
        }
    }
}

#[test]
fn a_command_runs_as_it_shall() {
    go_through(|buildah| {
        let table: &[(&[&str], &str, &str)] = &[
            (&["--user", "7:8"], "id -u; id -g; echo x >/dev/stdout", "7\n8\nx\n"),
            (&["--env", "A=b c", "--workingdir", "/tmp"], "echo $A; pwd", "b c\n/tmp\n"),
            (&["--hostname", "guest"], "hostname; ls /sys/class/net", "guest\nlo\n"),
        ];
        for (options, script, expected) in table {
            let output = buildah.run(options, &["sh", "-c", script]);
            assert_eq!(String::from_utf8_lossy(&output.stdout), *expected, "{options:?}: {}", said(&output));
        }
        let output = buildah.run(&[], &["sh", "-c", "exit 3"]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let output = buildah.run(&[], &["nosuch"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        // runc puts it into a structured line, where quotes are escaped.
        let said = said(&output).replace('\\', "");
        assert!(said.contains("exec: \"nosuch\": executable file not found in $PATH"), "{said}");
    });
}

#[test]
fn a_volume_is_where_a_dangling_link_leads() {
    go_through(|buildah| {
        let directory = buildah.directory.join("volume");
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(directory.join("f"), "of the host\n").expect("a file");
        for (volume, path) in [
            (format!("{}:/var/lock:ro", directory.display()), "/var/lock/f"),
            (format!("{}/f:/etc/localtime:ro", directory.display()), "/etc/localtime"),
        ] {
            let output = buildah.run(&["--volume", &volume], &["cat", path]);
            assert_eq!(output.stdout, b"of the host\n", "{path}: {}", said(&output));
        }
    });
}

#[test]
fn an_image_is_built_by_commands_inside() {
    go_through(|buildah| {
        buildah.tell(&["commit", "--quiet", "box", "base"]);
        let instructions = "FROM localhost/base\n\
                        RUN echo of the build >/f\n\
                        USER 7:8\n\
                        RUN test $(id -u) = 7 && echo x >/dev/stdout\n\
                        RUN [\"sh\", \"-c\", \"cat /f >/tmp/copy\"]\n";
        let output = buildah.build("built", instructions);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let container = buildah.tell(&["from", "localhost/built"]);
        let root = buildah.tell(&["mount", &container]);
        assert_eq!(std::fs::read_to_string(format!("{root}/tmp/copy")).expect("a file"), "of the build\n");
        buildah.tell(&["umount", &container]);
        let output = buildah.build("failing", "FROM localhost/base\nRUN exit 9\n");
        assert_eq!(output.status.code(), Some(9), "{}", said(&output));
    });
}
