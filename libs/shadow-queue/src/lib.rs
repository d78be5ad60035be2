//! The parts that shadows of devices with queues have in common.
//!
//! A shadow holds a queue of its driver. When the driver crashes, the queue is lost, and the shadow opens one
//! of the restarted driver, if that has the same device. This library is the recovery itself; each shadow
//! adds how its calls, requests and packets are treated.
//!
//! - [`Phase`]: the state of a queue between healthy and given up, with the transitions.
//! - [`Driver`]: calls that are repeated with the restarted driver.
//! - [`KnownDevice`]: the check that a restarted driver has the same device.
//! - [`Timeouts`]: the shadow's arguments `recovery-timeout=` and `max-wait=`.
//!
//! The healthy path of a shadow is one test of its [`Phase`]: there is no lock, no allocation and no read of
//! the clock.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod driver;
mod known_device;
mod phase;
mod timeouts;

pub use driver::{CallError, Driver, pause_before_retry};
pub use known_device::{KnownDevice, OtherDevice};
pub use phase::Phase;
pub use timeouts::{BadTimeout, Timeouts, nanoseconds};
