//! [`Options`]: the selection of figures and the time limit of a benchmark, from the kernel's options.

use coppice_control::Control;
use coppice_interfaces::{Handle, RpcError, Text};

/// The options of a benchmark.
pub struct Options {
    seconds: u32,
    /// A reduced set of figures.
    pub is_quick: bool,
    /// The clock counts instructions, so repetition adds no information.
    pub counts_instructions: bool,
    only: Option<Text<128>>,
}

impl Options {
    /// Reads `seconds=N`; `quick=on`; `only=TEXT`, a filter on the names of figures; `count=on`.
    ///
    /// Without `seconds=N` the time limit is `default_seconds`, or a sixth of that in quick mode.
    ///
    /// # Errors
    /// [`RpcError`] when the call to the kernel fails.
    pub fn read(control: &Handle<dyn Control>, default_seconds: u32) -> Result<Self, RpcError> {
        let option = |name| control.option(Text::new(name));
        let is_on = |value: Option<Text<128>>| value.is_some_and(|value| &*value == "on");
        let is_quick = is_on(option("quick")?);
        let seconds = option("seconds")?.and_then(|seconds| seconds.parse().ok());
        Ok(Self {
            seconds: seconds.unwrap_or(if is_quick { default_seconds / 6 } else { default_seconds }),
            is_quick,
            counts_instructions: is_on(option("count")?),
            only: option("only")?,
        })
    }

    /// The time limit for all figures together, except those of crashes.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// The number of crashes for a figure of outages. A few are enough where instructions are counted.
    pub fn outages(&self) -> usize {
        if self.counts_instructions { 20 } else { 200 }
    }

    /// The number of pairs of seconds with and without a crash, for a figure of lost throughput.
    pub fn pairs(&self) -> usize {
        if self.is_quick { 4 } else { 20 }
    }

    /// Returns true if the filter selects this figure.
    pub fn wants(&self, id: &str) -> bool {
        self.only.as_ref().is_none_or(|only| id.contains(&**only))
    }
}
