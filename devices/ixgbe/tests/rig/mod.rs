//! A minimal driver of the controller: rings in a bench's memory.
//!
//! Offsets and bits are numbers here, apart from the model's: a wrong one must not agree with itself.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use device_bus::{Host, Model, TestHost};
use device_link::{Peer, Wire};
use ixgbe_model::{Ixgbe, IxgbeConfig};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The bytes of a receive buffer.
pub(crate) const BUFFER: u64 = 2048;

pub(crate) struct Rig {
    pub(crate) bench: Arc<TestHost>,
    pub(crate) ixgbe: Arc<Ixgbe>,
}

/// A descriptor ring with a buffer for each descriptor.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    /// The offset of its registers.
    pub(crate) registers: u64,
    pub(crate) descriptors: u64,
    pub(crate) buffers: u64,
    pub(crate) count: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

/// A receive descriptor that was written back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    pub(crate) first: u64,
    pub(crate) status: u32,
    pub(crate) vlan: u16,
    pub(crate) bytes: Vec<u8>,
}

impl Rig {
    /// A device with a loopback: attached, mastering the bus, not set up.
    pub(crate) fn off(text: &str) -> Self {
        let config = IxgbeConfig::parse(&format!("peer=loopback,{text}")).expect("a test's own text");
        Self::around(Ixgbe::new(config).expect("a sound device"))
    }

    /// A device with a peer of the test's, set up.
    pub(crate) fn with_peer(text: &str, peer: Box<dyn Peer>) -> Self {
        let config = IxgbeConfig::parse(text).expect("a test's own text");
        let wire = Wire::new(config.wire.rate, peer);
        Self::with_wire(text, wire)
    }

    /// A device with a wire of the test's, set up.
    pub(crate) fn with_wire(text: &str, wire: Wire) -> Self {
        let config = IxgbeConfig::parse(text).expect("a test's own text");
        let mut rig = Self::around(Ixgbe::with_wire(config, wire).expect("a sound device"));
        rig.set_up();
        rig
    }

    /// A device with a loopback, set up to send and receive broadcasts and its own address, without queues.
    pub(crate) fn new(text: &str) -> Self {
        let mut rig = Self::off(text);
        rig.set_up();
        rig
    }

    pub(crate) fn around(ixgbe: impl Into<Arc<Ixgbe>>) -> Self {
        let ixgbe = ixgbe.into();
        let bench = Arc::new(TestHost::new(16 << 20, 64));
        ixgbe.attach(bench.clone() as Arc<dyn Host>).expect("a new device");
        ixgbe.set_bus_master(true);
        Self { bench, ixgbe }
    }

    pub(crate) fn set_up(&mut self) {
        // FCTRL.BAM, SRRCTL by queue, RXCTRL.RXEN, DMATXCTL.TE.
        self.set(0x5080, 1 << 10);
        self.set(0x4a80, self.get(0x4a80) | 1);
        self.set(0x3000, 1);
    }

    pub(crate) fn get(&self, offset: u64) -> u32 {
        self.ixgbe.read(0, offset, 4) as u32
    }

    pub(crate) fn set(&self, offset: u64, value: u32) {
        self.ixgbe.write(0, offset, 4, u64::from(value));
    }

    /// Waits until a register, under `mask`, is `value`.
    pub(crate) fn wait(&self, offset: u64, mask: u32, value: u32) {
        self.until(|| self.get(offset) & mask == value, &format!("register {offset:#x}"));
    }

    /// Waits until the device is present, without yielding.
    pub(crate) fn wait_for_device(&self) {
        let deadline = Instant::now() + LIMIT;
        while self.get(8) == u32::MAX {
            assert!(Instant::now() < deadline, "the device does not return");
            std::hint::spin_loop();
        }
    }

    pub(crate) fn until(&self, done: impl FnMut() -> bool, what: &str) {
        assert!(self.happens(done, LIMIT), "{what}: not in time");
    }

