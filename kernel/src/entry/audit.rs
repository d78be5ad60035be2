//! The audit: accounts for every frame of the machine, and compares the kernel's data structures with each
//! other.
//!
//! Much of the kernel's state is recorded twice: the frame table has an owner for each block, and the owner
//! has a list of its blocks; a proxy counts its references, and the references themselves exist. Nothing has
//! leaked while both records agree. [`run`] compares all of them with the world stopped, so the result is
//! exact and not a sample. A stopped CPU holds no kernel lock (`sync`), which is checked, too. The audit does
//! not allocate, so it does not change its own counts.
//!
//! The kernel's own heap has a count of bytes by payer and purpose, which is compared with the threads,
//! proxies and lists that exist.
//!
//! Memory that the machine does not report is not covered: on bare, the kernel's image, the boot archive and
//! the page tables; on hosted, the process.

use core::fmt;

use coppice_abi::{DomainId, SLOT_LIMIT, TypeNumber};
use coppice_control::{AuditLine, AuditSummary, DomainState};
use coppice_interfaces::Text;
use coppice_rref::Payer;
use coppice_rref::heap::SPAN_BYTES;

use crate::device;
use crate::domain::proxy::{self, ReferenceAudit};
use crate::domain::{self, Domain, kernel_calls, quota, reaper, shared_heap};
use crate::entry::control;
use crate::fault::terminate;
use crate::memory::heap::Purpose;
use crate::memory::{frames, heap, stack};
use crate::platform::machine::PAGE_SIZE;
use crate::platform::sync::Lock;
use crate::sched::cpu::cpus;
use crate::sched::thread::{self, State, Survival};
use crate::sched::wait;
use crate::sched::world::{self, Stopped};

/// The maximum number of findings whose text is kept.
const FINDING_LIMIT: usize = 16;

/// The frames of the domain in a slot.
#[derive(Clone, Copy)]
struct DomainFrames {
    heap: usize,
    /// Frames of DMA memory; not counted in `heap`.
    dma: usize,
    image: usize,
    stacks: usize,
}

/// The result of an audit.
struct Report {
    free: usize,
    table: usize,
    kernel_heap: usize,
    shared: usize,
    idle_stacks: usize,
    spare_stacks: usize,
    /// By slot; the kernel's entry counts only stacks.
    by_slot: [DomainFrames; SLOT_LIMIT],
    findings: [Option<Text<160>>; FINDING_LIMIT],
    found: u32,
}

static LAST: Lock<Report> = Lock::new(Report {
    free: 0,
    table: 0,
    kernel_heap: 0,
    shared: 0,
    idle_stacks: 0,
    spare_stacks: 0,
    by_slot: [DomainFrames { heap: 0, dma: 0, image: 0, stacks: 0 }; SLOT_LIMIT],
    findings: [const { None }; FINDING_LIMIT],
    found: 0,
});

/// Runs an audit, and keeps its result for [`line`] and [`finding`]. In the outermost section, holding no
/// lock.
pub(crate) fn run() -> AuditSummary {
    let stopped = world::stop();
    let mut report = LAST.lock();
    let total = report.fill(&stopped);
    AuditSummary { frames: total as u64, lines: report.lines().count() as u32, findings: report.found }
}

/// Returns line `number` of the last audit.
pub(crate) fn line(number: u32) -> Option<AuditLine> {
    LAST.lock().lines().nth(number as usize)
}

/// Returns finding `number` of the last audit, if it was kept.
pub(crate) fn finding(number: u32) -> Option<Text<160>> {
    *LAST.lock().findings.get(number as usize)?
}

