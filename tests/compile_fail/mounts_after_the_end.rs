use cofferdam::{Container, Creating, Stopped};

fn mount(container: Container<Creating>) {
    let _ = container.mount_tmpfs("/scratch", 1 << 20);
}

fn unmount(container: Container<Stopped>) {
    let _ = container.unmount("/scratch");
}

fn main() {}
