//! [`Rings`]: packets that stay for a while, as with a device.

use alloc::collections::VecDeque;
use core::time::Duration;

use coppice_interfaces::net::{Batch, Packet, QueueDepth};
use coppice_rref::{Lent, RRef};
use coppice_runtime::time;

use crate::options::Options;
use crate::queue::{Work, push};

pub(crate) struct Rings {
    hold: usize,
    delay: Duration,
    wait: Duration,
    depth: QueueDepth,
    /// Frames under way, and when each is sent.
    sending: VecDeque<(Lent<Packet>, Duration)>,
    spare: VecDeque<Lent<Packet>>,
}

impl Rings {
    pub(crate) fn new(options: &Options, depth: QueueDepth) -> Self {
        Self {
            hold: options.hold,
            delay: options.delay,
            wait: options.wait,
            depth,
            sending: VecDeque::with_capacity(depth.send as usize),
            spare: VecDeque::with_capacity(depth.receive as usize),
        }
    }

    pub(crate) fn exchange(
        &mut self,
        work: &Work<'_>,
        send: &mut RRef<Batch>,
        receive: &mut RRef<Batch>,
        wait_until_ns: u64,
    ) {
        let now = time::now();
        let mut surplus = VecDeque::new();
        self.finish(now, &mut surplus);
        self.take_frames(work, send, now, &mut surplus);
        while let Some(mut packet) = receive.pop_front() {
            packet.head_mut().clear();
            self.keep(packet, &mut surplus);
        }
        self.receive(work, receive, &mut surplus);
        let until = Duration::from_nanos(wait_until_ns).min(now + self.wait);
        if receive.is_empty() && until > now {
            let due = self.sending.front().map_or(until, |(_, due)| (*due).min(until));
            time::sleep_until(due);
            self.finish(time::now(), &mut surplus);
            self.receive(work, receive, &mut surplus);
        }
        // Behind the frames for which there was no room. What a batch has no room for is kept, beyond the ring's depth.
        while let Some(packet) = surplus.pop_front() {
            if send.is_full() {
                self.spare.push_back(packet);
            } else {
                push(send, packet);
            }
        }
    }

    /// Takes frames in until the ring is full; spare packets behind them, too.
    fn take_frames(
        &mut self,
        work: &Work<'_>,
        send: &mut RRef<Batch>,
        now: Duration,
        surplus: &mut VecDeque<Lent<Packet>>,
    ) {
        let mut left = VecDeque::new();
        while let Some(mut packet) = send.pop_front() {
            if packet.is_spare() {
                self.keep(packet, surplus);
            } else if !left.is_empty() || self.sending.len() >= self.depth.send as usize {
                left.push_back(packet);
            } else {
                work.send(&mut packet);
                if packet.refusal().is_some() {
                    surplus.push_back(packet);
                } else {
                    let last = self.sending.back().map_or(now, |(_, due)| (*due).max(now));
                    self.sending.push_back((packet, last + self.delay));
                }
            }
        }
        left.into_iter().for_each(|packet| push(send, packet));
        self.finish(now, surplus);
    }

    /// What has been sent is spare.
    fn finish(&mut self, now: Duration, surplus: &mut VecDeque<Lent<Packet>>) {
        while self.sending.front().is_some_and(|(_, due)| *due <= now)
            && let Some((packet, _)) = self.sending.pop_front()
        {
            self.keep(packet, surplus);
        }
    }

    fn keep(&mut self, packet: Lent<Packet>, surplus: &mut VecDeque<Lent<Packet>>) {
        if self.spare.len() < self.depth.receive as usize {
            self.spare.push_back(packet);
        } else {
            surplus.push_back(packet);
        }
    }

    /// Makes received frames of the spare packets that it is no habit to hold.
    fn receive(&mut self, work: &Work<'_>, receive: &mut RRef<Batch>, surplus: &mut VecDeque<Lent<Packet>>) {
        while self.spare.len() > self.hold
            && receive.len() < self.depth.most_received()
            && let Some(mut packet) = self.spare.pop_front()
        {
            if work.has_room(&packet) {
                work.receive(&mut packet);
                work.count_received(1);
                push(receive, packet);
            } else {
                // Of no use for that.
                surplus.push_back(packet);
            }
        }
    }
}
