//! The machine-independent kernel.
//!
//! Reading order: [`machine`] (what it runs on) and [`trap`] (what interrupts it); [`cpu`], [`thread`],
//! [`scheduler`], [`wait`] (who runs); [`frames`], [`stack`], [`shared`], [`quota`] (who has which memory); [`domain`],
//! [`load`], [`proxy`] (isolation domains and how they reach each other); [`world`] and [`terminate`] (how one ends),
//! [`crash`] and [`crash_record`] (of what); [`watchdog`], [`mark`] and [`share`] (who takes too long or too much);
//! [`pci`] and [`device`] (what drivers drive); [`family`], [`supervisor`], [`revoke`] and their [`agenda`] (who answers for one, and what comes after its end);
//! [`services`] and [`control`] (what domains may ask for); [`audit`] (whether all of it adds up).
//!
//! One rule holds everywhere: kernel code runs inside a *section* ([`sync::Section`]), from its first line to its
//! last. So it is never preempted, diverted or ended half-way, and its locks are never held by a thread that does not
//! run. A thread leaves its section by returning to domain code, or by switching to a thread that is in one too.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod agenda;
pub mod archive;
mod audit;
mod backtrace;
mod boot;
mod checkpoint;
mod control;
pub mod cpu;
mod crash;
mod crash_log;
mod device;
mod domain;
mod extended;
mod family;
mod fifo;
mod frames;
pub mod heap;
pub mod image;
mod load;
mod logger;
pub mod machine;
mod mark;
mod options;
pub mod pci;
mod post_mortem;
mod proxy;
mod quota;
mod revoke;
mod scheduler;
mod services;
mod share;
mod shared;
mod stack;
mod supervisor;
mod switch;
pub mod sync;
mod terminate;
mod thread;
mod trace;
pub mod trap;
mod types;
mod wait;
mod watchdog;
mod world;

pub use boot::boot;
pub use crash_log::last_records;
