//! What a client of a network device has: packets that circulate, and a queue to pass them through.
//!
//! - [`Pool`] makes packets and lends each of them once. It keeps the claims, and gets back what a crash took out of circulation.
//! - [`Port`] is a queue of a device with a pool behind it. What it carries are whole batches: frames are written and read where they
//!   lie. It goes on after crashes, of a driver behind a shadow and of a driver that it is wired to itself.
//!
//! A port is one thread's, as the queue behind it: the thread that uses it first.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod appetite;
mod counters;
mod error;
mod pool;
mod port;
mod reopen;

use coppice_net::ETHERNET_HEADER;

pub use counters::Counters;
pub use error::PortError;
pub use pool::{Audit, Pool};
pub use port::{Accounts, Missing, Port, Turn};

/// Has a frame go back to where it came from: source and destination trade places (IEEE 802.3, 3.2.3 and 3.2.4). One without an
/// Ethernet header is left alone.
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
    fn a_frame_goes_back_to_where_it_came_from() {
        let mut frame = *b"there.here..\x88\xb5 and so on";
        swap_addresses(&mut frame);
        assert_eq!(&frame, b"here..there.\x88\xb5 and so on");
        let mut short = *b"thirteen byte";
        swap_addresses(&mut short);
        assert_eq!(&short, b"thirteen byte");
    }
}
