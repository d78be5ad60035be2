//! An Ethernet wire: what a model of a network device is plugged into.
//!
//! A [`Wire`] has a rate, which it keeps in both directions, and an [`End`] at its other side. The device's thread drives both:
//! it sends and receives a frame at a time, and asks when it has to come back. There is no queue in a wire; whoever needs one
//! (the device's packet buffer, a socket's backlog) has it.
//!
//! A frame is its bytes from the destination address on. The FCS is not among them: it is either right or it is not
//! ([`Frame::damage`]). On the wire it counts, as do preamble and the gap between frames.
//!
//! A frame that a wire does not deliver is counted in its [`Losses`], by cause.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bell;
mod config;
mod end;
mod forward;
mod loopback;
mod losses;
mod pace;
mod pair;
mod pcap;
mod queue;
mod stream;
mod tap;
mod tester;
mod trouble;
mod udp;
mod wire;

pub use config::{ConfigError, EndConfig, OpenError, WireConfig, parse_end, parse_mac};
pub use end::{Damage, End, Frame, Nobody, Waker};
pub use forward::{Forward, ForwardRule};
pub use loopback::Loopback;
pub use losses::{LossCounters, Losses};
pub use pace::{Pace, Rate};
pub use pair::Pair;
pub use pcap::{Capture, Player, Recorder};
pub use stream::{Stream, StreamAddress};
pub use tap::Tap;
pub use tester::Tester;
pub use trouble::{Trouble, TroubleKind, TroubleRule};
pub use udp::Udp;
pub use wire::Wire;
