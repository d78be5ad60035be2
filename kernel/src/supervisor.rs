//! The kernel's own threads: one restarts domains by the manifest's policy, one drops objects that nobody holds a handle
//! to any more. Both may have to wait for domain code, so neither job is done where it comes up.

use alloc::vec::Vec;
use core::ptr::NonNull;

use coppice_abi::DomainId;

use crate::domain::Domain;
use crate::machine::machine;
use crate::proxy::{self, Proxy};
use crate::sync::Lock;
use crate::thread::{DEFAULT_PRIORITY, SpawnError, Thread, Work};
use crate::{load, trace, wait};

/// A life at least this long does not count as a crash in a row.
const GOOD_LIFE_NS: u64 = 1_000_000_000;
/// Crashes in a row that are answered at once.
const FREE_RESTARTS: u32 = 8;
/// The first pause after those; it doubles with each.
const FIRST_PAUSE_NS: u64 = 1_000_000;
/// The longest pause.
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;

const RESTARTS: wait::Key = wait::Key::Work(0);
const BURIALS: wait::Key = wait::Key::Work(1);

static TO_RESTART: Lock<Vec<&'static Domain>> = Lock::new(Vec::new());
static TO_BURY: Lock<Vec<Unclaimed>> = Lock::new(Vec::new());

struct Unclaimed(NonNull<Proxy>);

// SAFETY: a proxy without claims is whoever's holds this.
unsafe impl Send for Unclaimed {}

/// How a domain has fared lately.
#[derive(Clone, Copy)]
struct Record {
    slot: usize,
    restarted_ns: u64,
    in_a_row: u32,
}

/// Starts both threads.
pub(crate) fn start() -> Result<(), SpawnError> {
    const STACK: usize = 128 * 1024;
    for work in [restart_domains as fn(), bury_proxies as fn()] {
        Thread::spawn(DomainId::KERNEL, DEFAULT_PRIORITY, u64::MAX, STACK, Work::Kernel(work))?;
    }
    Ok(())
}

/// Lets a new life of `domain` begin soon.
pub(crate) fn request_restart(domain: &'static Domain) {
    TO_RESTART.lock().push(domain);
    wait::wake(RESTARTS, 1);
}

/// Takes a proxy that nobody has a claim to.
pub(crate) fn bury(proxy: NonNull<Proxy>) {
    TO_BURY.lock().push(Unclaimed(proxy));
    wait::wake(BURIALS, 1);
}

fn restart_domains() {
    let mut records: Vec<Record> = Vec::new();
    // When to restart whom. One that has to wait does not keep the others waiting.
    let mut plan: Vec<(u64, &'static Domain)> = Vec::new();
    loop {
        let next = plan.iter().map(|&(due_ns, _)| due_ns).min().unwrap_or(u64::MAX);
        wait::block(RESTARTS, || TO_RESTART.lock().is_empty(), next);
        for domain in core::mem::take(&mut *TO_RESTART.lock()) {
            if plan.iter().all(|(_, planned)| planned.slot != domain.slot) {
                plan.push((due(&mut records, domain.slot), domain));
            }
        }
        while let Some(index) = plan.iter().position(|&(due_ns, _)| due_ns <= machine().now_ns()) {
            let (_, domain) = plan.swap_remove(index);
            restart(domain);
        }
    }
}

fn restart(domain: &'static Domain) {
    match load::start(domain) {
        Ok(()) => {
            trace::record(trace::Kind::Restart, domain.last_life(), 0);
            log::debug!(
                "{} lives again: generation {}",
                domain.manifest.name,
                domain.last_life().generation()
            );
        }
        // Somebody else was quicker.
        Err(load::StartError::State(_)) => {}
        Err(error) => log::error!("{} did not start again: {error}", domain.manifest.name),
    }
}

/// When to start a domain again that has just died: later and later if it keeps crashing.
fn due(records: &mut Vec<Record>, slot: usize) -> u64 {
    let now = machine().now_ns();
    let known = records.iter().position(|record| record.slot == slot);
    let index = known.unwrap_or_else(|| {
        records.push(Record { slot, restarted_ns: 0, in_a_row: 0 });
        records.len() - 1
    });
    let record = &mut records[index];
    let is_first = known.is_none() || now.saturating_sub(record.restarted_ns) > GOOD_LIFE_NS;
    record.in_a_row = if is_first { 0 } else { record.in_a_row + 1 };
    let pause = match record.in_a_row.checked_sub(FREE_RESTARTS) {
        // So often doubled it is the longest.
        Some(beyond) => (FIRST_PAUSE_NS << beyond.min(32)).min(LONGEST_PAUSE_NS),
        None => 0,
    };
    record.restarted_ns = now + pause;
    record.restarted_ns
}

/// Sleeps until the clock passes `deadline_ns`.
pub(crate) fn sleep_until(deadline_ns: u64) {
    while machine().now_ns() < deadline_ns {
        wait::block(wait::Key::Nothing, || true, deadline_ns);
    }
}

fn bury_proxies() {
    loop {
        wait::block(BURIALS, || TO_BURY.lock().is_empty(), u64::MAX);
        let due = core::mem::take(&mut *TO_BURY.lock());
        for Unclaimed(proxy) in due {
            // SAFETY: `bury`'s callers gave up the last claim.
            unsafe { proxy::finish(proxy) };
        }
    }
}
