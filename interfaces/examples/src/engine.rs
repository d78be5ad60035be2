//! [`Engine`]: a domain with a device that copies memory, whose driver can be told to misuse it.

use coppice_interfaces::{RpcResult, interface};
use coppice_rref::{Flat, RRef, Shareable};

use crate::Message;

/// A request that the kernel must refuse to a driver. Each one that ends the driver is a different panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Misuse {
    /// A device beyond the last granted one.
    OtherDevice,
    /// A device that the domain has already taken.
    SameDevice,
    /// A BAR that the device does not have.
    OtherBar,
    /// An interrupt vector that the device does not have.
    OtherVector,
    /// A stop order with a step outside the device's registers.
    BadStep,
    /// A stop order that is too long.
    LongOrder,
    /// More memory for DMA than the quota allows.
    TooMuchMemory,
    /// A register beyond the last; ends the driver.
    OtherRegister,
    /// A register at a misaligned offset; ends the driver.
    OddRegister,
    /// A byte beyond the end of DMA memory; ends the driver.
    BehindMemory,
}

/// The properties of a device, as its driver reports them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct EngineInfo {
    /// The PCI address.
    pub address: u32,
    /// The value of the identification register.
    pub identification: u32,
    /// The device's address of the driver's copy buffer.
    pub memory: u64,
}

/// A device that inverts numbers, computes factorials, interrupts and copies.
#[interface]
pub trait Engine {
    /// Returns the device's properties.
    fn info(&self) -> RpcResult<EngineInfo>;
    /// Makes the device invert a number.
    fn invert(&self, number: u32) -> RpcResult<u32>;
    /// Makes the device compute a factorial, and sleeps until it interrupts.
    fn factorial(&self, number: u32) -> RpcResult<Option<u32>>;
    /// Makes the device interrupt with `cause`.
    fn raise(&self, cause: u32) -> RpcResult<()>;
    /// Sleeps until the device interrupts or the clock passes `deadline_ns`. Returns the causes.
    fn wait(&self, deadline_ns: u64) -> RpcResult<Option<u32>>;
    /// Copies a message to the device's buffer, overwrites the message, and copies it back from there.
    fn copy(&self, message: RRef<Message>) -> RpcResult<RRef<Message>>;
    /// Fills the device's buffer with `byte`. Returns false if the device did not finish in time.
    fn fill(&self, byte: u8) -> RpcResult<bool>;
    /// Starts a copy from the device's buffer to the driver's memory, and does not wait for it. Returns false
    /// if the device did not accept it.
    fn begin(&self) -> RpcResult<bool>;
    /// Returns true if a page of the driver's memory has changed since the driver's instance filled it.
    fn is_overwritten(&self) -> RpcResult<bool>;
    /// Allocates `pages` pages of memory for DMA and drops them, `times` times. Returns the address of the
    /// last.
    fn take_and_drop(&self, times: u32, pages: u32) -> RpcResult<Option<u64>>;
    /// Makes a request that must be refused. Returns true if it was.
    fn misuse(&self, how: Misuse) -> RpcResult<bool>;
}
