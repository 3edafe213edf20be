use cofferdam::{Container, Creating, Paused, Signal, Stopped};

fn all_before_create(container: Container<Creating>) {
    let _ = container.signal_all(Signal::TERM);
}

fn all_after_the_end(container: Container<Stopped>) {
    let _ = container.signal_all(Signal::KILL);
}

fn some_while_paused(container: Container<Paused>) {
    let _ = container.signal_process(2, Signal::TERM);
    let _ = container.signal_process_group(2, Signal::TERM);
    let _ = container.signal_foreground(2, Signal::INT);
}

fn some_after_the_end(container: Container<Stopped>) {
    let _ = container.signal_process(2, Signal::TERM);
}

fn main() {}
