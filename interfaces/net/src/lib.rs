//! [`NetDevice`]: a network device. [`NetQueue`]: sends and receives its frames.
//!
//! # A packet
//! A [`Packet`] is one shared object: a head of 64 bytes that describes the contents ([`PacketHead`]),
//! followed by the bytes of a frame, which the device reads and writes in place. A packet without a frame is
//! *spare*. A frame has no FCS here: the device appends and checks it.
//!
//! A client allocates as many packets as it needs ([`RRef::with_capacity`]), *lends* each of them **once**,
//! and keeps the [`Loan`](coppice_rref::Loan)s. From then on the [`Lent`](coppice_rref::Lent) halves
//! circulate: to a queue, which fills them or sends their frames, and back. They stay lent, so the domains
//! between client and driver need not touch a single packet. If the driver dies, all its packets return to
//! their lender directly, past the domains between: their `Loan`s become redeemable, and the client lends
//! them again. `coppice-net-client` does that for its users.
//!
//! The `tag` belongs to the client and identifies the packet; no callee changes it.
//!
//! # The contract of a queue
//! - One crossing does everything. [`NetQueue::exchange`] takes two batches and returns both:
//!   - `send` takes frames to send, in order. It returns the frames for which there was no room, unchanged
//!     and in order, and after them spare packets that the queue does not need.
//!   - `receive` takes spare packets. It returns received frames, in order.
//! - A queue keeps as many spare packets as its receive ring has room for. Packets whose frames have been
//!   sent become spare and fill that ring first. So a forwarder passes its received packets on in `send` and
//!   needs no others, and a client that only sends gets its packets back in `send`. Spare packets may be
//!   passed in either batch. `receive` never returns any; surplus ones come back in `send`, in this exchange
//!   or a later one.
//! - All packets in `receive` count as spare: frames in them are dropped.
//! - A frame in several packets has [`PacketHead::continues`] in all but the last. They are adjacent in one
//!   batch.
//! - A frame that cannot be sent comes back as a spare packet with the reason in [`PacketHead::refusal`], and
//!   is counted in [`Statistics::refused`]. No frame makes a queue fail. A packet that is handed in as spare
//!   comes back without the refusal of an earlier frame.
//! - A packet that comes back spare in `send` has been sent or refused. Sent means that the device has
//!   fetched it, not that it was received. Frames may be lost, as on a wire, and a driver that crashes loses
//!   its frames. No packet is ever lost.
//! - The *epoch* of a queue is [`FIRST_EPOCH`] when it is opened, and changes when packets of the queue have
//!   returned to their lenders ([`Exchanged::epoch`]). That includes a loss in the first exchange, so a
//!   client compares with the first epoch and not with the first one that it receives.
//! - An exchange returns no more received packets than the queue was opened for ([`QueueDepth::batch`]).
//! - If nothing was received, an exchange may wait until a frame is received, until there is room for the
//!   rest of `send`, or until a time that the caller gives. It may also return earlier, because long waits do
//!   not fit the deadline for one call. With a time of zero it never waits.
//! - A queue belongs to one thread: the one that uses it first. Another thread gets its batches back
//!   ([`Busy`]), untouched, and opens a queue of its own. Frames are distributed over the open queues by a
//!   hash of their addresses ([`Rss`]), so the frames of one connection stay in order.
//! - The bytes of a packet outside its frame are undefined, and a received frame has arbitrary contents. A
//!   borrower writes the head too. [`Frame`] never reaches outside the packet, whatever the head says.
//! - Dropping the handle closes the queue. Its packets return to their lenders later, when the device has no
//!   access to them any more.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod config;
mod error;
mod frame;
mod head;
#[cfg(test)]
mod tests;

use core::fmt;

use coppice_interfaces::{Handle, InterfaceEntry, RpcResult, Text, interface};
use coppice_rref::{Buffer, Flat, LentDeque, RRef, Shareable};

pub use address::MacAddr;
pub use config::{HashFields, MULTICAST_LIMIT, NetConfig, Rss};
pub use error::{NetError, Refusal};
pub use frame::{Frame, Frames};
pub use head::{ChecksumOffload, ChecksumReport, PacketHead};

