//! What runs is paused, and what is paused is resumed: nothing else.

use cofferdam::{Container, Created, Creating, Paused, Running, Stopped};

fn nothing_to_pause(creating: Container<Creating>, created: Container<Created>, stopped: Container<Stopped>) {
    let _ = creating.pause();
    let _ = created.pause();
    let _ = stopped.pause();
}

fn paused_twice(paused: Container<Paused>) {
    let _ = paused.pause();
}

fn not_paused(running: Container<Running>, stopped: Container<Stopped>) {
    let _ = running.resume();
    let _ = stopped.resume();
}

fn no_exec_while_paused(paused: Container<Paused>) {
    let _ = paused.exec(cofferdam::Exec::new(["true"]));
}

fn no_events(creating: Container<Creating>, stopped: Container<Stopped>) {
    let _ = creating.events();
    let _ = stopped.events();
}

fn main() {}
