//! The console output of a trial: lines of the run protocol, which `cargo xtask demo` parses.

use alloc::string::String;

use coppice_control::{Control, DomainInfo};
use coppice_interfaces::{Handle, Text};
use coppice_run_protocol::trial::{Broken, Check, Domain, Line, Memory};
use coppice_runtime::time;

/// Returns the microseconds since boot.
pub fn now_us() -> u64 {
    time::now().as_micros() as u64
}

/// Prints a line.
pub fn print(control: &Handle<dyn Control>, line: impl Into<Line>) {
    // Without the kernel there is no channel to report the failure.
    let _ = control.print(Text::format(format_args!("{}", line.into())));
}

/// Prints a failure of the trial.
pub fn broken(control: &Handle<dyn Control>, what: &str) {
    print(control, Broken { us: now_us(), what: what.into() });
}

/// Prints a number that must be 0.
pub fn check(control: &Handle<dyn Control>, name: &str, value: i64) {
    print(control, Check { name: name.into(), value });
}

/// Prints the state of a domain.
pub fn domain(control: &Handle<dyn Control>, info: &DomainInfo) {
    let DomainInfo { name, id, state, threads, .. } = info;
    let bytes = info.image_bytes + info.heap_bytes + info.shared_bytes;
    let state = alloc::format!("{state:?}");
    let line =
        Domain { name: String::from(&**name), generation: id.generation(), state, bytes, threads: *threads };
    print(control, line);
}

/// Prints the memory of an owner that is not a domain.
pub fn memory(control: &Handle<dyn Control>, owner: &str, bytes: u64) {
    print(control, Memory { owner: owner.into(), bytes });
}
