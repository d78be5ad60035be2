//! [`NetDevice`]: a network device, and [`NetQueue`], where frames are handed over and collected.
//!
//! # A packet
//! A [`Packet`] is one shared object: a head of 64 bytes that says what is in it ([`PacketHead`]), and behind it the bytes of a
//! frame, which the device reads and writes where they lie. A packet without a frame is *spare*. A frame has no FCS here: the
//! device appends and checks it.
//!
//! Whoever uses a device makes as many packets as it wants ([`RRef::with_capacity`]), *lends* each of them **once**, keeps the
//! [`Loan`](coppice_rref::Loan)s aside, and from then on passes the [`Lent`](coppice_rref::Lent) halves around: to a queue, which
//! fills them or sends what is in them, and back. They stay lent, so nobody between client and driver has anything to do with a
//! single packet. If the driver dies, all that it had goes back to who lent it, past everybody between: the `Loan`s of those
//! are redeemable, and the client lends them anew. `coppice-net-client` does that for its users.
//!
//! The `tag` is the client's and nobody changes it; it says which of its packets this is.
//!
//! # The contract of a queue
//! - One crossing does everything. [`NetQueue::exchange`] is handed two batches and gives both back:
//!
//!   | batch | there | back |
//!   |---|---|---|
//!   | `send` | frames to send, in order | those for which there was no room, as they were and in order; behind them spare packets that the queue does not need |
//!   | `receive` | spare packets | frames that were received, in order |
//!
//! - A queue keeps as many spare packets as its receive ring has room for. Packets whose frames have been sent become spare, and
//!   fill that ring first. So who forwards gives in `send` what it was given in `receive`, and needs nothing else; and who only
//!   sends gets its packets back in `send`. Spare packets may be handed in by either batch; `receive` never returns any, so
//!   what does not fit comes back in `send`, now or later.
//! - A batch that is handed in with frames in `receive` has them dropped: what is in `receive` counts as spare.
//! - A frame in several packets has [`PacketHead::continues`] in all but the last. They are adjacent in one batch.
//! - A frame that cannot be sent comes back as a spare packet whose [`PacketHead::refusal`] says why, and is counted in
//!   [`Statistics::refused`]. No frame makes a queue fail. The refusal of a packet that is handed in as a spare one is over: it does not
//!   come back with it.
//! - A packet that comes back in `send` has been sent or refused: sent means that the device has fetched it, not that anybody has
//!   received it. Frames may be lost, as on a wire; a driver that crashes loses those that it had. No packet is ever lost.
//! - The *epoch* of a queue is [`FIRST_EPOCH`] when it is opened, and another one as soon as packets that the queue had have gone back to
//!   their lenders ([`Exchanged::epoch`]). That includes a loss in the first exchange: a client compares with the first epoch and not
//!   with the first that it sees.
//! - An exchange gives back no more received packets than the queue was opened for ([`QueueDepth::batch`]).
//! - If nothing was received, an exchange may wait until something is, or until there is room for what was not taken of `send`, or until
//!   the clock passes a time that the caller says; it may also return earlier, as long waits do not fit the deadline for one call.
//!   Zero never waits.
//! - A queue is one thread's: the one that uses it first. Another one gets its batches back ([`Busy`]), untouched, and opens a queue of
//!   its own. Frames are distributed over the open queues by a hash of their addresses ([`Rss`]), so those of a connection stay
//!   in order.
//! - What the bytes of a packet hold outside of its frame is anything, and a received frame is whatever somebody sent: its head,
//!   too, is written by a borrower. [`Frame`] never reaches outside of the packet, whatever a head says.
//! - Dropping the handle closes the queue. The packets that it has come back to their lenders some time later, when the device has
//!   no access to them any more.

mod address;
mod config;
mod error;
mod frame;
mod head;
#[cfg(test)]
mod tests;

use core::fmt;

use coppice_interface_macros::interface;
use coppice_rref::{Buffer, Flat, LentDeque, RRef, Shareable};

use crate::{Handle, RpcResult, Text};
pub use address::MacAddr;
pub use config::{HashFields, MULTICAST_LIMIT, NetConfig, Rss};
pub use error::{NetError, Refusal};
pub use frame::{Frame, Frames};
pub use head::{Checks, PacketHead, Request};

/// How many packets a [`Batch`] carries.
pub const BATCH: usize = 256;

/// Bytes of an Ethernet header without a VLAN tag (IEEE 802.3, 3.1.1).
pub const ETHERNET_HEADER: usize = 14;

/// The shortest frame on a wire, without FCS (IEEE 802.3, 4A.4.2). Devices pad what is shorter.
pub const SHORTEST_FRAME: usize = 60;

/// A packet with its bytes.
pub type Packet = Buffer<PacketHead>;

/// What an exchange carries, each way.
pub type Batch = LentDeque<Packet, BATCH>;

/// What a device can do beyond sending and receiving.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Offloads {
    /// It can fill in checksums of IPv4 headers that it sends.
    pub send_ip_checksum: bool,
    /// It can fill in checksums of TCP and UDP that it sends.
    pub send_transport_checksum: bool,
    /// It looks at checksums of what it receives.
    pub receive_checksums: bool,
    /// It distributes frames over queues by a hash.
    pub rss: bool,
    /// It sends and receives frames in several packets.
    pub scatter_gather: bool,
}

