//! What a driver sees of its device, and all that it sees of the world.
//!
//! A driver is a library in safe Rust over a [`Device`]: [`Registers`] of its own BARs, [`DmaMemory`], [`Interrupt`]s, and
//! a clock. It knows no kernel and no domain. What stands behind a device is a [`Backend`]: in a domain the kernel's
//! services, in a driver's tests a model of the chip on an [`Arena`] of memory.
//!
//! A device writes where it is told to. So what a descriptor may hold is a [`DmaAddr`], and only live memory has one: a
//! [`DmaMemory`], or a [`DmaBuffer`] that the driver holds. That confines honest mistakes about addresses and lengths; that a
//! driver keeps a buffer until its device is done with it is the driver's to see to, and without an IOMMU nothing checks what
//! it writes to registers (docs/safety.md).

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

mod arena;
mod backend;
mod buffer;
mod device;
mod interrupt;
mod memory;
mod registers;
mod ring;

pub use arena::{Arena, Outside};
pub use backend::{Backend, MappedWindow, Region, RegisterWidth, RegisterWindow};
pub use buffer::{DmaAddr, DmaBuffer, DmaRange, set_physical_offset};
pub use coppice_abi::{BAR_LIMIT, DeviceInfo, DeviceRefusal, STOP_LIMIT, StopStep};
pub use device::Device;
pub use interrupt::Interrupt;
pub use memory::DmaMemory;
pub use registers::Registers;
pub use ring::DescriptorRing;
