//! What further processes of a container say.

use cofferdam::{Container, Exec, Running};

/// Runs `script` in a shell inside: whether it succeeded, and what it wrote to both streams.
pub fn run(container: &Container<Running>, script: &str) -> (bool, String) {
    let output = container.exec_output(Exec::new(["sh", "-c", script])).expect("a shell inside");
    let text = [output.stdout, output.stderr].concat();
    (output.exit.outcome.success(), String::from_utf8(text).expect("text"))
}

/// What a script that succeeds writes.
pub fn output(container: &Container<Running>, script: &str) -> String {
    let (success, text) = run(container, script);
    assert!(success, "{text}");
    text
}
