//! [`Options`]: the selection of figures and the time limit of a benchmark, from the kernel's options.

use coppice_control::Control;
use coppice_interfaces::{Handle, RpcError, Text};

/// The options of each benchmark with many figures.
pub struct Options {
    seconds: Option<u32>,
    /// A reduced set of figures.
    pub is_quick: bool,
    /// The clock counts instructions, so repetition adds no information.
    pub counts_instructions: bool,
    only: Option<Text<128>>,
}

impl Options {
    /// Reads `seconds=N`; `quick=on`; `only=TEXT`, a filter on the names of figures; `count=on`.
    ///
    /// # Errors
    /// [`RpcError`] when the call to the kernel fails.
    pub fn read(control: &Handle<dyn Control>) -> Result<Self, RpcError> {
        let option = |name| control.option(Text::new(name));
        let is_on = |value: Option<Text<128>>| value.is_some_and(|value| &*value == "on");
        Ok(Self {
            seconds: option("seconds")?.and_then(|seconds| seconds.parse().ok()),
            is_quick: is_on(option("quick")?),
            counts_instructions: is_on(option("count")?),
            only: option("only")?,
        })
    }

    /// Returns the time limit for all figures together: the option's, or `default`, or a sixth of it in quick
    /// mode.
    pub fn seconds(&self, default: u32) -> u32 {
        self.seconds.unwrap_or(if self.is_quick { default / 6 } else { default })
    }

    /// Returns true if the filter selects this figure.
    pub fn wants(&self, id: &str) -> bool {
        self.only.as_ref().is_none_or(|only| id.contains(&**only))
    }
}
