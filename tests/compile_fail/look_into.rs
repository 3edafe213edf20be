use cofferdam::{Container, Creating, Stopped};

fn before_create(container: Container<Creating>) {
    let _ = container.files();
    let _ = container.stats();
    let _ = container.pod();
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.stats();
    let _ = container.pod();
}

fn main() {}
