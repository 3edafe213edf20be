//! A builder is no container: `build()` comes first.

use cofferdam::{ContainerBuilder, Exec};

fn started(builder: ContainerBuilder) -> cofferdam::Result<()> {
    builder.start()?;
    Ok(())
}

fn created(builder: ContainerBuilder) -> cofferdam::Result<()> {
    let _ = builder.create()?.start()?;
    Ok(())
}

fn waited_for(builder: ContainerBuilder) -> cofferdam::Result<()> {
    let _ = builder.wait()?.outcome;
    Ok(())
}

fn executed_in(builder: ContainerBuilder) -> cofferdam::Result<()> {
    let _ = builder.exec_output(Exec::new(["true"]))?.stdout;
    let _ = builder.exec(Exec::new(["true"]))?;
    Ok(())
}

fn main() {}
