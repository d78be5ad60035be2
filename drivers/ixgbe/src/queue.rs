//! [`Queue`]: a transmit ring and a receive ring, and the path of a packet through them.

use alloc::sync::Arc;

use coppice_hardware::Interrupt;
use driver_polling::AdaptiveSpin;

use crate::receive::ReceiveRing;
use crate::registers::{QUEUE_ENABLE, SRRCTL_ADVANCED, receive, transmit};
use crate::shared::Shared;
use crate::transmit::{REPORT_EVERY, TransmitRing};
use crate::{Fault, IxgbeError, PacketFormat, QueueOptions, Received, Refusal, Step};

/// The longest sleep without a check of the rings and the device: an interrupt may be lost, and a device may
/// die.
const MAX_SLEEP_NS: u64 = 10_000_000;
/// The poll interval of a queue without an interrupt.
const POLL_INTERVAL_NS: u64 = 50_000;
/// The number of polls between two checks of the device.
const POLLS_PER_CHECK: u32 = 1024;
/// The time that a disabled queue may need for its last packet (82599 datasheet, section 4.6.7.1.2).
const DRAIN_NS: u64 = 100_000;
/// TXDCTL: PTHRESH 16, HTHRESH 1, WTHRESH 0 (descriptors are reported at once; 82599 datasheet, section
/// 7.2.3.4.1).
const TXDCTL_THRESHOLDS: u32 = 16 | 1 << 8;

/// A queue of the device, used by one thread at a time.
///
/// Packets in the rings are kept until the device has completed them or has been stopped. If neither can be
/// achieved when the queue is dropped, they are leaked.
pub struct Queue<F: PacketFormat> {
    shared: Arc<Shared>,
    id: u16,
    options: QueueOptions,
    transmit: TransmitRing<F>,
    receive: ReceiveRing<F>,
    interrupt: Option<Interrupt>,
    spin: AdaptiveSpin,
    polls: u32,
    hang_check: HangCheck,
    fault: Option<Fault>,
    /// The value of [`Shared::resets`] when the queue was attached. If it differs now, the device has been
    /// reset.
    generation: u32,
    /// True until the device has stopped using the rings for good and another queue may have the number.
    has_number: bool,
}

/// Progress of transmission at the last check.
#[derive(Clone, Copy, Default)]
struct HangCheck {
    progress: u32,
    since_ns: u64,
    next_check_ns: u64,
}

impl<F: PacketFormat> Queue<F> {
    pub(crate) fn open(shared: &Arc<Shared>, options: QueueOptions) -> Result<Self, IxgbeError> {
        let options = options.check()?;
        let regs = &shared.regs;
        let QueueOptions { send_depth, receive_depth, packet_bytes } = options;
        let bytes = coppice_hardware::DescriptorRing::bytes;
        let transmit_memory = regs.device.dma(bytes(send_depth))?;
        let receive_memory = regs.device.dma(bytes(receive_depth))?;
        let id = shared.take_queue()?;
        let layout = shared.chip.layout();
        let at = |(first, step): (usize, usize)| first + step * usize::from(id);
        let tail = at(layout.transmit) + transmit::TDT;
        let transmit =
            TransmitRing::new(transmit_memory, send_depth, tail, shared.longest(), shared.losses.clone());
        let tail = at(layout.receive) + receive::RDT;
        let receive =
            ReceiveRing::new(receive_memory, receive_depth, packet_bytes, tail, id, shared.losses.clone());
        let interrupt = shared.vector(id).and_then(|vector| regs.device.interrupt(vector).ok());
        let mut queue = Self {
            shared: shared.clone(),
            id,
            options,
            transmit,
            receive,
            interrupt,
            spin: AdaptiveSpin::new(regs.options.spin_ns),
            polls: 0,
            hang_check: HangCheck::default(),
            fault: None,
            // Stale until the queue is attached.
            generation: shared.resets().wrapping_sub(1),
            has_number: true,
        };
        queue.attach()?;
        Ok(queue)
    }

    fn receive_register(&self, register: usize) -> usize {
        let (first, step) = self.shared.chip.layout().receive;
        first + step * usize::from(self.id) + register
    }

