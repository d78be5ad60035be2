//! [`Options`]: which figures of a benchmark, and how long they may take, by the command line.

use coppice_control::Control;
use coppice_interfaces::{Handle, RpcError, Text};

/// What every benchmark with many figures is told.
pub struct Options {
    seconds: Option<u32>,
    /// Fewer figures.
    pub is_quick: bool,
    /// The clock counts instructions, and repetition adds nothing.
    pub counts_instructions: bool,
    only: Option<Text<128>>,
}

impl Options {
    /// `seconds=N`; `quick=on`; `only=TEXT`, for figures with that in their names; `count=on`.
    ///
    /// # Errors
    /// The kernel does not answer.
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

    /// How long all figures together may take: as the command line says, or a sixth of `default` if they are few.
    pub fn seconds(&self, default: u32) -> u32 {
        self.seconds.unwrap_or(if self.is_quick { default / 6 } else { default })
    }

    /// Whether that figure was asked for.
    pub fn wants(&self, id: &str) -> bool {
        self.only.as_ref().is_none_or(|only| id.contains(&**only))
    }
}
