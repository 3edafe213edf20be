use cofferdam::{Container, Creating, Signal};

fn observe(mut container: Container<Creating>) {
    let _ = container.wait();
    let _ = container.try_wait();
    let _ = container.init_pid();
    let _ = container.take_stdout();
    let _ = container.take_pty();
}

fn signal(container: Container<Creating>) {
    let _ = container.signal(Signal::TERM);
}

fn kill(container: Container<Creating>) {
    let _ = container.kill();
}

fn detach(container: Container<Creating>) {
    let _ = container.detach();
}

fn main() {}
