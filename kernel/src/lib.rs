//! The machine-independent kernel.
//!
//! Reading order: [`machine`] (what it runs on) and [`trap`] (what interrupts it); [`cpu`], [`thread`],
//! [`scheduler`], [`wait`] (who runs); [`frames`], [`stack`], [`shared`], [`quota`] (who has which memory); [`domain`],
//! [`load`], [`proxy`] (isolation domains and how they reach each other); [`world`] and [`terminate`] (how one ends);
//! [`services`] and [`control`] (what domains may ask for); [`audit`] (whether all of it adds up).
//!
//! One rule holds everywhere: kernel code runs inside a *section* ([`sync::Section`]), from its first line to its
//! last. So it is never preempted, diverted or ended half-way, and its locks are never held by a thread that does not
//! run. A thread leaves its section by returning to domain code, or by switching to a thread that is in one too.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod archive;
mod audit;
mod boot;
mod checkpoint;
mod control;
pub mod cpu;
mod crash;
mod domain;
mod fifo;
mod frames;
pub mod heap;
pub mod image;
mod load;
mod logger;
pub mod machine;
mod options;
mod proxy;
mod quota;
mod scheduler;
mod services;
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
mod world;

pub use boot::boot;
