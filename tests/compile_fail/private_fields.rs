use cofferdam::{Container, Created};

fn taken_apart(container: Container<Created>) {
    let Container { core: _, phase: _ } = container;
}

fn main() {}
