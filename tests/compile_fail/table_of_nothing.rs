use cofferdam::{Container, Created, Stopped};

fn too_early(container: Container<Created>) {
    let _ = container.processes();
}

fn too_late(container: Container<Stopped>) {
    let _ = container.processes();
}

fn main() {}
