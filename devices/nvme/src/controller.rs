//! [`Controller`], the state of the controller and the path of a command: fetch, execution, completion,
//! interrupt.

use std::io;
use std::sync::Arc;

use device_bus::{DmaError, DmaPort};

use crate::command::Command;
use crate::config::NvmeConfig;
use crate::fault_injection::FaultInjector;
use crate::features::Features;
use crate::logs::Log;
use crate::namespace::Namespace;
use crate::prp::PrpWalk;
use crate::queue::{Completion, CompletionQueue, SubmissionQueue};
use crate::registers::{
    CC_EN, CC_SHN, CSTS_CFS, CSTS_NSSRO, CSTS_RDY, CSTS_SHST, CSTS_SHST_COMPLETE, MPS_MAX, Registers,
};
use crate::schedule::{Schedule, Work};
use crate::spec::COMMAND_BYTES;
use crate::status::{CommandResult, Status};
use crate::transfer::Transfer;

/// The number of commands fetched from a queue before the next queue: round robin (Base, section 3.4.4.1).
const BURST: u32 = 16;

/// The controller. It belongs to the device's thread.
pub(crate) struct Controller {
    pub(crate) config: NvmeConfig,
    pub(crate) registers: Arc<Registers>,
    pub(crate) port: Arc<DmaPort>,
    pub(crate) faults: Arc<FaultInjector>,
    pub(crate) namespaces: Vec<Namespace>,
    /// Indexed by queue id, like `completion`.
    pub(crate) submission: Vec<Option<SubmissionQueue>>,
    pub(crate) completion: Vec<Option<CompletionQueue>>,
    pub(crate) schedule: Schedule,
    pub(crate) features: Features,
    pub(crate) log: Log,
    pub(crate) prp: PrpWalk,
    /// CC.MPS in bytes.
    pub(crate) page_bytes: u64,
    pub(crate) scratch: Vec<u8>,
    pub(crate) state: State,
    /// The device's clock at the beginning of the current step.
    pub(crate) now_ns: u64,
}

/// The progress from CC.EN to CSTS.RDY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Off,
    /// Becomes ready at this time, in nanoseconds of the device's clock.
    Starting(u64),
    On,
    /// CSTS.CFS is set; only a reset ends this state.
    Fatal,
}

impl Controller {
    /// Begins to enable the controller (Base, section 3.5.1): creates queue 0 from AQA, ASQ and ACQ.
    pub(crate) fn enable(&mut self) {
        if self.state != State::Off {
            return;
        }
        let configuration = self.registers.configuration();
        let (sizes, submission, completion) = self.registers.admin_queues();
        let page_shift = configuration >> 7 & 0xf;
        let command_set = configuration >> 4 & 7;
        let arbitration = configuration >> 11 & 7;
        let entries = |field: u32| (field & 0xfff) + 1;
        let page_bytes = 4096 << page_shift;
        let is_valid = page_shift <= MPS_MAX
            && command_set == 0
            && arbitration == 0
            && entries(sizes) >= 2
            && entries(sizes >> 16) >= 2
            && submission.is_multiple_of(page_bytes)
            && completion.is_multiple_of(page_bytes);
        if !is_valid {
            // The specification leaves this case open. CFS tells a driver that waits for RDY at once.
            return self.fail();
        }
        self.page_bytes = page_bytes;
        self.submission[0] = Some(SubmissionQueue::new(submission, entries(sizes), 0));
        let mut queue = CompletionQueue::new(completion, entries(sizes >> 16), Some(0));
        queue.users = 1;
        self.completion[0] = Some(queue);
        self.state = State::Starting(self.now_ns + self.config.ready_ns);
        self.become_ready();
    }

    /// Sets CSTS.RDY once it is time, and connects the doorbells of queue 0.
    pub(crate) fn become_ready(&mut self) {
        if let State::Starting(at) = self.state
            && at <= self.now_ns
        {
            self.state = State::On;
            for queue in self.submission.iter().take(1).flatten() {
                self.registers.connect(0, queue.entries);
            }
            for queue in self.completion.iter().take(1).flatten() {
                self.registers.connect(1, queue.entries);
            }
            self.registers.announce(CSTS_RDY);
        }
    }

    /// Performs a controller level reset by CC.EN (Base, section 3.7.2): drops queues and commands, keeps
    /// AQA, ASQ and ACQ, and all stored data, including the cache.
    pub(crate) fn reset(&mut self) {
        self.clear();
        // Last: a driver that sees this proceeds.
        self.registers.change_status(CSTS_RDY | CSTS_CFS | CSTS_SHST, 0);
    }

