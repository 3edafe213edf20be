//! The crate in a shared library that another program has loaded.

#![expect(clippy::disallowed_methods, reason = "runs python, and tests write files of their own")]

use crate::kit::{find, skip, stage};
use std::process::Command;

const HELPER: &str = env!("CARGO_BIN_EXE_cofferdam-helper");

/// Loads the library and calls its one function with the other arguments.
const SCRIPT: &str = "import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
sys.exit(library.extension_run(*[argument.encode() for argument in sys.argv[2:]]) & 255)";

#[test]
fn a_container_runs_from_a_shared_library_that_python_has_loaded() {
    let stage = stage!();
    let Some(python) = find("python3") else { skip!("python3 is not installed") };
    let library = match crate::kit::example::example("libextension.so") {
        Ok(library) => library,
        Err(reason) => skip!("{reason}"),
    };
    let state = stage.root().path();
    let call = |helper: &str, script: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", SCRIPT]).arg(&library).arg(helper).arg(state).arg(script);
        let output = command.output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), stdout, stderr)
    };
    // That it is in a container: its first process is ours, and the host name is not the host's.
    let inside = "cat /proc/1/comm; hostname; exit 7";
    assert_eq!(call(HELPER, inside), (Some(7), "init\ncofferdam\n".into(), String::new()));
    // Python cannot be a helper, and it is not executed to find that out.
    let (code, stdout, stderr) = call(python.to_str().unwrap(), inside);
    assert_eq!((code, stdout.as_str()), (Some(255), ""));
    assert!(stderr.starts_with("extension: "), "{stderr}");
    assert_eq!(std::fs::read_dir(state).unwrap().count(), 0);
}
