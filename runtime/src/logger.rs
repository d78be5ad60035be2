//! Passes the `log` crate's records to the kernel, which adds time and source.

use core::fmt::Write;

use coppice_abi::{LogLevel, services};
use coppice_interfaces::Text;

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let level = LogLevel::from_number(record.level() as usize);
        let mut text = Text::<400>::new("");
        let _ = write!(text, "{}", record.args());
        // SAFETY: the text is valid for the call.
        unsafe { (services().log)(level, text.as_ptr(), text.len()) };
    }
    fn flush(&self) {}
}

pub(crate) fn init() {
    log::set_max_level(log::LevelFilter::Trace);
    // Fails only if a logger is set, and an instance starts with pristine statics.
    let _ = log::set_logger(&Logger);
}