    fn clear(&mut self) {
        self.registers.disconnect_all();
        self.submission.iter_mut().for_each(|queue| *queue = None);
        self.completion.iter_mut().for_each(|queue| *queue = None);
        self.schedule.clear();
        self.features = Features::new(&self.config);
        self.log.drop_requests();
        self.state = State::Off;
    }

    /// Performs a function level reset: the state after power-on, except for stored data.
    pub(crate) fn reset_function(&mut self) {
        self.clear();
        self.registers.reset(0);
    }

    /// Performs an NVM subsystem reset (Base, section 3.7.1).
    pub(crate) fn reset_subsystem(&mut self) {
        self.clear();
        self.registers.reset(CSTS_NSSRO);
    }

    /// Performs a shutdown by CC.SHN (Base, section 3.6.1).
    pub(crate) fn shut_down(&mut self) {
        if self.registers.configuration() & CC_SHN == 0 {
            return;
        }
        match self.flush_all() {
            Ok(()) => self.registers.change_status(CSTS_SHST, CSTS_SHST_COMPLETE),
            // A driver that saw the shutdown complete would lose data.
            Err(_) => self.fail(),
        }
    }

    /// Stops the controller until a reset: CSTS.CFS.
    pub(crate) fn fail(&mut self) {
        self.state = State::Fatal;
        self.registers.announce(CSTS_CFS);
    }

    pub(crate) fn flush_all(&mut self) -> io::Result<()> {
        // Flushes all namespaces, also after an error of one.
        let flushed: Vec<io::Result<()>> =
            self.namespaces.iter_mut().map(|namespace| namespace.disk.flush()).collect();
        flushed.into_iter().collect()
    }

    /// Returns true if CC.EN is set and the controller is ready.
    pub(crate) fn is_running(&self) -> bool {
        self.state == State::On && self.registers.configuration() & CC_EN != 0
    }

    /// The number of commands that can be fetched from queue `id` now.
    pub(crate) fn fetchable(&self, id: usize) -> u32 {
        let Some(queue) = &self.submission[id] else { return 0 };
        let tail = self.registers.doorbell(2 * id);
        if tail == queue.head {
            return 0;
        }
        // A command that cannot be completed is not begun. The commands under way at once fit the queue, so
        // that a driver cannot make the controller store commands without limit.
        let blocked =
            self.completion[usize::from(queue.cq)].as_ref().is_none_or(|queue| !queue.waiting.is_empty());
        if blocked {
            return 0;
        }
        let contiguous = if tail > queue.head { tail - queue.head } else { queue.entries - queue.head };
        contiguous.min(queue.entries - queue.outstanding.min(queue.entries)).min(BURST)
    }

    /// Fetches a burst from queue `id` and begins its commands; returns true if there was any.
    pub(crate) fn fetch(&mut self, id: usize) -> bool {
        let count = self.fetchable(id);
        let Some(queue) = self.submission[id].as_mut().filter(|_| count > 0) else { return false };
        let mut bytes = [0; COMMAND_BYTES * BURST as usize];
        let bytes = &mut bytes[..COMMAND_BYTES * count as usize];
        let address = queue.base + u64::from(queue.head) * COMMAND_BYTES as u64;
        match self.port.read(address, bytes) {
            Ok(()) => {}
            Err(DmaError::Disabled) => return false,
            Err(DmaError::Unreachable { .. }) => {
                self.fail();
                return true;
            }
        }
        queue.head = (queue.head + count) % queue.entries;
        queue.outstanding += count;
        for bytes in bytes.as_chunks::<COMMAND_BYTES>().0 {
            self.begin(Command::new(bytes, id as u16));
            // Ended by a fault, or by a command that deletes its queue.
            if !self.is_running() || self.submission[id].is_none() {
                break;
            }
        }
        true
    }

    fn begin(&mut self, command: Command) {
        let latency = if command.sq == 0 { 0 } else { self.latency_ns(&command) };
        let delay = latency + self.faults.delay_ns(command.sq);
        if self.faults.is_fatal(command.sq) {
            return self.fail();
        }
        if delay == 0 {
            self.execute(command);
        } else {
            self.schedule.push(self.now_ns + delay, Work::Execute(command));
        }
    }

    /// Performs scheduled work that is due; returns true if there was any.
    pub(crate) fn run_due(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..4 * BURST {
            match self.schedule.pop(self.now_ns) {
                Some(Work::Execute(command)) => self.execute(command),
                Some(Work::Post(completion)) => self.post(completion),
                None => break,
            }
            worked = true;
        }
        worked
    }

