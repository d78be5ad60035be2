//! What is said of the run, a line of JSON each: `xtask/src/recovery/line.rs` reads them.

use alloc::string::String;
use core::fmt;

use coppice_control::{Control, DomainInfo};
use coppice_interfaces::{Handle, Text};
use coppice_runtime::time;

/// What the console takes of a text in a line.
const ROOM: usize = 160;

/// Microseconds since boot.
pub fn now_us() -> u64 {
    time::now().as_micros() as u64
}

/// Says a line: the inside of an object.
pub fn say(control: &Handle<dyn Control>, line: fmt::Arguments<'_>) {
    // Without the kernel there is nobody to tell that it failed.
    let _ = control.print(Text::format(format_args!("@demo {{{line}}}")));
}

/// Something has happened that must not.
pub fn broken(control: &Handle<dyn Control>, what: &str) {
    let (us, what) = (now_us(), plain(what));
    say(control, format_args!(r#""broken":{{"us":{us},"what":"{what}"}}"#));
}

/// Something that has to be 0.
pub fn check(control: &Handle<dyn Control>, name: &str, value: i64) {
    say(control, format_args!(r#""check":{{"name":"{name}","value":{value}}}"#));
}

/// A domain as it is now.
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

/// What somebody has who is no domain.
pub fn memory(control: &Handle<dyn Control>, owner: &str, bytes: u64) {
    say(control, format_args!(r#""memory":{{"owner":"{owner}","bytes":{bytes}}}"#));
}

/// As much as goes on a line, without what JSON would have to have escaped.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).take(ROOM).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_can_stand_in_a_line() {
        assert_eq!(plain("a \"quoted\\\" line\n"), "a quoted line");
        assert_eq!(plain(&"x".repeat(500)).len(), ROOM);
    }
}
