//! `ixgbe`, going wrong when it is told to: the driver of the demonstration of networks.

#![no_std]
#![forbid(unsafe_code)]

use coppice_domain_ixgbe::IxgbeDomain;
use coppice_failure::on_orders;
use coppice_interfaces::{Handle, Imports, Net, Orders};
use coppice_runtime::{Domain, Environment, time};

/// The domain.
pub struct FaultyIxgbeDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// When to go wrong, and how.
    orders: Handle<dyn Orders>,
}

impl Domain for FaultyIxgbeDomain {
    type Imports = Wires;
    type Export = Handle<dyn Net>;

    fn start(environment: &Environment<'_>, Wires { orders }: Wires) -> Self::Export {
        let began = time::now();
        let net = IxgbeDomain::start(environment, ());
        on_orders(environment, time::now() - began, net, orders)
    }
}
