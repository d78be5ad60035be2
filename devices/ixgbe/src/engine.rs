//! [`Engine`]: the device's thread, which polls for work and sleeps after an idle while.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use device_bus::{DmaPort, Host, Inbox, ModelEngine, ModelRequest, Step};
use device_link::{Frame, Rate, Wire};

use crate::fault_injection::FaultInjector;
use crate::interrupts::{CAUSE_LINK, Throttle};
use crate::map::*;
use crate::receive::Receiver;
use crate::registers::{Registers, signal};
use crate::ring::BATCH;
use crate::transmit::{FrameSink, Sender};

/// The most frames within the device in loopback (HLREG0.LPBK).
const LOOP_FRAMES: usize = BATCH;

/// Bits of LINKS (section 8.2.3.22.20): link up, and the speed.
const LINKS_UP: u32 = 1 << 30 | 1 << 7;
const LINKS_TEN_GIGABIT: u32 = 3 << 28;
const LINKS_GIGABIT: u32 = 2 << 28;
const LINKS_FAST: u32 = 1 << 28;

/// The state of the device's thread.
pub(crate) struct Engine {
    pub(crate) registers: Arc<Registers>,
    pub(crate) port: Arc<DmaPort>,
    pub(crate) faults: Arc<FaultInjector>,
    pub(crate) wire: Wire,
    pub(crate) spin_ns: u64,
    pub(crate) link_ns: u64,
    receiver: Receiver,
    sender: Sender,
    throttle: Throttle,
    /// The frames within the device, if it is in loopback.
    loopback: Option<VecDeque<Vec<u8>>>,
    is_up: bool,
    /// The time at which the link can be up after a reset.
    link_due_ns: u64,
    /// True if the driver allows DMA (CTRL.GIO_MASTER_DISABLE). Bus mastering is the port's.
    is_master: bool,
    now_ns: u64,
}

impl ModelEngine for Engine {
    type Command = Infallible;

    fn start(&mut self) {
        let registers = self.registers.clone();
        self.wire.attach(Arc::new(move || registers.work_signal.notify(signal::WIRE)));
    }

    fn spin_ns(&self) -> u64 {
        self.spin_ns
    }

    fn set_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    fn is_timed(&self) -> bool {
        self.due_ns().is_some()
    }

    fn step(&mut self, inbox: &Inbox<ModelRequest<Infallible>>) -> Step {
        let signals = self.registers.work_signal.take();
        if signals != 0 && self.handle_signals(signals, inbox) {
            return Step::Stop;
        }
        self.follow_link();
        let mut worked = signals & !signal::WIRE != 0;
        if self.faults.presence().unplugged_for_ns() == Some(0) {
            self.replug();
        }
        if self.is_up && self.faults.is_working() {
            worked |= self.receive();
            worked |= self.send();
        }
        self.throttle.signal(&self.registers.interrupts, &self.registers.image, &self.port, self.now_ns);
        if worked { Step::Worked } else { Step::Idle }
    }

    fn idle_ns(&self, now_ns: u64) -> Option<u64> {
        self.due_ns().map(|due| due.saturating_sub(now_ns))
    }

    fn has_work(&self) -> bool {
        if !self.is_up || !self.faults.is_working() {
            return false;
        }
        let can_send = match &self.loopback {
            Some(frames) if !frames.is_empty() => return true,
            Some(_) => true,
            // Else the frame is due at the time when the wire is free.
            None => self.wire.can_send(self.now_ns),
        };
        let registers = &self.registers;
        self.can_access()
            && (can_send && self.sender.has_work(registers) || self.receiver.can_drain(registers))
    }
}

impl Engine {
    pub(crate) fn new(
        registers: Arc<Registers>,
        port: Arc<DmaPort>,
        faults: Arc<FaultInjector>,
        wire: Wire,
        spin_ns: u64,
        link_ns: u64,
    ) -> Self {
        Self {
            registers,
            port,
            faults,
            wire,
            spin_ns,
            link_ns,
            receiver: Receiver::new(),
            sender: Sender::new(),
            throttle: Throttle::new(),
            loopback: None,
            is_up: false,
            link_due_ns: link_ns,
            is_master: true,
            now_ns: 0,
        }
    }

