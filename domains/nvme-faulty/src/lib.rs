//! `nvme`, going wrong when it is told to: the driver of the demonstration.

#![no_std]
#![forbid(unsafe_code)]

use coppice_domain_nvme::NvmeDomain;
use coppice_failure::on_orders;
use coppice_interfaces::{Block, Handle, Imports, Orders};
use coppice_runtime::{Domain, Environment, time};

/// The domain.
pub struct FaultyNvmeDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// When to go wrong, and how.
    orders: Handle<dyn Orders>,
}

impl Domain for FaultyNvmeDomain {
    type Imports = Wires;
    type Export = Handle<dyn Block>;

    fn start(environment: &Environment<'_>, Wires { orders }: Wires) -> Self::Export {
        let began = time::now();
        let block = NvmeDomain::start(environment, ());
        on_orders(environment, time::now() - began, block, orders)
    }
}
