//! [`Linked`]: the driver as a library of this domain, as in a program without isolation.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use coppice_domain_ixgbe::Format;
use coppice_hardware::Device;
use coppice_net::{ChecksumReport, Frame, MacAddr, Packet};
use coppice_net_client::PacketPool;
use coppice_rref::Lent;
use coppice_runtime::time;
use ixgbe_driver::{Controller, Options, Queue, QueueOptions, Received};

use crate::path::{DEPTH, Failure, FramePath, Moved, PACKET_BYTES, PACKETS};

/// The batch size for handing over spare packets.
const REFILL: usize = 32;

/// One queue of a device of our own.
pub(crate) struct Linked {
    queue: Queue<Format>,
    mac: MacAddr,
    pool: PacketPool,
    /// The frames of the last exchange.
    received: Vec<Lent<Packet>>,
    /// The frames to send.
    outgoing: VecDeque<Lent<Packet>>,
    batch: usize,
    /// Owns the device while the queue is open.
    _controller: Controller,
}

impl Linked {
    /// Starts the device.
    pub(crate) fn open(device: Device) -> Result<Self, Failure> {
        let controller = Controller::open(device, OPTIONS)?;
        let options = QueueOptions { send_depth: DEPTH, receive_depth: DEPTH, ..QueueOptions::default() };
        let queue = controller.open_queue(options)?;
        let mut linked = Self {
            mac: MacAddr(controller.info().mac),
            queue,
            pool: PacketPool::new(PACKETS, PACKET_BYTES)?,
            received: Vec::with_capacity(coppice_net::BATCH),
            outgoing: VecDeque::with_capacity(PACKETS),
            batch: coppice_net::BATCH,
            _controller: controller,
        };
        linked.refill();
        Ok(linked)
    }

    #[inline(always)]
    fn refill(&mut self) {
        if self.queue.receive_room() < REFILL {
            return;
        }
        while let Some(packet) = self.pool.take() {
            if let Err(packet) = self.queue.give(packet) {
                self.pool.put(packet);
                break;
            }
        }
    }

    /// Sends outgoing frames as far as there is room, and receives.
    #[inline(always)]
    fn exchange(&mut self) -> Result<Moved, Failure> {
        let (outgoing, pool, received) = (&mut self.outgoing, &mut self.pool, &mut self.received);
        let sent = self.queue.send(|| outgoing.pop_front(), |packet, _| pool.put(packet));
        let sent = sent.map_err(Failure::Fault)?;
        // The driver's domain does the same for each packet and reads the clock as often.
        let mut now_ns = 0;
        let take = |mut packet: Lent<Packet>, found: Received| {
            if now_ns == 0 {
                now_ns = time::now().as_nanos() as u64;
            }
            let checks = ChecksumReport { ip: found.ip_checksum(), transport: found.transport_checksum() };
            packet.head_mut().receive(found.len(), now_ns, checks, found.hash(), found.continues());
            received.push(packet);
        };
        let count = self.queue.poll(self.batch, take).map_err(Failure::Fault)?;
        self.refill();
        Ok(Moved { sent, received: count })
    }

    #[inline(always)]
    fn drop_received(&mut self) {
        for packet in self.received.drain(..) {
            if let Err(packet) = self.queue.give(packet) {
                self.pool.put(packet);
            }
        }
    }
}

/// A model is ready at once, and this code waits for no interrupt.
const OPTIONS: Options = Options {
    step_timeout_ns: 100_000_000,
    settle_ns: 0,
    hang_ns: 500_000_000,
    spin_ns: 0,
    interrupt_gap_us: 4,
};

impl FramePath for Linked {
    fn mac(&self) -> MacAddr {
        self.mac
    }

    fn begin(&mut self, batch: usize) -> Result<(), Failure> {
        self.batch = batch;
        Ok(())
    }

    /// Keeps the queue: the device has no other user.
    fn end(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    #[inline(always)]
    fn forward(&mut self, mut rewrite: impl FnMut(&mut [u8])) -> Result<Moved, Failure> {
        for mut packet in self.received.drain(..) {
            rewrite(packet.frame_mut());
            self.outgoing.push_back(packet);
        }
        self.exchange()
    }

    #[inline(always)]
    fn transmit(
        &mut self,
        most: usize,
        mut write: impl FnMut(&mut [u8]) -> usize,
        mut read: impl FnMut(&[u8]),
    ) -> Result<Moved, Failure> {
        self.drop_received();
        while self.outgoing.len() < most {
            let Some(mut packet) = self.pool.take() else { break };
            let room = packet.room();
            let bytes = write(packet.set_frame(room));
            packet.set_frame(bytes);
            self.outgoing.push_back(packet);
        }
        let moved = self.exchange()?;
        self.received.iter().for_each(|packet| read(packet.frame()));
        Ok(moved)
    }

    #[inline(always)]
    fn receive(&mut self, mut read: impl FnMut(&[u8])) -> Result<Moved, Failure> {
        self.drop_received();
        let moved = self.exchange()?;
        self.received.iter().for_each(|packet| read(packet.frame()));
        Ok(moved)
    }
}
