//! [`Context`]: a device with its driver and its shadow, and clients of it.

use alloc::format;
use core::time::Duration;

use coppice_control::{Control, ControlError, DomainState};
use coppice_experiment::{Failure, Scenario, ScenarioContext};
use coppice_interfaces::{Handle, Imports, Text};
use coppice_net::{NetConfig, NetDevice, NetError, QueueDepth};
use coppice_net_client::{NetClient, NetClientError, PacketPool};
use coppice_runtime::time;

/// The limit of each wait for an event that happens soon. It is generous for a busy host: only a trial that
/// fails waits this long.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// The size of a packet, in bytes. An ordinary frame fits one packet.
pub(crate) const PACKET: usize = 2048;
/// The driver's domain.
pub(crate) const DRIVER: &str = "ixgbe";
/// The domains that trials end. All of them run again after each trial.
const DOMAINS: [&str; 4] = [DRIVER, "shadow-net", "faulty-ixgbe", "shadow-faulty-ixgbe"];

/// The result of a trial or of a step of it.
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

/// The domains and services that the manifest wires to the trials.
#[derive(Imports)]
pub struct Wires {
    /// The kernel's control interface.
    pub(crate) control: Handle<dyn Control>,
    /// The device behind its shadow.
    pub(crate) net: Handle<dyn NetDevice>,
    /// The driver of the device itself.
    pub(crate) plain: Handle<dyn NetDevice>,
    /// A device with fault injection, behind another shadow.
    pub(crate) faulty: Handle<dyn NetDevice>,
}

/// The system as the trials see it.
pub struct Context {
    pub(crate) control: Handle<dyn Control>,
    pub(crate) net: Handle<dyn NetDevice>,
    pub(crate) plain: Handle<dyn NetDevice>,
    pub(crate) faulty: Handle<dyn NetDevice>,
    /// True on the bare machine, which is usually emulated: fewer rounds.
    slow: bool,
}

impl Context {
    /// Returns the number of rounds, which is lower on an emulated machine.
    pub(crate) fn rounds(&self, native: u32, emulated: u32) -> u32 {
        if self.slow { emulated } else { native }
    }

    /// Configures the device, whose wire returns its own frames, and opens a client. If the device's queues
    /// are taken, waits until a thread of the kernel has closed a queue that was dropped a moment ago.
    pub(crate) fn open_client(&self, config: NetConfig, packets: usize) -> Outcome<NetClient> {
        self.open_client_of(&self.net, config, packets)
    }

    /// Like `open_client`, for any device. Retries after device faults, and waits until the link is up, which
    /// takes a real device some time.
    pub(crate) fn open_client_of(
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
                    let mut client = other?;
                    client.reserve(packets / 2);
                    while !net.link()?.is_ok_and(|link| link.is_up) {
                        ensure!(time::now() < deadline, "the link does not come up");
                        time::sleep(Duration::from_millis(1));
                    }
                    return Ok(client);
                }
            }
        }
    }

    /// Closes a client. Fails unless all its packets come back.
    pub(crate) fn close(&self, client: NetClient) -> Outcome {
        let closed = client.close(time::now() + SOON);
        let pool =
            closed.map_err(|missing| Failure(format!("{} packets did not come back", missing.packets)))?;
        let audit = pool.audit();
        ensure!(audit.home == audit.made && audit.renamed == 0, "packets have changed: {audit:?}");
        Ok(())
    }

    /// Restarts a domain, also if another thread or the kernel is about to restart it.
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

impl AsRef<Handle<dyn Control>> for Wires {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.control
    }
}

impl ScenarioContext for Context {
    type Wires = Wires;
    const SCENARIOS: &'static [Scenario<Self>] = crate::list::SCENARIOS;

    fn new(wires: Wires, _: bool) -> Outcome<Self> {
        let Wires { control, net, plain, faulty } = wires;
        let slow = &*control.machine()? == "bare";
        Ok(Self { control, net, plain, faulty, slow })
    }

    fn check_after(&self) -> Outcome {
        let deadline = time::now() + SOON;
        for name in DOMAINS {
            let is_running = || match self.control.find(Text::new(name))? {
                // Not every system has all of these domains.
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

    fn clean_up(&self) {
        for name in DOMAINS {
            let _ = self.restart(name);
        }
    }
}
