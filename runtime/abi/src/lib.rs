//! What the kernel and a domain image must agree on, byte for byte.
//!
//! Both sides link this crate, and the loader compares [`note::ABI`] before it believes anything else that an
//! image says. It holds four things: who somebody is ([`DomainId`]), what an image says about itself
//! ([`note`]), what a domain may ask of the kernel ([`Services`]), and what happens when a call goes from one
//! domain into another ([`crossing`]).

#![cfg_attr(not(test), no_std)]

pub mod crossing;
mod device;
pub mod freestanding;
mod hash;
mod id;
pub mod note;
mod services;
mod upcall;

pub use device::{
    BAR_LIMIT, DEVICE_LIMIT, DeviceInfo, DeviceRefusal, DmaBlock, STOP_LIMIT, StopStep, Window,
};
pub use hash::{Fingerprint, fingerprint};
pub use id::{DomainId, SLOT_LIMIT};
pub use services::{
    CrashKind, CrashReport, DropTarget, EntryArguments, LogLevel, RawObject, Refusal, Services, ThreadEntry,
    attach, me, services,
};
pub use upcall::{ChildFailing, Excess, Revocation, Upcall, UpcallEntry, Verdict};
