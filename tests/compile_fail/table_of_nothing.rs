use cofferdam::{Container, Creating, Stopped};

fn not_even_made(container: Container<Creating>) {
    let _ = container.processes();
}

fn too_late(container: Container<Stopped>) {
    let _ = container.processes();
}

fn main() {}
