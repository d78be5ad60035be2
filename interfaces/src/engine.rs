//! [`Engine`]: a domain with a device that copies memory, and that can be made to misuse it.

use coppice_interface_macros::interface;
use coppice_rref::{Flat, RRef, Shareable};

use crate::{Message, RpcResult};

/// Something that a driver asks for and must not get. Each that ends the driver is a panic of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Misuse {
    /// A device beyond the last that it is granted.
    OtherDevice,
    /// A device that it has already.
    SameDevice,
    /// A BAR that the device does not have.
    OtherBar,
    /// An interrupt vector that the device does not have.
    OtherVector,
    /// A stop order with a step outside of the device's registers.
    BadStep,
    /// A stop order that is too long.
    LongOrder,
    /// More memory for DMA than its quota allows.
    TooMuchMemory,
    /// A register behind the last; ends it.
    OtherRegister,
    /// A register at an odd offset; ends it.
    OddRegister,
    /// A byte behind the end of DMA memory; ends it.
    BehindMemory,
}

/// What its driver says of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct EngineInfo {
    /// Where it is, as in PCI.
    pub address: u32,
    /// What its identification register says.
    pub identification: u32,
    /// Where, for the device, the driver's memory for copies begins.
    pub memory: u64,
}

/// A device that inverts, computes, interrupts and copies.
#[interface]
pub trait Engine {
    /// What it is.
    fn info(&self) -> RpcResult<EngineInfo>;
    /// Has the device invert a number.
    fn invert(&self, number: u32) -> RpcResult<u32>;
    /// Has it compute a factorial, and sleeps until it interrupts.
    fn factorial(&self, number: u32) -> RpcResult<Option<u32>>;
    /// Makes it interrupt.
    fn raise(&self, cause: u32) -> RpcResult<()>;
    /// Sleeps until it interrupts, or until then; answers with the causes.
    fn wait(&self, deadline_ns: u64) -> RpcResult<Option<u32>>;
    /// Sends a message through the device and back: copied to its buffer, and from there over what is left of the message.
    fn copy(&self, message: RRef<Message>) -> RpcResult<RRef<Message>>;
    /// Fills the device's buffer with bytes of that value.
    fn fill(&self, byte: u8) -> RpcResult<bool>;
    /// Begins to copy the device's buffer to the driver's memory, and does not wait for it.
    fn begin(&self) -> RpcResult<bool>;
    /// Whether a page of the driver's memory is other than the driver has filled it when its instance began.
    fn is_overwritten(&self) -> RpcResult<bool>;
    /// Takes memory for DMA and drops it, so many times, so many pages each; answers where the last was.
    fn take_and_drop(&self, times: u32, pages: u32) -> RpcResult<Option<u64>>;
    /// Asks for something that it must not get; answers whether it was refused.
    fn misuse(&self, how: Misuse) -> RpcResult<bool>;
}
