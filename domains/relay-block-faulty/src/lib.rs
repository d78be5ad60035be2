//! `relay-block`, going wrong when it is told to: a driver to be crashed where there is no device.

#![no_std]
#![forbid(unsafe_code)]

use coppice_domain_relay_block::RelayBlockDomain;
use coppice_failure::on_orders;
use coppice_interfaces::{Block, Handle, Imports, Orders};
use coppice_runtime::{Domain, Environment, time};

/// The domain.
pub struct FaultyRelayBlockDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// The disk behind this driver.
    medium: Handle<dyn Block>,
    /// When to go wrong, and how.
    orders: Handle<dyn Orders>,
}

impl Domain for FaultyRelayBlockDomain {
    type Imports = Wires;
    type Export = Handle<dyn Block>;

    fn start(environment: &Environment<'_>, Wires { medium, orders }: Wires) -> Self::Export {
        let began = time::now();
        let block = RelayBlockDomain::start(environment, coppice_domain_relay_block::Wires { medium });
        on_orders(environment, time::now() - began, block, orders)
    }
}
