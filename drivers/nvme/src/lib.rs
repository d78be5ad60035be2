//! Drives NVM Express controllers.
//!
//! A [`Controller`] is made of a [`coppice_hardware::Device`] and nothing else: the library knows no kernel and no domain. It
//! gives [`IoQueue`]s, each with a submission queue, a completion queue and an interrupt vector of its own, that are used
//! from one thread each and share nothing on the path of a command.
//!
//! Written from the NVM Express Base Specification 2.0 ("Base") and the NVM Command Set Specification 1.0 ("NVM"), which the
//! comments cite. docs/drivers/nvme.md has the order of initialisation, the instance of a command, and what is not supported.
//!
//! What the controller says is not trusted: an identifier that names no command in flight, a head that cannot be, a register
//! that never changes are a [`Fault`], after which nothing is taken from it until it was reset. Memory that it may still
//! write to is not given back to anybody before that.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod admin;
mod command;
mod controller;
mod error;
mod event;
mod identify;
mod log_page;
mod prp;
mod queue;
mod registers;
mod ring;
mod shared;
mod slots;
mod status;
mod watch;

pub use command::{Command, Operation};
pub use controller::{Controller, Options};
pub use error::{Fault, NvmeError, Refused, SubmitError, Transition};
pub use event::Event;
pub use identify::{ControllerInfo, Namespace, NamespaceRefusal};
pub use log_page::{ErrorEntry, Health};
pub use queue::{CommandError, Completion, IoQueue};
pub use status::{Meaning, Status, StatusType};
