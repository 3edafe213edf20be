use cofferdam::{AnyContainer, Exec};

fn after_start(container: AnyContainer) {
    let _running = container.start();
    let _ = container.exec(Exec::new(["true"]));
}

fn after_delete(container: AnyContainer) {
    let _ = container.delete(true);
    println!("{}", container.status());
}

fn main() {}
