//! Parsers of the machine's input before it can run a kernel: the loader's information and the firmware's
//! tables.
//!
//! They read untrusted bytes, so they are safe code with tests on the host. All code that accesses the
//! hardware is in the binary beside this library.

#![cfg_attr(not(test), no_std)]

pub mod acpi;
pub mod boot_info;
pub mod memory_map;
pub mod pci;
pub mod physical;