    fn transmit_register(&self, register: usize) -> usize {
        let (first, step) = self.shared.chip.layout().transmit;
        first + step * usize::from(self.id) + register
    }

    /// Configures and enables the rings on the device (82599 datasheet, sections 4.6.7.1 and 4.6.8.1).
    fn attach(&mut self) -> Result<(), IxgbeError> {
        let shared = self.shared.clone();
        let (regs, layout) = (&shared.regs, shared.chip.layout());
        let mut state = shared.state();
        state.check_working()?;
        let generation = shared.resets();

        let ring = self.receive.descriptors();
        let address = ring.addr().to_bits();
        regs.write(self.receive_register(receive::RDBAL), address as u32);
        regs.write(self.receive_register(receive::RDBAH), (address >> 32) as u32);
        regs.write(self.receive_register(receive::RDLEN), ring.len() as u32);
        // Drop_En depends on the number of queues: see `State::set_attached`.
        let buffers = SRRCTL_ADVANCED | self.options.packet_bytes >> 10;
        regs.write(self.receive_register(layout.srrctl), buffers);
        regs.write(self.receive_register(receive::RDH), 0);
        regs.write(self.receive_register(receive::RDT), 0);
        let control = self.receive_register(receive::RXDCTL);
        regs.update(control, 0, QUEUE_ENABLE);
        regs.await_bits(Step::ReceiveEnable, control, QUEUE_ENABLE, QUEUE_ENABLE)?;
        // The tail may not be moved before the queue is enabled. Frames may arrive from now on, so it is
        // moved at once.
        self.receive.announce_all(&regs.window);

        let ring = self.transmit.descriptors();
        let address = ring.addr().to_bits();
        regs.write(self.transmit_register(transmit::TDBAL), address as u32);
        regs.write(self.transmit_register(transmit::TDBAH), (address >> 32) as u32);
        regs.write(self.transmit_register(transmit::TDLEN), ring.len() as u32);
        regs.write(self.transmit_register(transmit::TDH), 0);
        regs.write(self.transmit_register(transmit::TDT), 0);
        let control = self.transmit_register(transmit::TXDCTL);
        regs.write(control, TXDCTL_THRESHOLDS | QUEUE_ENABLE);
        regs.await_bits(Step::TransmitEnable, control, QUEUE_ENABLE, QUEUE_ENABLE)?;

        if let Some(interrupt) = &self.interrupt {
            shared.chip.route(regs, self.id, interrupt.vector());
        }
        state.set_attached(&shared, self.id, true);
        self.generation = generation;
        self.fault = None;
        self.hang_check = HangCheck::default();
        Ok(())
    }

    /// Returns the queue's number on the device.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Returns the options, with depths rounded up.
    pub fn options(&self) -> QueueOptions {
        self.options
    }

    /// Returns the number of frames, in one packet each, that can be sent in any case.
    #[inline]
    pub fn room(&self) -> usize {
        // Each may need a context.
        self.transmit.room() as usize / 2
    }

    /// Returns the number of packets that the receive ring has room for.
    #[inline]
    pub fn receive_room(&self) -> usize {
        self.receive.room() as usize
    }

    /// Returns the number of packets in the receive ring.
    #[inline]
    pub fn receive_held(&self) -> usize {
        self.receive.held() as usize
    }

    /// Returns the number of received frames that were dropped because they were damaged or in more parts
    /// than the caller takes at once. See also [`crate::Controller::losses`].
    pub fn dropped(&self) -> u64 {
        self.receive.dropped
    }

