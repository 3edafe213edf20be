#![deny(unused_must_use)]

use cofferdam::{AnyContainer, Container, ContainerBuilder, Created, Creating, Running};

fn builder() {
    ContainerBuilder::new().args(["true"]);
}

fn built() {
    ContainerBuilder::new().build();
}

fn created(container: Container<Creating>) {
    container.create();
}

fn started(container: Container<Created>) {
    container.start();
}

fn given(container: impl FnOnce() -> Container<Running>) {
    container();
}

fn killed(container: AnyContainer) {
    container.kill();
}

fn forwarded(container: &Container<Running>) -> cofferdam::Result<()> {
    container.forward_signals()?;
    Ok(())
}

/// A detached container goes on when it is dropped: this is no error.
fn detached(mut container: Container<Running>) -> cofferdam::Result<()> {
    container.detach()?;
    Ok(())
}

fn main() {}
