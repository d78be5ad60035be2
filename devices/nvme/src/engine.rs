//! The engine of the device's thread: signals, requests, and steps of the controller.

use device_bus::{Inbox, ModelEngine, ModelRequest, Step};

use crate::cache::Survivors;
use crate::controller::{Controller, State};
use crate::logs::Event;
use crate::registers::{CC_EN, work};

/// Requests to the device's thread beside those that all models have.
pub(crate) enum ControlCommand {
    LosePower(Survivors),
    SetTemperature(u16),
    NamespaceChanged(u32),
}

impl ModelEngine for Controller {
    type Command = ControlCommand;

    fn spin_ns(&self) -> u64 {
        self.config.spin_ns
    }

    fn set_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    fn is_timed(&self) -> bool {
        self.next_ns().is_some()
    }

    fn step(&mut self, inbox: &Inbox<ModelRequest<ControlCommand>>) -> Step {
        let signals = self.registers.work_signal.take();
        if signals != 0 {
            if self.handle_signals(signals, inbox) {
                return Step::Stop;
            }
            return Step::Worked;
        }
        if self.faults.presence().unplugged_for_ns() == Some(0) {
            self.replug();
            return Step::Worked;
        }
        self.become_ready();
        if !self.can_work() {
            return Step::Idle;
        }
        let mut worked = self.run_due();
        for id in 0..self.submission.len() {
            worked |= self.is_running() && self.fetch(id);
        }
        for id in 0..self.completion.len() {
            worked |= self.drain(id);
            self.signal(id);
        }
        if worked { Step::Worked } else { Step::Idle }
    }

    fn has_work(&self) -> bool {
        let room = |id: usize| {
            let head = self.registers.doorbell(2 * id + 1);
            self.completion[id]
                .as_ref()
                .is_some_and(|queue| !queue.waiting.is_empty() && queue.has_room(head))
        };
        self.can_work() && (0..self.submission.len()).any(|id| self.fetchable(id) > 0 || room(id))
    }

    fn idle_ns(&self, now_ns: u64) -> Option<u64> {
        if let Some(left) = self.faults.presence().unplugged_for_ns() {
            return Some(left);
        }
        let waits = matches!(self.state, State::Starting(_)) || self.can_work();
        self.next_ns().filter(|_| waits).map(|due| due.saturating_sub(now_ns))
    }
}

impl Controller {
    /// Handles signals of registers and requests, resets first; returns true to stop.
    fn handle_signals(&mut self, mut signals: u32, inbox: &Inbox<ModelRequest<ControlCommand>>) -> bool {
        if signals & work::SUBSYSTEM_RESET != 0 {
            self.reset_subsystem();
            // Other signals are of earlier register writes, which the reset voids, or will be raised again.
            signals &= work::REQUEST;
        }
        let is_set = |bit: u32| signals & bit != 0;
        if is_set(work::RESET) {
            self.reset();
        }
        if is_set(work::ENABLE) && self.registers.configuration() & CC_EN != 0 {
            self.enable();
        }
        if is_set(work::SHUTDOWN) {
            self.shut_down();
        }
        if self.is_running() {
            if is_set(work::WRONG_DOORBELL) {
                self.raise_event(Event::WRONG_DOORBELL);
            }
            if is_set(work::WRONG_VALUE) {
                self.raise_event(Event::WRONG_VALUE);
            }
        }
        // Requests come last: the requester of a reset uses the device as soon as the reset is done, and a
        // signal of an earlier register write, handled later, would undo that.
        is_set(work::REQUEST) && inbox.serve(|request| self.handle_request(request))
    }

    fn handle_request(&mut self, request: ModelRequest<ControlCommand>) {
        match request {
            ModelRequest::Reset => self.power_on_reset(),
            ModelRequest::Replug => self.replug(),
            ModelRequest::Stop => {}
            ModelRequest::Command(ControlCommand::LosePower(survivors)) => {
                self.log.power_cycles += 1;
                self.log.unsafe_shutdowns += 1;
                for namespace in &mut self.namespaces {
                    // An error of the host's disk has no receiver at a loss of power.
                    let _ = namespace.disk.lose_power(survivors);
                }
                self.reset_function();
            }
            ModelRequest::Command(ControlCommand::SetTemperature(kelvin)) => self.set_temperature(kelvin),
            ModelRequest::Command(ControlCommand::NamespaceChanged(nsid)) => self.namespace_changed(nsid),
        }
    }

    /// Closes the DMA port, performs a function level reset, and ends a stuck CSTS.RDY.
    fn power_on_reset(&mut self) {
        self.port.set_open(false);
        self.reset_function();
        // After the reset: a driver that polls CSTS.RDY must not see the reset complete too early.
        self.faults.unstick();
    }

    fn replug(&mut self) {
        self.faults.clone().presence().replug(|| self.power_on_reset());
    }

    /// Returns true if commands can be executed.
    fn can_work(&self) -> bool {
        self.is_running() && self.port.is_open() && !self.faults.is_unplugged()
    }
}
