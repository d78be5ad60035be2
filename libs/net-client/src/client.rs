//! [`NetClient`]: a queue of a network device, and the packets that circulate through it.

use core::time::Duration;

use coppice_interfaces::Handle;
use coppice_net::{
    Batch, Busy, Exchanged, FIRST_EPOCH, Frames, NetConfig, NetDevice, NetQueue, QueueDepth, QueueState,
};
use coppice_rref::RRef;
use coppice_runtime::time;

use crate::rx_credit::RxCredit;
use crate::{Counters, NetClientError, PacketPool};

/// The interval at which [`NetClient::close`] looks for packets that have come back.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

/// The maximum number of exchanges between two searches for packets that a crash took, while none come back.
const MAX_SEARCH_GAP: u32 = 1024;

/// An open queue with the packets that circulate through it.
///
/// Each exchange carries two batches to the queue and back: [`Self::outgoing`] and [`Self::received`].
/// Between exchanges the owner may read and change both. Spare packets that the queue needs come from the
/// pool, and those that it returns go there.
pub struct NetClient {
    pub(crate) net: Handle<dyn NetDevice>,
    pub(crate) depth: QueueDepth,
    /// The configuration, if this client has set one; it is applied again after a crash.
    pub(crate) config: Option<NetConfig>,
    pub(crate) queue: Option<Handle<dyn NetQueue>>,
    /// The batches of the next exchange; `None` if a crash took them.
    send: Option<RRef<Batch>>,
    receive: Option<RRef<Batch>>,
    pool: PacketPool,
    /// The queue's epoch, as of the last exchange.
    pub(crate) epoch: u32,
    credit: RxCredit,
    /// The number of packets to keep in the pool, for frames to send.
    reserve: usize,
    /// The number of packets that a crash took and that are not back yet.
    awaited: usize,
    /// Exchanges until the next search for them, and the length of the last such interval.
    search_in: u32,
    search_gap: u32,
    /// The time at which the queue was lost, while there is none.
    pub(crate) down_since: Option<Duration>,
    pub(crate) counters: Counters,
}

/// The result of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExchangeReport {
    /// Frames in [`NetClient::received`]; a frame in several packets counts as several.
    pub received: usize,
    /// Packets in [`NetClient::outgoing`]: frames that the queue did not take, and spare packets behind them.
    pub returned: usize,
    /// The frames among these. The next exchange offers them again.
    pub unsent: usize,
    /// Frames that [`NetClient::send`] wrote, which may be fewer than requested; 0 for other calls.
    pub written: usize,
    /// The state of the driver behind the queue.
    pub state: QueueState,
    /// True if the queue has lost its packets since the last exchange: a driver crashed.
    pub is_new: bool,
}

/// The distribution of a client's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Accounts {
    /// The number of packets that the pool has allocated.
    pub made: usize,
    /// Spare packets in the pool.
    pub home: usize,
    /// Packets in the client's two batches.
    pub carried: usize,
    /// Packets that the queue holds.
    pub queued: usize,
    /// Packets that a crash took and that are not back yet.
    pub awaited: usize,
    /// The rest: packets that the client's owner holds. Negative if the owner has added packets of another
    /// pool.
    pub missing: isize,
}

/// The error of [`NetClient::close`]: packets did not come back in time.
#[derive(Debug)]
pub struct Missing {
    /// The number of these packets.
    pub packets: usize,
}

fn empty() -> RRef<Batch> {
    RRef::new(Batch::new())
}

impl NetClient {
    /// Opens a queue of `net` for the packets of `pool`.
    ///
    /// # Errors
    /// When the call fails or the device refuses. There is one attempt: recovery is for queues that were
    /// open.
    pub fn open(
        net: Handle<dyn NetDevice>,
        depth: QueueDepth,
        pool: PacketPool,
    ) -> Result<Self, NetClientError> {
        let queue = net.open(depth)??;
        let credit = RxCredit::new(pool.made());
        Ok(Self {
            net,
            depth,
            config: None,
            queue: Some(queue),
            send: None,
            receive: None,
            pool,
            epoch: FIRST_EPOCH,
            credit,
            reserve: 0,
            awaited: 0,
            search_in: 0,
            search_gap: 1,
            down_since: None,
            counters: Counters::default(),
        })
    }

    /// The device.
    pub fn net(&self) -> &Handle<dyn NetDevice> {
        &self.net
    }

    /// Configures the device, now and after each crash of a driver that has no shadow to do so.
    ///
    /// # Errors
    /// When the call fails or the device refuses. The previous configuration then stays.
    pub fn configure(&mut self, config: NetConfig) -> Result<(), NetClientError> {
        self.net.configure(config)??;
        self.config = Some(config);
        Ok(())
    }

