//! The audit: every frame of the machine by who has it, and the kernel's books held against each other.
//!
//! What the kernel knows it often knows in two ways: the frame table has an owner for each block, and the owner has a list of
//! its blocks; a proxy counts its references, and the references are there to be counted. As long as both say the same, nothing is
//! lost. [`run`] compares all of them with the world stopped: an exact look and not a sample. A stopped CPU holds no lock
//! of the kernel's (`sync`), which is checked, too; it allocates nothing, so that it does not change what it counts.
//!
//! Memory that the machine does not report is in no book: on bare the kernel's image, the boot archive and the page tables, on
//! hosted the process with the kernel's own heap.

use core::fmt;

use coppice_abi::crossing::Status;
use coppice_abi::{DomainId, SLOT_LIMIT};
use coppice_interfaces::{AuditLine, AuditSummary, DomainState, HANDLE_CELL, Text};
use coppice_rref::Payer;
use coppice_rref::heap::SPAN_BYTES;

use crate::device;
use crate::domain::proxy::ReferenceAudit;
use crate::domain::{self, Domain, quota, shared_heap};
use crate::entry::control;
use crate::memory::{frames, heap, stack};
use crate::platform::machine::PAGE_SIZE;
use crate::platform::sync::Lock;
use crate::sched::cpu::cpus;
use crate::sched::thread::{self, State};
use crate::sched::wait;
use crate::sched::world::{self, Stopped};

/// How many findings are kept word for word.
const KEPT: usize = 16;

/// What one slot's domain has, in frames.
#[derive(Clone, Copy)]
struct DomainFrames {
    heap: usize,
    /// For DMA; not counted in `heap`.
    dma: usize,
    image: usize,
    stacks: usize,
}

/// What the last audit saw.
struct Report {
    free: usize,
    table: usize,
    kernel_heap: usize,
    shared: usize,
    idle_stacks: usize,
    spare_stacks: usize,
    /// By slot; the kernel's has only stacks.
    by_slot: [DomainFrames; SLOT_LIMIT],
    findings: [Option<Text<160>>; KEPT],
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
    findings: [const { None }; KEPT],
    found: 0,
});

/// Audits, and keeps what it sees for [`line`] and [`finding`]. In the outermost section, holding no lock.
pub(crate) fn run() -> AuditSummary {
    let stopped = world::stop();
    let mut report = LAST.lock();
    let total = report.fill(&stopped);
    AuditSummary { frames: total as u64, lines: report.lines().count() as u32, findings: report.found }
}

/// Line `number` of the last audit.
pub(crate) fn line(number: u32) -> Option<AuditLine> {
    LAST.lock().lines().nth(number as usize)
}

/// Finding `number` of the last audit, if it was kept.
pub(crate) fn finding(number: u32) -> Option<Text<160>> {
    *LAST.lock().findings.get(number as usize)?
}

impl Report {
    /// Counts and compares. Answers how many frames the machine has.
    fn fill(&mut self, stopped: &Stopped) -> usize {
        let mut findings = [const { None }; KEPT];
        let mut found = 0_u32;
        let mut find = |finding: fmt::Arguments<'_>| {
            if let Some(place) = findings.get_mut(found as usize) {
                *place = Some(Text::format(finding));
            }
            found += 1;
        };
        let tally = frames::audit(&mut find);
        self.free = tally.free;
        self.shared = tally.shared;
        self.count_kernels(&tally, &mut find);
        self.count_stacks(stopped, &tally, &mut find);
        self.count_domains(&tally, &mut find);
        check_threads(stopped, &mut find);
        wait::audit(stopped, &mut find);
        device::audit(stopped, device_owner, &mut find);
        check_shared_heap(stopped, &tally, &mut find);
        check_quotas(stopped, &mut find);
        let walk = |references: &mut ReferenceAudit| all_references(stopped, references);
        ReferenceAudit::audit(stopped, walk, &mut find);
        let sum: u64 = self.lines().map(|line| line.frames).sum();
        if sum != tally.total as u64 {
            find(format_args!("somebody has {sum} frames, of {} that the machine has", tally.total));
        }
        (self.findings, self.found) = (findings, found);
        tally.total
    }

    fn count_kernels(&mut self, tally: &frames::Tally, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
        (self.table, self.kernel_heap) = (tally.own, heap::frames());
        let owned = tally.slots[DomainId::KERNEL.slot()];
        if owned != self.table + self.kernel_heap {
            let (table, heap) = (self.table, self.kernel_heap);
            find(format_args!(
                "the kernel has {owned} frames, {table} for its table and {heap} for its heap"
            ));
        }
    }

    /// Stacks are in one pool; each is whose thread is on it.
    fn count_stacks(&mut self, _: &Stopped, tally: &frames::Tally, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
        self.by_slot.iter_mut().for_each(|frames| frames.stacks = 0);
        thread::for_each(|thread| self.by_slot[thread.domain.slot()].stacks += thread.stack_frames());
        (self.idle_stacks, self.spare_stacks) = stack::frames_without_thread();
        let threads: usize = self.by_slot.iter().map(|frames| frames.stacks).sum();
        let all = threads + self.idle_stacks + self.spare_stacks;
        if all != tally.stacks {
            let (idle, spare, owned) = (self.idle_stacks, self.spare_stacks, tally.stacks);
            find(format_args!(
                "stacks have {owned} frames: {threads} of threads, {idle} idle, {spare} spare"
            ));
        }
    }

    fn count_domains(&mut self, tally: &frames::Tally, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
        for domain in domain::all() {
            let owned = tally.slots[domain.slot];
            let Some((heap, dma, image)) = domain.frames() else {
                find(format_args!(
                    "{}: a lock of its is held while the world is stopped",
                    domain.manifest.name
                ));
                continue;
            };
            let frames = &mut self.by_slot[domain.slot];
            (frames.heap, frames.dma, frames.image) = (heap - dma, dma, image);
            if owned != heap + image {
                let name = &domain.manifest.name;
                find(format_args!("{name} has {owned} frames: {heap} of its heap, {image} of its image"));
            }
        }
        let slots = 2 + domain::all().len();
        for (slot, owned) in tally.slots.iter().enumerate().skip(slots).filter(|(_, owned)| **owned > 0) {
            find(format_args!("slot {slot} is no domain's and has {owned} frames"));
        }
    }

    /// All frames by who has them.
    fn lines(&self) -> impl Iterator<Item = AuditLine> {
        let line = |owner: &str, what: &str, frames: usize| AuditLine {
            owner: Text::new(owner),
            what: Text::new(what),
            frames: frames as u64,
        };
        let kernels = [
            line("nobody", "free", self.free),
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
        kernels.into_iter().chain(domains)
    }
}

