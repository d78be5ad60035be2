//! The command line: `name=value` words.

use crate::machine::machine;

/// The value of option `name`: of the last word that sets it. A word without `=` has the value `""`.
pub(crate) fn option(name: &str) -> Option<&'static str> {
    let words = machine().command_line().split_ascii_whitespace();
    words
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .filter(|(known, _)| *known == name)
        .last()
        .map(|(_, value)| value)
}
