use cofferdam::{Container, Creating, Exec, Paused, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.exec(Exec::new(["true"]));
}

fn while_paused(container: Container<Paused>) {
    let _ = container.exec(Exec::new(["true"]));
    let _ = container.exec_output(Exec::new(["true"]));
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.exec(Exec::new(["true"]));
    let _ = container.exec_output(Exec::new(["true"]));
}

fn main() {}
