//! [`Target`]: what frames go through. The same load runs on each: the driver as a library, a driver's domain, one behind its
//! shadow, and either behind a relay.

use core::fmt;
use core::time::Duration;

use coppice_experiment::Spared;
use coppice_hardware::DeviceRefusal;
use coppice_interfaces::{Handle, RpcError};
use coppice_net::{Frames, MacAddr, NetDevice, NetError, QueueDepth};
use coppice_net_client::{Missing, NetClient, NetClientError, PacketPool};
use coppice_runtime::time;
use coppice_traffic::{EncodeError, Refusal};
use ixgbe_driver::{Fault, IxgbeError};

/// Packets of one client.
pub(crate) const PACKETS: usize = 2048;
/// Bytes of each.
pub(crate) const PACKET_BYTES: usize = 2048;
/// Of each ring.
pub(crate) const DEPTH: u32 = 512;
/// A queue that is closed has given its packets back by then.
const CLOSING: Duration = Duration::from_secs(1);

/// Why there is no figure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call did not come back.
    Rpc(RpcError),
    /// The device does not do what it is told.
    Net(NetError),
    /// A client has no use of its queue.
    Port(NetClientError),
    /// A queue was closed, and packets are missing.
    Missing(Missing),
    /// There is no packet left.
    NoPacket,
    /// The machine refuses something of the device that is ours.
    Device(DeviceRefusal),
    /// The driver as a library does not bring its device up.
    Driver(IxgbeError),
    /// Its device breaks the rules.
    Fault(Fault),
    /// Our device does not come out of a reset.
    Stuck {
        /// What it does not change.
        register: u32,
        /// As last read.
        value: u32,
    },
    /// The tester does not answer.
    NoTester,
    /// It does not do what it is asked.
    Tester(Refusal),
    /// What it is to be asked cannot be written down.
    Encode(EncodeError),
    /// The driver cannot be ended.
    Kill(Spared),
    /// After a crash nothing came back for so long.
    Silence,
}

macro_rules! failure_from {
    ($($Error:ident => $Variant:ident),*) => {$(
        impl From<$Error> for Failure {
            fn from(error: $Error) -> Self {
                Self::$Variant(error)
            }
        }
    )*};
}

failure_from!(
    RpcError => Rpc,
    NetError => Net,
    NetClientError => Port,
    Missing => Missing,
    DeviceRefusal => Device,
    IxgbeError => Driver,

    EncodeError => Encode,
    Spared => Kill
);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Net(error) => error.fmt(f),
            Self::Port(error) => error.fmt(f),
            Self::Missing(missing) => write!(f, "{} packets are not given back", missing.packets),
            Self::NoPacket => f.write_str("there is no packet left"),
            Self::Device(refusal) => refusal.fmt(f),
            Self::Driver(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Stuck { register, value } => {
                write!(f, "the device does not come out of a reset: register {register:#x} holds {value:#x}")
            }
            Self::NoTester => f.write_str("the tester at the other end of the wire does not answer"),
            Self::Tester(refusal) => write!(f, "the tester refuses: {refusal}"),
            Self::Encode(error) => write!(f, "the tester cannot be asked for that: {error}"),
            Self::Kill(error) => error.fmt(f),
            Self::Silence => f.write_str("after a crash no frame comes back"),
        }
    }
}

/// What one exchange has moved.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moved {
    /// Frames that the queue has taken.
    pub(crate) sent: usize,
    /// Frames that it has given.
    pub(crate) received: usize,
}

/// What frames go through. All waits are by polling.
pub(crate) trait Target {
    /// Its address.
    fn mac(&self) -> MacAddr;
    /// Opens a queue whose exchanges give at most so many frames. Nobody else may have one of this device: frames that have no
    /// addresses to be hashed go to the first.
    fn begin(&mut self, batch: usize) -> Result<(), Failure>;
    /// Closes it, with all packets back.
    fn end(&mut self) -> Result<(), Failure>;
    /// Sends back what the last exchange gave, after `rewrite` has changed it, and receives.
    fn forward(&mut self, rewrite: impl FnMut(&mut [u8])) -> Result<Moved, Failure>;
    /// Sends `most` frames, those included that were not taken the last time; drops what is received, after `read` has seen it.
    fn transmit(
        &mut self,
        most: usize,
        write: impl FnMut(&mut [u8]) -> usize,
        read: impl FnMut(&[u8]),
    ) -> Result<Moved, Failure>;
    /// Receives, and drops what was received after `read` has seen it.
    fn receive(&mut self, read: impl FnMut(&[u8])) -> Result<Moved, Failure>;
}

/// A device that is reached by its handle, and a client's queue of it.
pub(crate) struct Client {
    net: Handle<dyn NetDevice>,
    mac: MacAddr,
    state: State,
}

/// Where a client's packets are.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each client, and a box would be in the way of each exchange"
)]
enum State {
    Closed(PacketPool),
    Open(NetClient),
    /// With a queue that did not open, or did not give them back.
    Lost,
}

impl Client {
    /// Without a queue yet.
    pub(crate) fn new(net: &Handle<dyn NetDevice>) -> Result<Self, Failure> {
        let state = State::Closed(PacketPool::new(PACKETS, PACKET_BYTES)?);
        Ok(Self { net: net.clone(), mac: net.info()?.mac, state })
    }

    #[inline(always)]
    fn port(&mut self) -> Result<&mut NetClient, Failure> {
        match &mut self.state {
            State::Open(port) => Ok(port),
            State::Closed(_) | State::Lost => Err(Failure::NoPacket),
        }
    }
}

impl Target for Client {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn begin(&mut self, batch: usize) -> Result<(), Failure> {
        self.end()?;
        let State::Closed(pool) = core::mem::replace(&mut self.state, State::Lost) else {
            return Err(Failure::NoPacket);
        };
        let depth = QueueDepth { send: DEPTH, receive: DEPTH, batch: batch as u32 };
        self.state = State::Open(NetClient::open(self.net.clone(), depth, pool)?);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        match core::mem::replace(&mut self.state, State::Lost) {
            State::Open(port) => self.state = State::Closed(port.close(time::now() + CLOSING)?),
            other => self.state = other,
        }
        Ok(())
    }

    #[inline(always)]
    fn forward(&mut self, rewrite: impl FnMut(&mut [u8])) -> Result<Moved, Failure> {
        let port = self.port()?;
        let offered = port.received().len();
        let turn = port.forward(0, rewrite)?;
        Ok(Moved { sent: offered.saturating_sub(turn.unsent), received: turn.received })
    }

    #[inline(always)]
    fn transmit(
        &mut self,
        most: usize,
        write: impl FnMut(&mut [u8]) -> usize,
        mut read: impl FnMut(&[u8]),
    ) -> Result<Moved, Failure> {
        let port = self.port()?;
        let before = port.unsent();
        let turn = port.send(0, most.saturating_sub(before), write)?;
        let sent = (before + turn.written).saturating_sub(turn.unsent);
        if turn.received > 0 {
            let received = port.received();
            (0..turn.received).filter_map(|index| received.frame_at(index)).for_each(&mut read);
        }
        Ok(Moved { sent, received: turn.received })
    }

    #[inline(always)]
    fn receive(&mut self, read: impl FnMut(&[u8])) -> Result<Moved, Failure> {
        let turn = self.port()?.receive(0, read)?;
        Ok(Moved { sent: 0, received: turn.received })
    }
}
