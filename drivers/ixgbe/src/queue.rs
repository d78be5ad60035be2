//! [`Queue`]: a transmit ring, a receive ring, and the instance of a packet.

use alloc::sync::Arc;

use coppice_hardware::Interrupt;
use driver_polling::Patience;

use crate::receive::ReceiveRing;
use crate::registers::{QUEUE_ENABLE, SRRCTL_ADVANCED, receive, transmit};
use crate::shared::Shared;
use crate::transmit::{REPORT_EVERY, TransmitRing};
use crate::{Fault, IxgbeError, PacketFormat, QueueOptions, Received, Refusal, Step};

/// No sleep lasts longer without a look at the rings and at the device: an interrupt may get lost, and a device may die.
const SLICE_NS: u64 = 10_000_000;
/// How long to sleep between two looks where there is no interrupt.
const NAP_NS: u64 = 50_000;
/// How often a poll also looks after the device.
const POLLS_PER_LOOK: u32 = 1024;
/// After a queue was disabled, the device may still be at its last packet (82599 datasheet, section 4.6.7.1.2).
const DRAIN_NS: u64 = 100_000;
/// TXDCTL: PTHRESH 16, HTHRESH 1, WTHRESH 0 (descriptors are reported at once; 82599 datasheet, section 7.2.3.4.1).
const TXDCTL_THRESHOLDS: u32 = 16 | 1 << 8;

/// A queue of the device, used from one thread at a time.
///
/// Buffers that the device has are kept until it is done with them or was stopped: if neither can be had when the queue is
/// dropped, they are never let go of.
pub struct Queue<F: PacketFormat> {
    shared: Arc<Shared>,
    id: u16,
    options: QueueOptions,
    transmit: TransmitRing<F>,
    receive: ReceiveRing<F>,
    interrupt: Option<Interrupt>,
    patience: Patience,
    polls: u32,
    watch: Watch,
    fault: Option<Fault>,
    /// [`Shared::resets`] when the queue was attached.
    generation: u32,
}

/// How far sending had come when it was last looked.
#[derive(Clone, Copy, Default)]
struct Watch {
    progress: u32,
    since_ns: u64,
    next_look_ns: u64,
}

