use cofferdam::{Container, Signal, Stopped};

fn observe(container: Container<Stopped>) {
    let _ = container.wait();
    let _ = container.try_wait();
    let _ = container.init_pid();
}

fn signal(container: Container<Stopped>) {
    let _ = container.signal(Signal::TERM);
}

fn kill(container: Container<Stopped>) {
    let _ = container.kill();
}

fn detach(container: Container<Stopped>) {
    let _ = container.detach();
}

fn main() {}