    /// Takes packets from `next` until it returns none or there is no room, and notifies the device of all of
    /// them with one register write. Returns the number of frames taken.
    ///
    /// Packets whose frames have been sent are moved to the receive ring first. Those that it has no room for
    /// go to `back`, and so do spare packets (both without a reason) and packets whose frames cannot be sent
    /// (with the reason).
    ///
    /// # Errors
    /// When the device is faulty or was reset; nothing was taken. The caller has to call [`Self::reset`].
    ///
    /// # Order
    /// Receive buffers are announced before the frames: a response, or the frame itself through a loopback,
    /// needs them, however late the next [`Self::poll`] is.
    #[inline(always)]
    pub fn send(
        &mut self,
        next: impl FnMut() -> Option<F::Packet>,
        mut back: impl FnMut(F::Packet, Option<Refusal>),
    ) -> Result<usize, Fault> {
        self.check()?;
        self.transmit.longest = self.shared.longest();
        // With a long receive ring, one collection per report is enough. A short ring may need every packet
        // at once.
        if self.transmit.in_flight() >= REPORT_EVERY.min(self.receive.held()) {
            self.reclaim(|packet| back(packet, None));
        }
        let receive = &mut self.receive;
        let count = self.transmit.write(next, |packet, refusal| {
            if refusal.is_some() {
                back(packet, refusal);
            } else if let Err(packet) = receive.post(packet) {
                back(packet, None);
            }
        });
        let registers = &self.shared.regs.window;
        self.receive.announce_for(registers, self.transmit.in_flight());
        self.transmit.announce(registers);
        if count == 0 && self.transmit.in_flight() > 0 {
            self.reclaim(|packet| back(packet, None));
            self.receive.announce(&self.shared.regs.window);
        }
        Ok(count)
    }

    /// Moves the packets of sent frames to the receive ring, and to `back` if it has no room.
    #[inline(always)]
    fn reclaim(&mut self, mut back: impl FnMut(F::Packet)) {
        let receive = &mut self.receive;
        self.transmit.reclaim(|mapped| {
            if let Err(packet) = receive.post_mapped(mapped) {
                back(packet);
            }
        });
    }

    /// Adds a packet to the receive ring. The device is notified by the next [`Self::send`], [`Self::poll`]
    /// or [`Self::wait`].
    ///
    /// # Errors
    /// Returns the packet when the receive ring is full or the packet is too small.
    #[inline(always)]
    pub fn give(&mut self, packet: F::Packet) -> Result<(), F::Packet> {
        self.receive.post(packet)
    }

    /// Passes received packets to `take`, at most `most` of them, and returns their number. A frame in
    /// several packets is passed whole; a frame in more than `most` is dropped. Never blocks.
    ///
    /// # Errors
    /// When the device is faulty or was reset. The caller has to call [`Self::reset`].
    #[inline(always)]
    pub fn poll(&mut self, most: usize, take: impl FnMut(F::Packet, Received)) -> Result<usize, Fault> {
        self.check()?;
        // Announced before `take` runs, which may need long, and afterwards, when the device has fewer
        // buffers left.
        self.receive.announce(&self.shared.regs.window);
        let count = match self.receive.poll(most, take) {
            Ok(count) => count,
            Err(fault) => return Err(self.fail(fault)),
        };
        self.receive.announce(&self.shared.regs.window);
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(POLLS_PER_CHECK) {
            self.receive.announce_all(&self.shared.regs.window);
            self.check_device(self.shared.regs.device.now_ns())?;
        }
        Ok(count)
    }

    #[inline(always)]
    fn check(&mut self) -> Result<(), Fault> {
        if self.fault.is_none() && self.shared.resets() == self.generation {
            return Ok(());
        }
        Err(*self.fault.get_or_insert(Fault::WasReset))
    }

    #[cold]
    fn fail(&mut self, fault: Fault) -> Fault {
        *self.fault.insert(fault)
    }

    /// Waits until a frame has been received, which [`Self::poll`] then returns; or, with `for_room`, until
    /// frames have been sent; or until the deadline. Returns true if there is work.
    ///
    /// Spins for a time that follows the recent distance of frames ([`crate::Options::spin_ns`] at most),
    /// then sleeps until the interrupt.
    ///
    /// # Errors
    /// When the device is faulty or was reset.
    pub fn wait(&mut self, deadline_ns: u64, for_room: bool) -> Result<bool, Fault> {
        self.check()?;
        self.receive.announce_all(&self.shared.regs.window);
        if self.has_work(for_room) {
            return Ok(true);
        }
        let start = self.shared.regs.device.now_ns();
        let spin_until = start.saturating_add(self.spin.spin_ns()).min(deadline_ns);
        let mut now = start;
        while now < spin_until {
            core::hint::spin_loop();
            if self.has_work(for_room) {
                self.spin.record(now - start);
                return Ok(true);
            }
            now = self.shared.regs.device.now_ns();
        }
        if now >= deadline_ns {
            return Ok(false);
        }
        let arrived = self.sleep(deadline_ns, for_room)?;
        self.spin.record(self.shared.regs.device.now_ns() - start);
        Ok(arrived)
    }

