//! [`IoQueue`]: a queue pair, and the instance of a command.

use alloc::sync::Arc;

use coppice_hardware::{DmaBuffer, DmaMemory, Interrupt};
use driver_polling::Patience;

use crate::admin::{Admin, check_answer};
use crate::command::{Entry, deallocated_range};
use crate::prp;
use crate::ring::{Answer, COMPLETION_BYTES, CompletionRing, SUBMISSION_BYTES, SubmissionRing};
use crate::shared::{SLICE_NS, Shared};
use crate::slots::Slots;
use crate::watch::Watch;
use crate::{Command, Fault, Namespace, NvmeError, Operation, Refused, Status, SubmitError};

/// Most blocks of a command without data: their number has 16 bits and counts from 0 (NVM 3.2.8).
const MOST_ZEROED: u32 = 1 << 16;
/// After so many polls that found something, with no sleep between them, interrupts are not wanted.
const AWAKE: u32 = 32;
/// How often a poll also looks for commands that take too long, so that one is found among many that don't.
const POLLS_PER_LOOK: u32 = 1024;
/// How long to sleep between two looks where there is no interrupt.
const NAP_NS: u64 = 50_000;

/// A command has ended.
#[derive(Debug)]
pub struct Completion<B> {
    /// As it was submitted with.
    pub token: u64,
    /// As it was submitted with.
    pub buffer: Option<B>,
    /// How.
    pub outcome: Result<(), CommandError>,
}

/// Why a command has not done what it was to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The controller says so.
    Status(Status),
    /// The controller was reset while it was in flight: what it was to do may have been done, in part, or not at all. It can
    /// be submitted again.
    Reset,
}

struct InFlight<B> {
    token: u64,
    buffer: Option<B>,
}

/// A submission queue and its completion queue, for one namespace, used from one thread at a time.
///
/// Commands in flight have no order among each other. [`Self::submit`] only writes them down; [`Self::ring`] tells the
/// controller of all of them. A buffer is kept until its command has ended, or the controller was stopped: if neither can be
/// had when the queue is dropped, its buffers are never let go of.
pub struct IoQueue<B: DmaBuffer> {
    shared: Arc<Shared>,
    submissions: SubmissionRing,
    completions: CompletionRing,
    slots: Slots<InFlight<B>>,
    /// A PRP list, or a range to deallocate, for each slot.
    lists: DmaMemory,
    list_bytes: usize,
    namespace: Namespace,
    id: u16,
    /// Most blocks of a command with data.
    most_blocks: u32,
    interrupt: Option<Interrupt>,
    masked: bool,
    awake: u32,
    polls: u32,
    patience: Patience,
    watch: Watch,
    fault: Option<Fault>,
    /// [`Shared::resets`] when the controller made this queue.
    generation: u32,
    entries: (u32, u32),
}

impl<B: DmaBuffer> IoQueue<B> {
    pub(crate) fn open(shared: &Arc<Shared>, namespace: &Namespace, depth: u16) -> Result<Self, NvmeError> {
        if depth == 0 {
            return Err(NvmeError::Depth { depth: 0 });
        }
        let port = &shared.port;
        let depth = depth.min(shared.info.max_depth);
        // One entry more than commands, because a full ring looks like an empty one. Twice as many answers, where the
        // controller can, so that they need not be acknowledged one by one.
        let submissions = u32::from(depth) + 1;
        let completions = (2 * submissions).min(port.capabilities.queue_entries());
        let list_bytes = prp::list_bytes(shared.info.max_transfer_bytes);
        let submission_memory = port.device.dma(submissions as usize * SUBMISSION_BYTES)?;
        let completion_memory = port.device.dma(completions as usize * COMPLETION_BYTES)?;
        let lists = port.device.dma(usize::from(depth) * list_bytes)?;

        let id = shared.admin().take_queue()?;
        let doorbells =
            (port.capabilities.submission_doorbell(id), port.capabilities.completion_doorbell(id));
        let slots = Slots::new(depth);
        let interrupt = port.interrupt(id);
        if let Some(interrupt) = &interrupt {
            interrupt.set_masked(true);
        }
        let mut queue = Self {
            shared: shared.clone(),
            submissions: SubmissionRing::new(submission_memory, submissions, doorbells.0),
            completions: CompletionRing::new(completion_memory, completions, depth.into(), doorbells.1),
            watch: Watch::new(slots.len(), port.options.command_timeout_ns),
            slots,
            lists,
            list_bytes,
            namespace: *namespace,
            id,
            most_blocks: (shared.info.max_transfer_bytes >> namespace.block_shift) as u32,
            interrupt,
            masked: true,
            awake: 0,
            polls: 0,
            patience: Patience::new(port.options.spin_ns),
            fault: None,
            // Until the controller has made it, it is one that was reset away.
            generation: shared.resets().wrapping_sub(1),
            entries: (submissions, completions),
        };
        queue.attach(&mut shared.admin())?;
        Ok(queue)
    }

