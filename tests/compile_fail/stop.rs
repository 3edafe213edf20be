use cofferdam::{Container, Created, Stopped};
use std::time::Duration;

fn before_start(container: Container<Created>) {
    let _ = container.stop(Duration::from_secs(1));
}

fn waiting_for_the_end_before_start(container: Container<Created>) {
    let _ = container.wait_stopped();
}

fn after_the_end(container: Container<Stopped>) {
    let _ = container.stop(Duration::from_secs(1));
}

fn main() {}
