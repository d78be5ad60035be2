//! The machine-independent kernel.
//!
//! It is built in storeys, each a folder. Code imports from its own storey and from those above it in this
//! table, never from one below it (`kernel/tests/storeys.rs` checks that):
//!
//! | storey | content |
//! |---|---|
//! | `platform` | [`machine`] contract, [`pci`] functions, exceptions, locks, sections, boot [`archive`] |
//! | `memory` | frames and their owners, the kernel's [`heap`], stacks |
//! | `sched` | CPUs, threads, run queues, waiting, stops of the world, the trace ring |
//! | `device` | grants of devices, interrupts, the right to DMA, quiescing; the console |
//! | `domain` | the domain table, [`image`]s, calls into domains, proxies, the shared heap, quotas |
//! | `fault` | crashes, termination, the crash log, post-mortems |
//! | `policy` | start and restart, deferred work, the watchdog, CPU shares, revocation |
//! | `entry` | [`trap`]s, the checkpoint, services for domains, the `Control` object, the audit, [`boot()`] |
//!
//! One rule holds everywhere: kernel code runs inside a *section* ([`sync::Section`]), from its first line to
//! its last. So it is never preempted, diverted or terminated half-way, and a thread that holds one of its
//! locks is always running. A thread leaves its section by returning to domain code, or by switching to a
//! thread that is in a section too.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod device;
mod domain;
mod entry;
mod fault;
mod memory;
mod platform;
mod policy;
mod sched;

pub use domain::image;
pub use entry::boot::boot;
pub use entry::trap;
pub use fault::crash_log::last_words;
pub use memory::heap;
pub use platform::latency::InterruptsOff;
pub use platform::{archive, machine, pci, sync};
pub use sched::cpu;