fn device_owner(slot: usize) -> device::Owner {
    let domain = domain::get(slot).expect("devices are granted to domains of the table");
    let is_dead = domain.instance().is_none() && domain.state() == DomainState::Dead;
    device::Owner { name: &domain.manifest.name, is_dead }
}

/// Threads are counted for their domains, and whoever is ready to run is in a queue.
fn check_threads(_: &Stopped, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let (mut ready, mut running) = (0_usize, 0_usize);
    let mut census = [0_u32; SLOT_LIMIT];
    thread::for_each(|thread| {
        // SAFETY: T2: the world is stopped.
        match unsafe { thread.fields() }.state {
            State::Ready => ready += 1,
            State::Running => running += 1,
            State::Blocked => {}
            State::Ended => find(format_args!("thread {} has ended and is in the table", thread.id)),
        }
        let is_last = |domain: &Domain| domain.last_instance() == thread.domain;
        if domain::get(thread.domain.slot()).is_some_and(is_last) {
            census[thread.domain.slot()] += 1;
        }
    });
    for domain in domain::all() {
        let (counted, there) = (domain.threads(), census[domain.slot]);
        if counted != there {
            find(format_args!("{}: {counted} threads are counted, and {there} there", domain.manifest.name));
        }
    }
    let (mut queued, mut busy) = (0, 0);
    for cpu in cpus() {
        cpu.queue.lock().for_each(|_| queued += 1);
        busy += usize::from(!cpu.running().is_idle());
    }
    if (ready, running) != (queued, busy) {
        find(format_args!("{ready} threads are ready and {queued} queued; {running} run, on {busy} CPUs"));
    }
}

fn check_shared_heap(stopped: &Stopped, tally: &frames::Tally, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let counted = shared_heap::audit(stopped, find);
    let frames = counted.span_bytes / PAGE_SIZE;
    if frames != tally.shared {
        let spans = counted.span_bytes / SPAN_BYTES;
        find(format_args!("the shared heap has {} frames, its {spans} spans {frames}", tally.shared));
    }
}

/// What is charged and what is left make up each quota.
fn check_quotas(stopped: &Stopped, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let mut books = [(Payer::NONE, 0); SLOT_LIMIT];
    for domain in domain::all() {
        books[domain.slot] = quota::left(domain, stopped);
    }
    let mut charged = [0_i64; SLOT_LIMIT];
    shared_heap::for_each_charge(stopped, |header, bytes| {
        let payer = header.payer();
        // What a instance that is over paid for is nobody's charge.
        if books[payer.slot()].0 == payer {
            charged[payer.slot()] += bytes as i64;
        }
    });
    for domain in domain::all().iter().filter(|domain| domain.last_instance() != DomainId::NONE) {
        let (left, charged) = (books[domain.slot].1, charged[domain.slot]);
        let quota = domain.allowance().shared_bytes;
        if (left + charged) as u64 != quota {
            let name = &domain.manifest.name;
            find(format_args!("{name}: {charged} bytes are charged and {left} left, of a quota of {quota}"));
        }
    }
}

/// Shows all references to proxies: handles, ports, and calls whose callers have died.
fn all_references(stopped: &Stopped, references: &mut ReferenceAudit) {
    shared_heap::for_each_charge(stopped, |header, _| {
        if header.owner() != DomainId::NONE && header.type_id() == HANDLE_CELL {
            // SAFETY: a cell in use, by its type (R4).
            unsafe { references.add_cell(header.value()) };
        }
    });
    let exports = domain::all().iter().map(|domain| &domain.export).chain([control::export()]);
    // One whose lock is held would be missed, and found so.
    exports
        .filter_map(Lock::try_lock)
        .for_each(|export| export.iter().for_each(|export| references.add_export(export)));
    thread::for_each(|thread| {
        let mut at = thread.control().top;
        // SAFETY: C1, and the thread is stopped.
        while let Some(continuation) = unsafe { at.as_ref() } {
            if continuation.status & Status::CALLER_DIED != 0 {
                // SAFETY: whoever says that a caller has died retains the proxy for the call.
                unsafe { references.add_call(continuation.core) };
            }
            at = continuation.previous;
        }
    });
}
