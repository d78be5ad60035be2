//! An Ethernet link for a model of a network device.
//!
//! A [`Wire`] limits both directions to a rate and ends at a [`Peer`]. The device's thread drives both: it
//! sends and receives one frame at a time, and asks for the time of its next look. A wire has no queue. The
//! component that needs one has its own: the device's packet buffer, a peer's backlog.
//!
//! A frame is the bytes from the destination address on, without the FCS, which is either right or wrong
//! ([`Frame::damage`]). The FCS, the preamble and the gap between frames still take their time on the wire.
//!
//! The peers here need nothing of the host: [`Loopback`], [`Pair`], [`Tester`], captures. Those on the host's
//! network are in `device-host-net`, and `device-link-config` parses the options that name all of them.
//!
//! A frame that a wire does not deliver is counted in its [`Losses`], by cause. [`Impairment`] injects such
//! losses and other faults on the way.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod impairment;
mod loopback;
mod losses;
mod mailbox;
mod pace;
mod pair;
mod pcap;
mod peer;
mod queue;
mod tester;
mod wire;

pub use impairment::{Impairment, ImpairmentKind, ImpairmentRule};
pub use loopback::Loopback;
pub use losses::{LossCounters, Losses};
pub use mailbox::Mailbox;
pub use pace::{Pace, Rate};
pub use pair::Pair;
pub use pcap::{Capture, Player, Recorder};
pub use peer::{Damage, Frame, NullPeer, Peer, Waker};
pub use tester::Tester;
pub use wire::Wire;
