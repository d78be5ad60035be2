//! A block device without a device: memory, or nothing at all.
//!
//! Without `memory=` it answers each request at once and touches no data: what is measured through it is everybody else's
//! cost. With `memory=64M` it keeps what is written, in its private heap and so until its end. Further words for trying clients
//! and shadows:
//!
//! - `blocks=N`, `block=BYTES`: how large a disk without memory says that it is (2^31 blocks), and bytes of a block (512).
//! - `record=N`: what is done is recorded in the last N blocks, see [`Entry`].
//! - `hold=N`: keeps up to N requests under way, until somebody waits for one of them without handing in more.
//! - `delay=TIME` (`20us`, `1ms`): answers no request sooner.
//! - `reorder`: answers in another order.
//! - `unanswered=N`: with one of the three above, gives each Nth request back without an answer, as no driver should.
//! - `frail`: of four lives the first is well, and the others panic when they are asked for information, for a queue, and
//!   for an exchange.
//! - `moody`: each life says that it is another disk.
//!
//! The library is for other drivers that have no device: [`Service`] over a [`Medium`] of theirs.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod late;
mod medium;
mod options;
mod queue;
mod ram;
mod record;
mod service;

use alloc::sync::Arc;

use coppice_interfaces::Handle;
use coppice_interfaces::block::Block;
use coppice_runtime::{Domain, Environment};

pub use medium::{Channel, Medium};
pub use options::Habits;
pub use record::Entry;
pub use service::Service;

/// The domain.
pub struct NullBlockDomain;

impl Domain for NullBlockDomain {
    type Imports = ();
    type Export = Handle<dyn Block>;

    fn start(environment: &Environment<'_>, (): ()) -> Self::Export {
        let options = options::Options::of(environment);
        let medium: Arc<dyn Medium> = match options.memory {
            Some(bytes) => Arc::new(ram::Ram::new(bytes, &options)),
            None => Arc::new(medium::Nothing::new(&options)),
        };
        <dyn Block>::export(Service::new(medium, Habits::of(environment)))
    }
}
