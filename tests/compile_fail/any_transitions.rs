use cofferdam::{AnyContainer, Created};

fn after_a_transition(container: AnyContainer) {
    let _created = container.into_phase::<Created>();
    let _ = container.as_running();
}

fn after_delete(container: AnyContainer) {
    let _ = container.delete(true);
    println!("{}", container.status());
}

fn main() {}
