//! A demonstration that crashes a network driver repeatedly while it forwards frames, and checks that nothing
//! but frames is lost.
//!
//! A tester (`coppice-traffic`) at the far end of the wire sends numbered frames at a given rate and counts
//! the frames that come back. A [`forwarder`] receives them, changes source and destination, and sends them
//! back through the shadow, in packets that circulate. `coppice-trial` crashes the driver while frames flow,
//! measures how long no frame arrives, and prints the results on the console, where `cargo xtask demo --net`
//! shows and judges them.
//!
//! The forwarder has a MAC address other than the device's and receives no other frames. Frames therefore
//! arrive after a crash only if the shadow has configured the restarted driver.
//!
//! - [`context`]: the shared counters, and the load as the trial sees it.
//! - [`tester`]: control requests to the tester, from any thread, over the same wire.
//! - [`rate`]: the offered rate: the line rate, or the rate that this machine forwards if that is lower.
//! - [`probe`]: the measurements of the killer thread.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod context;
mod forwarder;
mod plan;
mod probe;
mod rate;
mod tester;

use alloc::sync::Arc;

use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::{Handle, Imports};
use coppice_net::NetDevice;
use coppice_test_interfaces::FaultControl;
use coppice_trial::{Demonstration, Services, Trial, TrialDomain};

pub use context::Context;

/// The imports of the demonstration.
#[derive(Imports)]
pub struct Wires {
    /// The kernel, to kill and to inspect domains.
    control: Handle<dyn Control>,
    /// The network device, behind the shadow.
    net: Handle<dyn NetDevice>,
    /// Fault control, to request faults of the driver.
    fault_control: Handle<dyn FaultControl>,
}

/// The demonstration's domain.
pub type ForwardDomain = TrialDomain<Wires>;

impl Demonstration for Wires {
    type Load = Context;
    type Device = Handle<dyn NetDevice>;
    const DRIVER: &'static str = "ixgbe";
    const NAME: &'static str = "forward";

    fn split(self) -> (Services, Self::Device) {
        let Self { control, net, fault_control } = self;
        (Services { control, fault_control }, net)
    }

    fn load(trial: Arc<Trial>, device: Self::Device) -> Result<Context, Failure> {
        Context::new(trial, device)
    }
}
