//! What people look for on a builder and find on a container: methods that cannot be called, so that the compiler says
//! `build()` where it would say only that there is no such method.
//!
//! Their bound is on [`Built`], which no type has. `for<'a>` makes the compiler check it where a method is called, and not
//! here. The results are those of the container's methods, so that nothing else in the caller's line is an error.

use super::description::ContainerBuilder;
use crate::container::{Built, Container, Created, Exec, Exit, Process, ProcessOutput, Running, Stopped};
use crate::error::Result;
use std::time::Duration;

/// Why the bodies below are never reached.
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
