//! Scheduling: CPUs, threads, waiting, and stops of the world.
//!
//! These modules import each other in a circle, on purpose: a run queue holds threads, a thread that blocks
//! leaves its CPU, an idle CPU is held still during a stop of the world, and each switch charges CPU time.
//! They share one lock order and the invariants T1 to T4 of [`thread::Thread`]. Of a domain they know only
//! the id and whether that instance is alive ([`liveness`]); [`hooks`] lead upwards.

pub mod cpu;
pub(crate) mod cpu_local;
pub(crate) mod cpu_time;
pub(crate) mod hooks;
pub(crate) mod liveness;
pub(crate) mod scheduler;
pub(crate) mod switch;
pub(crate) mod thread;
pub(crate) mod thread_queue;
pub(crate) mod trace;
pub(crate) mod wait;
pub(crate) mod watch_tick;
pub(crate) mod world;
