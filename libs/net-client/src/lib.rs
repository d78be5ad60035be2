//! The client's side of a network device: packets that circulate, and a queue to pass them through.
//!
//! - [`PacketPool`] allocates packets and lends each of them once. It keeps the loans, and gets back the
//!   packets that a crash took out of circulation.
//! - [`NetClient`] is a queue of a device with a pool behind it. It passes whole batches: frames are written
//!   and read in the packets themselves. It survives crashes: those of a driver behind a shadow, and those of
//!   a driver that it is wired to directly.
//!
//! A client belongs to one thread, like the queue behind it: to the first thread that uses it.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod client;
mod counters;
mod error;
mod pool;
mod reconnect;
mod rx_credit;

use coppice_net::ETHERNET_HEADER;

pub use client::{Accounts, ExchangeReport, Missing, NetClient};
pub use counters::Counters;
pub use error::NetClientError;
pub use pool::{Audit, PacketPool};

/// Exchanges source and destination address of a frame (IEEE 802.3, 3.2.3 and 3.2.4), so that it returns to
/// its sender. A frame without an Ethernet header is left unchanged.
#[inline]
pub fn swap_addresses(frame: &mut [u8]) {
    if let Some(header) = frame.first_chunk_mut::<ETHERNET_HEADER>() {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, type0, type1] = *header;
        *header = [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5, type0, type1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_addresses_return_a_frame_to_its_sender() {
        let mut frame = *b"there.here..\x88\xb5 and so on";
        swap_addresses(&mut frame);
        assert_eq!(&frame, b"here..there.\x88\xb5 and so on");
        let mut short = *b"thirteen byte";
        swap_addresses(&mut short);
        assert_eq!(&short, b"thirteen byte");
    }
}
