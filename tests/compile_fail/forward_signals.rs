use cofferdam::{Container, Created, Creating, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.forward_signals();
}

fn before_start(container: Container<Created>) {
    let _ = container.forward_signals();
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.forward_signals();
}

fn main() {}
