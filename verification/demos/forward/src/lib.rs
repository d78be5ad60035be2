//! Forwards frames while the network driver is crashed again and again, and checks that nothing but frames is lost.
//!
//! At the far end of the wire stands a tester (`coppice-traffic`), which sends numbered frames at a rate and counts those that
//! come back. A [`station`] receives them, gives them another source and destination, and sends them back, through the
//! shadow, in packets that circulate. What crashes the driver meanwhile, measures how long no frame comes and says what comes of
//! it on the console, for `cargo xtask demo --net` to show and to judge, is `coppice-trial`.
//!
//! The station has an address of its own and receives nothing else, so frames come again after a crash only if somebody has
//! told the next instance of the driver.
//!
//! - [`desk`]: what is asked of the tester, by any thread, over the same wire.
//! - [`pace`]: how many frames a second are offered: what the wire carries, or else this machine forwards.
//! - [`probe`]: what the killer sees of it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod desk;
mod pace;
mod plan;
mod probe;
mod stage;
mod station;

use coppice_control::Control;
use coppice_interfaces::{Handle, Imports};
use coppice_net::NetDevice;
use coppice_runtime::{Domain, Environment, StartError};
use coppice_test_interfaces::FaultControl;

use stage::Stage;

/// What the manifest wires it to.
#[derive(Imports)]
pub struct Wires {
    /// To kill, and to look.
    control: Handle<dyn Control>,
    /// The network device, behind the shadow.
    net: Handle<dyn NetDevice>,
    /// Has the driver go wrong.
    orders: Handle<dyn FaultControl>,
}

/// The domain.
pub struct ForwardDomain;

impl Domain for ForwardDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let Wires { control, net, orders } = wires;
        let make = |trial| Stage::new(trial, net);
        coppice_trial::start(environment, ["ixgbe", "forward"], control, orders, make);
        Ok(())
    }
}
