//! [`Queue`]: frames in, frames out.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use coppice_interfaces::RpcResult;
use coppice_interfaces::net::{
    BATCH, Batch, Busy, Checks, ETHERNET_HEADER, Exchanged, NetQueue, Packet, QueueDepth, QueueState, Refusal,
};
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;

use crate::counters::Counters;
use crate::device::Shared;
use crate::options::{Frail, Options};
use crate::rings::Rings;

pub(crate) struct Queue {
    options: Options,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    state: ThreadBound<State>,
}

struct State {
    /// Exchanges until the one that never ends.
    left: Option<u32>,
    /// What keeps packets, if that is a habit.
    rings: Option<Rings>,
}

/// One queue's way to make and judge frames.
pub(crate) struct Work<'a> {
    pub(crate) counters: &'a Counters,
    pub(crate) frame_bytes: u32,
    longest_frame: u32,
    now_ns: u64,
}

impl Work<'_> {
    /// Why the frame in `packet` is not sent. This device sends no frame in several packets.
    #[inline(always)]
    pub(crate) fn judge(&self, packet: &Lent<Packet>) -> Result<(), Refusal> {
        let (len, end) = (packet.len(), u64::from(packet.start()) + u64::from(packet.len()));
        if packet.continues() || len > self.longest_frame || end > packet.capacity() as u64 {
            return Err(if packet.continues() { Refusal::Incomplete } else { Refusal::TooLong });
        }
        if packet.has_request() {
            return Err(Refusal::Offload);
        }
        if (len as usize) < ETHERNET_HEADER { Err(Refusal::TooShort) } else { Ok(()) }
    }

    /// Whether a received frame fits `packet`.
    #[inline(always)]
    pub(crate) fn has_room(&self, packet: &Lent<Packet>) -> bool {
        u64::from(packet.start()) + u64::from(self.frame_bytes) <= packet.capacity() as u64
    }

    /// Makes the packet a received frame. The caller counts.
    #[inline(always)]
    pub(crate) fn receive(&self, packet: &mut Packet) {
        packet.receive(self.frame_bytes, self.now_ns, Checks::default(), None, false);
    }

    /// So many frames were received.
    #[inline(always)]
    pub(crate) fn count_received(&self, count: usize) {
        self.counters.received.add(count as u64);
        self.counters.received_bytes.add(count as u64 * u64::from(self.frame_bytes));
    }
}

impl Queue {
    pub(crate) fn new(
        options: Options,
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        depth: QueueDepth,
    ) -> Self {
        // Who asks for few packets at a time hands in more than it gets, and somebody has to keep the others.
        let keeps = options.keeps() || depth.most_received() < BATCH;
        let rings = keeps.then(|| Rings::new(&options, depth));
        Self { options, shared, counters, state: ThreadBound::new(State { left: options.hang, rings }) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.close(&self.counters);
    }
}

impl NetQueue for Queue {
    fn exchange(
        &self,
        mut send: RRef<Batch>,
        mut receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>> {
        self.options.fail_in(Frail::Exchange);
        let Ok(mut state) = self.state.enter() else { return Ok(Err(Busy { send, receive })) };
        let work = Work {
            counters: &self.counters,
            frame_bytes: self.options.frame_bytes,
            longest_frame: self.shared.longest_frame.load(Ordering::Relaxed),
            now_ns: if self.options.clock { time::now().as_nanos() as u64 } else { 0 },
        };
        if let Some(left) = &mut state.left {
            hang_at_last(left);
        }
        match &mut state.rings {
            Some(rings) => rings.exchange(&work, &mut send, &mut receive, wait_until_ns),
            None if send.is_empty() => (send, receive) = work.reflect::<false>(receive, send),
            None if receive.is_empty() => (send, receive) = work.reflect::<true>(send, receive),
            None => (send, receive) = work.reflect_both(send, receive),
        }
        Ok(Ok(Exchanged { send, receive, epoch: 0, state: QueueState::Running }))
    }
}

impl Work<'_> {
    /// Makes received frames of all packets of `full` where they lie, if they are all good. With `FRAMES`, those of them that have a
    /// frame have it sent first; else all count as spare. Answers what is to be given back and what was received, which is mostly
    /// `empty` and `full`.
    #[inline(always)]
    fn reflect<const FRAMES: bool>(
        &self,
        mut full: RRef<Batch>,
        empty: RRef<Batch>,
    ) -> (RRef<Batch>, RRef<Batch>) {
        let len = full.len();
        let (mut sent, mut bytes) = (0, 0);
        for index in 0..len {
            let Some(packet) = full.get(index) else { break };
            let is_frame = FRAMES && !packet.is_spare();
            if !self.has_room(packet) || (is_frame && self.judge(packet).is_err()) {
                self.count_sent(sent, bytes);
                return self.reflect_after::<FRAMES>(index, full, empty);
            }
            if is_frame {
                sent += 1;
                bytes += u64::from(packet.len());
            }
            if let Some(packet) = full.get_mut(index) {
                self.receive(packet);
            }
        }
        if FRAMES {
            self.count_sent(sent, bytes);
        }
        self.count_received(len);
        (empty, full)
    }

