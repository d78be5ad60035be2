//! The command line: `name=value` words.

use crate::platform::machine::machine;

/// Returns the value of option `name`, from the last word that sets it. A word without `=` has the value
/// `""`.
pub(crate) fn option(name: &str) -> Option<&'static str> {
    let mut latest_first = machine().command_line().split_ascii_whitespace().rev();
    latest_first.find_map(|word| match word.split_once('=').unwrap_or((word, "")) {
        (known, value) if known == name => Some(value),
        _ => None,
    })
}
