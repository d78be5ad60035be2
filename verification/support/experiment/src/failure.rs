//! [`Failure`]: the error of an experiment.

use alloc::format;
use alloc::string::String;
use core::error::Error;
use core::fmt;

/// A failure as text.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    /// Prefixes the failure with its context.
    #[must_use]
    pub fn about(self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not an `Error` itself, so that all errors convert to it.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(format!("{error}"))
    }
}
