use cofferdam::AnyContainer;

fn word(container: AnyContainer) -> &'static str {
    match container {
        AnyContainer::Creating(_) => "creating",
        AnyContainer::Created(_) => "created",
        AnyContainer::Running(_) => "running",
        AnyContainer::Paused(_) => "paused",
    }
}

fn main() {}
