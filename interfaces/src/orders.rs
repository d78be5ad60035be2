//! [`Orders`]: tells a driver that is being tried when and how to go wrong.

use coppice_interface_macros::interface;
use coppice_rref::{Flat, Shareable};

use crate::{Fault, RpcResult};

/// Where a driver goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Place {
    /// In the next call that hands in requests, before they reach the device.
    Before,
    /// In the next call that hands in requests, when they have, and with the answers in hand.
    Behind,
    /// On a thread of its own, while calls are under way.
    Aside,
}

/// What a driver is to do to itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Order {
    /// How to go wrong.
    pub fault: Fault,
    /// Where.
    pub place: Place,
}

/// What a driver that asks is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum News {
    /// To carry that out.
    Order(Order),
    /// To ask again later.
    Nothing,
    /// That a later instance has begun: who asks is what is left of a dead one.
    Over,
}

/// What came of orders. Times are nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Record {
    /// The driver's latest instance.
    pub generation: u32,
    /// When that had begun.
    pub begun_ns: u64,
    /// How long it took to, its device's reset included.
    pub start_ns: u64,
    /// The last instance that carried an order out, and when it was about to.
    pub raised: Option<(u32, u64)>,
    /// The last instance that went on after it had, since the machine does not raise that fault.
    pub survived: Option<u32>,
}

/// Passes orders on to a driver. A domain of its own, because whoever gives them calls the driver, and so cannot be called
/// by it.
#[interface]
pub trait Orders {
    /// For who gives orders: the driver's latest instance is to carry this one out. It replaces one that nobody has taken.
    fn give(&self, order: Order) -> RpcResult<()>;
    /// What came of them.
    fn record(&self) -> RpcResult<Record>;
    /// For the driver: the instance `generation` has begun, in so many nanoseconds. Orders for an earlier one are void.
    fn begin(&self, generation: u32, start_ns: u64) -> RpcResult<()>;
    /// Asks for an order. Does not wait: a driver has a deadline for one call, and so has everybody whom it calls.
    fn next(&self, generation: u32) -> RpcResult<News>;
    /// The instance is about to carry it out, now.
    fn raise(&self, generation: u32) -> RpcResult<()>;
    /// It did, and goes on.
    fn survive(&self, generation: u32) -> RpcResult<()>;
}
