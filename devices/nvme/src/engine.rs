//! The device's thread: looks for work, does it, and sleeps when there was none for a while.

use std::sync::Arc;
use std::time::Instant;

use device_bus::{Inbox, Rest};

use crate::cache::Survivors;
use crate::controller::{Controller, State};
use crate::logs::Event;
use crate::registers::attention;

/// Sleeping takes longer to wake from than this, so shorter waits are polled through.
const NAP_NS: u64 = 100_000;
/// How often the loop looks without asking for the time.
const LOOKS: u32 = 32;

/// What is asked of the device's thread by other means than registers. Each is answered when it is done.
pub(crate) enum Request {
    ResetFunction,
    LosePower(Survivors),
    Replug,
    SetTemperature(u16),
    NamespaceChanged(u32),
    Stop,
}

/// Runs until asked to stop.
pub(crate) fn run(mut controller: Controller, inbox: Arc<Inbox<Request>>) {
    controller.registers.attention.set_worker();
    let clock = Instant::now();
    let mut last_work_ns = 0;
    let mut looks = 0;
    loop {
        // With nothing scheduled the time is not needed for each look, and asking takes longer than looking.
        if looks == 0 || controller.next_ns().is_some() {
            controller.now_ns = clock.elapsed().as_nanos() as u64;
        }
        match controller.step(&inbox) {
            Step::Stop => return,
            Step::Worked => {
                last_work_ns = controller.now_ns;
                looks = 0;
                continue;
            }
            Step::Idle => {}
        }
        looks = (looks + 1) % LOOKS;
        std::hint::spin_loop();
        if looks != 0 {
            continue;
        }
        let now_ns = clock.elapsed().as_nanos() as u64;
        let is_due_soon = controller.nap_ns(now_ns).is_some_and(|nap| nap < NAP_NS);
        if now_ns - last_work_ns < controller.config.spin_ns || is_due_soon {
            continue;
        }
        controller.registers.attention.sleep(|| controller.rest(now_ns));
    }
}

/// What a step came to.
enum Step {
    Worked,
    Idle,
    Stop,
}

impl Controller {
    fn step(&mut self, inbox: &Inbox<Request>) -> Step {
        let calls = self.registers.attention.take();
        if calls != 0 {
            if self.heed(calls, inbox) {
                return Step::Stop;
            }
            return Step::Worked;
        }
        if self.faults.unplugged_for_ns() == Some(0) {
            self.replug();
            return Step::Worked;
        }
        self.become_ready();
        if !self.can_work() {
            return Step::Idle;
        }
        let mut worked = self.work_off();
        for id in 0..self.submission.len() {
            worked |= self.is_running() && self.fetch(id);
        }
        for id in 0..self.completion.len() {
            worked |= self.drain(id);
            self.signal(id);
        }
        if worked { Step::Worked } else { Step::Idle }
    }

    /// Does what registers and others ask for, resets first; whether to stop.
    fn heed(&mut self, mut calls: u32, inbox: &Inbox<Request>) -> bool {
        if calls & attention::SUBSYSTEM_RESET != 0 {
            self.reset_subsystem();
            // What else registers ask for was written before, or will be asked for once more.
            calls &= attention::REQUEST;
        }
        let called = |bit: u32| calls & bit != 0;
        if called(attention::RESET) {
            self.reset();
        }
        if called(attention::ENABLE) && self.registers.configuration() & crate::registers::CC_EN != 0 {
            self.enable();
        }
        if called(attention::SHUTDOWN) {
            self.shut_down();
        }
        if self.is_running() {
            if called(attention::WRONG_DOORBELL) {
                self.raise_event(Event::WRONG_DOORBELL);
            }
            if called(attention::WRONG_VALUE) {
                self.raise_event(Event::WRONG_VALUE);
            }
        }
        // Requests come last: the requester of a reset uses the device as soon as it is answered, and what registers asked for
        // before would undo that.
        if called(attention::REQUEST) {
            while let Some((request, done)) = inbox.pop() {
                let stop = matches!(request, Request::Stop);
                self.fulfil(request);
                // Whoever asked may have gone.
                let _ = done.send(());
                if stop {
                    return true;
                }
            }
        }
        false
    }

    fn fulfil(&mut self, request: Request) {
        match request {
            Request::ResetFunction => {
                self.port.set_open(false);
                self.reset_function();
                // After the reset: a driver that polls CSTS.RDY must not find the reset over before it is.
                self.faults.unstick();
            }
            Request::LosePower(survivors) => {
                self.log.power_cycles += 1;
                self.log.unsafe_shutdowns += 1;
                for namespace in &mut self.namespaces {
                    // The power is gone, and with it whoever could be told that the host's disk failed as well.
                    let _ = namespace.medium.lose(survivors);
                }
                self.reset_function();
            }
            Request::Replug => self.replug(),
            Request::SetTemperature(kelvin) => self.set_temperature(kelvin),
            Request::NamespaceChanged(nsid) => self.namespace_changed(nsid),
            Request::Stop => {}
        }
    }

    fn replug(&mut self) {
        self.faults.clone().replug(|| self.fulfil(Request::ResetFunction));
    }

    /// Whether there is somebody to work for.
    fn can_work(&self) -> bool {
        self.is_running() && self.port.is_open() && !self.faults.is_unplugged()
    }

    /// How long there is nothing to do.
    fn rest(&self, now_ns: u64) -> Rest {
        if self.has_work() {
            return Rest::Work;
        }
        self.nap_ns(now_ns).map_or(Rest::UntilCalled, Rest::For)
    }

    /// How long nothing is due; `None` if until the next call.
    fn nap_ns(&self, now_ns: u64) -> Option<u64> {
        if let Some(left) = self.faults.unplugged_for_ns() {
            return Some(left);
        }
        let waits = matches!(self.state, State::Starting(_)) || self.can_work();
        self.next_ns().filter(|_| waits).map(|due| due.saturating_sub(now_ns))
    }

    /// Whether a look would find something, other than by the passing of time.
    fn has_work(&self) -> bool {
        let room = |id: usize| {
            let head = self.registers.doorbell(2 * id + 1);
            self.completion[id]
                .as_ref()
                .is_some_and(|queue| !queue.waiting.is_empty() && queue.has_room(head))
        };
        self.can_work() && (0..self.submission.len()).any(|id| self.fetchable(id) > 0 || room(id))
    }
}
