use cofferdam::{Container, Creating, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.wait_pid(2);
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.wait_pid(2);
}

fn main() {}