/// The interfaces of this family, for the list of a kernel image.
pub const ALL: &[InterfaceEntry] =
    &[InterfaceEntry::of::<dyn NetDevice>(), InterfaceEntry::of::<dyn NetQueue>()];

/// The capacity of a [`Batch`], in packets.
pub const BATCH: usize = 256;

/// The size of an Ethernet header without a VLAN tag, in bytes (IEEE 802.3, 3.1.1).
pub const ETHERNET_HEADER: usize = 14;

/// The size of the shortest frame on a wire in bytes, without FCS (IEEE 802.3, 4A.4.2). Devices pad shorter
/// frames.
pub const SHORTEST_FRAME: usize = 60;

/// A packet with its bytes.
pub type Packet = Buffer<PacketHead>;

/// The packets of one direction of an exchange.
pub type Batch = LentDeque<Packet, BATCH>;

/// The optional features of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Offloads {
    /// Fills in the checksums of sent IPv4 headers.
    pub send_ip_checksum: bool,
    /// Fills in the TCP and UDP checksums of sent frames.
    pub send_transport_checksum: bool,
    /// Verifies the checksums of received frames.
    pub receive_checksums: bool,
    /// Distributes received frames over queues by a hash.
    pub rss: bool,
    /// Sends and receives frames in several packets.
    pub scatter_gather: bool,
}

/// The properties of a device. They do not change while its `mac` and `model` stay the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct NetInfo {
    /// The permanent address, as assigned by the manufacturer.
    pub mac: MacAddr,
    /// The name of the chip.
    pub model: Text<40>,
    /// The largest number of queues that are open at a time.
    pub queues: u32,
    /// The largest number of frames that one queue holds for sending.
    pub max_send_depth: u32,
    /// The largest number of spare packets that one queue keeps.
    pub max_receive_depth: u32,
    /// The size of the longest frame that can be configured ([`NetConfig::mtu`] and an Ethernet header),
    /// without FCS.
    pub longest_frame: u32,
    /// The room for a frame that a packet needs to be used for receiving, in bytes.
    pub min_packet_bytes: u32,
    /// The optional features.
    pub offloads: Offloads,
}

/// The size of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct QueueDepth {
    /// The number of packets to be sent. A device may round it up.
    pub send: u32,
    /// The number of spare packets to receive into. A device may round it up.
    pub receive: u32,
    /// The largest number of received packets that one exchange returns. A smaller batch shortens the time
    /// that frames wait in the client. See [`Self::max_received`].
    pub batch: u32,
}

impl Default for QueueDepth {
    fn default() -> Self {
        Self { send: 512, receive: 512, batch: BATCH as u32 }
    }
}

impl QueueDepth {
    /// [`Self::batch`], limited to the capacity of a [`Batch`], and at least 1.
    pub fn max_received(&self) -> usize {
        (self.batch as usize).clamp(1, BATCH)
    }
}

/// The state of a device's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Link {
    /// True if the link is up.
    pub is_up: bool,
    /// The speed in megabits per second; 0 while the link is down.
    pub megabits: u32,
    /// The number of changes between up and down since the driver started.
    pub changes: u32,
}

/// Counters since the device was first used. A restart of the driver does not reset them.
///
/// Events that a driver had not yet reported when it crashed may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Statistics {
    /// Frames received intact.
    pub received: u64,
    /// Bytes of these, without FCS.
    pub received_bytes: u64,
    /// Received broadcast frames, a part of [`Self::received`].
    pub broadcast: u64,
    /// Received multicast frames, a part of [`Self::received`].
    pub multicast: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes of these, without FCS.
    pub sent_bytes: u64,
    /// Frames that were lost for lack of a spare packet or of time.
    pub missed: u64,
    /// Frames with a wrong FCS or a coding error.
    pub damaged: u64,
    /// Frames that were too short or too long.
    pub misshapen: u64,
    /// Received frames with a wrong IP, TCP or UDP checksum, a part of [`Self::received`].
    pub bad_checksums: u64,
    /// Frames that were not sent, see [`PacketHead::refusal`].
    pub refused: u64,
    /// Frames that the driver received and dropped: damaged ones, and those in more packets than one exchange
    /// returns.
    pub dropped: u64,
    /// Packets with frames to send that the device held when the driver reset it. Each was sent or not.
    pub interrupted: u64,
    /// Packets in outgoing batches that were lost in a crash of the driver. A shadow counts them; they may
    /// have been sent, or spare.
    pub crashed: u64,
}

