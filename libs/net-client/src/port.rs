//! [`Port`]: a queue of a network device, and the packets that circulate through it.

use core::time::Duration;

use coppice_interfaces::Handle;
use coppice_net::{
    Batch, Busy, Exchanged, FIRST_EPOCH, Frames, NetConfig, NetDevice, NetQueue, QueueDepth, QueueState,
};
use coppice_rref::RRef;
use coppice_runtime::time;

use crate::appetite::Appetite;
use crate::{Counters, Pool, PortError};

/// How often to look whether packets are back, when they are to be waited for.
const LOOK: Duration = Duration::from_micros(50);

/// Most exchanges between two looks at what a crash took away, when it does not come back.
const LONGEST_GAP: u32 = 1024;

/// An open queue.
///
/// Two batches go there and back with each exchange: [`Self::outgoing`] and [`Self::received`]. In between they are the owner's
/// to look at and to change. All else that a queue wants or gives too much goes to the pool and comes from there.
pub struct Port {
    pub(crate) net: Handle<dyn NetDevice>,
    pub(crate) depth: QueueDepth,
    /// How the device is to be set up, if that is our business.
    pub(crate) config: Option<NetConfig>,
    pub(crate) queue: Option<Handle<dyn NetQueue>>,
    /// What the next exchange carries; `None` if a crash took it.
    send: Option<RRef<Batch>>,
    receive: Option<RRef<Batch>>,
    pool: Pool,
    /// The queue's, as of the last exchange.
    pub(crate) epoch: u32,
    appetite: Appetite,
    /// Packets that stay in the pool.
    reserve: usize,
    /// Packets that a crash took and that are not back yet.
    awaited: usize,
    /// Exchanges until the next look for them, and how many that were the last time.
    look_in: u32,
    gap: u32,
    /// Since when there is no queue.
    pub(crate) down_since: Option<Duration>,
    pub(crate) counters: Counters,
}

/// What an exchange has brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Frames in [`Port::received`]; one that is in several packets counts as several.
    pub received: usize,
    /// Packets in [`Port::outgoing`]: frames that were not taken, and spare ones behind them.
    pub returned: usize,
    /// Frames among these: those that the queue has not taken. They are sent with the next exchange.
    pub unsent: usize,
    /// Frames that [`Port::send`] wrote, which may be fewer than it was asked for; 0 for other calls.
    pub written: usize,
    /// What stands behind the queue.
    pub state: QueueState,
    /// Whether the queue lost what it had since the last exchange.
    pub is_new: bool,
}

/// Where a port's packets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Accounts {
    /// How many there are.
    pub made: usize,
    /// Spare, in the pool.
    pub home: usize,
    /// In the port's two batches.
    pub carried: usize,
    /// Handed to the queue and not given back.
    pub queued: usize,
    /// Taken by a crash and not back yet.
    pub awaited: usize,
    /// Nowhere of these: in the hands of the port's owner, or lost. Less than 0 if the owner has put in what is not from here.
    pub missing: isize,
}

/// A port that was closed and whose packets are not all back in time.
#[derive(Debug)]
pub struct Missing {
    /// How many are not.
    pub packets: usize,
}

fn empty() -> RRef<Batch> {
    RRef::new(Batch::new())
}

impl Port {
    /// Opens a queue of `net` for the packets of `pool`.
    ///
    /// # Errors
    /// [`PortError`], when the first attempt fails.
    pub fn open(net: Handle<dyn NetDevice>, depth: QueueDepth, pool: Pool) -> Result<Self, PortError> {
        let queue = net.open(depth)??;
        let appetite = Appetite::new(pool.made());
        Ok(Self {
            net,
            depth,
            config: None,
            queue: Some(queue),
            send: None,
            receive: None,
            pool,
            epoch: FIRST_EPOCH,
            appetite,
            reserve: 0,
            awaited: 0,
            look_in: 0,
            gap: 1,
            down_since: None,
            counters: Counters::default(),
        })
    }

    /// The device.
    pub fn net(&self) -> &Handle<dyn NetDevice> {
        &self.net
    }

