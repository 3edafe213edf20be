//! What a failed transition gives back.

use super::{AnyContainer, Container, Phase};
use crate::error::Error;
use std::fmt;

/// A transition that failed: why, and what became of the container.
///
/// `?` turns it into an [`Error`] where the container does not matter; it is then dropped, and destroyed if it was
/// attached.
pub struct Failed<P: Phase>(Box<(Error, Recovered<P>)>);

/// The container after a failed transition.
#[derive(Debug)]
pub enum Recovered<P: Phase> {
    /// As it was before; the transition can be tried again.
    Unchanged(Container<P>),
    /// In another phase: somebody else moved it, or the failure itself did.
    Moved(AnyContainer),
    /// It does not exist any more.
    Gone,
}

impl<P: Phase> Failed<P> {
    pub(super) fn unchanged(error: Error, container: Container<P>) -> Self {
        Self(Box::new((error, Recovered::Unchanged(container))))
    }

    pub(super) fn moved(error: Error, container: AnyContainer) -> Self {
        Self(Box::new((error, Recovered::Moved(container))))
    }

    pub(super) fn gone(error: Error) -> Self {
        Self(Box::new((error, Recovered::Gone)))
    }

    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.0.0
    }

    /// The reason and the container.
    #[must_use]
    pub fn into_parts(self) -> (Error, Recovered<P>) {
        *self.0
    }
}

impl<P: Phase> fmt::Debug for Failed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failed").field(&self.0.0).finish_non_exhaustive()
    }
}

impl<P: Phase> fmt::Display for Failed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

impl<P: Phase> std::error::Error for Failed<P> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.0.source()
    }
}

impl<P: Phase> From<Failed<P>> for Error {
    fn from(failed: Failed<P>) -> Self {
        failed.into_parts().0
    }
}

/// A transition of an [`AnyContainer`] that failed: why, and the container in the phase it has now.
///
/// As [`Failed`], `?` turns it into an [`Error`] where the container does not matter.
pub struct FailedAny(Box<(Error, Option<AnyContainer>)>);

impl FailedAny {
    pub(super) fn new(error: Error, container: Option<AnyContainer>) -> Self {
        Self(Box::new((error, container)))
    }

    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.0.0
    }

    /// The reason and the container; `None` if it does not exist any more.
    #[must_use]
    pub fn into_parts(self) -> (Error, Option<AnyContainer>) {
        *self.0
    }
}

impl fmt::Debug for FailedAny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailedAny").field(&self.0.0).finish_non_exhaustive()
    }
}

impl fmt::Display for FailedAny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

impl std::error::Error for FailedAny {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.0.source()
    }
}

impl From<FailedAny> for Error {
    fn from(failed: FailedAny) -> Self {
        failed.into_parts().0
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
