//! Post-mortems: a crash record in full, with the trace events around the crash if tracing was on.

use core::fmt;

use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::Text;

use crate::device::QuiesceOutcome;
use crate::domain;
use crate::fault::crash_log::{self, CrashRecord};
use crate::platform::sync::Lock;
use crate::sched::cpu::request;
use crate::sched::trace::{self, Event, Kind};

/// The number of crashes whose events are kept.
const CRASHES: usize = 8;

/// The number of events that are kept for each crash.
const EVENTS_PER_CRASH: usize = 32;

/// Trace events around a crash, the latest first.
#[derive(Clone, Copy)]
struct EventsAround {
    instance: DomainId,
    events: [Event; EVENTS_PER_CRASH],
    count: usize,
}

struct EventArchive {
    around: [Option<EventsAround>; CRASHES],
    next: usize,
}

static EVENTS_KEPT: Lock<EventArchive> =
    Lock::new(EventArchive { around: [const { None }; CRASHES], next: 0 });

/// Keeps the latest events of all CPUs, if there are any, for the post-mortem of `instance`, which has just
/// ended.
pub(crate) fn keep(instance: DomainId) {
    if !trace::is_on() {
        return;
    }
    let mut archive = EVENTS_KEPT.lock();
    let next = archive.next;
    archive.next = (next + 1) % CRASHES;
    let around = archive.around[next].insert(EventsAround {
        instance,
        events: [Event::NONE; EVENTS_PER_CRASH],
        count: 0,
    });
    around.count = trace::latest(&mut around.events);
}

/// Returns line `wanted` of the post-mortem of `instance`; `None` behind the last one.
pub(crate) fn line(instance: DomainId, wanted: usize) -> Option<Text<256>> {
    let record = crash_log::find(instance)?;
    let mut found = None;
    let mut number = 0;
    let mut visit = |line: fmt::Arguments<'_>| {
        if number == wanted {
            found = Some(Text::format(line));
        }
        number += 1;
    };
    describe(&record, &mut visit);
    let archive = EVENTS_KEPT.lock();
    if let Some(around) = archive.around.iter().flatten().find(|around| around.instance == instance) {
        visit(format_args!("what happened, by time before and after the crash:"));
        for event in around.events[..around.count].iter().rev() {
            visit(format_args!("{}", Since { crash_ns: record.time_ns, event }));
        }
    }
    found
}

/// Describes a crash: the domain, its cause, the callers, the backtrace.
pub(crate) fn describe(record: &CrashRecord, visit: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let &CrashRecord { domain: instance, kind, text, time_ns, cpu, thread, .. } = record;
    let (seconds, micros) = (time_ns / 1_000_000_000, time_ns / 1_000 % 1_000_000);
    visit(format_args!(
        "{} (generation {}) died of {kind:?} at {seconds}.{micros:06} s on CPU {cpu}, in thread {thread}",
        domain::name(instance),
        instance.generation()
    ));
    visit(format_args!("  {text}"));
    for caller in record.callers() {
        visit(format_args!("  called by {} (generation {})", domain::name(caller), caller.generation()));
    }
    if let Some(domain) = domain::get(instance.slot()) {
        for frame in record.backtrace.frames(domain.symbols, &domain.manifest.image) {
            visit(format_args!("  in {frame}"));
        }
    }
}

/// An event with its time before or after a crash.
struct Since<'a> {
    crash_ns: u64,
    event: &'a Event,
}

impl fmt::Display for Since<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_ns = self.event.time_ns.wrapping_sub(self.crash_ns).cast_signed();
        let (sign, ns) = (if since_ns < 0 { '-' } else { '+' }, since_ns.unsigned_abs());
        let micros = Text::<24>::format(format_args!("{sign}{}.{}", ns / 1000, ns / 100 % 10));
        write!(f, "{micros:>12} us  cpu {}  {}", self.event.cpu, Description(self.event))
    }
}

/// The text of an event.
struct Description<'a>(&'a Event);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { kind, domain, detail, .. } = *self.0;
        let name = domain::name(domain);
        write!(f, "{:<9}  ", kind.name())?;
        match kind {
            Kind::Crossing => write!(f, "{} -> {name}", domain::name(DomainId::from_bits(detail))),
            Kind::Fault => {
                let kind = CrashKind::from_number(detail as u16);
                write!(f, "{name} (generation {}): {kind:?}", domain.generation())
            }
            Kind::Restart => write!(f, "{name} (generation {})", domain.generation()),
            Kind::Interrupt => {
                write!(f, "{name}:")?;
                let reasons = [
                    (request::TIMER, "timer"),
                    (request::RESCHEDULE, "reschedule"),
                    (request::CONSOLE, "console"),
                    (request::DEVICE, "device"),
                    (request::LOG, "log"),
                ];
                let present = reasons.into_iter().filter(|(bit, _)| detail & u64::from(*bit) != 0);
                present.into_iter().try_for_each(|(_, reason)| write!(f, " {reason}"))
            }
            Kind::Eviction => write!(f, "thread {detail} leaves {name}"),
            Kind::Sweep => {
                let (freed, returned) = (detail >> 32, detail as u32);
                write!(f, "{name}: {freed} shared objects freed, {returned} given back")
            }
            Kind::Visit => write!(f, "{name}: {detail} slots of the shared heap visited"),
            Kind::Pages => write!(f, "{name}: {detail} pages of private heap freed"),
            Kind::Quiesce => {
                let outcome = QuiesceOutcome::of_number(detail & 0xff)
                    .map_or("in an unknown way", QuiesceOutcome::name);
                write!(f, "{name}: a device was {outcome}, in {} us", detail >> 8)
            }
        }
    }
}