    /// Sets the device up, now and after each crash of a driver that nobody sets up again by himself.
    ///
    /// # Errors
    /// [`PortError`], and the setting of before counts.
    pub fn configure(&mut self, config: NetConfig) -> Result<(), PortError> {
        self.net.configure(config)??;
        self.config = Some(config);
        Ok(())
    }

    /// What is to be sent with the next exchange: frames in order. Behind them spare packets may lie, which the queue did not need.
    #[inline]
    pub fn outgoing(&mut self) -> &mut RRef<Batch> {
        self.send.get_or_insert_with(empty)
    }

    /// What was received with the last exchange: frames in order. All that is still here at the next one is spare then.
    #[inline]
    pub fn received(&mut self) -> &mut RRef<Batch> {
        self.receive.get_or_insert_with(empty)
    }

    /// The spare packets that are not in circulation.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Keeps `count` spare packets in the pool, for frames to send. Without a reserve the queue gets all packets that it has room
    /// for, and a sender has to wait until some are received. [`Self::send`] raises the reserve to the largest number of frames that
    /// it was asked for.
    ///
    /// If the pool has fewer, the packets that come back go to the pool before the queue gets any to receive into. Frames that
    /// [`Self::turn_around`] keeps in circulation are not taken for that.
    pub fn reserve(&mut self, count: usize) {
        self.reserve = count;
    }

    /// The counts of the port's frames since it was opened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Hands both batches to the queue and takes them back. If nothing was received, it may wait until the clock (nanoseconds since boot)
    /// passes `wait_until_ns`; zero never waits. A crash on the other side is not an error: what was handed over is recovered,
    /// and [`Turn::state`] says how things are.
    ///
    /// # Errors
    /// [`PortError`].
    #[inline]
    pub fn exchange(&mut self, wait_until_ns: u64) -> Result<Turn, PortError> {
        if self.awaited > 0 {
            self.look();
        }
        if self.pool.spare() < self.reserve {
            self.refill();
        }
        let Some(queue) = &self.queue else { return self.exchange_later(wait_until_ns) };
        let send = self.send.take().unwrap_or_else(empty);
        let mut receive = self.receive.take().unwrap_or_else(empty);
        let (offered, recycled) = (survey(&send).frames, receive.len());
        let mut given = send.len() + recycled;
        let wanted = self.appetite.wants(given);
        if wanted > 0 && self.pool.spare() > self.reserve {
            given += self.pool.fill(&mut receive, wanted.min(self.pool.spare() - self.reserve));
        }
        self.appetite.give(given);
        match queue.exchange(send, receive, wait_until_ns) {
            Ok(Ok(Exchanged { send, receive, epoch, state })) => {
                let (returned, received) = (send.len(), receive.len());
                let Survey { frames: unsent, refused } = survey(&send);
                self.appetite.take(returned + received);
                if returned > unsent {
                    self.appetite.is_full();
                }
                self.send = Some(send);
                self.receive = Some(receive);
                let is_new = epoch != self.epoch;
                let is_running = state == QueueState::Running;
                let taken = offered.saturating_sub(unsent);
                self.counters.exchange(taken, recycled, is_new);
                if is_new {
                    self.epoch = epoch;
                    self.await_packets();
                } else if refused > 0 && is_running {
                    self.counters.refused += refused as u64;
                }
                let turn = Turn { received, returned, unsent, written: 0, state, is_new };
                if is_running {
                    self.counters.received += received as u64;
                    return Ok(turn);
                }
                // The packets in `receive` were handed in and not taken: no frame was received.
                self.put_received_away();
                Ok(Turn { received: 0, ..turn })
            }
            Ok(Err(Busy { send, receive })) => {
                self.appetite.take(given);
                self.send = Some(send);
                self.receive = Some(receive);
                Err(PortError::Busy)
            }
            Err(error) => {
                self.counters.exchange(offered, recycled, true);
                self.lose_queue(error, wait_until_ns)
            }
        }
    }

