//! Post-mortems: a crash record at full length, and what happened around the death if tracing was on.

use core::fmt;

use coppice_abi::DomainId;
use coppice_interfaces::Text;

use crate::crash_log::CrashRecord;
use crate::sync::Lock;
use crate::trace::{self, Event};
use crate::{crash_log, domain};

/// How many deaths' events are kept.
const KEPT: usize = 8;

/// How many events of each.
const EVENTS: usize = 32;

/// What happened around a death, the latest first.
#[derive(Clone, Copy)]
struct Around {
    instance: DomainId,
    events: [Event; EVENTS],
    count: usize,
}

struct Archive {
    around: [Option<Around>; KEPT],
    next: usize,
}

static ARCHIVE: Lock<Archive> = Lock::new(Archive { around: [const { None }; KEPT], next: 0 });

/// Keeps the latest events of all CPUs, if there are any, for the post-mortem of `instance`, which has ended just now.
pub(crate) fn keep(instance: DomainId) {
    if !trace::is_on() {
        return;
    }
    let mut archive = ARCHIVE.lock();
    let next = archive.next;
    archive.next = (next + 1) % KEPT;
    let around = archive.around[next].insert(Around { instance, events: [Event::NONE; EVENTS], count: 0 });
    around.count = trace::latest(&mut around.events);
}

/// Line number `wanted` of the post-mortem of `instance`; `None` behind the last one.
pub(crate) fn line(instance: DomainId, wanted: usize) -> Option<Text<256>> {
    let crash_record = crash_log::find(instance)?;
    let mut found = None;
    let mut number = 0;
    let mut visit = |line: fmt::Arguments<'_>| {
        if number == wanted {
            found = Some(Text::format(line));
        }
        number += 1;
    };
    describe(&crash_record, &mut visit);
    let archive = ARCHIVE.lock();
    if let Some(around) = archive.around.iter().flatten().find(|around| around.instance == instance) {
        visit(format_args!("what happened, by time before and after the death:"));
        for event in around.events[..around.count].iter().rev() {
            visit(format_args!("{}", Since { death_ns: crash_record.time_ns, event }));
        }
    }
    found
}

/// Says who died of what, where, and in the middle of what.
pub(crate) fn describe(crash_record: &CrashRecord, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let &CrashRecord { domain: instance, kind, text, time_ns, cpu, thread, .. } = crash_record;
    let (seconds, micros) = (time_ns / 1_000_000_000, time_ns / 1_000 % 1_000_000);
    visit(format_args!(
        "{} (generation {}) died of {kind:?} at {seconds}.{micros:06} s on CPU {cpu}, in thread {thread}",
        domain::name(instance),
        instance.generation()
    ));
    visit(format_args!("  {text}"));
    for caller in crash_record.callers() {
        visit(format_args!("  called by {} (generation {})", domain::name(caller), caller.generation()));
    }
    if let Some(domain) = domain::get(instance.slot()) {
        for frame in crash_record.backtrace.frames(domain) {
            visit(format_args!("  in {frame}"));
        }
    }
}

/// An event, by its time before or after a death.
struct Since<'a> {
    death_ns: u64,
    event: &'a Event,
}

impl fmt::Display for Since<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_ns = self.event.time_ns.wrapping_sub(self.death_ns).cast_signed();
        let (sign, ns) = (if since_ns < 0 { '-' } else { '+' }, since_ns.unsigned_abs());
        let micros = Text::<24>::format(format_args!("{sign}{}.{}", ns / 1000, ns / 100 % 10));
        write!(f, "{micros:>12} us  cpu {}  {}", self.event.cpu, self.event)
    }
}