    /// Handles the signals, resets first. Returns true if the thread is to stop.
    fn handle_signals(&mut self, signals: u32, inbox: &Inbox<ModelRequest<Infallible>>) -> bool {
        let is_set = |bit: u32| signals & bit != 0;
        // Before requests are completed: their callers may use the device from then on.
        if is_set(signal::RESET) {
            self.reset();
        }
        let stops = is_set(signal::REQUEST)
            && inbox.serve(|request| match request {
                ModelRequest::Reset => self.reset_function(),
                ModelRequest::Replug => self.replug(),
                ModelRequest::Stop => {}
                ModelRequest::Command(never) => match never {},
            });
        if stops {
            return true;
        }
        if is_set(signal::RESET | signal::CONFIG | signal::REQUEST) {
            self.update();
        }
        false
    }

    /// Plugs the device in again, if it is unplugged.
    fn replug(&mut self) {
        self.faults.clone().presence().replug(|| self.reset_function());
    }

    /// Resets all state as after power-on, bus mastering included. Stuck bits stay until the end: a driver
    /// that polls them must not find the reset complete before it is.
    fn reset_function(&mut self) {
        self.port.set_open(false);
        self.reset();
        self.registers.end_function_reset();
        self.faults.free_stuck();
    }

    /// Resets all state as after power-on, and restarts the link. CTRL reports completion last.
    fn reset(&mut self) {
        self.receiver.reset(&self.registers);
        self.sender.reset(&self.registers);
        self.throttle = Throttle::new();
        self.is_up = false;
        self.link_due_ns = self.now_ns + self.link_ns;
        self.registers.reset();
        self.update();
        self.follow_link();
        self.faults.end_hang();
        self.registers.end_reset();
    }

    /// Updates the state that is derived from registers.
    fn update(&mut self) {
        self.faults.cancel_repeats();
        let image = &self.registers.image;
        self.is_master = image.get(CTRL) & CTRL_MASTER_DISABLE == 0;
        let loops_back = image.get(HLREG0) & HLREG0_LPBK != 0;
        if loops_back != self.loopback.is_some() {
            let ended = std::mem::replace(&mut self.loopback, loops_back.then(VecDeque::new));
            self.registers.losses.loop_ended.add(ended.map_or(0, |frames| frames.len() as u64));
        }
        self.receiver.update(&self.registers);
        self.sender.update(&self.registers);
        // Set last, since it reports that no access is under way any more (section 5.2.4.3.2).
        let enabled = if self.is_master { STATUS_MASTER_ENABLED } else { 0 };
        image.change(STATUS, STATUS_MASTER_ENABLED, enabled);
    }

    /// Updates the state of the link, and reports a change.
    fn follow_link(&mut self) {
        let is_up =
            self.now_ns >= self.link_due_ns && (self.loopback.is_some() || self.wire.is_up(self.now_ns));
        if is_up == self.is_up {
            return;
        }
        self.is_up = is_up;
        let speed = match self.wire.rate() {
            Rate::BitsPerSecond(rate) if rate < 1_000_000_000 => LINKS_FAST,
            Rate::BitsPerSecond(rate) if rate < 10_000_000_000 => LINKS_GIGABIT,
            _ => LINKS_TEN_GIGABIT,
        };
        let image = &self.registers.image;
        image.set(LINKS, if is_up { LINKS_UP | speed } else { 0 });
        image.change(STATUS, STATUS_LINK_UP, if is_up { STATUS_LINK_UP } else { 0 });
        self.registers.interrupts.other_event(CAUSE_LINK);
    }

