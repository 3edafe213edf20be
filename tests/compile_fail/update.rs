use cofferdam::oci_spec::runtime::LinuxResources;
use cofferdam::{Container, Created, Creating, Stopped};

fn before_create(mut container: Container<Creating>) {
    let _ = container.update(&LinuxResources::default());
}

fn after_the_end(mut container: Container<Stopped>) {
    let _ = container.update(&LinuxResources::default());
}

fn of_what_is_only_borrowed(container: &Container<Created>) {
    let _ = container.update(&LinuxResources::default());
}

fn main() {}
