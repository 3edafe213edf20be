use cofferdam::{Container, Created, Running};

fn before_start(container: Container<Created>) {
    let _ = container.exit();
}

fn while_running(container: Container<Running>) {
    let _ = container.exit();
}

fn main() {}
