//! Typed lines.

use alloc::string::String;

use super::echo;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::sched::wait;

static INPUT: Lock<Input> = Lock::new(Input { line: String::new(), line_ends: 0 });

/// Typed bytes that were not read.
struct Input {
    line: String,
    /// The number of line ends in `line`.
    line_ends: usize,
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
