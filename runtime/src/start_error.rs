//! [`StartError`]: the reason why a domain does not start.

use alloc::boxed::Box;
use core::fmt;

use coppice_interfaces::Text;

/// The reason why a domain does not start: a bad argument in the manifest, or a missing or broken device.
///
/// The text ends in the kernel's log and in the domain's crash record. Any [`core::error::Error`] converts to
/// it, so `?` works in [`crate::Domain::start`]. It does not implement `Error` itself, because that
/// conversion would then be ambiguous.
#[derive(Clone, PartialEq, Eq)]
pub struct StartError(Box<Words>);

// Boxed, because a `Result` is as large as its larger variant.
type Words = Text<{ coppice_abi::START_FAILURE_LIMIT }>;

impl StartError {
    /// An error with these words; text that does not fit is cut.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(Box::new(Text::format(format_args!("{reason}"))))
    }

    /// Option `name` of the manifest's `args` has a value that is no `expected`.
    pub fn bad_option(name: &str, value: &str, expected: &str) -> Self {
        Self::new(format_args!("option {name}={value}: {expected} is expected"))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl<E: core::error::Error> From<E> for StartError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(), f)
    }
}