    pub(crate) fn happens(&self, mut done: impl FnMut() -> bool, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !done() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    fn ring(&self, registers: u64, count: u32) -> Ring {
        let descriptors = self.bench.allocate(u64::from(count) * 16);
        let buffers = self.bench.allocate(u64::from(count) * BUFFER);
        self.set(registers, descriptors as u32);
        self.set(registers + 4, (descriptors >> 32) as u32);
        self.set(registers + 8, count * 16);
        self.set(registers + 0x10, 0);
        self.set(registers + 0x18, 0);
        Ring { registers, descriptors, buffers, count, head: 0, tail: 0 }
    }

    /// An enabled receive queue whose buffers are all the device's.
    pub(crate) fn receive_queue(&self, index: u64, count: u32) -> Ring {
        let mut ring = self.empty_receive_queue(index, count);
        for _ in 1..count {
            self.give(&mut ring);
        }
        self.ring_tail(&ring);
        ring
    }

    /// An enabled receive queue without buffers.
    pub(crate) fn empty_receive_queue(&self, index: u64, count: u32) -> Ring {
        let registers = if index < 64 { 0x1000 + 0x40 * index } else { 0xd000 + 0x40 * (index - 64) };
        let ring = self.ring(registers, count);
        // SRRCTL: advanced descriptors with one buffer of 2 KiB.
        self.set(registers + 0x14, 1 << 25 | 2);
        self.set(registers + 0x28, 1 << 25);
        self.wait(registers + 0x28, 1 << 25, 1 << 25);
        ring
    }

    pub(crate) fn send_queue(&self, index: u64, count: u32) -> Ring {
        let ring = self.request_send_queue(index, count);
        self.wait(ring.registers + 0x28, 1 << 25, 1 << 25);
        ring
    }

    /// A send queue that may never become enabled.
    pub(crate) fn request_send_queue(&self, index: u64, count: u32) -> Ring {
        let registers = 0x6000 + 0x40 * index;
        let ring = self.ring(registers, count);
        self.set(registers + 0x28, 1 << 25);
        ring
    }

    pub(crate) fn buffer(&self, ring: &Ring, index: u32) -> u64 {
        ring.buffers + u64::from(index) * BUFFER
    }

    pub(crate) fn put(&self, ring: &mut Ring, descriptor: [u64; 2]) {
        let at = ring.descriptors + 16 * u64::from(ring.tail);
        self.bench.poke(at, &descriptor.map(u64::to_le_bytes).concat());
        ring.tail = (ring.tail + 1) % ring.count;
    }

    /// Gives the next receive buffer to the device, without the tail register.
    pub(crate) fn give(&self, ring: &mut Ring) {
        let buffer = self.buffer(ring, ring.tail);
        self.put(ring, [buffer, 0]);
    }

    pub(crate) fn ring_tail(&self, ring: &Ring) {
        self.set(ring.registers + 0x18, ring.tail);
    }

    /// Sends a frame. `bits` are those of the descriptor's second word beside length, type and end of packet.
    pub(crate) fn send_with(&self, ring: &mut Ring, frame: &[u8], bits: u64) {
        let buffer = self.buffer(ring, ring.tail);
        self.bench.poke(buffer, frame);
        // DEXT, data, EOP, IFCS, RS; PAYLEN.
        let last = 1 << 29 | 3 << 20 | 1 << 24 | 1 << 25 | 1 << 27;
        self.put(ring, [buffer, last | bits | frame.len() as u64 | (frame.len() as u64) << 46]);
        self.ring_tail(ring);
    }

    pub(crate) fn send(&self, ring: &mut Ring, frame: &[u8]) {
        self.send_with(ring, frame, 0);
    }

    /// Returns true if the descriptor at `index` is done.
    pub(crate) fn is_done(&self, ring: &Ring, index: u32) -> bool {
        self.bench.peek_u32(ring.descriptors + 16 * u64::from(index) + 12) & 1 != 0
    }

    /// Takes the next descriptor that was written back, if there is one.
    pub(crate) fn poll(&self, ring: &mut Ring) -> Option<Received> {
        let at = ring.descriptors + 16 * u64::from(ring.head);
        let status = self.bench.peek_u32(at + 8);
        if status & 1 == 0 {
            return None;
        }
        let words = self.bench.peek(at, 16);
        let word = |at: usize| u16::from_le_bytes([words[at], words[at + 1]]);
        let first = u64::from_le_bytes(words[..8].try_into().expect("eight bytes"));
        let bytes = self.bench.peek(self.buffer(ring, ring.head), usize::from(word(12)));
        ring.head = (ring.head + 1) % ring.count;
        Some(Received { first, status, vlan: word(14), bytes })
    }

    /// Waits for the next descriptor that is written back.
    pub(crate) fn receive(&self, ring: &mut Ring) -> Received {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(received) = self.poll(ring) {
                return received;
            }
            assert!(Instant::now() < deadline, "no frame");
            std::thread::yield_now();
        }
    }
}

/// A frame to `to`, filled with `byte`, that is not an IP packet.
pub(crate) fn frame(to: [u8; 6], len: usize, byte: u8) -> Vec<u8> {
    let mut frame = vec![byte; len];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}
