//! The binary interface between the kernel and domain images.
//!
//! Both sides link this crate, and the loader compares [`note::ABI`] before it trusts anything else in an
//! image. It has four parts: the identity of a domain ([`DomainId`]), the description of an image ([`note`]),
//! the kernel's services for domains ([`Services`]), and the state of calls from one domain into another
//! ([`crossing`]).

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
pub use hash::{Content, Fingerprint, fingerprint};
pub use id::{DomainId, SLOT_LIMIT, TypeNumber};
pub use services::{
    CrashKind, CrashReport, DropTarget, EntryArguments, LogLevel, RawObject, Refusal, START_FAILURE_LIMIT,
    Services, ServicesSeal, StartFailure, ThreadEntry, attach, me, services,
};
pub use upcall::{ChildFailing, Excess, Revocation, Upcall, UpcallEntry, Verdict};
