//! The in-band test protocol: how whoever has a network device makes traffic, and learns what became of it.
//!
//! At the far end of a wire stands a *tester*, which makes and counts frames. It is controlled by frames, so that it is the same
//! whether it is part of a device model, of a virtual machine or of another computer. The other side is called *guest* here.
//!
//! - [`Test`]: a frame of a stream. The tester sends them when asked to ([`Start`]), and a guest may send streams of its own; whoever
//!   receives them counts them in a [`Count`].
//! - [`Control`]: what a guest asks of the tester. Each of them is answered by a [`Report`] with the same request id, to the address
//!   that it came from. A guest whose answer is lost asks again with the same id: a request that is repeated takes effect once.
//! - [`Template`]: a test frame whose bytes stay, but for those that count.
//!
//! # Frames
//! All numbers are big-endian. Lengths are those of a frame from its destination address on, without FCS. A message stands behind
//! the Ethernet header if the EtherType is [`ETHER_TYPE`] (*plain*), or behind IPv4 and UDP headers with [`UDP_PORT`] as destination
//! port (*with flows*): then source address and port differ between frames, so that a device's receive-side scaling distributes them.
//! Only test frames come with flows.
//!
//! | bytes of a message | all | |
//! |---|---|---|
//! | 0 | [`MARK`] | |
//! | 1 | kind: 1 test, 2 start, 3 stop, 4 ask, 5 reset, 6 report | |
//! | 2-3 | stream, below [`STREAMS`] | |
//!
//! | test | start | stop, ask | reset | report |
//! |---|---|---|---|---|
//! | 4-9 sequence | 4-7 request | 4-7 request | 4-7 request | 4-7 request |
//! | 10-15 sent, ns | 8-9 frame bytes | 8-11 check | 8-13 base | 8 kind that is answered |
//! | 16-17 check | 10-11 flows; 0: plain | | 14-15 zero | 9 refusal; 0: none |
//! | 18- filler | 12-15 burst | | 16-19 check | 10 whether the stream is sent |
//! | | 16-23 frames per second | | | 11 zero |
//! | | 24-31 count | | | 12- numbers, 8 bytes each |
//! | | 32-37 destination | | | then check, 4 bytes |
//! | | 38 filler checked? | | | |
//! | | 39 zero, 40-43 check | | | |
//!
//! The check of a test frame is 16 bits over what is in front of it in the message ([`Test`]); that of all others 32 bits. Checks are
//! not those of a standard: a frame whose FCS is right has been damaged by a machine and not by a wire, so a quick mix of all bits does.
//! A test's [filler](filler) depends on nothing but its place.
//!
//! [`decode`] takes any bytes, and either understands or says why not.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

mod bytes;
mod control;
mod count;
mod error;
mod frame;
mod histogram;
mod message;
mod report;
mod template;
mod test;
#[cfg(test)]
mod tests;

pub use control::{Ask, Control, Reset, Start, Stop};
pub use count::{Count, Counted};
pub use error::{DecodeError, EncodeError};
pub use frame::{ETHER_TYPE, LONGEST_FRAME, SHORTEST_FRAME, UDP_PORT, filler, message_offset};
pub use histogram::Histogram;
pub use message::{MARK, Message, STREAMS, decode};
pub use report::{Latency, Refusal, Report};
pub use template::{Shape, Template};
pub use test::Test;
