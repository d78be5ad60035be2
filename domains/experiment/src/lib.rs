//! What experiments on a running system have in common: the [`Balance`] of what is in use before and after,
//! [`Random`], chance that a seed brings back, and [`Failure`], what they say of a broken promise.
//!
//! A library and no domain: the scenarios, the soak and the table of faults are linked with it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod balance;
mod failure;
mod random;

pub use balance::{Balance, Trouble};
pub use failure::Failure;
pub use random::Random;
