//! What a failed transition gives back.

use super::{AnyContainer, Container, Phase};
use crate::error::{Error, ErrorKind};
use crate::state::Status;
use std::fmt;

/// A failed transition: the error, and the container in the phase it has now.
///
/// `?` turns it into an [`Error`] where the container does not matter; the container is then dropped, and destroyed if
/// it was attached. As an [`std::error::Error`] it prints the line of the [`Error`], which is also its source: code
/// that knows only `dyn Error` finds the kind there.
///
/// # It holds the container
///
/// As long as this value lives, so does an attached container: also as a `Box<dyn Error>` or in the chain of an error
/// that an application keeps, where no caller looks for it. A caller that has no use for the container lets go of it at once
/// by keeping the [`Error`] only:
///
/// ```no_run
/// use cofferdam::{Container, Created, Error};
///
/// fn start(created: Container<Created>) -> Result<(), Box<dyn std::error::Error>> {
///     let running = created.start().map_err(Error::from)?;
///     # drop(running);
///     Ok(())
/// }
/// ```
///
/// Dropping the error that was kept destroys the container, and so does the end of the program. After a `downcast`,
/// [`into_parts`](Self::into_parts) gives the container back.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct Failed<P: Phase> {
    #[source]
    error: Error,
    // Boxed, so that the `Result` of a transition stays small.
    recovered: Box<Recovered<P>>,
}

/// The container after a failed transition. Closed on purpose: there is no fourth case.
#[derive(Debug)]
pub enum Recovered<P: Phase> {
    /// In the phase it had before; the transition can be tried again.
    Unchanged(Container<P>),
    /// In another phase: another process or the failure itself changed it.
    Moved(AnyContainer),
    /// It does not exist any more.
    Gone,
}

impl<P: Phase> Failed<P> {
    pub(super) fn unchanged(error: Error, container: Container<P>) -> Self {
        Self { error, recovered: Box::new(Recovered::Unchanged(container)) }
    }

    pub(super) fn moved(error: Error, container: AnyContainer) -> Self {
        Self { error, recovered: Box::new(Recovered::Moved(container)) }
    }

    pub(super) fn gone(error: Error) -> Self {
        Self { error, recovered: Box::new(Recovered::Gone) }
    }

    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        self.error.kind()
    }

    /// The reason and the container.
    #[must_use]
    pub fn into_parts(self) -> (Error, Recovered<P>) {
        (self.error, *self.recovered)
    }
}

impl<P: Phase> fmt::Debug for Failed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl<P: Phase> From<Failed<P>> for Error {
    fn from(failed: Failed<P>) -> Self {
        failed.error
    }
}

/// A failed transition of an [`AnyContainer`]: the error, and the container in the phase it has now.
///
/// As [`Failed`], it prints the line of its [`Error`], has it as its source, becomes it under `?`, and holds the
/// container as long as it lives.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct FailedAny {
    #[source]
    error: Error,
    container: Option<Box<AnyContainer>>,
}

impl FailedAny {
    pub(super) fn new(error: Error, container: Option<AnyContainer>) -> Self {
        Self { error, container: container.map(Box::new) }
    }

    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        self.error.kind()
    }

    /// The reason and the container; `None` if it does not exist any more.
    #[must_use]
    pub fn into_parts(self) -> (Error, Option<AnyContainer>) {
        (self.error, self.container.map(|container| *container))
    }
}

impl fmt::Debug for FailedAny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl From<FailedAny> for Error {
    fn from(failed: FailedAny) -> Self {
        failed.error
    }
}

impl<P: Phase> From<Failed<P>> for FailedAny
where
    AnyContainer: From<Container<P>>,
{
    fn from(failed: Failed<P>) -> Self {
        let (error, recovered) = failed.into_parts();
        let container = match recovered {
            Recovered::Unchanged(container) => Some(container.into()),
            Recovered::Moved(container) => Some(container),
            Recovered::Gone => None,
        };
        Self::new(error, container)
    }
}

impl<P: Phase> From<Failed<P>> for Option<AnyContainer>
where
    AnyContainer: From<Container<P>>,
{
    fn from(failed: Failed<P>) -> Self {
        FailedAny::from(failed).into_parts().1
    }
}

/// The container, unchanged, because it is in another phase than the requested one. Under `?` it becomes an
/// [`Error`]: [`ErrorKind::Ended`] if the container has ended, else [`ErrorKind::WrongState`].
///
/// As [`Failed`], it prints the line of that error, has it as its source, and holds the container as long as it lives.
#[derive(thiserror::Error)]
#[error("{error}")]
#[non_exhaustive]
pub struct WrongPhase {
    /// The container.
    pub container: Box<AnyContainer>,
    /// The requested phase.
    pub wanted: Status,
    #[source]
    error: Error,
}

impl WrongPhase {
    pub(super) fn new(container: AnyContainer, wanted: Status) -> Self {
        let error = container.is_not(&wanted.to_string());
        Self { container: Box::new(container), wanted, error }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        self.error.kind()
    }
}

impl fmt::Debug for WrongPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl From<WrongPhase> for Error {
    fn from(wrong: WrongPhase) -> Self {
        wrong.error
    }
}

impl From<WrongPhase> for FailedAny {
    fn from(wrong: WrongPhase) -> Self {
        Self::new(wrong.error, Some(*wrong.container))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Created;
    use super::*;
    use std::error::Error as _;

    #[test]
    fn code_that_knows_only_dyn_error_finds_the_kind() {
        let failed = Failed::<Created>::gone(Error::new(ErrorKind::Ended, "start", "it has ended"));
        assert_eq!((failed.kind(), failed.to_string()), (&ErrorKind::Ended, "start: it has ended".into()));
        assert_eq!(format!("{failed:?}"), "start: it has ended", "what `main` prints");
        let failed: Box<dyn std::error::Error> = failed.into();
        let source = failed.source().and_then(|source| source.downcast_ref::<Error>());
        assert_eq!(source.map(Error::kind), Some(&ErrorKind::Ended));
        let any =
            FailedAny::from(Failed::<Created>::gone(Error::new(ErrorKind::Ended, "start", "it has ended")));
        assert_eq!(format!("{any:?}"), "start: it has ended");
        assert!(any.source().is_some_and(|source| source.is::<Error>()));
    }
}
