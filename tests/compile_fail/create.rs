use cofferdam::{Container, Created, Creating};

fn after_create(container: Container<Created>) {
    let _ = container.create();
}

fn twice(container: Container<Creating>) {
    let _created = container.create();
    let _again = container.create();
}

fn main() {}