    /// As [`Self::exchange`], after everything that was received is made a frame to send, once `rewrite` has changed its bytes.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    #[inline]
    pub fn forward(
        &mut self,
        wait_until_ns: u64,
        mut rewrite: impl FnMut(&mut [u8]),
    ) -> Result<Turn, PortError> {
        if let Some(receive) = &mut self.receive {
            for index in 0..receive.len() {
                if let Some(frame) = receive.frame_at_mut(index) {
                    rewrite(frame);
                }
            }
        }
        self.turn_around();
        self.exchange(wait_until_ns)
    }

    /// As [`Self::exchange`], with up to `most` more frames to send: `write` is given the bytes that there are for one, and returns how
    /// many of them are the frame, or 0 to write no more. If it returns more than there are, the device refuses the frame. What is received
    /// is dropped when the next exchange comes.
    ///
    /// [`Turn::written`] says how many frames were written. That is fewer than `most` when the outgoing batch is full or no packet is
    /// spare: then the queue has them, and returns them as it sends and receives.
    ///
    /// # Errors
    /// As [`Self::exchange`]. Frames that were written by then are in [`Self::outgoing`], or in [`Counters::lost`].
    #[inline]
    pub fn send(
        &mut self,
        wait_until_ns: u64,
        most: usize,
        mut write: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<Turn, PortError> {
        self.reserve = self.reserve.max(most.min(Batch::CAPACITY));
        if self.pool.spare() < most {
            // The queue has all that it has room for, and what was received is over anyway.
            self.drop_received();
        }
        let (send, pool) = (self.send.get_or_insert_with(empty), &mut self.pool);
        let first = survey(send).frames;
        let end = (first + most).min(Batch::CAPACITY);
        let mut index = first;
        while index < end {
            // One that the queue gave back lies there already.
            if index == send.len() && pool.fill(send, 1) == 0 {
                break;
            }
            if send.write_frame_at(index, &mut write).is_none_or(|len| len == 0) {
                break;
            }
            index += 1;
        }
        // Spare packets that nothing was written to would be handed there and back by each exchange.
        if send.len() > index {
            pool.drain(send, index);
        }
        let written = index - first;
        self.counters.written += written as u64;
        let turn = self.exchange(wait_until_ns)?;
        Ok(Turn { written, ..turn })
    }

    /// As [`Self::exchange`]; then has `read` look at each frame.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    #[inline]
    pub fn receive(&mut self, wait_until_ns: u64, mut read: impl FnMut(&[u8])) -> Result<Turn, PortError> {
        self.put_spares_away();
        let turn = self.exchange(wait_until_ns)?;
        let received = self.received();
        (0..received.len()).filter_map(|index| received.frame_at(index)).for_each(&mut read);
        Ok(turn)
    }

    /// Makes what was received what is to be sent: as a whole, if nothing is left of what was to be sent before. Else behind that,
    /// as far as there is room; the rest is dropped, as a switch does whose wire is too slow, and counted ([`Counters::overflowed`]).
    #[inline]
    pub fn turn_around(&mut self) {
        if self.receive.as_ref().is_none_or(|receive| receive.is_empty()) {
            self.put_spares_away();
            return;
        }
        if self.send.as_ref().is_none_or(|send| send.is_empty()) {
            self.swap();
        } else {
            self.append();
        }
    }

    /// Makes the received batch the outgoing one, which is empty.
    #[inline(always)]
    fn swap(&mut self) {
        core::mem::swap(&mut self.send, &mut self.receive);
        self.counters.turned_around += self.send.as_ref().map_or(0, |send| send.len()) as u64;
    }

    #[cold]
    fn append(&mut self) {
        self.put_spares_away();
        if self.outgoing().is_empty() {
            return self.swap();
        }
        let (Some(send), Some(receive)) = (&mut self.send, &mut self.receive) else { return };
        while !send.is_full()
            && let Some(packet) = receive.pop_front()
        {
            match send.push_back(packet) {
                Ok(()) => self.counters.turned_around += 1,
                Err(packet) => {
                    self.pool.put(packet);
                    self.counters.overflowed += 1;
                }
            }
        }
        self.counters.overflowed += self.pool.drain(receive, 0) as u64;
    }

    /// Drops the received frames.
    #[cold]
    pub(crate) fn drop_received(&mut self) {
        self.counters.recycled += self.put_received_away() as u64;
    }

    /// Puts the packets of the received batch into the pool. Returns how many.
    #[cold]
    fn put_received_away(&mut self) -> usize {
        self.receive.as_mut().map_or(0, |receive| self.pool.drain(receive, 0))
    }

    /// Takes the spare packets out of what is to be sent.
    fn put_spares_away(&mut self) {
        let Some(send) = &mut self.send else { return };
        if send.is_empty() {
            return;
        }
        let keep = survey(send).frames;
        self.pool.drain(send, keep);
    }

    /// Brings the pool up to the reserve with packets that the queue would get as spare ones.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) {
        self.put_spares_away();
        let missing = self.reserve.saturating_sub(self.pool.spare());
        if let Some(receive) = &mut self.receive {
            let keep = receive.len().saturating_sub(missing);
            self.counters.recycled += self.pool.drain(receive, keep) as u64;
        }
    }

