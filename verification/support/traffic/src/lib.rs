//! The in-band test protocol: a domain with a network device generates traffic and learns the results.
//!
//! A *tester* at the far end of a wire generates and counts frames. Frames control it, so a device model, a
//! virtual machine or another computer can be the tester. The other side is called *guest* here.
//!
//! - [`Test`]: a frame of a stream. The tester sends streams on request ([`Start`]), and a guest may send its
//!   own; the receiver counts the frames in a [`Count`].
//! - [`Control`]: a request of a guest to the tester. The tester replies with a [`Report`] that has the same
//!   request id, to the source address of the request. A guest that gets no reply repeats the request with
//!   the same id: a repeated request takes effect once.
//! - [`Template`]: a test frame whose bytes stay constant, except for its number and time.
//!
//! # Frames
//! All numbers are big-endian. Lengths are those of a frame from its destination address on, without FCS. A
//! message follows the Ethernet header if the EtherType is [`ETHER_TYPE`] (*plain*), or IPv4 and UDP headers
//! with [`UDP_PORT`] as destination port (*with flows*): source address and port then differ between frames,
//! so that a device's receive-side scaling distributes them. Only test frames come with flows.
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
//! | 10-15 sent, ns | 8-9 frame bytes | 8-11 check | 8-13 base | 8 kind of the request |
//! | 16-17 check | 10-11 flows; 0: plain | | 14-15 zero | 9 refusal; 0: none |
//! | 18- filler | 12-15 burst | | 16-19 check | 10 whether the stream is sent |
//! | | 16-23 frames per second | | | 11 zero |
//! | | 24-31 count | | | 12- numbers, 8 bytes each |
//! | | 32-37 destination | | | then check, 4 bytes |
//! | | 38 filler checked? | | | |
//! | | 39 zero, 40-43 check | | | |
//!
//! The check of a test frame is 16 bits over the bytes in front of it in the message ([`Test`]); that of all
//! other messages has 32 bits. Checks are not those of a standard: a frame with a valid FCS was damaged by a
//! machine and not by a wire, so a quick mix of all bits is enough. The [filler](filler) of a test depends
//! only on its offset.
//!
//! [`decode`] accepts any bytes and returns a message or an error.

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
