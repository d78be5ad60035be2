//! [`Failure`]: what an experiment says when a promise is broken.

use alloc::format;
use alloc::string::String;
use core::error::Error;
use core::fmt;

/// A broken promise, in words.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    /// The same, with what it is about.
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

/// Not an error itself, so that all errors can become one.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(format!("{error}"))
    }
}