    /// Has the controller make the queue.
    fn attach(&mut self, admin: &mut Admin) -> Result<(), NvmeError> {
        let port = &self.shared.port;
        let generation = self.shared.resets();
        self.submissions.restart();
        self.completions.restart();
        let vector = self.interrupt.as_ref().map(Interrupt::vector);
        let (submissions, completions) = self.entries;
        admin.create_completion_queue(port, self.id, self.completions.addr(), completions, vector)?;
        if let Err(error) = admin.create_submission_queue(port, self.id, self.submissions.addr(), submissions)
        {
            // Nothing answers to it, so that it can be taken away in any case; or the controller is at fault.
            let _ = admin.delete_completion_queue(port, self.id);
            return Err(error);
        }
        self.generation = generation;
        self.fault = None;
        Ok(())
    }

    /// Most commands in flight.
    pub fn depth(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Commands that were submitted and have not ended.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.slots.in_use()
    }

    /// How many more can be submitted.
    #[inline]
    pub fn room(&self) -> usize {
        self.slots.len() - self.slots.in_use()
    }

    /// The namespace that it is for.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Most blocks of one command of that kind.
    pub fn most_blocks(&self, operation: Operation) -> u32 {
        match operation {
            Operation::Read | Operation::Write | Operation::Compare => self.most_blocks,
            Operation::WriteZeroes => MOST_ZEROED,
            Operation::Deallocate | Operation::Flush => u32::MAX,
        }
    }

    /// Writes a command down for the next [`Self::ring`]. The buffer is the controller's until the command's
    /// [`Completion`], which has the token.
    ///
    /// # Errors
    /// With the buffer, when nothing was written down.
    #[inline]
    pub fn submit(&mut self, command: Command, buffer: Option<B>, token: u64) -> Result<(), Refused<B>> {
        match self.entry(&command, buffer.as_ref()) {
            Ok(entry) => {
                let id = self.slots.occupy(InFlight { token, buffer });
                self.submissions.push(&entry.with_id(id));
                Ok(())
            }
            Err(error) => Err(Refused { error, buffer }),
        }
    }

    /// Checks a command, and makes the entry for it that will be at the vacant slot.
    #[inline]
    fn entry(&mut self, command: &Command, buffer: Option<&B>) -> Result<Entry, SubmitError> {
        if let Some(fault) = self.fault {
            return Err(SubmitError::Faulted(fault));
        }
        let Some(slot) = self.slots.vacancy() else {
            return Err(SubmitError::QueueFull { depth: self.depth() });
        };
        let &Command { operation, lba, blocks, offset, force_unit_access } = command;
        let entry = Entry::new(operation.opcode(), self.namespace.id);
        if operation == Operation::Flush {
            return Ok(entry);
        }
        if blocks == 0 {
            return Err(SubmitError::NoBlocks);
        }
        let capacity = self.namespace.blocks;
        if u64::from(blocks) > capacity || lba > capacity - u64::from(blocks) {
            return Err(SubmitError::LbaOutOfRange { lba, blocks, capacity });
        }
        if !operation.has_data() {
            return self.entry_without_data(command, entry, slot);
        }
        if blocks > self.most_blocks {
            return Err(SubmitError::TooLarge { blocks, limit: self.most_blocks });
        }
        if operation == Operation::Compare && !self.shared.info.compare {
            return Err(SubmitError::NotSupported);
        }
        let range = buffer.ok_or(SubmitError::NoBuffer)?.dma_range(self.shared.port.device.dma_space());
        let (offset, len) = (offset as usize, (blocks as usize) << self.namespace.block_shift);
        if offset + len > range.len() {
            return Err(SubmitError::ShortBuffer { bytes: range.len(), needed: offset + len });
        }
        let address = range.addr(offset).to_bits();
        if address & 3 != 0 {
            return Err(SubmitError::Misaligned { address });
        }
        let (prp1, prp2) = prp::prps(&range, offset, len, &mut self.lists, slot * self.list_bytes);
        Ok(entry.with_prps(prp1, prp2).with_blocks(lba, blocks, force_unit_access))
    }

