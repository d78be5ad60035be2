//! [`Failure`]: what an experiment says when a promise is broken.

use alloc::format;
use alloc::string::String;
use core::fmt;

use coppice_interfaces::{ControlError, RpcError};
use coppice_runtime::thread::Refused;

use crate::Trouble;

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

impl core::error::Error for Failure {}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self(format!("a call that had to succeed: {error}"))
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self(format!("the kernel refused: {error:?}"))
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self(format!("{trouble}"))
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self(format!("{refused}"))
    }
}
