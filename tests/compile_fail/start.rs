use cofferdam::{Container, Created, Creating, Running, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.start();
}

fn while_running(container: Container<Running>) {
    let _ = container.start();
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.start();
}

fn twice(container: Container<Created>) {
    let _running = container.start();
    let _again = container.start();
}

fn main() {}
