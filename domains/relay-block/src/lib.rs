//! A driver whose device is another domain's disk: what it did outlives it, as what a driver did to a real disk does.
//!
//! So recovery can be tried without hardware: the disk is a `null-block` with memory that nobody ends, and this driver in front
//! of it is ended, with requests under way, again and again. It has the habits that `null-block` has. Data are copied here, since a
//! request that a shadow has lent on cannot be lent on a third time.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;

use coppice_block::{Disk, DiskError};
use coppice_domain_null_block::{Channel, Habits, Medium, Service};
use coppice_interfaces::block::{Block, BlockInfo, Operation, Request};
use coppice_interfaces::{BlockError, Handle, Imports};
use coppice_rref::Lent;
use coppice_runtime::{Domain, Environment};

/// Requests of one queue that the other disk has under way: one at a time, in pieces.
const DEPTH: u32 = 2;

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// The domain.
pub struct RelayBlockDomain;

/// What the manifest wires.
#[derive(Imports)]
pub struct Wires {
    /// The disk behind this driver.
    pub medium: Handle<dyn Block>,
}

impl Domain for RelayBlockDomain {
    type Imports = Wires;
    type Export = Handle<dyn Block>;

    fn start(environment: &Environment<'_>, wires: Wires) -> Self::Export {
        let info = wires.medium.info().expect("the disk behind this one answers");
        let medium = Remote { disk: wires.medium, info };
        <dyn Block>::export(Service::new(Arc::new(medium), Habits::of(environment)))
    }
}

/// Another domain's disk.
struct Remote {
    disk: Handle<dyn Block>,
    info: BlockInfo,
}

impl Medium for Remote {
    fn info(&self) -> BlockInfo {
        self.info
    }

    fn open(&self) -> Result<Box<dyn Channel>, BlockError> {
        let disk = Disk::open(&self.disk, DEPTH, PIECE).map_err(fault)?;
        Ok(Box::new(Way { disk, block_bytes: self.info.block_bytes }))
    }
}

struct Way {
    disk: Disk,
    block_bytes: u32,
}

impl Channel for Way {
    fn perform(&mut self, operation: Operation, request: &mut Lent<Request>) -> Result<(), BlockError> {
        let (lba, blocks, fua) = (request.lba(), request.blocks(), request.is_fua());
        let bytes = self.block_bytes as usize * blocks as usize;
        let done = match operation {
            Operation::Read => self.disk.read(lba, &mut request.bytes_mut()[..bytes]),
            Operation::Write if fua => self.disk.write_through(lba, &request.bytes()[..bytes]),
            Operation::Write => self.disk.write(lba, &request.bytes()[..bytes]),
            Operation::Flush => self.disk.flush(),
            Operation::WriteZeroes => self.disk.write_zeroes(lba, blocks.into(), fua),
            Operation::Deallocate => self.disk.deallocate(lba, blocks.into()),
        };
        done.map_err(fault)
    }
}

/// What the disk's refusal is to our client.
fn fault(error: DiskError) -> BlockError {
    match error {
        DiskError::Block { error, .. } => error,
        // No device, as far as anybody in front of us is concerned.
        _ => BlockError::DeviceFault { status: 0 },
    }
}
