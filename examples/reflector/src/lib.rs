//! Sends each frame back to where it came from.
//!
//! A station for whoever wants to see that a device works both ways, and the smallest whole client of one: a pool, a port, and a
//! loop that waits when there is nothing to do.
//!
//! The manifest's word: `packets=N`, how many circulate (256).

#![no_std]
#![forbid(unsafe_code)]

use core::time::Duration;

use coppice_interfaces::{Handle, Imports};
use coppice_net::{NetDevice, QueueDepth};
use coppice_net_client::{Pool, Port, PortError, swap_addresses};
use coppice_runtime::{Domain, Environment, StartError, thread, time};

/// Bytes of a packet: room for the longest ordinary frame.
const PACKET: usize = 2048;

/// How long an exchange may wait. Nobody waits longer than it takes: a frame ends it.
const WAIT: Duration = Duration::from_secs(1);

/// The domain.
pub struct ReflectorDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    net: Handle<dyn NetDevice>,
}

impl Domain for ReflectorDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let packets = environment.number("packets", 256)?;
        let reflect = move || {
            if let Err(error) = reflect(wires.net, packets) {
                log::error!("nothing is reflected any more: {error}");
            }
        };
        thread::Builder::new().spawn(reflect)?;
        Ok(())
    }
}

fn reflect(net: Handle<dyn NetDevice>, packets: usize) -> Result<(), PortError> {
    let mut port = Port::open(net, QueueDepth::default(), Pool::new(packets, PACKET)?)?;
    loop {
        port.forward((time::now() + WAIT).as_nanos() as u64, swap_addresses)?;
    }
}
