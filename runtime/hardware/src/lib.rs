//! A driver's view of its device, and of everything outside the driver.
//!
//! A driver is a library in safe Rust over a [`Device`]: [`Registers`] of its own BARs, [`DmaMemory`],
//! [`Interrupt`]s, and a clock. It knows neither the kernel nor domains. A [`Backend`] implements a device:
//! in a domain the kernel's services, in a driver's tests a model of the chip on an [`Arena`] of memory.
//!
//! A device writes to any address that it is given. So a descriptor holds a [`DmaAddr`], and only live memory
//! has one: a [`DmaMemory`], or a [`DmaBuffer`] that the driver holds. That confines honest mistakes about
//! addresses and lengths. The driver has to keep a buffer until its device has finished with it, and without
//! an IOMMU nothing checks what the driver writes to registers (docs/safety.md).

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

pub use arena::{Arena, OutsideArena};
pub use backend::{Backend, MappedWindow, Region, RegisterWidth, RegisterWindow};
pub use buffer::{DmaAddr, DmaBuffer, DmaRange, DmaSpace, set_physical_offset};
pub use coppice_abi::{BAR_LIMIT, DeviceInfo, DeviceRefusal, STOP_LIMIT, StopStep};
pub use device::Device;
pub use interrupt::Interrupt;
pub use memory::DmaMemory;
pub use registers::Registers;
pub use ring::DescriptorRing;