    /// How many frames are in the outgoing batch.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.outgoing_len().1
    }

    /// How many packets are in the outgoing batch, and how many of these are frames.
    #[inline]
    pub(crate) fn outgoing_len(&self) -> (usize, usize) {
        self.send.as_ref().map_or((0, 0), |send| (send.len(), survey(send).frames))
    }

    /// What the queue had comes back past it.
    pub(crate) fn await_packets(&mut self) {
        self.awaited += self.appetite.begin_anew(self.pool.made());
        (self.look_in, self.gap) = (0, 1);
        self.look();
    }

    /// Looks whether packets are back, and less often if they are not.
    #[cold]
    #[inline(never)]
    fn look(&mut self) {
        if self.look_in > 0 {
            self.look_in -= 1;
            return;
        }
        let count = self.recover();
        self.gap = if count > 0 { 1 } else { (self.gap * 2).min(LONGEST_GAP) };
        self.look_in = self.gap;
    }

    /// Has what is back in the pool.
    fn recover(&mut self) -> usize {
        let count = self.pool.recover();
        self.counters.reclaimed += count as u64;
        // More than is waited for: the queue has lost its packets again, and has not said so yet.
        self.appetite.take(count.saturating_sub(self.awaited));
        self.awaited = self.awaited.saturating_sub(count);
        count
    }

    /// Counts where the packets are.
    pub fn accounts(&mut self) -> Accounts {
        self.recover();
        let batch = |batch: &Option<RRef<Batch>>| batch.as_ref().map_or(0, |batch| batch.len());
        let (made, home) = (self.pool.made(), self.pool.spare());
        let carried = batch(&self.send) + batch(&self.receive);
        let (queued, awaited) = (self.appetite.has(), self.awaited);
        let missing = made as isize - (home + carried + queued + awaited) as isize;
        Accounts { made, home, carried, queued, awaited, missing }
    }

    /// Closes the queue, and has all packets back in the pool.
    ///
    /// # Errors
    /// [`Missing`], if they are not by `deadline`. They are freed when whoever has them lets go of them.
    pub fn close(mut self, deadline: Duration) -> Result<Pool, Missing> {
        drop(self.queue.take());
        for batch in [&mut self.send, &mut self.receive].into_iter().flatten() {
            self.pool.drain(batch, 0);
        }
        loop {
            self.pool.recover();
            let packets = self.pool.made() - self.pool.spare();
            if packets == 0 {
                return Ok(self.pool);
            }
            if time::now() >= deadline {
                return Err(Missing { packets });
            }
            time::sleep(LOOK);
        }
    }
}

/// The content of an outgoing batch.
struct Survey {
    /// Packets up to the last frame. A packet between them that its owner has cleared counts as one.
    frames: usize,
    /// Spare packets behind them whose frame was refused.
    refused: usize,
}

/// Looks at an outgoing batch from its back: no more than one packet if it has no spare ones behind its frames.
#[inline]
fn survey(batch: &RRef<Batch>) -> Survey {
    let mut survey = Survey { frames: batch.len(), refused: 0 };
    while survey.frames > 0
        && let Some(packet) = batch.get(survey.frames - 1)
        && packet.is_spare()
    {
        survey.refused += usize::from(packet.refusal().is_some());
        survey.frames -= 1;
    }
    survey
}