impl Report {
    /// Counts and compares. Returns the number of frames of the machine.
    fn fill(&mut self, stopped: &Stopped) -> usize {
        let mut findings = [const { None }; FINDING_LIMIT];
        let mut found = 0_u32;
        let mut add_finding = |finding: fmt::Arguments<'_>| {
            if let Some(entry) = findings.get_mut(found as usize) {
                *entry = Some(Text::format(finding));
            }
            found += 1;
        };
        let tally = frames::audit(&mut add_finding);
        self.free = tally.free;
        self.shared = tally.shared;
        self.count_kernel(&tally, &mut add_finding);
        self.count_stacks(stopped, &tally, &mut add_finding);
        self.count_domains(&tally, &mut add_finding);
        check_threads(stopped, &mut add_finding);
        check_kernel_heap(stopped, &mut add_finding);
        wait::audit(stopped, &mut add_finding);
        device::audit(stopped, device_owner, &mut add_finding);
        check_shared_heap(stopped, &tally, &mut add_finding);
        check_quotas(stopped, &mut add_finding);
        let walk = |references: &mut ReferenceAudit| all_references(stopped, references);
        ReferenceAudit::audit(stopped, walk, &mut add_finding);
        let sum: u64 = self.lines().map(|line| line.frames).sum();
        if sum != tally.total as u64 {
            add_finding(format_args!(
                "the lines add up to {sum} frames, but the machine has {}",
                tally.total
            ));
        }
        (self.findings, self.found) = (findings, found);
        tally.total
    }

    fn count_kernel(&mut self, tally: &frames::Tally, add_finding: &mut dyn FnMut(fmt::Arguments<'_>)) {
        (self.table, self.kernel_heap) = (tally.own, heap::frames());
        let owned = tally.slots[DomainId::KERNEL.slot()];
        if owned != self.table + self.kernel_heap {
            let (table, heap) = (self.table, self.kernel_heap);
            add_finding(format_args!(
                "the kernel has {owned} frames, but {table} in its table and {heap} in its heap"
            ));
        }
    }

    /// Counts stacks, which are in one pool: a stack belongs to the domain of the thread that runs on it.
    fn count_stacks(
        &mut self,
        _: &Stopped,
        tally: &frames::Tally,
        add_finding: &mut dyn FnMut(fmt::Arguments<'_>),
    ) {
        self.by_slot.iter_mut().for_each(|frames| frames.stacks = 0);
        thread::for_each(|thread| self.by_slot[thread.domain.slot()].stacks += thread.stack_frames());
        (self.idle_stacks, self.spare_stacks) = stack::frames_without_thread();
        let threads: usize = self.by_slot.iter().map(|frames| frames.stacks).sum();
        let all = threads + self.idle_stacks + self.spare_stacks;
        if all != tally.stacks {
            let (idle, spare, owned) = (self.idle_stacks, self.spare_stacks, tally.stacks);
            add_finding(format_args!(
                "stacks have {owned} frames, but {threads} of threads, {idle} idle and {spare} spare"
            ));
        }
    }

    fn count_domains(&mut self, tally: &frames::Tally, add_finding: &mut dyn FnMut(fmt::Arguments<'_>)) {
        for domain in domain::all() {
            let owned = tally.slots[domain.slot];
            let Some((heap, dma, image)) = domain.frames() else {
                add_finding(format_args!(
                    "{}: one of its locks is held while the world is stopped",
                    domain.manifest.name
                ));
                continue;
            };
            let frames = &mut self.by_slot[domain.slot];
            (frames.heap, frames.dma, frames.image) = (heap - dma, dma, image);
            if owned != heap + image {
                let name = &domain.manifest.name;
                add_finding(format_args!(
                    "{name} has {owned} frames, but {heap} in its heap and {image} in its image"
                ));
            }
        }
        let slots = 2 + domain::all().len();
        for (slot, owned) in tally.slots.iter().enumerate().skip(slots).filter(|(_, owned)| **owned > 0) {
            add_finding(format_args!("slot {slot} has {owned} frames but no domain"));
        }
    }

    /// All frames by owner and purpose.
    fn lines(&self) -> impl Iterator<Item = AuditLine> {
        let line = |owner: &str, what: &str, frames: usize| AuditLine {
            owner: Text::new(owner),
            what: Text::new(what),
            frames: frames as u64,
        };
        let kernel = [
            line("none", "free", self.free),
            line("shared heap", "spans", self.shared),
            line("kernel", "frame table", self.table),
            line("kernel", "heap", self.kernel_heap),
            line("kernel", "stacks", self.by_slot[DomainId::KERNEL.slot()].stacks),
            line("kernel", "idle stacks", self.idle_stacks),
            line("kernel", "spare stacks", self.spare_stacks),
        ];
        let domains = domain::all().iter().flat_map(move |domain| {
            let (frames, name) = (self.by_slot[domain.slot], &domain.manifest.name);
            [
                line(name, "private heap", frames.heap),
                line(name, "DMA memory", frames.dma),
                line(name, "image", frames.image),
                line(name, "stacks", frames.stacks),
            ]
        });
        kernel.into_iter().chain(domains)
    }
}

fn device_owner(slot: usize) -> device::Owner {
    let domain = domain::get(slot).expect("devices are granted to domains of the table");
    let is_dead = domain.instance().is_none() && domain.state() == DomainState::Dead;
    device::Owner { name: &domain.manifest.name, is_dead }
}

/// Checks each domain's thread count, and that every ready thread is in a run queue.
fn check_threads(_: &Stopped, add_finding: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let (mut ready, mut running) = (0_usize, 0_usize);
    let [mut census, mut abroad, mut leaving] = [[0_u32; SLOT_LIMIT]; 3];
    thread::for_each(|thread| {
        // SAFETY: T2: the world is stopped.
        match unsafe { thread.fields() }.state {
            State::Ready => ready += 1,
            State::Running => running += 1,
            State::Blocked => {}
            State::Ended => {
                add_finding(format_args!("thread {} has ended but is in the thread table", thread.id))
            }
        }
        let slot = thread.domain.slot();
        let is_last = |domain: &Domain| domain.last_instance() == thread.domain;
        if domain::get(slot).is_some_and(is_last) {
            census[slot] += 1;
        }
        // SAFETY: T3: the world is stopped.
        match unsafe { thread.fields() }.survival {
            Survival::Current => {}
            Survival::Abroad => abroad[slot] += 1,
            Survival::Leaving => leaving[slot] += 1,
        }
    });
    for domain in domain::all() {
        let (counted, existing) = (domain.threads(), census[domain.slot]);
        if counted != existing {
            add_finding(format_args!(
                "{}: {counted} threads are counted, but {existing} exist",
                domain.manifest.name
            ));
        }
        let counted = (domain.threads_abroad(), domain.threads_leaving());
        let existing = (abroad[domain.slot], leaving[domain.slot]);
        if counted != existing {
            add_finding(format_args!(
                "{}: {counted:?} threads of ended instances are counted abroad and leaving, but {existing:?} exist",
                domain.manifest.name
            ));
        }
    }
    let (mut queued, mut busy) = (0, 0);
    for cpu in cpus() {
        cpu.queue.lock().for_each(|_| queued += 1);
        busy += usize::from(!cpu.running().is_idle());
    }
    if (ready, running) != (queued, busy) {
        add_finding(format_args!(
            "{ready} threads are ready but {queued} queued; {running} run, but {busy} CPUs are busy"
        ));
    }
}

/// Compares the counts of the kernel's heap with the threads, proxies and lists that have its bytes.
fn check_kernel_heap(_: &Stopped, add_finding: &mut dyn FnMut(fmt::Arguments<'_>)) {
    heap::audit(add_finding);
    let mut threads = [0_usize; SLOT_LIMIT];
    thread::for_each(|thread| threads[thread.domain.slot()] += 1);
    // The idle ones.
    threads[DomainId::KERNEL.slot()] += cpus().count();
    for (slot, &existing) in threads.iter().enumerate() {
        let counted = heap::count(slot, Purpose::Thread).objects;
        if counted != existing {
            add_finding(format_args!("slot {slot} is charged for {counted} threads, but {existing} exist"));
        }
    }
    let mut proxies = reaper::waiting() as usize + reaper::in_destructors() as usize;
    proxies += proxy::with_references();
    let charged: usize = (0..SLOT_LIMIT).map(|slot| heap::count(slot, Purpose::Proxy).objects).sum();
    if charged != proxies {
        add_finding(format_args!("{charged} proxies are charged, but {proxies} exist"));
    }
    let tables = thread::table_bytes() + wait::table_bytes() + kernel_calls::table_bytes();
    let counted = heap::count(DomainId::KERNEL.slot(), Purpose::Table).bytes;
    if counted != tables {
        add_finding(format_args!("the kernel's tables take {counted} bytes, but have {tables}"));
    }
    for domain in domain::all() {
        let counted = heap::count(domain.slot, Purpose::HeapList).bytes;
        // A held lock is a finding of its own.
        let existing = domain.heap_list_bytes().unwrap_or(counted);
        if counted != existing {
            add_finding(format_args!(
                "{}: the list of its private heap takes {counted} bytes, but has {existing}",
                domain.manifest.name
            ));
        }
    }
}

fn check_shared_heap(
    stopped: &Stopped,
    tally: &frames::Tally,
    add_finding: &mut dyn FnMut(fmt::Arguments<'_>),
) {
    let counted = shared_heap::audit(stopped, add_finding);
    let frames = counted.span_bytes / PAGE_SIZE;
    if frames != tally.shared {
        let spans = counted.span_bytes / SPAN_BYTES;
        add_finding(format_args!(
            "the shared heap has {} frames, but its {spans} spans take {frames}",
            tally.shared
        ));
    }
}

/// Checks that the charged bytes and the unused bytes of each quota add up to it.
fn check_quotas(stopped: &Stopped, add_finding: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let mut accounts = [(Payer::NONE, 0); SLOT_LIMIT];
    for domain in domain::all() {
        accounts[domain.slot] = quota::left(domain, stopped);
    }
    let mut charged = [0_i64; SLOT_LIMIT];
    shared_heap::for_each_charge(stopped, |header, bytes| {
        let payer = header.payer();
        // Charges of a dead instance count for no domain.
        if payer.is_slot() || accounts[payer.slot()].0 == payer {
            charged[payer.slot()] += bytes as i64;
        }
    });
    for domain in domain::all().iter().filter(|domain| domain.last_instance() != DomainId::NONE) {
        let (left, charged) = (accounts[domain.slot].1, charged[domain.slot]);
        let quota = domain.allowance().shared_bytes;
        if (left + charged) as u64 != quota {
            let name = &domain.manifest.name;
            add_finding(format_args!(
                "{name}: {charged} bytes charged and {left} left do not add up to the quota of {quota}"
            ));
        }
    }
}

/// Adds all references to proxies: handles, export proxies, and calls whose callers have died.
fn all_references(stopped: &Stopped, references: &mut ReferenceAudit) {
    shared_heap::for_each_charge(stopped, |header, _| {
        if header.owner() != DomainId::NONE && header.type_number() == TypeNumber::HANDLE_CELL {
            // SAFETY: a cell in use, by its type (R4).
            unsafe { references.add_cell(header.value()) };
        }
    });
    let exports = domain::all().iter().map(|domain| &domain.export).chain([control::export()]);
    // An export proxy whose lock is held is skipped, and the missing reference becomes a finding.
    exports
        .filter_map(Lock::try_lock)
        .for_each(|export| export.iter().for_each(|export| references.add_export(export)));
    thread::for_each(|thread| {
        for call in terminate::calls_for_the_dead(stopped, thread) {
            // SAFETY: the code that marks a call for a dead caller retains the proxy for it.
            unsafe { references.add_call(call.core()) };
        }
    });
}