    #[inline(always)]
    fn count_sent(&self, frames: u64, bytes: u64) {
        self.counters.sent.add(frames);
        self.counters.sent_bytes.add(bytes);
    }

    /// Goes on with [`Self::reflect`] when the first `done` packets are received frames and the next one cannot be.
    #[cold]
    #[inline(never)]
    fn reflect_after<const FRAMES: bool>(
        &self,
        done: usize,
        mut full: RRef<Batch>,
        mut back: RRef<Batch>,
    ) -> (RRef<Batch>, RRef<Batch>) {
        self.count_received(done);
        for index in 0..full.len() {
            let Some(mut packet) = full.pop_front() else { break };
            if index < done {
                push(&mut full, packet);
                continue;
            }
            if !FRAMES {
                packet.head_mut().clear();
            }
            self.reflect_one(packet, &mut full, &mut back);
        }
        (back, full)
    }

    /// [`Self::reflect`] when there are packets in both batches: those of `send` first.
    #[cold]
    #[inline(never)]
    fn reflect_both(&self, mut send: RRef<Batch>, mut receive: RRef<Batch>) -> (RRef<Batch>, RRef<Batch>) {
        // What was received comes back in the batch that it was sent in, and what was not in a third one.
        let (frames, spares) = (send.len(), receive.len());
        let mut back = RRef::new(Batch::new());
        for _ in 0..frames {
            let Some(packet) = send.pop_front() else { break };
            self.reflect_one(packet, &mut send, &mut back);
        }
        for _ in 0..spares {
            let Some(mut packet) = receive.pop_front() else { break };
            packet.head_mut().clear();
            if send.is_full() {
                push(&mut back, packet);
            } else {
                self.reflect_one(packet, &mut send, &mut back);
            }
        }
        (back, send)
    }

    /// Sends what is in a packet and receives into it; or puts it, spare, into `back`.
    fn reflect_one(&self, mut packet: Lent<Packet>, received: &mut RRef<Batch>, back: &mut RRef<Batch>) {
        if !packet.is_spare() {
            self.send(&mut packet);
        }
        if packet.refusal().is_some() || !self.has_room(&packet) {
            push(back, packet);
            return;
        }
        self.receive(&mut packet);
        self.count_received(1);
        push(received, packet);
    }

    /// Sends the frame in a packet, which is then spare; or refuses to.
    pub(crate) fn send(&self, packet: &mut Lent<Packet>) {
        match self.judge(packet) {
            Ok(()) => {
                self.count_sent(1, packet.len().into());
                packet.head_mut().clear();
            }
            Err(why) => {
                self.counters.refused.add(1);
                packet.head_mut().refuse(why);
            }
        }
    }
}

#[cold]
fn hang_at_last(left: &mut u32) {
    *left -= 1;
    if *left == 0 {
        loop {
            core::hint::spin_loop();
        }
    }
}

/// Puts a packet into a batch that has room for it: as many came out, or it was looked at. What does not fit goes back to its lender.
pub(crate) fn push(batch: &mut RRef<Batch>, packet: Lent<Packet>) {
    let fits = batch.push_back(packet).is_ok();
    debug_assert!(fits, "a batch holds as many as came out of it");
}