    /// Checks for the events that [`Self::wait`] waits for. Sent packets are also moved to the receive ring
    /// as far as there is room: a queue that has sent all its packets and has none to receive into would wait
    /// for ever.
    fn has_work(&mut self, for_room: bool) -> bool {
        if self.receive.has_new() || (for_room && self.transmit.has_sent()) {
            return true;
        }
        if self.transmit.has_sent() {
            // There is no caller to return a packet to: one that does not fit keeps its slot.
            let receive = &mut self.receive;
            self.transmit.reclaim_while(|mapped| receive.offer(mapped));
            self.receive.announce_all(&self.shared.regs.window);
        }
        false
    }

    fn sleep(&mut self, deadline_ns: u64, for_room: bool) -> Result<bool, Fault> {
        let shared = self.shared.clone();
        let (regs, layout) = (&shared.regs, shared.chip.layout());
        let outcome = loop {
            let now = regs.device.now_ns();
            if let Some(interrupt) = &self.interrupt {
                // Events from the time when the interrupt was masked are found by the check below; a message
                // for them would be superfluous.
                regs.write(layout.eicr, 1 << interrupt.vector());
                interrupt.forget();
                regs.write(layout.eims, 1 << interrupt.vector());
                // Register writes are posted, and a read pushes them. Without it the check could come first,
                // and the late write would clear the cause of an event that arrived between the two: no
                // message, and nothing seen.
                regs.read(layout.eims);
            }
            if self.has_work(for_room) {
                break Ok(true);
            }
            if now >= deadline_ns {
                break Ok(false);
            }
            if let Err(fault) = self.check_device(now) {
                break Err(fault);
            }
            let until = deadline_ns.min(now + MAX_SLEEP_NS);
            match &self.interrupt {
                Some(interrupt) => _ = interrupt.wait(until),
                None => regs.device.sleep_until(until.min(now + POLL_INTERVAL_NS)),
            }
            if let Err(fault) = self.check() {
                break Err(fault);
            }
        };
        if let Some(interrupt) = &self.interrupt {
            regs.write(layout.eimc, 1 << interrupt.vector());
        }
        outcome
    }

    /// Checks that the device is present and makes progress. [`Self::wait`] calls this, and [`Self::poll`]
    /// does from time to time.
    ///
    /// # Errors
    /// When the device is gone, has skipped a descriptor, or has sent nothing for too long.
    pub fn check_device(&mut self, now_ns: u64) -> Result<(), Fault> {
        self.check()?;
        if now_ns < self.hang_check.next_check_ns {
            return Ok(());
        }
        let shared = self.shared.clone();
        let (regs, limit_ns) = (&shared.regs, shared.regs.options.hang_ns);
        self.hang_check.next_check_ns = now_ns.saturating_add((limit_ns / 8).min(MAX_SLEEP_NS));
        if let Err(fault) = regs.check_alive() {
            return Err(self.fail(fault));
        }
        shared.read_counters_if_due(now_ns);
        if let Err(fault) = self.receive.check_skipped() {
            return Err(self.fail(fault));
        }
        let progress = self.transmit.progress();
        let moves = self.transmit.in_flight() == 0 || self.transmit.has_sent();
        if moves || progress != self.hang_check.progress || self.hang_check.since_ns == 0 {
            (self.hang_check.progress, self.hang_check.since_ns) = (progress, now_ns);
            return Ok(());
        }
        let for_ns = now_ns.saturating_sub(self.hang_check.since_ns);
        if for_ns < limit_ns {
            return Ok(());
        }
        // Without a link nothing is sent, which is no fault.
        if !shared.link_is_up() {
            self.hang_check.since_ns = now_ns;
            return Ok(());
        }
        let register = self.transmit_register(transmit::TDH);
        let head = regs.read(register);
        let tail = regs.read(self.transmit_register(transmit::TDT));
        let queue = self.id;
        Err(self.fail(if head >= self.options.send_depth {
            Fault::WrongHead { queue, register: register as u32, value: head }
        } else {
            Fault::TransmitHang { queue, for_ns, head, tail }
        }))
    }

