//! A link of a chain: forwards each call to the next echo.

#![no_std]
#![forbid(unsafe_code)]

use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::{Handle, Imports, RpcResult};
use coppice_rref::{RRef, RRefDeque};
use coppice_runtime::{Domain, Environment, StartError};

/// The domain.
pub struct RelayDomain;

/// The imports.
#[derive(Imports)]
pub struct Wires {
    /// The domain that calls are forwarded to.
    next: Handle<dyn Echo>,
}

impl Domain for RelayDomain {
    type Imports = Wires;
    type Export = Handle<dyn Echo>;

    fn start(_: &Environment<'_>, wires: Wires) -> Result<Self::Export, StartError> {
        Ok(<dyn Echo>::export(Relay { next: wires.next }))
    }
}

struct Relay {
    next: Handle<dyn Echo>,
}

impl Echo for Relay {
    fn ping(&self, number: u64) -> RpcResult<u64> {
        self.next.ping(number)
    }

    fn echo(&self, message: RRef<Message>) -> RpcResult<RRef<Message>> {
        self.next.echo(message)
    }

    fn sum(&self, message: &RRef<Message>) -> RpcResult<u64> {
        self.next.sum(message)
    }

    fn reverse(&self, batch: RRef<RRefDeque<Message, 32>>) -> RpcResult<RRef<RRefDeque<Message, 32>>> {
        self.next.reverse(batch)
    }

    fn panic(&self, message: RRef<Message>, depth: u32) -> RpcResult<()> {
        self.next.panic(message, depth)
    }
}