/// The state of the device behind a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum QueueState {
    /// The device works.
    Running,
    /// The driver is being restarted, and no packet is exchanged. Both batches come back unchanged, so the
    /// packets in `receive` hold no received frames; or empty, if a driver died that held them. The state is
    /// temporary.
    Recovering,
    /// As [`Self::Recovering`], but the driver has been missing for longer than the shadow's timeout. The
    /// shadow keeps trying to reach one.
    Gone,
}

/// The epoch of a queue that has not lost any packet since it was opened.
pub const FIRST_EPOCH: u32 = 0;

/// The result of an exchange.
#[derive(Shareable)]
pub struct Exchanged {
    /// Frames that were not taken, and after them spare packets.
    pub send: RRef<Batch>,
    /// Received frames.
    pub receive: RRef<Batch>,
    /// [`FIRST_EPOCH`] for a newly opened queue. It increases when packets of the queue have returned to
    /// their lenders: those [`Loan`](coppice_rref::Loan)s can be redeemed now. Packets handed in with this
    /// exchange may be among them.
    pub epoch: u32,
    /// The state of the device.
    pub state: QueueState,
}

impl fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { send, receive, epoch, state } = self;
        write!(f, "{} back, {} received, epoch {epoch}, {state:?}", send.len(), receive.len())
    }
}

/// The queue belongs to another thread; the batches come back unchanged.
#[derive(Shareable)]
pub struct Busy {
    /// The caller's batch, with all its frames.
    pub send: RRef<Batch>,
    /// The caller's batch, with all its packets.
    pub receive: RRef<Batch>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packets = self.send.len() + self.receive.len();
        write!(f, "the queue belongs to another thread ({packets} packets come back)")
    }
}

/// A network device.
#[interface]
pub trait NetDevice {
    /// Returns the device's properties.
    fn info(&self) -> RpcResult<NetInfo>;
    /// Returns the state of the link, read from the device.
    ///
    /// # Errors
    /// [`NetError::Device`] when the device fails, [`NetError::Gone`] when there is no driver.
    fn link(&self) -> RpcResult<Result<Link, NetError>>;
    /// Returns the counters.
    ///
    /// # Errors
    /// [`NetError::Device`] when the device fails, [`NetError::Gone`] when there is no driver.
    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>>;
    /// Returns the current configuration.
    fn config(&self) -> RpcResult<NetConfig>;
    /// Applies a configuration as a whole. Open queues stay open, and frames may be lost during the change.
    ///
    /// # Errors
    /// The reason why the device does not accept it; the previous configuration stays in force.
    fn configure(&self, config: NetConfig) -> RpcResult<Result<(), NetError>>;
    /// Opens a queue.
    ///
    /// # Errors
    /// [`NetError::Depth`] when a depth is out of range, [`NetError::NoQueue`] when all queues are open,
    /// [`NetError::Device`] when the device fails, [`NetError::Gone`] when there is no driver.
    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>>;
}

/// One queue of a network device, for one thread.
#[interface]
pub trait NetQueue {
    /// Takes frames to send out of `send` and spare packets out of `receive`, and puts received frames into
    /// `receive`. If nothing was received, waits until a frame is or the clock (nanoseconds since boot)
    /// passes `wait_until_ns`; it may return earlier, and zero never waits. The [module](self) has the rest
    /// of the contract.
    ///
    /// # Errors
    /// [`Busy`] when the queue belongs to another thread.
    fn exchange(
        &self,
        send: RRef<Batch>,
        receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>>;
}
