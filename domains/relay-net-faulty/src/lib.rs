//! `relay-net`, going wrong when it is told to: a driver to be crashed where there is none.

#![no_std]
#![forbid(unsafe_code)]

use coppice_domain_relay_net::RelayNetDomain;
use coppice_failure::on_orders;
use coppice_interfaces::net::Net;
use coppice_interfaces::{Handle, Imports, Orders};
use coppice_runtime::{Domain, Environment, time};

/// The domain.
pub struct FaultyRelayNetDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// The device behind this driver.
    next: Handle<dyn Net>,
    /// When to go wrong, and how.
    orders: Handle<dyn Orders>,
}

impl Domain for FaultyRelayNetDomain {
    type Imports = Wires;
    type Export = Handle<dyn Net>;

    fn start(environment: &Environment<'_>, Wires { next, orders }: Wires) -> Self::Export {
        let began = time::now();
        let net = RelayNetDomain::start(environment, coppice_domain_relay_net::Wires { next });
        on_orders(environment, time::now() - began, net, orders)
    }
}
