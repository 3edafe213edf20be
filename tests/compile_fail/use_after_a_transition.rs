use cofferdam::{Container, Creating, Running, Stopped};

fn after_create(container: Container<Creating>) {
    let _created = container.create();
    println!("{}", container.status());
}

fn after_kill(container: Container<Running>) {
    let _stopped = container.kill();
    let _ = container.wait();
}

fn after_delete(container: Container<Stopped>) {
    let _ = container.delete();
    println!("{:?}", container.exit());
}

fn main() {}
