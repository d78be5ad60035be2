//! The smallest service: returns its arguments.

#![no_std]
#![forbid(unsafe_code)]

use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::{RRef, RRefDeque};
use coppice_runtime::{Domain, Environment, StartError};

/// The domain.
pub struct EchoDomain;

impl Domain for EchoDomain {
    type Imports = ();
    type Export = Handle<dyn Echo>;

    fn start(_: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        Ok(<dyn Echo>::export(Service))
    }
}

struct Service;

impl Echo for Service {
    fn ping(&self, number: u64) -> RpcResult<u64> {
        Ok(number)
    }

    fn echo(&self, message: RRef<Message>) -> RpcResult<RRef<Message>> {
        Ok(message)
    }

    fn sum(&self, message: &RRef<Message>) -> RpcResult<u64> {
        Ok(message.iter().map(|&byte| u64::from(byte)).sum())
    }

    fn reverse(&self, mut batch: RRef<RRefDeque<Message, 32>>) -> RpcResult<RRef<RRefDeque<Message, 32>>> {
        let mut reversed = RRef::new(RRefDeque::new());
        while let Some(message) = batch.pop_back() {
            reversed.push_back(message).expect("both deques have one capacity");
        }
        Ok(reversed)
    }

    fn panic(&self, message: RRef<Message>, depth: u32) -> RpcResult<()> {
        // Leaves data in each kind of memory that a crash has to clear: the stack, the private heap, the
        // shared heap.
        let held = RRef::new(*b"held by a domain that panics");
        if depth > 0 {
            let result = self.panic(message, depth - 1);
            drop(held);
            return result;
        }
        panic!("{}", core::str::from_utf8(&message).unwrap_or("(not UTF-8)"));
    }
}