    fn execute(&mut self, command: Command) {
        let result =
            if command.sq == 0 { self.execute_admin(&command) } else { Some(self.execute_io(&command)) };
        if let Some(queue) = &mut self.submission[usize::from(command.sq)] {
            queue.outstanding = queue.outstanding.saturating_sub(1);
        }
        if let Some(result) = result {
            self.complete(&command, result);
        }
    }

    /// Completes a command, unless its queue was deleted.
    fn complete(&mut self, command: &Command, result: CommandResult) {
        self.complete_id(command.sq, command.id(), result, command.nsid());
    }

    /// Completes the command `id` of submission queue `sq`, unless the queue was deleted.
    pub(crate) fn complete_id(&mut self, sq: u16, id: u16, result: CommandResult, nsid: u32) {
        let Some(queue) = &self.submission[usize::from(sq)] else { return };
        let (status, dword0) = result.map_or_else(|status| (status, 0), |dword0| (Status::SUCCESS, dword0));
        let more = status.is_error();
        if more {
            self.log.add_error(sq, id, status, nsid);
        }
        let completion = Completion { sq, cq: queue.cq, id, status, more, dword0, false_head: None };
        for (delay, completion) in self.faults.completions(completion) {
            if delay == 0 {
                self.post(completion);
            } else {
                self.schedule.push(self.now_ns + delay, Work::Post(completion));
            }
        }
    }

    /// Writes a completion, or holds it back until its queue has room.
    fn post(&mut self, completion: Completion) {
        let cq = usize::from(completion.cq);
        if let Some(queue) = &mut self.completion[cq] {
            queue.waiting.push_back(completion);
            self.drain(cq);
        }
    }

    /// Writes completions of queue `cq` while it has room; returns true if any was written.
    pub(crate) fn drain(&mut self, cq: usize) -> bool {
        let Some(queue) = &mut self.completion[cq] else { return false };
        let mut wrote = false;
        while let Some(completion) = queue.waiting.front() {
            if !queue.has_room(self.registers.doorbell(2 * cq + 1)) {
                break;
            }
            let head =
                self.submission[usize::from(completion.sq)].as_ref().map_or(0, |queue| queue.head as u16);
            match self.port.publish(
                queue.next_address(),
                &completion.body(head),
                completion.last_dword(queue.phase),
            ) {
                Ok(()) => {}
                Err(DmaError::Disabled) => break,
                Err(DmaError::Unreachable { .. }) => {
                    self.fail();
                    return true;
                }
            }
            queue.advance();
            queue.waiting.pop_front();
            if queue.unsignalled == 0 {
                queue.unsignalled_since_ns = self.now_ns;
            }
            queue.unsignalled += 1;
            wrote = true;
        }
        wrote
    }

    /// Sends the interrupt of queue `cq` if it has new completions, is not masked, and coalescing does not
    /// delay it.
    pub(crate) fn signal(&mut self, cq: usize) {
        let Some(queue) = &mut self.completion[cq] else { return };
        let Some(vector) = queue.vector.filter(|_| queue.unsignalled > 0) else { return };
        if self.registers.is_masked(vector) {
            return;
        }
        let due = self.features.signal_at(cq, vector, queue.unsignalled, queue.unsignalled_since_ns);
        if due <= self.now_ns && self.port.raise(vector).is_ok() {
            queue.unsignalled = 0;
        }
    }

    /// The time of the next event that no register write causes.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        if let State::Starting(at) = self.state {
            return Some(at);
        }
        if !self.is_running() {
            return None;
        }
        let signals = self.completion.iter().enumerate().filter_map(|(cq, queue)| {
            let queue = queue.as_ref().filter(|queue| queue.unsignalled > 0)?;
            let vector = queue.vector.filter(|vector| !self.registers.is_masked(*vector))?;
            Some(self.features.signal_at(cq, vector, queue.unsignalled, queue.unsignalled_since_ns))
        });
        signals.chain(self.schedule.next_ns()).min()
    }

    /// Reads a command's data from the host.
    pub(crate) fn read_data(&mut self, command: &Command, into: &mut [u8]) -> Result<(), Status> {
        let segments = self.prp.walk(&self.port, command, into.len() as u64, self.page_bytes)?;
        Transfer::new(&self.port, segments).read_host(into)
    }

    /// Writes a command's data to the host.
    pub(crate) fn write_data(&mut self, command: &Command, from: &[u8]) -> Result<(), Status> {
        let segments = self.prp.walk(&self.port, command, from.len() as u64, self.page_bytes)?;
        Transfer::new(&self.port, segments).write_host(from)
    }
}
