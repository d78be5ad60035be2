//! The console: log records, whole lines out, typed lines in.

use alloc::string::String;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::LogLevel;

use crate::platform::machine::machine;
use crate::platform::sync::{Lock, Section};
use crate::sched::wait;

static CONSOLE: Lock<()> = Lock::new(());
static LEVEL: AtomicU32 = AtomicU32::new(LogLevel::Info as u32);
static INPUT: Lock<Input> = Lock::new(Input { line: String::new(), ended: 0 });

/// What was typed and not read.
struct Input {
    line: String,
    /// Line ends in it.
    ended: usize,
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

/// Makes the kernel's `log` records appear, from `level` (a name, by default `info`) on.
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

/// Writes a record, if records of that level appear.
pub(crate) fn write(level: LogLevel, source: &str, text: fmt::Arguments<'_>) {
    write_of(machine().now_ns(), level, source, text);
}

/// As [`write`], of something that happened at that time.
pub(crate) fn write_of(time_ns: u64, level: LogLevel, source: &str, text: fmt::Arguments<'_>) {
    if level as u32 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let mark = match level {
        LogLevel::Error => "ERROR ",
        LogLevel::Warn => "warning: ",
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => "",
    };
    let _one_line = CONSOLE.lock();
    let _ = writeln!(
        Console,
        "[{:4}.{:06}] {source}: {mark}{text}",
        time_ns / 1_000_000_000,
        time_ns / 1_000 % 1_000_000
    );
}

/// Writes a line as it is.
pub(crate) fn print(line: &str) {
    let _one_line = CONSOLE.lock();
    let _ = writeln!(Console, "{line}");
}

/// The checkpoint's part: takes what was typed from the machine.
pub(crate) fn input_arrived() {
    let mut input = INPUT.lock();
    while let Some(byte) = machine().console_read() {
        match byte {
            b'\r' | b'\n' => {
                input.line.push('\n');
                input.ended += 1;
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
    if input.ended > 0 {
        drop(input);
        wait::wake(wait::Key::Console, 1);
    }
}

/// Shows what was typed, where no terminal does.
fn echo(text: &str) {
    if machine().console_echo() {
        machine().console_write(text.as_bytes());
    }
}

/// Waits for a typed line, without its end. In the outermost section.
pub(crate) fn read_line() -> String {
    loop {
        input_arrived();
        wait::block(wait::Key::Console, || INPUT.lock().ended == 0, u64::MAX);
        let mut input = INPUT.lock();
        if let Some(end) = input.line.find('\n') {
            let rest = input.line.split_off(end + 1);
            let mut line = core::mem::replace(&mut input.line, rest);
            input.ended -= 1;
            line.pop();
            return line;
        }
    }
}