/// What a device is and can do. It does not change while the device is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct NetInfo {
    /// Its own address, as it came from its maker.
    pub mac: MacAddr,
    /// The chip.
    pub model: Text<40>,
    /// How many queues can be open at a time.
    pub queues: u32,
    /// Most frames that one queue has to send.
    pub most_send_depth: u32,
    /// Most spare packets that one queue keeps.
    pub most_receive_depth: u32,
    /// The longest frame that can be set up ([`NetConfig::mtu`] and an Ethernet header), without FCS.
    pub longest_frame: u32,
    /// The fewest bytes that a packet has from the start of its frame on, to be of use for receiving.
    pub least_packet_bytes: u32,
    /// What else it can do.
    pub offloads: Offloads,
}

/// What a queue has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct QueueDepth {
    /// Packets to be sent. A device may round it up.
    pub send: u32,
    /// Spare packets to receive into. A device may round it up.
    pub receive: u32,
    /// Most packets that one exchange gives back as received: who wants to be done with them sooner asks for fewer at a time.
    /// See [`Self::most_received`].
    pub batch: u32,
}

impl Default for QueueDepth {
    fn default() -> Self {
        Self { send: 512, receive: 512, batch: BATCH as u32 }
    }
}

impl QueueDepth {
    /// [`Self::batch`] as what a [`Batch`] can carry, and never nothing.
    pub fn most_received(&self) -> usize {
        (self.batch as usize).clamp(1, BATCH)
    }
}

/// How a device is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Link {
    /// Whether there is somebody at the other end.
    pub is_up: bool,
    /// Megabits per second; 0 while there is nobody.
    pub megabits: u32,
    /// How often it came up or went down since the driver began.
    pub changes: u32,
}

/// What happened so far, since the device was first used: a driver's restart does not set it back.
///
/// What a driver had not yet been asked for when it crashed may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Statistics {
    /// Frames received whole and well.
    pub received: u64,
    /// Bytes of these, without FCS.
    pub received_bytes: u64,
    /// Of these, how many were sent to all.
    pub broadcast: u64,
    /// Of these, how many were sent to a group.
    pub multicast: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes of these, without FCS.
    pub sent_bytes: u64,
    /// Frames that came and for which there was no spare packet, or no time.
    pub missed: u64,
    /// Frames that were damaged on the way: a wrong FCS, or an error of coding.
    pub damaged: u64,
    /// Frames that were too short or too long.
    pub misshapen: u64,
    /// Frames with a wrong checksum inside; they were received nevertheless.
    pub bad_checksums: u64,
    /// Frames that were not sent, see [`PacketHead::refusal`].
    pub refused: u64,
    /// Frames that the driver received and dropped: damaged ones, and those in more packets than one exchange gives back.
    pub dropped: u64,
    /// Packets with frames to send that the device had when the driver reset it: each was sent or not.
    pub interrupted: u64,
    /// Packets in outgoing batches that a crash of the driver took. A shadow counts them; they may have been sent, or spare.
    pub crashed: u64,
}

/// What stands behind a queue at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum QueueState {
    /// A device that works.
    Running,
    /// A driver that is being restarted: nothing is taken or given. Both batches come back as they were handed in, so what is in `receive`
    /// has not been received; or empty, if a driver died that had them. All will be well soon.
    Recovering,
    /// The same, for so long that a driver will hardly come again. It is asked for still.
    Gone,
}

/// The epoch of a queue that has not lost any packet since it was opened.
pub const FIRST_EPOCH: u32 = 0;

/// What an exchange gives back.
#[derive(Shareable)]
pub struct Exchanged {
    /// What was not taken, and behind it packets that are spare.
    pub send: RRef<Batch>,
    /// Frames received.
    pub receive: RRef<Batch>,
    /// [`FIRST_EPOCH`] with each newly opened queue. Goes up whenever packets that the queue had have gone back to their lenders: those
    /// [`Loan`](coppice_rref::Loan)s can be redeemed now. Packets handed in with this exchange may be among them.
    pub epoch: u32,
    /// How things are.
    pub state: QueueState,
}

impl fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { send, receive, epoch, state } = self;
        write!(f, "{} back, {} received, epoch {epoch}, {state:?}", send.len(), receive.len())
    }
}

/// The queue is another thread's: the batches as they were.
#[derive(Shareable)]
pub struct Busy {
    /// With all frames still in it.
    pub send: RRef<Batch>,
    /// With all packets still in it.
    pub receive: RRef<Batch>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packets = self.send.len() + self.receive.len();
        write!(f, "the queue is another thread's ({packets} packets come back)")
    }
}

/// A network device.
#[interface]
pub trait NetDevice {
    /// What it is.
    fn info(&self) -> RpcResult<NetInfo>;
    /// How it is connected, by what the device says now.
    ///
    /// # Errors
    /// [`NetError`].
    fn link(&self) -> RpcResult<Result<Link, NetError>>;
    /// What happened so far.
    ///
    /// # Errors
    /// [`NetError`].
    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>>;
    /// How it is set up.
    fn config(&self) -> RpcResult<NetConfig>;
    /// Sets it up, all of it or nothing. Queues that are open stay open, and frames may be lost meanwhile.
    ///
    /// # Errors
    /// [`NetError`], and everything is as it was.
    fn configure(&self, config: NetConfig) -> RpcResult<Result<(), NetError>>;
    /// Opens a queue.
    ///
    /// # Errors
    /// [`NetError`].
    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>>;
}

/// One queue of a network device, for one thread.
#[interface]
pub trait NetQueue {
    /// Takes frames to send out of `send` and spare packets out of `receive`, and puts received frames into `receive`. If nothing
    /// was received, waits until something is or the clock (nanoseconds since boot) passes `wait_until_ns`, or not as long; zero
    /// never waits. See the [module](self) for what is promised.
    ///
    /// # Errors
    /// [`Busy`].
    fn exchange(
        &self,
        send: RRef<Batch>,
        receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>>;
}
