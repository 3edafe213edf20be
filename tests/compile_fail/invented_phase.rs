use cofferdam::typestate::Phase;
use cofferdam::{Container, Created, Running, Status};

#[derive(Debug)]
struct Resting;

impl Phase for Resting {
    const STATUS: Status = Status::Stopped;
}

fn no_phase(_: Container<String>) {}

fn relabelled(container: Container<Created>) -> Container<Running> {
    container
}

fn main() {}