    /// Receives up to a batch of frames. Returns true if there were any.
    fn receive(&mut self) -> bool {
        let Self { registers, port, wire, receiver, loopback, now_ns, is_master, .. } = self;
        let now_ns = *now_ns;
        let waits = receiver.can_drain(registers);
        if !waits && loopback.is_none() && wire.receive_due_ns().is_none_or(|due| due > now_ns) {
            return false;
        }
        let mut work = |host: Option<&dyn Host>| {
            let mut worked = false;
            if let Some(host) = host
                && receiver.has_frames()
            {
                worked |= receiver.drain(host, registers, BATCH);
            }
            for _ in 0..BATCH {
                // In loopback the port receives nothing.
                if let Some(frames) = loopback {
                    let Some(frame) = frames.pop_front() else { break };
                    receiver.accept(host, Frame { bytes: &frame, damage: None }, registers);
                } else {
                    let Some(frame) = wire.receive(now_ns) else { break };
                    receiver.accept(host, frame, registers);
                }
                worked = true;
            }
            if let Some(host) = host {
                receiver.finish(host, registers);
            }
            worked
        };
        if *is_master && let Ok(worked) = port.session(|host| work(Some(host))) {
            return worked;
        }
        // Without DMA, frames wait in the packet buffer until it is full.
        work(None)
    }

    /// Sends up to a batch of frames. Returns true if there were any.
    fn send(&mut self) -> bool {
        let Self { registers, port, wire, sender, loopback, now_ns, is_master, .. } = self;
        let mut sink = OutboundPath { wire, loopback: loopback.as_mut(), now_ns: *now_ns };
        if !*is_master || !sink.is_free() || !sender.has_work(registers) {
            return false;
        }
        port.session(|host| sender.send(host, registers, &mut sink)).unwrap_or(false)
    }

    /// The time of the next work that comes without a signal.
    ///
    /// A time in the past makes the thread poll, so it may only stand for work that the next poll does.
    /// Frames that the device does not take, with the link down or in loopback, are not due.
    fn due_ns(&self) -> Option<u64> {
        if let Some(left) = self.faults.presence().unplugged_for_ns() {
            return Some(self.now_ns.saturating_add(left));
        }
        let link = match self.is_up {
            true => None,
            false if self.link_due_ns > self.now_ns => Some(self.link_due_ns),
            false => self.wire.up_due_ns(),
        };
        let works = self.is_up && self.faults.is_working();
        let wire = if works && self.loopback.is_none() { self.wire_due_ns() } else { None };
        let interrupt = self.throttle.due_ns(&self.registers.interrupts);
        [link, wire, interrupt].into_iter().flatten().min()
    }

    /// The time at which the wire has a frame for the device, or room for one of the device's.
    fn wire_due_ns(&self) -> Option<u64> {
        let receive = self.wire.receive_due_ns();
        let waits =
            !self.wire.can_send(self.now_ns) && self.can_access() && self.sender.has_work(&self.registers);
        let send = waits.then(|| self.wire.send_due_ns());
        [receive, send].into_iter().flatten().min()
    }

    /// Returns true if the device may access memory.
    fn can_access(&self) -> bool {
        self.is_master && self.port.is_open()
    }
}

/// The way of the device's frames: to the wire, or back into the device.
struct OutboundPath<'a> {
    wire: &'a mut Wire,
    loopback: Option<&'a mut VecDeque<Vec<u8>>>,
    now_ns: u64,
}

impl FrameSink for OutboundPath<'_> {
    #[inline]
    fn is_free(&self) -> bool {
        match &self.loopback {
            Some(frames) => frames.len() < LOOP_FRAMES,
            None => self.wire.can_send(self.now_ns),
        }
    }

    #[inline]
    fn send(&mut self, frame: &[u8]) {
        match &mut self.loopback {
            Some(frames) => frames.push_back(frame.to_vec()),
            None => self.wire.send(frame, self.now_ns),
        }
    }
}

#[cfg(test)]
mod tests;