impl<F: PacketFormat> Queue<F> {
    pub(crate) fn open(shared: &Arc<Shared>, options: QueueOptions) -> Result<Self, IxgbeError> {
        let options = options.check()?;
        let port = &shared.port;
        let QueueOptions { send_depth, receive_depth, packet_bytes } = options;
        let bytes = coppice_hardware::DescriptorRing::bytes;
        let transmit_memory = port.device.dma(bytes(send_depth))?;
        let receive_memory = port.device.dma(bytes(receive_depth))?;
        let id = shared.take_queue()?;
        let layout = shared.chip.layout();
        let at = |(first, step): (usize, usize)| first + step * usize::from(id);
        let tail = at(layout.transmit) + transmit::TDT;
        let transmit =
            TransmitRing::new(transmit_memory, send_depth, tail, shared.longest(), shared.losses.clone());
        let tail = at(layout.receive) + receive::RDT;
        let receive =
            ReceiveRing::new(receive_memory, receive_depth, packet_bytes, tail, id, shared.losses.clone());
        let interrupt = shared.vector(id).and_then(|vector| port.device.interrupt(vector).ok());
        let mut queue = Self {
            shared: shared.clone(),
            id,
            options,
            transmit,
            receive,
            interrupt,
            patience: Patience::new(port.options.spin_ns),
            polls: 0,
            watch: Watch::default(),
            fault: None,
            // Until it is attached, it is one that was reset away.
            generation: shared.resets().wrapping_sub(1),
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

    /// Has the device use the rings (82599 datasheet, sections 4.6.7.1 and 4.6.8.1).
    fn attach(&mut self) -> Result<(), IxgbeError> {
        let shared = self.shared.clone();
        let (port, layout) = (&shared.port, shared.chip.layout());
        let mut state = shared.state();
        state.works()?;
        let generation = shared.resets();

        let ring = self.receive.descriptors();
        let address = ring.addr().to_bits();
        port.write(self.receive_register(receive::RDBAL), address as u32);
        port.write(self.receive_register(receive::RDBAH), (address >> 32) as u32);
        port.write(self.receive_register(receive::RDLEN), ring.len() as u32);
        // Drop_En follows from the number of queues: see `State::set_attached`.
        let buffers = SRRCTL_ADVANCED | self.options.packet_bytes >> 10;
        port.write(self.receive_register(layout.srrctl), buffers);
        port.write(self.receive_register(receive::RDH), 0);
        port.write(self.receive_register(receive::RDT), 0);
        let control = self.receive_register(receive::RXDCTL);
        port.update(control, 0, QUEUE_ENABLE);
        port.await_bits(Step::ReceiveEnable, control, QUEUE_ENABLE, QUEUE_ENABLE)?;
        // The tail may not be moved before the queue is enabled. Frames may come from now on, so it is moved at once.
        self.receive.announce_all(&port.registers);

        let ring = self.transmit.descriptors();
        let address = ring.addr().to_bits();
        port.write(self.transmit_register(transmit::TDBAL), address as u32);
        port.write(self.transmit_register(transmit::TDBAH), (address >> 32) as u32);
        port.write(self.transmit_register(transmit::TDLEN), ring.len() as u32);
        port.write(self.transmit_register(transmit::TDH), 0);
        port.write(self.transmit_register(transmit::TDT), 0);
        let control = self.transmit_register(transmit::TXDCTL);
        port.write(control, TXDCTL_THRESHOLDS | QUEUE_ENABLE);
        port.await_bits(Step::TransmitEnable, control, QUEUE_ENABLE, QUEUE_ENABLE)?;

        if let Some(interrupt) = &self.interrupt {
            shared.chip.route(port, self.id, interrupt.vector());
        }
        state.set_attached(&shared, self.id, true);
        self.generation = generation;
        self.fault = None;
        self.watch = Watch::default();
        Ok(())
    }

    /// Which queue of the device.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// How it was opened, with depths rounded up.
    pub fn options(&self) -> QueueOptions {
        self.options
    }

    /// How many frames in one buffer each can be sent at least.
    #[inline]
    pub fn room(&self) -> usize {
        // Each may need a context.
        self.transmit.room() as usize / 2
    }

    /// How many buffers the receive ring has room for.
    #[inline]
    pub fn receive_room(&self) -> usize {
        self.receive.room() as usize
    }

    /// How many buffers it has to receive into.
    #[inline]
    pub fn receive_held(&self) -> usize {
        self.receive.held() as usize
    }

    /// Frames that were received and dropped: damaged, or in more parts than were asked for at once. See also
    /// [`crate::Controller::losses`].
    pub fn dropped(&self) -> u64 {
        self.receive.dropped
    }

    /// Takes frames from `next` until it has no more or there is no room, and tells the device of all of them by one store. Buffers
    /// whose frames have been sent fill the receive ring first; those that it has no room for go to `back`, and so do
    /// buffers without a frame (both with no reason) and those whose frames cannot be sent, with the reason. Answers how many
    /// frames were taken to be sent.
    ///
    /// # Errors
    /// When the device is at fault or was reset. [`Self::reset`] is next; nothing was taken.
    ///
    /// # Order
    /// Receive buffers are announced before the frames: what the frames bring back, through a loop or as answers, must find
    /// them, however late the next [`Self::poll`] is.
    #[inline(always)]
    pub fn send(
        &mut self,
        next: impl FnMut() -> Option<F::Buffer>,
        mut back: impl FnMut(F::Buffer, Option<Refusal>),
    ) -> Result<usize, Fault> {
        self.check()?;
        self.transmit.longest = self.shared.longest();
        // With a long receive ring it is enough to look once per report. A short one may need each buffer.
        if self.transmit.in_flight() >= REPORT_EVERY.min(self.receive.held()) {
            self.reclaim(|buffer| back(buffer, None));
        }
        let receive = &mut self.receive;
        let count = self.transmit.write(next, |buffer, refusal| {
            if refusal.is_some() {
                back(buffer, refusal);
            } else if let Err(buffer) = receive.give(buffer) {
                back(buffer, None);
            }
        });
        let registers = &self.shared.port.registers;
        self.receive.announce_for(registers, self.transmit.in_flight());
        self.transmit.announce(registers);
        if count == 0 && self.transmit.in_flight() > 0 {
            self.reclaim(|buffer| back(buffer, None));
            self.receive.announce(&self.shared.port.registers);
        }
        Ok(count)
    }

    /// Takes buffers back whose frames have been sent: into the receive ring, and to `back` what it has no room for.
    /// [`Self::send`] does this.
    #[inline(always)]
    fn reclaim(&mut self, mut back: impl FnMut(F::Buffer)) {
        let receive = &mut self.receive;
        self.transmit.reclaim(|held| {
            if let Err(buffer) = receive.take(held) {
                back(buffer);
            }
        });
    }

    /// Takes a buffer to be filled, or gives it back: the receive ring is full, or the buffer too small. The device is told of
    /// it by the next [`Self::send`], [`Self::poll`] or [`Self::wait`].
    ///
    /// # Errors
    /// With the buffer.
    #[inline(always)]
    pub fn give(&mut self, buffer: F::Buffer) -> Result<(), F::Buffer> {
        self.receive.give(buffer)
    }

    /// Hands over frames that were received, at most `most` buffers of them. A frame in several buffers is handed over whole; one
    /// that has more than `most` is dropped. Never waits.
    ///
    /// # Errors
    /// When the device is at fault or was reset. [`Self::reset`] is next.
    #[inline(always)]
    pub fn poll(&mut self, most: usize, take: impl FnMut(F::Buffer, Received)) -> Result<usize, Fault> {
        self.check()?;
        // Before the frames are handed over, which may take long, and after them, when the device has fewer left.
        self.receive.announce(&self.shared.port.registers);
        let count = match self.receive.poll(most, take) {
            Ok(count) => count,
            Err(fault) => return Err(self.fail(fault)),
        };
        self.receive.announce(&self.shared.port.registers);
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(POLLS_PER_LOOK) {
            self.receive.announce_all(&self.shared.port.registers);
            self.tend(self.shared.port.device.now_ns())?;
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

    /// Waits until a frame was received, which [`Self::poll`] then hands over; or, with `for_room`, until frames were sent; or until
    /// the deadline. Answers whether there is something to do.
    ///
    /// It spins for about as long as frames have been apart of late, but for no longer than [`crate::Options::spin_ns`], and then
    /// sleeps until the interrupt.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn wait(&mut self, deadline_ns: u64, for_room: bool) -> Result<bool, Fault> {
        self.check()?;
        self.receive.announce_all(&self.shared.port.registers);
        if self.has_work(for_room) {
            return Ok(true);
        }
        let start = self.shared.port.device.now_ns();
        let spin_until = start.saturating_add(self.patience.spin_ns()).min(deadline_ns);
        let mut now = start;
        while now < spin_until {
            core::hint::spin_loop();
            if self.has_work(for_room) {
                self.patience.record(now - start);
                return Ok(true);
            }
            now = self.shared.port.device.now_ns();
        }
        if now >= deadline_ns {
            return Ok(false);
        }
        let arrived = self.sleep(deadline_ns, for_room)?;
        self.patience.record(self.shared.port.device.now_ns() - start);
        Ok(arrived)
    }

    /// Whether there is what [`Self::wait`] waits for. A queue that has sent all its buffers and has none to receive into would
    /// wait for ever, so what was sent goes there as far as there is room.
    fn has_work(&mut self, for_room: bool) -> bool {
        if self.receive.has_new() || (for_room && self.transmit.has_sent()) {
            return true;
        }
        if self.transmit.has_sent() {
            // There is nobody here to give a buffer to: one that does not fit stays where it is.
            let receive = &mut self.receive;
            self.transmit.reclaim_while(|held| receive.offer(held));
            self.receive.announce_all(&self.shared.port.registers);
        }
        false
    }

    fn sleep(&mut self, deadline_ns: u64, for_room: bool) -> Result<bool, Fault> {
        let shared = self.shared.clone();
        let (port, layout) = (&shared.port, shared.chip.layout());
        let outcome = loop {
            let now = port.device.now_ns();
            if let Some(interrupt) = &self.interrupt {
                // What was sent or received while nobody wanted messages is found by the look; a message for it would come
                // for nothing.
                port.write(layout.eicr, 1 << interrupt.vector());
                interrupt.forget();
                port.write(layout.eims, 1 << interrupt.vector());
                // Writes are posted, and a read pushes them. Without it the look could come first, and the late write would
                // clear the cause of what arrived between the two: no message, and nothing seen.
                port.read(layout.eims);
            }
            if self.has_work(for_room) {
                break Ok(true);
            }
            if now >= deadline_ns {
                break Ok(false);
            }
            if let Err(fault) = self.tend(now) {
                break Err(fault);
            }
            let until = deadline_ns.min(now + SLICE_NS);
            match &self.interrupt {
                Some(interrupt) => _ = interrupt.wait(until),
                None => port.device.sleep_until(until.min(now + NAP_NS)),
            }
            if let Err(fault) = self.check() {
                break Err(fault);
            }
        };
        if let Some(interrupt) = &self.interrupt {
            port.write(layout.eimc, 1 << interrupt.vector());
        }
        outcome
    }

    /// Looks after the device: whether it is there, and whether it sends what there is to be sent. [`Self::wait`] does this, and
    /// so does [`Self::poll`] now and then.
    ///
    /// # Errors
    /// When it is at fault.
    pub fn tend(&mut self, now_ns: u64) -> Result<(), Fault> {
        self.check()?;
        if now_ns < self.watch.next_look_ns {
            return Ok(());
        }
        let shared = self.shared.clone();
        let (port, limit_ns) = (&shared.port, shared.port.options.hang_ns);
        self.watch.next_look_ns = now_ns.saturating_add((limit_ns / 8).min(SLICE_NS));
        if let Err(fault) = port.alive() {
            return Err(self.fail(fault));
        }
        shared.tend(now_ns);
        if let Err(fault) = self.receive.look_for_skipped() {
            return Err(self.fail(fault));
        }
        let progress = self.transmit.progress();
        let moves = self.transmit.in_flight() == 0 || self.transmit.has_sent();
        if moves || progress != self.watch.progress || self.watch.since_ns == 0 {
            (self.watch.progress, self.watch.since_ns) = (progress, now_ns);
            return Ok(());
        }
        let for_ns = now_ns.saturating_sub(self.watch.since_ns);
        if for_ns < limit_ns {
            return Ok(());
        }
        // Without a link nothing is sent, and that is nobody's fault.
        if !shared.link_is_up() {
            self.watch.since_ns = now_ns;
            return Ok(());
        }
        let register = self.transmit_register(transmit::TDH);
        let head = port.read(register);
        let tail = port.read(self.transmit_register(transmit::TDT));
        let queue = self.id;
        Err(self.fail(if head >= self.options.send_depth {
            Fault::WrongHead { queue, register: register as u32, value: head }
        } else {
            Fault::TransmitHang { queue, for_ns, head, tail }
        }))
    }

    /// Resets the device, unless it was for another queue's sake, and has the queue used again. It keeps the buffers that it had
    /// to receive into. Those to be sent join them, and go to `back` where there is no room: their frames are lost or not.
    ///
    /// # Errors
    /// When the device could not be stopped: then all buffers stay where they are, because it may still write to them. Or, with buffers
    /// handed over, when it does not work again.
    pub fn reset(&mut self, mut back: impl FnMut(F::Buffer)) -> Result<(), IxgbeError> {
        let reset = self.shared.reset(self.generation);
        if self.shared.resets() == self.generation {
            return reset;
        }
        self.receive.restart();
        let receive = &mut self.receive;
        self.transmit.restart(|buffer| {
            if let Err(buffer) = receive.give(buffer) {
                back(buffer);
            }
        });
        self.fault = Some(Fault::WasReset);
        self.generation = self.shared.resets().wrapping_sub(1);
        reset?;
        let attached = self.attach();
        if let Err(IxgbeError::Fault(fault)) = attached {
            // Whoever tries again resets it again: what is half done does not get better.
            self.generation = self.shared.resets();
            self.fault = Some(fault);
        }
        attached
    }

    /// Closes the queue and gives all buffers back; none if the device cannot be stopped. Frames that were received and not
    /// handed over are lost, and counted in [`crate::Controller::losses`].
    pub fn close(mut self, mut back: impl FnMut(F::Buffer)) {
        if self.stop() {
            self.receive.take_all(&mut back);
            self.transmit.restart(&mut back);
        }
    }

    /// Has the device leave the rings alone. Answers whether it does.
    fn stop(&mut self) -> bool {
        let shared = self.shared.clone();
        let stopped = |queue: &Self| shared.resets() != queue.generation;
        if stopped(self) {
            return true;
        }
        if self.detach().is_ok() {
            // As after a reset: nothing is the device's any more.
            self.generation = shared.resets().wrapping_sub(1);
            self.fault = Some(Fault::WasReset);
            return true;
        }
        let _ = shared.reset(self.generation);
        stopped(self)
    }

    /// Takes the queue out of use while others go on (82599 datasheet, sections 4.6.7.1.2 and 4.6.8.1.2).
    fn detach(&mut self) -> Result<(), Fault> {
        let shared = self.shared.clone();
        let port = &shared.port;
        let mut state = shared.state();
        if shared.resets() != self.generation {
            return Ok(());
        }
        port.alive()?;
        state.set_attached(&shared, self.id, false);
        let control = self.receive_register(receive::RXDCTL);
        port.update(control, QUEUE_ENABLE, 0);
        port.await_bits(Step::ReceiveDisable, control, QUEUE_ENABLE, 0)?;
        let control = self.transmit_register(transmit::TXDCTL);
        let tail = port.read(self.transmit_register(transmit::TDT));
        let head = self.transmit_register(transmit::TDH);
        // What is under way is sent, if there is a link.
        let _ = driver_polling::until(&port.device, SLICE_NS, || (port.read(head) == tail).then_some(()));
        port.update(control, QUEUE_ENABLE, 0);
        port.await_bits(Step::TransmitDisable, control, QUEUE_ENABLE, 0)?;
        port.device.sleep_until(port.device.now_ns() + DRAIN_NS);
        Ok(())
    }
}

impl<F: PacketFormat> Drop for Queue<F> {
    fn drop(&mut self) {
        if self.stop() {
            self.receive.take_all(drop);
            self.transmit.restart(drop);
            self.shared.return_queue(self.id);
        } else {
            // Nobody can have that memory again before the device was stopped by somebody else.
            self.receive.leak();
            self.transmit.leak();
        }
    }
}
