//! What the bare machine reads before it can run a kernel: the loader's hand-over and the firmware's tables.
//!
//! Plain parsers over bytes that nobody vouches for, so they are safe code with tests on the host. All that
//! touches the hardware is in the binary beside this library.

#![cfg_attr(not(test), no_std)]

pub mod acpi;
pub mod boot_info;
pub mod memory_map;
pub mod pci;
pub mod physical;
