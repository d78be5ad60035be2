//! What experiments on a running system have in common: the [`Balance`] of what is in use before and after,
//! [`Random`], chance that a seed brings back, [`Histogram`], how often which time came up, [`Samples`] of the time-stamp
//! counter, [`Victim`], what is ended to see what that costs, [`Options`] of benchmarks, [`Failure`], what they say of a
//! broken promise, and [`try_claims`], which tries one promise after the other.
//!
//! A library and no domain: the scenarios, the soak and the benchmarks are linked with it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod balance;
mod claims;
mod failure;
mod histogram;
mod options;
mod random;
mod samples;
mod victim;

pub use balance::{Balance, Trouble};
pub use claims::{Claim, Scene, try_claims};
pub use failure::Failure;
pub use histogram::Histogram;
pub use options::Options;
pub use random::Random;
pub use samples::{Budget, Samples, figure};
pub use victim::{Spared, Victim};
