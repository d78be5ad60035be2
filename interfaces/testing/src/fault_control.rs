//! [`FaultControl`]: tells a driver under test when and how to fail.

use coppice_interfaces::{RpcResult, interface};
use coppice_rref::{Flat, Shareable};

use crate::Fault;

/// The point at which a driver raises a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum InjectionPoint {
    /// In the next call that submits requests, before they reach the device.
    BeforeSubmit,
    /// In the next call that submits requests, after they have reached the device and before completions are
    /// returned.
    AfterSubmit,
    /// On a thread of the driver's own, concurrently with calls.
    OwnThread,
}

/// A fault to raise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Injection {
    /// The fault.
    pub fault: Fault,
    /// The point at which to raise it.
    pub point: InjectionPoint,
}

/// The result of [`FaultControl::poll`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Poll {
    /// Raise this fault.
    Inject(Injection),
    /// Nothing to do; poll again later.
    None,
    /// A later instance of the driver has begun: the polling thread belongs to a dead one.
    Superseded,
}

/// The history of a driver's injections. Times are nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct InjectionRecord {
    /// The generation of the driver's latest instance.
    pub generation: u32,
    /// The time at which that instance was ready.
    pub begun_ns: u64,
    /// The duration of its start, the reset of its device included.
    pub start_ns: u64,
    /// The last generation that was about to raise a fault, and the time at which it was.
    pub raised: Option<(u32, u64)>,
    /// The last generation that continued after an injection, because the machine does not raise that fault.
    pub not_raised: Option<u32>,
}

/// Passes injections on to a driver. It is a domain of its own: the test calls the driver, and so the driver
/// cannot call the test.
#[interface]
pub trait FaultControl {
    /// Requests an injection into the driver's latest instance. Replaces one that has not been polled yet.
    /// For the test.
    fn set(&self, injection: Injection) -> RpcResult<()>;
    /// Returns the history of injections. For the test.
    fn record(&self) -> RpcResult<InjectionRecord>;
    /// Reports that instance `generation` is ready, after `start_ns`. Cancels an injection for an earlier
    /// one. For the driver.
    fn begin(&self, generation: u32, start_ns: u64) -> RpcResult<()>;
    /// Returns the pending injection, if any. Does not wait, because a driver has a deadline for one call,
    /// and so have the domains that it calls. For the driver.
    fn poll(&self, generation: u32) -> RpcResult<Poll>;
    /// Reports that the instance raises the fault right after this call. For the driver.
    fn about_to_raise(&self, generation: u32) -> RpcResult<()>;
    /// Reports that the instance continues after the injection. For the driver.
    fn not_raised(&self, generation: u32) -> RpcResult<()>;
}
