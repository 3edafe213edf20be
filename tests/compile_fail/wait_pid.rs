use cofferdam::{Container, Created, Creating, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.wait_pid(2);
}

fn before_start(container: Container<Created>) {
    let _ = container.wait_pid(2);
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.wait_pid(2);
}

fn main() {}
