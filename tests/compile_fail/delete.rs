use cofferdam::{Container, Created, Creating, Running, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.delete();
}

fn before_start(container: Container<Created>) {
    let _ = container.delete();
}

fn while_running(container: Container<Running>) {
    let _ = container.delete();
}

fn twice(container: Container<Stopped>) {
    let _ = container.delete();
    let _ = container.delete();
}

fn main() {}
