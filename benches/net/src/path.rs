//! [`FramePath`]: a path for frames. The same load runs on each: the driver as a library, a driver's domain,
//! a domain behind its shadow, and either behind a relay.

use core::fmt;
use core::time::Duration;

use coppice_bench_harness::KillError;
use coppice_hardware::DeviceRefusal;
use coppice_interfaces::{Handle, RpcError};
use coppice_net::{Frames, MacAddr, NetDevice, NetError, QueueDepth};
use coppice_net_client::{Missing, NetClient, NetClientError, PacketPool};
use coppice_runtime::time;
use coppice_traffic::{EncodeError, Refusal};
use ixgbe_driver::{Fault, IxgbeError};

/// The number of packets of one client.
pub(crate) const PACKETS: usize = 2048;
/// The size of a packet, in bytes.
pub(crate) const PACKET_BYTES: usize = 2048;
/// The depth of each ring.
pub(crate) const DEPTH: u32 = 512;
/// The time within which a closed queue returns its packets.
const CLOSING: Duration = Duration::from_secs(1);

/// The reasons why a figure is missing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed.
    Rpc(RpcError),
    /// The device refused a request.
    Net(NetError),
    /// A client of a queue failed.
    Port(NetClientError),
    /// A queue was closed, and packets are missing.
    Missing(Missing),
    /// No packet is left.
    NoPacket,
    /// The machine refuses access to our own device.
    Device(DeviceRefusal),
    /// The driver as a library cannot start its device.
    Driver(IxgbeError),
    /// Its device violates its specification.
    Fault(Fault),
    /// Our device does not leave its reset.
    Stuck {
        /// The register that does not change.
        register: u32,
        /// Its last value.
        value: u32,
    },
    /// The tester does not answer.
    NoTester,
    /// The tester refuses a request.
    Tester(Refusal),
    /// A request to the tester cannot be encoded.
    Encode(EncodeError),
    /// The driver cannot be killed.
    Kill(KillError),
    /// No frame came back within the limit after a crash.
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
    KillError => Kill
);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Net(error) => error.fmt(f),
            Self::Port(error) => error.fmt(f),
            Self::Missing(missing) => write!(f, "{} packets did not come back", missing.packets),
            Self::NoPacket => f.write_str("no packet is left"),
            Self::Device(refusal) => refusal.fmt(f),
            Self::Driver(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Stuck { register, value } => {
                write!(f, "the device does not leave its reset: register {register:#x} holds {value:#x}")
            }
            Self::NoTester => f.write_str("the tester at the other end of the wire does not answer"),
            Self::Tester(refusal) => write!(f, "the tester refuses: {refusal}"),
            Self::Encode(error) => write!(f, "the request to the tester cannot be encoded: {error}"),
            Self::Kill(error) => error.fmt(f),
            Self::Silence => f.write_str("no frame came back after a crash"),
        }
    }
}

/// The frames moved by one exchange.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moved {
    /// Frames that the queue has taken.
    pub(crate) sent: usize,
    /// Frames that the queue has received.
    pub(crate) received: usize,
}

/// A path for frames. All waits are by polling.
pub(crate) trait FramePath {
    /// Returns the address of its device.
    fn mac(&self) -> MacAddr;
    /// Opens a queue whose exchanges receive at most `batch` frames. The device must have no other open
    /// queue: frames without addresses to hash go to the first.
    fn begin(&mut self, batch: usize) -> Result<(), Failure>;
    /// Closes the queue, after all packets are back.
    fn end(&mut self) -> Result<(), Failure>;
    /// Sends the frames of the last exchange back, after `rewrite` has changed them, and receives.
    fn forward(&mut self, rewrite: impl FnMut(&mut [u8])) -> Result<Moved, Failure>;
    /// Sends `most` frames, those included that the queue did not take the last time. Drops received frames
    /// after `read` has seen them.
    fn transmit(
        &mut self,
        most: usize,
        write: impl FnMut(&mut [u8]) -> usize,
        read: impl FnMut(&[u8]),
    ) -> Result<Moved, Failure>;
    /// Receives frames and drops them after `read` has seen them.
    fn receive(&mut self, read: impl FnMut(&[u8])) -> Result<Moved, Failure>;
}

/// A device behind its handle, and a client's queue of it.
pub(crate) struct Client {
    net: Handle<dyn NetDevice>,
    mac: MacAddr,
    state: State,
}

/// The owner of a client's packets.
#[expect(clippy::large_enum_variant, reason = "each client has one, and a box would slow down each exchange")]
enum State {
    Closed(PacketPool),
    Open(NetClient),
    /// A queue that did not open, or did not return them.
    Lost,
}

impl Client {
    /// Creates a client without a queue.
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

impl FramePath for Client {
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
