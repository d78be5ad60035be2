//! The console: output of log records and lines, input of typed lines.

use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::LogLevel;

use crate::platform::machine::machine;
use crate::platform::sync::{Lock, Section};
use crate::sched::wait;

static CONSOLE: Lock<()> = Lock::new(());
static LEVEL: AtomicU32 = AtomicU32::new(LogLevel::Info as u32);
static INPUT: Lock<Input> = Lock::new(Input { line: String::new(), line_ends: 0 });

/// Typed bytes that were not read.
struct Input {
    line: String,
    /// The number of line ends in `line`.
    line_ends: usize,
}

struct Logger;

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        machine().console_write(text.as_bytes());
        Ok(())
    }
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let level = LogLevel::from_number(record.level() as usize);
        let _section = Section::enter();
        write(level, "kernel", *record.args());
    }
    fn flush(&self) {}
}

/// Enables the kernel's `log` records up to `level` (a name, by default `info`).
pub(crate) fn init(level: Option<&str>) {
    let known = level.and_then(|name| name.parse::<log::LevelFilter>().ok());
    let filter = known.unwrap_or(log::LevelFilter::Info);
    LEVEL.store(filter as u32, Ordering::Relaxed);
    log::set_max_level(filter);
    let _ = log::set_logger(&Logger);
    if let (Some(name), None) = (level, known) {
        log::warn!("option log={name}: the levels are off, error, warn, info, debug and trace");
    }
}

/// Writes a record, if its level is enabled.
pub(crate) fn write(level: LogLevel, source: &str, text: fmt::Arguments<'_>) {
    write_at(machine().now_ns(), level, source, text);
}

/// As [`write`], for an event at `time_ns`.
pub(crate) fn write_at(time_ns: u64, level: LogLevel, source: &str, text: fmt::Arguments<'_>) {
    if level as u32 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let prefix = match level {
        LogLevel::Error => "ERROR ",
        LogLevel::Warn => "warning: ",
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => "",
    };
    let _guard = CONSOLE.lock();
    let _ = writeln!(
        Console,
        "[{:4}.{:06}] {source}: {prefix}{text}",
        time_ns / 1_000_000_000,
        time_ns / 1_000 % 1_000_000
    );
}

/// Writes a line without time and source.
pub(crate) fn print(line: &str) {
    let _guard = CONSOLE.lock();
    let _ = writeln!(Console, "{line}");
}

/// Takes typed bytes from the machine. Called by the checkpoint.
pub(crate) fn input_arrived() {
    let mut input = INPUT.lock();
    while let Some(byte) = machine().console_read() {
        match byte {
            b'\r' | b'\n' => {
                input.line.push('\n');
                input.line_ends += 1;
                echo("\n");
            }
            0x08 | 0x7f if !input.line.is_empty() && !input.line.ends_with('\n') => {
                input.line.pop();
                echo("\x08 \x08");
            }
            b' '..=b'~' => {
                input.line.push(byte.into());
                echo(core::str::from_utf8(&[byte]).unwrap_or_default());
            }
            _ => {}
        }
    }
    if input.line_ends > 0 {
        drop(input);
        wait::wake(wait::Key::Console, 1);
    }
}

/// Echoes typed bytes, where no terminal does.
fn echo(text: &str) {
    if machine().console_echo() {
        machine().console_write(text.as_bytes());
    }
}

/// Waits for a typed line, and returns it without its end. In the outermost section.
pub(crate) fn read_line() -> String {
    loop {
        input_arrived();
        wait::block(wait::Key::Console, || INPUT.lock().line_ends == 0, u64::MAX);
        let mut input = INPUT.lock();
        if let Some(end) = input.line.find('\n') {
            let rest = input.line.split_off(end + 1);
            let mut line = core::mem::replace(&mut input.line, rest);
            input.line_ends -= 1;
            line.pop();
            return line;
        }
    }
}
