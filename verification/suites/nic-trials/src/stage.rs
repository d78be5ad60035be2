//! [`Stage`]: a device by its driver, behind its shadow, and a port to it.

use alloc::format;
use core::time::Duration;

use coppice_control::{Control, ControlError, DomainState};
use coppice_experiment::{Failure, Scene};
use coppice_interfaces::{Handle, Imports, Text};
use coppice_net::{NetConfig, NetDevice, NetError, QueueDepth};
use coppice_net_client::{NetClient, NetClientError, PacketPool};
use coppice_runtime::time;

/// How long something may take that happens soon, on the busiest host. Only a trial that fails waits for so long.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Bytes of a packet: one that the device receives an ordinary frame into.
pub(crate) const PACKET: usize = 2048;
/// The driver's domain.
pub(crate) const DRIVER: &str = "ixgbe";
/// What trials end; after each they all run.
const DOMAINS: [&str; 4] = [DRIVER, "shadow-net", "mad-ixgbe", "shadow-mad"];

/// What comes of a trial.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Fails the trial with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $message:literal $(, $argument:expr)*) => {
        if !$condition {
            return Err(coppice_experiment::Failure(alloc::format!($message $(, $argument)*)));
        }
    };
}
pub(crate) use ensure;

/// What the manifest wires the trials to.
#[derive(Imports)]
pub struct Wires {
    /// Looks after all of them.
    pub(crate) control: Handle<dyn Control>,
    /// The device, behind its shadow.
    pub(crate) net: Handle<dyn NetDevice>,
    /// Its driver itself.
    pub(crate) plain: Handle<dyn NetDevice>,
    /// One that does what it should not, behind another shadow.
    pub(crate) mad: Handle<dyn NetDevice>,
}

/// The system as trials see it.
pub(crate) struct Stage {
    pub(crate) control: Handle<dyn Control>,
    pub(crate) net: Handle<dyn NetDevice>,
    pub(crate) plain: Handle<dyn NetDevice>,
    pub(crate) mad: Handle<dyn NetDevice>,
    /// The machine is an emulated one: time is dear.
    slow: bool,
}

impl Stage {
    pub(crate) fn new(wires: Wires) -> Outcome<Self> {
        let Wires { control, net, plain, mad } = wires;
        let slow = &*control.machine()? == "bare";
        Ok(Self { control, net, plain, mad, slow })
    }

    /// How often to do something: fewer times where the machine is emulated.
    pub(crate) fn rounds(&self, native: u32, emulated: u32) -> u32 {
        if self.slow { emulated } else { native }
    }

    /// Sets the device up, receiving what it sends, and opens a queue. If need be when one that was dropped a moment ago has been
    /// closed: that takes a thread of the kernel's.
    pub(crate) fn port(&self, config: NetConfig, packets: usize) -> Outcome<NetClient> {
        self.port_of(&self.net, config, packets)
    }

    /// The same of another device, also of one that has to be asked more than once, and when its link is up: real ones take their
    /// time over that.
    pub(crate) fn port_of(
        &self,
        net: &Handle<dyn NetDevice>,
        config: NetConfig,
        packets: usize,
    ) -> Outcome<NetClient> {
        let deadline = time::now() + SOON;
        loop {
            match net.configure(config)? {
                Err(NetError::Device { .. }) if time::now() < deadline => {}
                other => break other?,
            }
        }
        loop {
            match NetClient::open(net.clone(), QueueDepth::default(), PacketPool::new(packets, PACKET)?) {
                Err(NetClientError::Net(NetError::NoQueue { .. } | NetError::Device { .. }))
                    if time::now() < deadline =>
                {
                    time::sleep(Duration::from_millis(1));
                }
                other => {
                    let mut port = other?;
                    port.reserve(packets / 2);
                    while !net.link()?.is_ok_and(|link| link.is_up) {
                        ensure!(time::now() < deadline, "the link does not come up");
                        time::sleep(Duration::from_millis(1));
                    }
                    return Ok(port);
                }
            }
        }
    }

    /// Closes a port: all its packets come back, each as itself.
    pub(crate) fn close(&self, port: NetClient) -> Outcome {
        let closed = port.close(time::now() + SOON);
        let pool =
            closed.map_err(|missing| Failure(format!("{} packets do not come back", missing.packets)))?;
        let audit = pool.audit();
        ensure!(audit.home == audit.made && audit.renamed == 0, "packets are not as they were: {audit:?}");
        Ok(())
    }

    /// Makes a new instance of a domain begin, whether somebody else is about to or not.
    pub(crate) fn restart(&self, name: &str) -> Outcome {
        let deadline = time::now() + SOON;
        loop {
            match self.control.restart(Text::new(name))? {
                Err(ControlError::WrongState { .. }) if time::now() < deadline => {
                    time::sleep(Duration::from_micros(50));
                }
                other => return Ok(other?),
            }
        }
    }
}

impl Scene for Stage {
    fn is_in_order(&self) -> Outcome {
        let deadline = time::now() + SOON;
        for name in DOMAINS {
            let is_running = || match self.control.find(Text::new(name))? {
                // Not each system has all of them.
                Err(ControlError::NoSuchDomain { .. }) => Ok::<_, Failure>(true),
                info => Ok(info?.state == DomainState::Running),
            };
            while !is_running()? {
                ensure!(time::now() < deadline, "{name} does not run again");
                time::sleep(Duration::from_micros(100));
            }
        }
        let audit = self.control.audit()?;
        let first = self.control.audit_finding(0)?.unwrap_or(Text::new("none"));
        ensure!(audit.findings == 0, "the audit has {} findings, the first: {first}", audit.findings);
        Ok(())
    }

    fn tidy(&self) {
        for name in DOMAINS {
            let _ = self.restart(name);
        }
    }
}
