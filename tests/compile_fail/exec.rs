use cofferdam::{Container, Created, Creating, Exec, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.exec(Exec::new(["true"]));
}

fn before_start(container: Container<Created>) {
    let _ = container.exec(Exec::new(["true"]));
    let _ = container.exec_output(Exec::new(["true"]));
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.exec(Exec::new(["true"]));
    let _ = container.exec_output(Exec::new(["true"]));
}

fn main() {}