    /// Resets the device, unless another queue already has, and attaches the queue again. Packets in the
    /// receive ring stay there. Packets to be sent join them, or go to `back` if there is no room; their
    /// frames may or may not have been sent.
    ///
    /// # Errors
    /// When the device could not be stopped: all packets stay in the rings, because the device may still
    /// write to them. When the device does not work after the reset: the packets have been returned.
    pub fn reset(&mut self, mut back: impl FnMut(F::Packet)) -> Result<(), IxgbeError> {
        let reset = self.shared.reset(self.generation);
        if self.shared.resets() == self.generation {
            return reset;
        }
        self.receive.restart();
        let receive = &mut self.receive;
        self.transmit.restart(|packet| {
            if let Err(packet) = receive.post(packet) {
                back(packet);
            }
        });
        self.fault = Some(Fault::WasReset);
        self.generation = self.shared.resets().wrapping_sub(1);
        reset?;
        let attached = self.attach();
        if let Err(IxgbeError::Fault(fault)) = attached {
            // The next attempt resets the device again: a partly attached queue cannot be repaired otherwise.
            self.generation = self.shared.resets();
            self.fault = Some(fault);
        }
        attached
    }

    /// Closes the queue and passes all packets to `back`; none if the device cannot be stopped. Received
    /// frames that were not polled are lost, and counted in [`crate::Controller::losses`].
    pub fn close(mut self, mut back: impl FnMut(F::Packet)) {
        if self.end() {
            self.receive.take_all(&mut back);
            self.transmit.restart(&mut back);
        }
    }

    /// Stops the device's accesses to the rings, and returns the queue's number. Returns true on success.
    ///
    /// The number is returned before the packets: once the packets are back, their owner may open its next
    /// queue. With queue 0 still taken, that queue would receive no frame without a hash, because the device
    /// passes all of these to queue 0 (82599 datasheet, section 7.1.2.8).
    fn end(&mut self) -> bool {
        let has_stopped = self.stop();
        if has_stopped && core::mem::take(&mut self.has_number) {
            self.shared.return_queue(self.id);
        }
        has_stopped
    }

    /// Stops the device's accesses to the rings. Returns true on success.
    fn stop(&mut self) -> bool {
        let shared = self.shared.clone();
        let stopped = |queue: &Self| shared.resets() != queue.generation;
        if stopped(self) {
            return true;
        }
        if self.detach().is_ok() {
            // The same state as after a reset: the device owns nothing.
            self.generation = shared.resets().wrapping_sub(1);
            self.fault = Some(Fault::WasReset);
            return true;
        }
        let _ = shared.reset(self.generation);
        stopped(self)
    }

    /// Disables the queue while others continue (82599 datasheet, sections 4.6.7.1.2 and 4.6.8.1.2).
    fn detach(&mut self) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let regs = &shared.regs;
        let mut state = shared.state();
        if shared.resets() != self.generation {
            return Ok(());
        }
        regs.check_alive()?;
        state.set_attached(&shared, self.id, false);
        let control = self.receive_register(receive::RXDCTL);
        regs.update(control, QUEUE_ENABLE, 0);
        regs.await_bits(Step::ReceiveDisable, control, QUEUE_ENABLE, 0)?;
        let control = self.transmit_register(transmit::TXDCTL);
        let tail = regs.read(self.transmit_register(transmit::TDT));
        let head = self.transmit_register(transmit::TDH);
        // With a link, pending frames are sent first.
        let _ = driver_polling::until(&regs.device, MAX_SLEEP_NS, || (regs.read(head) == tail).then_some(()));
        regs.update(control, QUEUE_ENABLE, 0);
        regs.await_bits(Step::TransmitDisable, control, QUEUE_ENABLE, 0)?;
        regs.device.sleep_until(regs.device.now_ns() + DRAIN_NS);
        Ok(())
    }
}

impl<F: PacketFormat> Drop for Queue<F> {
    fn drop(&mut self) {
        if self.end() {
            self.receive.take_all(drop);
            self.transmit.restart(drop);
        } else {
            // The memory must not be reused before the kernel has stopped the device.
            self.receive.leak();
            self.transmit.leak();
        }
    }
}
