//! The console: output of log records and lines, input of typed lines.
//!
//! No code waits for the console except the log writer, a kernel thread. A record enters the [`ring`] of its
//! CPU in a short section, or is dropped if the ring or its domain's rate is exhausted. The [`writer`] takes
//! the records of all CPUs in the order of their times, and writes them outside of any section. A console
//! that takes no bytes so delays the writer, callers of [`print`], and nothing else.
//!
//! A record is one line: its text cannot leave it ([`text`]).

mod input;
mod limits;
mod ring;
mod text;
mod writer;

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::{DomainId, LogLevel};
use coppice_interfaces::Text;

use crate::platform::machine::{CPU_LIMIT, machine};
use crate::platform::sync::{Lock, Section};
use crate::sched::cpu::this_cpu;
use crate::sched::cpu_local::CpuLocal;
use crate::sched::{thread, wait};

pub(crate) use input::{input_arrived, read_line};
use ring::{Form, Record, Ring, TEXT_LIMIT};
pub(crate) use writer::{end_system, last_words, wake_writer, writer};

static LEVEL: AtomicU32 = AtomicU32::new(LogLevel::Info as u32);
static RINGS: CpuLocal<Lock<Ring>> = CpuLocal::new();

/// A caller of [`print`] waits for a console that takes nothing for this time.
const PRINT_STALL_NS: u64 = 5_000_000_000;

/// The source of the kernel's records.
const KERNEL: &str = "kernel";

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let level = LogLevel::from_number(record.level() as usize);
        let _section = Section::enter();
        // A record about a domain's own call counts for the domain, which could otherwise fill the kernel's
        // part of the ring.
        let payer = thread::current().control().current().slot();
        write(level, payer, KERNEL, *record.args());
    }
    fn flush(&self) {}
}

/// Makes the rings, and enables the kernel's `log` records up to `level` (a name, by default `info`). On the
/// boot CPU, whose data exists.
pub(crate) fn init(level: Option<&str>) {
    for cpu in 0..machine().cpu_count().min(CPU_LIMIT) {
        RINGS.create(cpu, Lock::new(Ring::new()));
    }
    writer::init();
    let known = level.and_then(|name| name.parse::<log::LevelFilter>().ok());
    let filter = known.unwrap_or(log::LevelFilter::Info);
    LEVEL.store(filter as u32, Ordering::Relaxed);
    log::set_max_level(filter);
    let _ = log::set_logger(&Logger);
    if let (Some(name), None) = (level, known) {
        log::warn!("option log={name}: the levels are off, error, warn, info, debug and trace");
    }
}

/// Limits the log records of the domain in `slot`.
pub(crate) fn set_rate(slot: usize, name: &'static str, per_second: Option<u32>) {
    limits::set(slot, name, per_second);
}

/// The number of log records of the domain in `slot` that were dropped.
pub(crate) fn dropped(slot: usize) -> u64 {
    limits::dropped(slot)
}

fn is_shown(level: LogLevel) -> bool {
    level as u32 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes a record that `payer`, a slot, pays for, if its level is enabled. It is dropped and counted if it
/// exceeds the domain's rate or finds no room. In a section.
pub(crate) fn write(level: LogLevel, payer: usize, source: &'static str, text: fmt::Arguments<'_>) {
    if is_shown(level) && limits::admit(payer, machine().now_ns()) {
        submit(Form::Record(level), payer, source, text);
    }
}

/// Writes a record of the kernel's for an event at `time_ns`. The caller has waited for room
/// ([`await_room`]).
pub(crate) fn write_at(time_ns: u64, level: LogLevel, text: fmt::Arguments<'_>) {
    if is_shown(level) {
        submit_at(Some(time_ns), Form::Record(level), DomainId::KERNEL.slot(), KERNEL, text);
    }
}

/// Waits until this CPU's ring has room for a record that `payer` pays for, or until `deadline_ns`. Returns
/// true if it has; it does until the section ends or the thread waits. In the outermost section.
pub(crate) fn await_room(payer: usize, deadline_ns: u64) -> bool {
    loop {
        let ring = RINGS.here();
        let is_full = || !ring.lock().has_room(payer, TEXT_LIMIT);
        if !is_full() {
            return true;
        }
        if !wait::block(wait::Key::ConsoleOutput, is_full, deadline_ns) {
            return false;
        }
    }
}

/// Writes a line without time and source that `payer` pays for, and waits until the console has taken it, or
/// has taken nothing for [`PRINT_STALL_NS`]. Then the line follows later, or is dropped if there is no room.
/// In the outermost section.
pub(crate) fn print(payer: usize, line: &str) {
    while_console_moves(|until_ns| await_room(payer, until_ns));
    let Some(order_ns) = submit(Form::Line, payer, KERNEL, format_args!("{line}")) else { return };
    while_console_moves(|until_ns| {
        let is_open = || !writer::has_written(order_ns);
        wait::block(wait::Key::ConsoleOutput, is_open, until_ns);
        !is_open()
    });
}

/// Repeats `wait`, which gets a deadline, until it returns true or the console has taken nothing for
/// [`PRINT_STALL_NS`].
fn while_console_moves(mut wait: impl FnMut(u64) -> bool) {
    let mut seen = writer::progress();
    let mut until_ns = machine().now_ns() + PRINT_STALL_NS;
    while !wait(until_ns) {
        let progress = core::mem::replace(&mut seen, writer::progress());
        let now_ns = machine().now_ns();
        if progress != seen {
            until_ns = now_ns + PRINT_STALL_NS;
        } else if now_ns >= until_ns {
            return;
        }
    }
}

/// Echoes typed bytes, where no terminal does.
fn echo(text: &str) {
    if machine().console_echo() {
        submit(Form::Echo, DomainId::KERNEL.slot(), KERNEL, format_args!("{text}"));
    }
}

fn submit(form: Form, payer: usize, source: &'static str, text: fmt::Arguments<'_>) -> Option<u64> {
    submit_at(None, form, payer, source, text)
}

/// Appends a record to this CPU's ring, and has the writer woken. Returns its place in the order between
/// CPUs, or `None` if it was dropped.
fn submit_at(
    time_ns: Option<u64>,
    form: Form,
    payer: usize,
    source: &'static str,
    text: fmt::Arguments<'_>,
) -> Option<u64> {
    // Formatting may take long, and may write a record itself.
    let text = Text::<TEXT_LIMIT>::format(text);
    let mut ring = RINGS.here().lock();
    // With the lock held: a record that the writer does not find yet is later than all that it has found.
    let order_ns = machine().now_ns();
    let record = Record { time_ns: time_ns.unwrap_or(order_ns), order_ns, payer, source, form };
    let is_in = ring.push(record, &text);
    drop(ring);
    if !is_in {
        limits::count_dropped(payer);
    }
    writer::request(this_cpu());
    is_in.then_some(order_ns)
}