    fn entry_without_data(
        &mut self,
        command: &Command,
        entry: Entry,
        slot: usize,
    ) -> Result<Entry, SubmitError> {
        let &Command { operation, lba, blocks, force_unit_access, .. } = command;
        let info = &self.shared.info;
        let (supported, limit) = match operation {
            Operation::WriteZeroes => (info.write_zeroes, MOST_ZEROED),
            _ => (info.deallocate, u32::MAX),
        };
        if !supported {
            return Err(SubmitError::NotSupported);
        }
        if blocks > limit {
            return Err(SubmitError::TooLarge { blocks, limit });
        }
        if operation == Operation::WriteZeroes {
            return Ok(entry.with_blocks(lba, blocks, force_unit_access));
        }
        // One range; Attribute - Deallocate (NVM figures 41 and 42).
        let at = slot * self.list_bytes;
        self.lists.write(at, deallocated_range(lba, blocks));
        Ok(entry.with_prp1(self.lists.addr(at)).with_cdw10(0, 1 << 2))
    }

    /// Tells the controller of all commands that were submitted since the last time, by one store.
    #[inline]
    pub fn ring(&mut self) {
        // After a reset by somebody else there is no such doorbell.
        if self.shared.resets() == self.generation {
            self.submissions.ring(&self.shared.port.registers);
        }
    }

    /// Hands over commands that have ended, at most `most`, and answers how many did. Never waits.
    ///
    /// # Errors
    /// When the controller breaks the rules, or was reset. [`Self::reset`] is next; nothing else is done before.
    #[inline]
    pub fn poll(&mut self, most: usize, done: impl FnMut(Completion<B>)) -> Result<usize, Fault> {
        self.check()?;
        let count = self.drain(most, done)?;
        if count > 0 {
            self.completions.acknowledge(&self.shared.port.registers);
            self.awake += 1;
            if self.awake == AWAKE {
                self.set_masked(true);
            }
        }
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(POLLS_PER_LOOK) {
            self.tend(self.shared.port.device.now_ns())?;
        }
        Ok(count)
    }

    /// Hands over what has arrived.
    #[inline]
    fn drain(&mut self, most: usize, mut done: impl FnMut(Completion<B>)) -> Result<usize, Fault> {
        let mut count = 0;
        while count < most
            && let Some(answer) = self.completions.peek()
        {
            let InFlight { token, buffer } = self.end(answer)?;
            self.completions.advance();
            count += 1;
            let status = answer.status();
            let outcome = if status.is_success() { Ok(()) } else { Err(CommandError::Status(status)) };
            done(Completion { token, buffer, outcome });
        }
        Ok(count)
    }

    #[inline]
    fn check(&mut self) -> Result<(), Fault> {
        if self.fault.is_none() && self.shared.resets() != self.generation {
            self.fault = Some(Fault::WasReset);
        }
        self.fault.map_or(Ok(()), Err)
    }

    #[inline]
    fn end(&mut self, answer: Answer) -> Result<InFlight<B>, Fault> {
        let command_id = answer.command_id();
        let ended = check_answer(self.id, answer, &self.submissions, self.slots.in_use()).and_then(|()| {
            self.slots.release(command_id).ok_or(Fault::UnknownCommand { queue: self.id, command_id })
        });
        if let Err(fault) = ended {
            self.fault = Some(fault);
        }
        ended
    }

    #[cold]
    fn fail(&mut self, fault: Fault) -> Fault {
        *self.fault.insert(fault)
    }

    fn set_masked(&mut self, masked: bool) {
        if let Some(interrupt) = &self.interrupt
            && self.masked != masked
        {
            interrupt.set_masked(masked);
            self.masked = masked;
        }
    }

    /// Waits until a command has ended, which [`Self::poll`] then hands over, or the deadline. Answers whether one has.
    /// Without a command in flight it answers at once.
    ///
    /// It spins for about as long as commands have taken of late, but for no longer than [`crate::Options::spin_ns`], and
    /// then sleeps until the interrupt.
    ///
    /// # Errors
    /// As [`Self::poll`], and when a command was not answered in time and could not be aborted.
    pub fn wait(&mut self, deadline_ns: u64) -> Result<bool, Fault> {
        self.ring();
        self.check()?;
        if self.completions.has_new() {
            return Ok(true);
        }
        if self.slots.in_use() == 0 {
            return Ok(false);
        }
        let start = self.shared.port.device.now_ns();
        let spin_until = start.saturating_add(self.patience.spin_ns()).min(deadline_ns);
        let mut now = start;
        while now < spin_until {
            core::hint::spin_loop();
            now = self.shared.port.device.now_ns();
            if self.completions.has_new() {
                self.patience.record(now - start);
                return Ok(true);
            }
        }
        let arrived = self.sleep(deadline_ns)?;
        self.patience.record(self.shared.port.device.now_ns() - start);
        Ok(arrived)
    }

