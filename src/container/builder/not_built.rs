//! Methods of a container that people try on a builder. They cannot be called: they exist so that the compiler's message
//! says `build()`, and not only that the builder has no such method.
//!
//! Each is bound by [`Built`], which no type implements. `for<'a>` makes the compiler check the bound where a method is
//! called, and not here. The results are those of the container's methods, so that the compiler reports one error and no
//! other in the caller's line.

use super::description::ContainerBuilder;
use crate::container::{Built, Container, Created, Exec, Exit, Process, ProcessOutput, Running, Stopped};
use crate::error::Result;
use std::time::Duration;

/// Why the bodies below never run.
const NEVER: &str = "no type is `Built`";

#[doc(hidden)]
impl ContainerBuilder {
    pub fn create(self) -> Result<Container<Created>>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }

    pub fn start(self) -> Result<Container<Running>>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }

    pub fn wait(&self) -> Result<Exit>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }

    pub fn wait_stopped(self) -> Result<Container<Stopped>>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }

    pub fn exec(&self, _: Exec) -> Result<Process>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }

    pub fn exec_output(&self, _: Exec) -> Result<ProcessOutput>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }

    pub fn kill(self) -> Result<Container<Stopped>>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }

    pub fn stop(self, _: Duration) -> Result<Container<Stopped>>
    where
        for<'a> Self: Built,
    {
        unreachable!("{NEVER}")
    }
}
