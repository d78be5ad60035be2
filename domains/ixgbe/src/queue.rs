//! [`Queue`]: two batches to two rings, and back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_interfaces::RpcResult;
use coppice_net::{Batch, Busy, ChecksumReport, Exchanged, FIRST_EPOCH, NetQueue, Packet, QueueState};
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;
use ixgbe_driver::{Fault, Received};

use crate::{Format, Nic, answer};

/// The exported object.
pub(crate) struct Queue(ThreadBound<Rings>);

impl Queue {
    pub(crate) fn new(nic: Arc<Nic>, queue: ixgbe_driver::Queue<Format>, most: usize) -> Self {
        Self(ThreadBound::new(Rings { nic, queue, most, spare: Vec::new(), dropped: 0 }))
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
        // A reset in between keeps the packets that the rings have: to a client nothing has happened but a loss of frames.
        Ok(Ok(Exchanged { send, receive, epoch: FIRST_EPOCH, state: QueueState::Running }))
    }
}

struct Rings {
    nic: Arc<Nic>,
    queue: ixgbe_driver::Queue<Format>,
    /// Packets that one exchange gives back as received.
    most: usize,
    /// On the way back to the client: refused, or more than the receive ring has room for.
    spare: Vec<Lent<Packet>>,
    /// Frames that the receive ring had dropped when they were last counted.
    dropped: u64,
}

impl Rings {
    #[inline(always)]
    fn exchange(&mut self, send: &mut RRef<Batch>, receive: &mut RRef<Batch>) {
        if !receive.is_empty() {
            self.give(receive);
        }
        self.send(send);
        self.receive(receive);
        if !self.spare.is_empty() {
            self.put_back(send);
        }
    }

    /// Fills the receive ring.
    #[inline]
    fn give(&mut self, spare: &mut RRef<Batch>) {
        while let Some(packet) = spare.pop_front() {
            if let Err(packet) = self.queue.give(packet) {
                self.keep(packet);
            }
        }
    }

    /// There is no room for a packet, or it is too small.
    #[cold]
    fn keep(&mut self, mut packet: Lent<Packet>) {
        packet.head_mut().clear();
        self.spare.push(packet);
    }

    /// Sends what there is room for.
    #[inline(always)]
    fn send(&mut self, send: &mut RRef<Batch>) {
        // Also without frames: the ring's packets are to become spare.
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

    /// Takes in what was received.
    #[inline(always)]
    fn receive(&mut self, receive: &mut RRef<Batch>) {
        // One time for all of them, and none for nothing.
        let mut now_ns = 0;
        let polled = self.queue.poll(self.most, |mut packet, received| {
            if now_ns == 0 {
                now_ns = now();
            }
            describe(&mut packet, received, now_ns);
            // It is empty, and takes more than is asked for.
            let _full = receive.push_back(packet);
        });
        if let Err(fault) = polled {
            self.recover(fault);
        }
        if self.queue.dropped() != self.dropped {
            self.count_dropped();
        }
    }

    /// Adds the frames that the receive ring has dropped to the device's statistics.
    #[cold]
    #[inline(never)]
    fn count_dropped(&mut self) {
        let dropped = self.queue.dropped();
        self.nic.counters.dropped.add(dropped.wrapping_sub(self.dropped));
        self.dropped = dropped;
    }

    /// Gives the client what the rings have no room for, behind the frames that were not taken.
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

    /// Waits until something was received, or there is room for what was not taken, or the time is up.
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

    /// Has the device reset. Frames that were to be sent are lost.
    #[cold]
    #[inline(never)]
    fn recover(&mut self, fault: Fault) {
        self.nic.judge(fault);
        let before = self.queue.receive_held() + self.spare.len();
        let spare = &mut self.spare;
        let reset = self.queue.reset(|mut packet| {
            packet.head_mut().clear();
            spare.push(packet);
        });
        // The packets that were in the transmit ring are spare ones now, in the receive ring or here.
        let interrupted = (self.queue.receive_held() + self.spare.len()).saturating_sub(before);
        self.nic.counters.interrupted.add(interrupted as u64);
        if let Err(error) = reset {
            // The rings stay as they are until the kernel has stopped the device; then the packets are their lender's again.
            panic!("{fault}, and a reset does not help: {error}");
        }
    }
}

/// Says in the head what the device has said of a frame.
#[inline(always)]
fn describe(packet: &mut Packet, received: Received, now_ns: u64) {
    let checks = ChecksumReport { ip: received.ip_checksum(), transport: received.transport_checksum() };
    packet.receive(received.len(), now_ns, checks, received.hash(), received.continues());
}

#[cold]
fn refuse(nic: &Nic, packet: &mut Packet, why: ixgbe_driver::Refusal) {
    log::debug!("{why}");
    nic.counters.refused.add(1);
    packet.refuse(answer::refusal(why));
}

fn now() -> u64 {
    time::now().as_nanos() as u64
}
