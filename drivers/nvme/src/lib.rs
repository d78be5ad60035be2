//! A driver for NVM Express controllers.
//!
//! A [`Controller`] is built from a [`coppice_hardware::Device`] alone: the library knows no kernel and no
//! domain. It opens [`IoQueue`]s, each with a submission queue, a completion queue and an interrupt vector of
//! its own. Each queue is used by one thread at a time, and queues share nothing on the path of a command.
//!
//! Written from the NVM Express Base Specification 2.0 ("Base") and the NVM Command Set Specification 1.0
//! ("NVM"), which the comments cite. docs/drivers/nvme.md describes the order of initialisation, the path of
//! a command, and the unsupported features.
//!
//! The controller is not trusted. A completion for no command in flight, an impossible head pointer or a
//! register that never changes is a [`Fault`], after which the driver ignores the controller until it has
//! been reset. Memory that the controller may still write to is not freed before that.

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
mod options;
mod prp;
mod queue;
mod register_block;
mod registers;
mod ring;
mod shared;
mod slots;
mod status;
mod timeout_watch;

pub use command::{Command, Operation};
pub use controller::Controller;
pub use error::{Fault, NvmeError, Refused, SubmitError, Transition};
pub use event::Event;
pub use identify::{ControllerInfo, Namespace, NamespaceRefusal};
pub use log_page::{ErrorEntry, Health};
pub use options::Options;
pub use queue::{CommandError, Completion, IoQueue};
pub use status::{Meaning, Status, StatusType};