    /// The frames to send with the next exchange, in order. Spare packets that the queue returned may follow
    /// them.
    #[inline]
    pub fn outgoing(&mut self) -> &mut RRef<Batch> {
        self.send.get_or_insert_with(empty)
    }

    /// The frames of the last exchange, in order. The next exchange reuses the packets that are still here.
    #[inline]
    pub fn received(&mut self) -> &mut RRef<Batch> {
        self.receive.get_or_insert_with(empty)
    }

    /// The pool of spare packets.
    pub fn pool(&mut self) -> &mut PacketPool {
        &mut self.pool
    }

    /// Keeps `count` spare packets in the pool, for frames to send. Without a reserve the queue gets all
    /// packets that it has room for, and a sender has to wait until some are received. [`Self::send`] raises
    /// the reserve to the largest number of frames that was requested from it.
    ///
    /// While the pool has fewer, returned packets go to the pool before the queue gets any to receive into.
    /// Frames that [`Self::turn_around`] keeps in circulation are not used for that.
    pub fn reserve(&mut self, count: usize) {
        self.reserve = count;
    }

    /// The counts of the client's frames since it was opened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Passes both batches to the queue and takes them back. If no frame was received, the call may block
    /// until the clock (nanoseconds since boot) passes `wait_until_ns`; zero never blocks. A crash of the
    /// driver is not an error: the packets are recovered, and [`ExchangeReport::state`] tells whether a
    /// driver is there.
    ///
    /// # Errors
    /// [`NetClientError::Busy`] when another thread owns the queue; another error when no restart can help.
    #[inline]
    pub fn exchange(&mut self, wait_until_ns: u64) -> Result<ExchangeReport, NetClientError> {
        if self.awaited > 0 {
            self.search();
        }
        if self.pool.spare() < self.reserve {
            self.refill();
        }
        let Some(queue) = &self.queue else { return self.exchange_later(wait_until_ns) };
        let send = self.send.take().unwrap_or_else(empty);
        let mut receive = self.receive.take().unwrap_or_else(empty);
        let (offered, recycled) = (survey(&send).frames, receive.len());
        let mut given = send.len() + recycled;
        let wanted = self.credit.available(given);
        if wanted > 0 && self.pool.spare() > self.reserve {
            given += self.pool.fill(&mut receive, wanted.min(self.pool.spare() - self.reserve));
        }
        self.credit.give(given);
        match queue.exchange(send, receive, wait_until_ns) {
            Ok(Ok(Exchanged { send, receive, epoch, state })) => {
                let (returned, received) = (send.len(), receive.len());
                let Survey { frames: unsent, refused } = survey(&send);
                self.credit.take(returned + received);
                if returned > unsent {
                    self.credit.mark_saturated();
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
                let report = ExchangeReport { received, returned, unsent, written: 0, state, is_new };
                if is_running {
                    self.counters.received += received as u64;
                    return Ok(report);
                }
                // The queue did not take the packets in `receive`: they are spare, not received.
                self.put_received_away();
                Ok(ExchangeReport { received: 0, ..report })
            }
            Ok(Err(Busy { send, receive })) => {
                self.credit.take(given);
                self.send = Some(send);
                self.receive = Some(receive);
                Err(NetClientError::Busy)
            }
            Err(error) => {
                self.counters.exchange(offered, recycled, true);
                self.lose_queue(error, wait_until_ns)
            }
        }
    }

    /// Passes each received frame to `rewrite`, makes all of them frames to send ([`Self::turn_around`]), and
    /// exchanges.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    #[inline]
    pub fn forward(
        &mut self,
        wait_until_ns: u64,
        mut rewrite: impl FnMut(&mut [u8]),
    ) -> Result<ExchangeReport, NetClientError> {
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

    /// Writes up to `max` more frames to send, and exchanges. `write` gets a packet's bytes and returns the
    /// length of the frame, or 0 to write no more. If it returns more than the packet's size, the device
    /// refuses the frame. Received frames are dropped by the next exchange.
    ///
    /// [`ExchangeReport::written`] is the number of frames written. It is less than `max` when the outgoing
    /// batch is full or no packet is spare: then the queue holds them, and returns them as it sends and
    /// receives.
    ///
    /// # Errors
    /// As [`Self::exchange`]. Frames written by then are in [`Self::outgoing`], or in [`Counters::lost`].
    #[inline]
    pub fn send(
        &mut self,
        wait_until_ns: u64,
        max: usize,
        mut write: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<ExchangeReport, NetClientError> {
        self.reserve = self.reserve.max(max.min(Batch::CAPACITY));
        if self.pool.spare() < max {
            // The queue holds as many packets as it has room for, and the received frames end with this call
            // anyway.
            self.drop_received();
        }
        let (send, pool) = (self.send.get_or_insert_with(empty), &mut self.pool);
        let first = survey(send).frames;
        let end = (first + max).min(Batch::CAPACITY);
        let mut index = first;
        while index < end {
            // A spare packet that the queue returned may be at this index already.
            if index == send.len() && pool.fill(send, 1) == 0 {
                break;
            }
            if send.write_frame_at(index, &mut write).is_none_or(|len| len == 0) {
                break;
            }
            index += 1;
        }
        // Unused spare packets would be passed back and forth by each exchange.
        if send.len() > index {
            pool.drain(send, index);
        }
        let written = index - first;
        self.counters.written += written as u64;
        let report = self.exchange(wait_until_ns)?;
        Ok(ExchangeReport { written, ..report })
    }

    /// Exchanges, then passes each received frame to `read`.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    #[inline]
    pub fn receive(
        &mut self,
        wait_until_ns: u64,
        mut read: impl FnMut(&[u8]),
    ) -> Result<ExchangeReport, NetClientError> {
        self.put_spares_away();
        let report = self.exchange(wait_until_ns)?;
        let received = self.received();
        (0..received.len()).filter_map(|index| received.frame_at(index)).for_each(&mut read);
        Ok(report)
    }

    /// Moves the received frames into the outgoing batch: by swapping the batches, if no frame is left to
    /// send. Otherwise they are appended as far as there is room. The rest is dropped, as by a switch whose
    /// output port is congested, and counted ([`Counters::overflowed`]).
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

    /// Swaps the received batch with the outgoing one, which is empty.
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

    /// Moves the packets of the received batch into the pool, and returns their number.
    #[cold]
    fn put_received_away(&mut self) -> usize {
        self.receive.as_mut().map_or(0, |receive| self.pool.drain(receive, 0))
    }

    /// Moves the spare packets of the outgoing batch into the pool.
    fn put_spares_away(&mut self) {
        let Some(send) = &mut self.send else { return };
        if send.is_empty() {
            return;
        }
        let keep = survey(send).frames;
        self.pool.drain(send, keep);
    }

    /// Fills the pool up to the reserve with packets that the queue would otherwise get as spare ones.
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

    /// The number of frames in the outgoing batch.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.outgoing_len().1
    }

    /// The number of packets in the outgoing batch, and the number of frames among them.
    #[inline]
    pub(crate) fn outgoing_len(&self) -> (usize, usize) {
        self.send.as_ref().map_or((0, 0), |send| (send.len(), survey(send).frames))
    }

    /// Starts to await the packets that the queue held: the crash returns them to their loans.
    pub(crate) fn await_packets(&mut self) {
        self.awaited += self.credit.restart(self.pool.made());
        (self.search_in, self.search_gap) = (0, 1);
        self.search();
    }

    /// Searches for packets that have come back, at growing intervals while none have.
    #[cold]
    #[inline(never)]
    fn search(&mut self) {
        if self.search_in > 0 {
            self.search_in -= 1;
            return;
        }
        let count = self.recover();
        self.search_gap = if count > 0 { 1 } else { (self.search_gap * 2).min(MAX_SEARCH_GAP) };
        self.search_in = self.search_gap;
    }

    /// Moves the packets that have come back into the pool, and returns their number.
    fn recover(&mut self) -> usize {
        let count = self.pool.recover();
        self.counters.reclaimed += count as u64;
        // More than were awaited: the queue has lost its packets again and has not reported it yet.
        self.credit.take(count.saturating_sub(self.awaited));
        self.awaited = self.awaited.saturating_sub(count);
        count
    }

    /// Counts the packets by location.
    pub fn accounts(&mut self) -> Accounts {
        self.recover();
        let batch = |batch: &Option<RRef<Batch>>| batch.as_ref().map_or(0, |batch| batch.len());
        let (made, home) = (self.pool.made(), self.pool.spare());
        let carried = batch(&self.send) + batch(&self.receive);
        let (queued, awaited) = (self.credit.held(), self.awaited);
        let missing = made as isize - (home + carried + queued + awaited) as isize;
        Accounts { made, home, carried, queued, awaited, missing }
    }

    /// Closes the queue and waits until all packets are back in the pool.
    ///
    /// # Errors
    /// When packets are missing at `deadline`. They are freed when their borrower drops them.
    pub fn close(mut self, deadline: Duration) -> Result<PacketPool, Missing> {
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
            time::sleep(POLL_INTERVAL);
        }
    }
}

/// The content of an outgoing batch, as [`survey`] counts it.
struct Survey {
    /// Packets up to the last frame. A cleared packet between frames counts as a frame.
    frames: usize,
    /// Spare packets behind them whose frames were refused.
    refused: usize,
}

/// Counts an outgoing batch from its back. It reads only one packet if no spare ones follow the frames.
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
