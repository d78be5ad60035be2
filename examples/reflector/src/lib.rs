//! Sends each received frame back to its sender.
//!
//! It shows that a device works in both directions, and is the smallest complete client of one: a pool, a
//! queue, and a loop that blocks while no frame arrives.
//!
//! Argument: `packets=N`, the number of packets that circulate; 256 by default.

#![no_std]
#![forbid(unsafe_code)]

use core::time::Duration;

use coppice_interfaces::{Handle, Imports};
use coppice_net::{NetDevice, QueueDepth};
use coppice_net_client::{NetClient, NetClientError, PacketPool, swap_addresses};
use coppice_runtime::{Domain, Environment, StartError, thread, time};

/// The size of a packet in bytes: enough for the longest frame without jumbo frames.
const PACKET_BYTES: usize = 2048;

/// The maximum wait of an exchange. A frame ends the wait.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The domain.
pub struct ReflectorDomain;

/// The imports.
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
                log::error!("the reflector stops: {error}");
            }
        };
        thread::Builder::new().spawn(reflect)?;
        Ok(())
    }
}

fn reflect(net: Handle<dyn NetDevice>, packets: usize) -> Result<(), NetClientError> {
    let mut client = NetClient::open(net, QueueDepth::default(), PacketPool::new(packets, PACKET_BYTES)?)?;
    loop {
        client.forward((time::now() + MAX_WAIT).as_nanos() as u64, swap_addresses)?;
    }
}
