//! [`Queue`]: moves packets between a client's two batches and the driver's two rings.

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_interfaces::RpcResult;
use coppice_net::{Batch, Busy, ChecksumReport, Exchanged, FIRST_EPOCH, NetQueue, Packet, QueueState};
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;
use ixgbe_driver::{Fault, Received};

use crate::{Format, Nic, translate};

/// The object that a client opens.
pub(crate) struct Queue(ThreadBound<Rings>);

impl Queue {
    pub(crate) fn new(nic: Arc<Nic>, queue: ixgbe_driver::Queue<Format>, max_received: usize) -> Self {
        Self(ThreadBound::new(Rings { nic, queue, max_received, spare: Vec::new(), dropped: 0 }))
    }
}

impl NetQueue for Queue {
    fn exchange(
        &self,
        mut send: RRef<Batch>,
        mut receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>> {
        let Ok(mut rings) = self.0.enter() else { return Ok(Err(Busy { send, receive })) };
        rings.exchange(&mut send, &mut receive);
        if receive.is_empty() && wait_until_ns > 0 {
            rings.wait(&mut send, &mut receive, wait_until_ns);
        }
        // A reset of the device keeps the packets of the rings: the client loses frames, no packets, and the
        // epoch stays.
        Ok(Ok(Exchanged { send, receive, epoch: FIRST_EPOCH, state: QueueState::Running }))
    }
}

/// The rings of one queue.
struct Rings {
    nic: Arc<Nic>,
    queue: ixgbe_driver::Queue<Format>,
    /// The maximum number of received packets that one exchange returns.
    max_received: usize,
    /// Packets to return to the client: refused frames, and packets for which the receive ring has no room.
    spare: Vec<Lent<Packet>>,
    /// The receive ring's count of dropped frames when it was last added to the statistics.
    dropped: u64,
}

impl Rings {
    #[inline(always)]
    fn exchange(&mut self, send: &mut RRef<Batch>, receive: &mut RRef<Batch>) {
        if !receive.is_empty() {
            self.fill_receive_ring(receive);
        }
        self.send(send);
        self.receive(receive);
        if !self.spare.is_empty() {
            self.put_back(send);
        }
    }

    #[inline]
    fn fill_receive_ring(&mut self, spare: &mut RRef<Batch>) {
        while let Some(packet) = spare.pop_front() {
            if let Err(packet) = self.queue.give(packet) {
                self.keep(packet);
            }
        }
    }

    /// Keeps a packet that is too small for the receive ring, or for which the ring has no room.
    #[cold]
    fn keep(&mut self, mut packet: Lent<Packet>) {
        packet.head_mut().clear();
        self.spare.push(packet);
    }

    /// Sends frames as far as the transmit ring has room.
    #[inline(always)]
    fn send(&mut self, send: &mut RRef<Batch>) {
        // Called without frames too: the packets of sent frames become spare.
        let Self { nic, queue, spare, .. } = self;
        let sent = queue.send(
            || send.pop_front(),
            |mut packet, why| {
                match why {
                    Some(why) => refuse(nic, &mut packet, why),
                    None => packet.head_mut().clear(),
                }
                spare.push(packet);
            },
        );
        if let Err(fault) = sent {
            self.recover(fault);
        }
    }

    /// Moves received frames into the batch.
    #[inline(always)]
    fn receive(&mut self, receive: &mut RRef<Batch>) {
        // The clock is read once for all frames, and not at all without frames.
        let mut now_ns = 0;
        let polled = self.queue.poll(self.max_received, |mut packet, received| {
            if now_ns == 0 {
                now_ns = now();
            }
            describe(&mut packet, received, now_ns);
            // The batch was empty and has room for more than `max_received` packets.
            let _full = receive.push_back(packet);
        });
        if let Err(fault) = polled {
            self.recover(fault);
        }
        if self.queue.dropped() != self.dropped {
            self.count_dropped();
        }
    }

    /// Adds the frames that the receive ring dropped to the device's statistics.
    #[cold]
    #[inline(never)]
    fn count_dropped(&mut self) {
        let dropped = self.queue.dropped();
        self.nic.counters.dropped.add(dropped.wrapping_sub(self.dropped));
        self.dropped = dropped;
    }

    /// Returns spare packets to the client, behind the frames that were not sent.
    #[cold]
    #[inline(never)]
    fn put_back(&mut self, send: &mut RRef<Batch>) {
        while !send.is_full()
            && let Some(packet) = self.spare.pop()
        {
            if let Err(packet) = send.push_back(packet) {
                self.spare.push(packet);
                break;
            }
        }
    }

    /// Blocks until a frame is received, the transmit ring has room for a waiting frame, or the clock passes
    /// `wait_until_ns`.
    #[inline(never)]
    fn wait(&mut self, send: &mut RRef<Batch>, receive: &mut RRef<Batch>, wait_until_ns: u64) {
        let longest = self.nic.settings.wait.as_nanos() as u64;
        let until = wait_until_ns.min(now().saturating_add(longest));
        loop {
            let has_frames = send.get(0).is_some_and(|packet| !packet.is_spare());
            match self.queue.wait(until, has_frames) {
                Ok(true) => {
                    if has_frames {
                        self.send(send);
                    }
                    self.receive(receive);
                    if has_frames || !receive.is_empty() {
                        break;
                    }
                }
                Ok(false) => break,
                Err(fault) => {
                    self.recover(fault);
                    if now() >= until {
                        break;
                    }
                }
            }
        }
        if !self.spare.is_empty() {
            self.put_back(send);
        }
    }

    /// Resets the device. The frames of the transmit ring are lost.
    #[cold]
    #[inline(never)]
    fn recover(&mut self, fault: Fault) {
        self.nic.record_fault(fault);
        let before = self.queue.receive_held() + self.spare.len();
        let spare = &mut self.spare;
        let reset = self.queue.reset(|mut packet| {
            packet.head_mut().clear();
            spare.push(packet);
        });
        // The packets of the transmit ring are spare now, in the receive ring or in `spare`.
        let interrupted = (self.queue.receive_held() + self.spare.len()).saturating_sub(before);
        self.nic.counters.interrupted.add(interrupted as u64);
        if let Err(error) = reset {
            // The rings stay as they are until the kernel has stopped the device; then the packets return to
            // their lender.
            panic!("{fault}, and the reset failed: {error}");
        }
    }
}

/// Writes the device's description of a received frame into the packet's head.
#[inline(always)]
fn describe(packet: &mut Packet, received: Received, now_ns: u64) {
    let checks = ChecksumReport { ip: received.ip_checksum(), transport: received.transport_checksum() };
    packet.receive(received.len(), now_ns, checks, received.hash(), received.continues());
}

/// Counts a refused frame and records the reason in its packet.
#[cold]
fn refuse(nic: &Nic, packet: &mut Packet, why: ixgbe_driver::Refusal) {
    log::debug!("{why}");
    nic.counters.refused.add(1);
    packet.refuse(translate::refusal(why));
}

fn now() -> u64 {
    time::now().as_nanos() as u64
}
