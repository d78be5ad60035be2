//! A network device without a device.
//!
//! Each frame is sent at once, and each spare packet is at once a received frame: of the packet, nothing but the head is touched. So
//! what is measured through it is everybody else's cost. Without another word all packets come back with the exchange that hands them
//! in; as many frames are received as packets are in circulation.
//!
//! - `len=N`: bytes of a received frame (60). They are what was in the packet.
//! - `clock`: received frames carry the time; else they carry 0, and nobody asks the clock.
//! - `queues=N`: how many can be open at a time (64).
//!
//! A client that asks for fewer packets at a time than a batch carries has the others kept, in rings of the depth that it asks for.
//! For trying clients and shadows, each of the following makes it do so, too:
//!
//! - `hold=N`: keeps up to N spare packets.
//! - `delay=TIME` (`20us`, `1ms`): a frame takes so long to be sent; what is behind it waits.
//! - `wait=TIME`: how long an exchange waits at most, whatever it is asked for (1ms).
//! - `frail`: of five lives the first is well, and the others panic when they are asked for information, to be set up, for a queue,
//!   and for an exchange.
//! - `hang=N`: the Nth exchange of a queue never ends.
//! - `moody`: each life says that it has another address.
//!
//! The library is for who wants to know what it costs without a domain around it: [`NullNet::queue`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod counters;
mod device;
mod options;
mod queue;
mod rings;

use coppice_interfaces::Handle;
use coppice_interfaces::net::Net;
use coppice_runtime::{Domain, Environment};

pub use device::NullNet;
use options::Options;

/// The domain.
pub struct NullNetDomain;

impl Domain for NullNetDomain {
    type Imports = ();
    type Export = Handle<dyn Net>;

    fn start(environment: &Environment<'_>, (): ()) -> Self::Export {
        <dyn Net>::export(NullNet::new(Options::of(environment)))
    }
}