    fn sleep(&mut self, deadline_ns: u64) -> Result<bool, Fault> {
        self.completions.settle(&self.shared.port.registers);
        self.awake = 0;
        self.set_masked(false);
        loop {
            let now = self.shared.port.device.now_ns();
            if let Some(interrupt) = &self.interrupt {
                // A message before this belongs to what the look finds; one after it ends the wait.
                interrupt.forget();
            }
            if self.completions.has_new() {
                return Ok(true);
            }
            if now >= deadline_ns {
                return Ok(false);
            }
            self.tend(now)?;
            let until = deadline_ns.min(now + SLICE_NS);
            let woken = match &self.interrupt {
                Some(interrupt) => interrupt.wait(until),
                None => {
                    self.shared.port.device.sleep_until(until.min(now + NAP_NS));
                    false
                }
            };
            // Of a controller that is no more no message comes.
            if !woken && let Err(fault) = self.shared.port.alive() {
                return Err(self.fail(fault));
            }
        }
    }

    /// Looks after commands that take too long: aborts them, and finds the controller at fault if that does not end them.
    /// [`Self::wait`] does this, and so does [`Self::poll`] now and then.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn tend(&mut self, now_ns: u64) -> Result<(), Fault> {
        self.check()?;
        if self.slots.in_use() == 0 || now_ns < self.watch.next_look_ns() {
            return Ok(());
        }
        if let Err(fault) = self.shared.port.alive() {
            return Err(self.fail(fault));
        }
        let Some(overdue) = self.watch.look(&self.slots, now_ns) else { return Ok(()) };
        if self.completions.has_new() {
            // Perhaps that one: it was in time, and its user was not. The next look comes soon enough.
            return Ok(());
        }
        let lost = Fault::CommandLost { queue: self.id, command_id: overdue.id };
        if overdue.aborted {
            return Err(self.fail(lost));
        }
        // Not to be held across another's reset: the queue's own commands may be gone by then.
        let aborted = self.shared.admin().abort(&self.shared.port, self.id, overdue.id);
        match aborted {
            Ok(true) => {
                self.watch.aborted(overdue.id, now_ns);
                Ok(())
            }
            // It does not know it any more, or can't: unless the answer has arrived meanwhile, it never will.
            Ok(false) | Err(NvmeError::Admin { .. }) if self.completions.has_new() => Ok(()),
            Err(NvmeError::Fault(fault)) => Err(self.fail(fault)),
            _ => Err(self.fail(lost)),
        }
    }

    /// Resets the controller, unless it was for another queue's sake, hands over all commands, and has the queue made again.
    ///
    /// # Errors
    /// When the controller could not be stopped: then no command is handed over, because it may still write to its memory.
    /// Or, with all commands handed over, when it does not work again.
    pub fn reset(&mut self, mut done: impl FnMut(Completion<B>)) -> Result<(), NvmeError> {
        let reset = self.shared.reset(self.generation);
        if self.shared.resets() == self.generation {
            return reset;
        }
        // What had ended before the reset has, unless the controller has said what is false.
        if matches!(
            self.fault,
            None | Some(Fault::WasReset | Fault::CommandLost { .. } | Fault::Fatal { .. })
        ) {
            let _ = self.drain(usize::MAX, &mut done);
        }
        while let Some(InFlight { token, buffer }) = self.slots.release_any() {
            done(Completion { token, buffer, outcome: Err(CommandError::Reset) });
        }
        self.fault = Some(Fault::WasReset);
        self.generation = self.shared.resets().wrapping_sub(1);
        reset?;
        let shared = self.shared.clone();
        let mut admin = shared.admin();
        let id = self.namespace.id;
        let namespace = admin.identify_namespace(&shared.port, id, shared.info.max_transfer_bytes)?;
        if namespace != Ok(self.namespace) {
            return Err(self.fail(Fault::Changed { namespace: id }).into());
        }
        self.attach(&mut admin)
    }
}

impl<B: DmaBuffer> Drop for IoQueue<B> {
    fn drop(&mut self) {
        let shared = &*self.shared;
        let mut admin = shared.admin();
        let stopped = |queue: &Self| shared.resets() != queue.generation;
        // When the submission queue is deleted, its commands are over (Base 5.7); so they are after a reset.
        let mut idle = stopped(self)
            || (admin.delete_submission_queue(&shared.port, self.id).is_ok()
                && admin.delete_completion_queue(&shared.port, self.id).is_ok());
        if idle {
            admin.return_queue(self.id);
        }
        drop(admin);
        if !idle {
            let _ = shared.reset(self.generation);
            idle = stopped(self);
            if idle {
                shared.admin().return_queue(self.id);
            }
        }
        // Nobody can have that memory again before the device was stopped by somebody else.
        while !idle && let Some(command) = self.slots.release_any() {
            core::mem::forget(command);
        }
    }
}
