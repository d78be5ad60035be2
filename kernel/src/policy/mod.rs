//! Policy: when a domain starts and restarts, how long it may take, how much it may use, and what becomes of it otherwise.
//!
//! Deferred work and what it does import each other: a work item is an enum of all that there is to do, and not a boxed
//! closure, so that an item can be compared and taken back, and a checkpoint can request one without memory.

pub(crate) mod call_timestamp;
pub(crate) mod cpu_share;
pub(crate) mod deferred_work;
pub(crate) mod restart;
pub(crate) mod revoke;
pub(crate) mod start;
mod suspects;
pub(crate) mod watchdog;
