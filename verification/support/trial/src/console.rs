//! The console output of a trial: one line of JSON each, which `xtask/src/recovery/line.rs` parses.

use alloc::string::String;
use core::fmt;

use coppice_control::{Control, DomainInfo};
use coppice_interfaces::{Handle, Text};
use coppice_runtime::time;

/// The maximum length of a text in a line.
const MAX_CHARS: usize = 160;

/// Returns the microseconds since boot.
pub fn now_us() -> u64 {
    time::now().as_micros() as u64
}

/// Prints a line; `line` is the inside of a JSON object.
pub fn say(control: &Handle<dyn Control>, line: fmt::Arguments<'_>) {
    // Without the kernel there is no channel to report the failure.
    let _ = control.print(Text::format(format_args!("@demo {{{line}}}")));
}

/// Prints a failure of the trial.
pub fn broken(control: &Handle<dyn Control>, what: &str) {
    let (us, what) = (now_us(), plain(what));
    say(control, format_args!(r#""broken":{{"us":{us},"what":"{what}"}}"#));
}

/// Prints a number that must be 0.
pub fn check(control: &Handle<dyn Control>, name: &str, value: i64) {
    say(control, format_args!(r#""check":{{"name":"{name}","value":{value}}}"#));
}

/// Prints the state of a domain.
pub fn domain(control: &Handle<dyn Control>, info: &DomainInfo) {
    let DomainInfo { name, id, state, threads, .. } = info;
    let (generation, bytes) = (id.generation(), info.image_bytes + info.heap_bytes + info.shared_bytes);
    say(
        control,
        format_args!(
            r#""domain":{{"name":"{name}","generation":{generation},"state":"{state:?}","bytes":{bytes},"threads":{threads}}}"#
        ),
    );
}

/// Prints the memory of an owner that is not a domain.
pub fn memory(control: &Handle<dyn Control>, owner: &str, bytes: u64) {
    say(control, format_args!(r#""memory":{{"owner":"{owner}","bytes":{bytes}}}"#));
}

/// Returns the start of `text`, up to the maximum length and without characters that JSON escapes.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_needs_no_escapes_in_a_line() {
        assert_eq!(plain("a \"quoted\\\" line\n"), "a quoted line");
        assert_eq!(plain(&"x".repeat(500)).len(), MAX_CHARS);
    }
}
