//! [`IoQueue`]: a submission and completion queue pair, and the path of a command through it.

use alloc::sync::Arc;

use coppice_hardware::{DmaBuffer, DmaMemory, Interrupt};
use driver_polling::AdaptiveSpin;

use crate::admin::{Admin, check_completion};
use crate::command::{SubmissionEntry, deallocated_range};
use crate::prp;
use crate::register_block::MAX_SLEEP_NS;
use crate::ring::{COMPLETION_BYTES, CompletionEntry, CompletionRing, SUBMISSION_BYTES, SubmissionRing};
use crate::shared::Shared;
use crate::slots::Slots;
use crate::timeout_watch::TimeoutWatch;
use crate::{Command, Fault, Namespace, NvmeError, Operation, Refused, Status, SubmitError};

/// The largest number of blocks of Write Zeroes: a 0-based field of 16 bits (NVM 3.2.8).
const MAX_ZEROED_BLOCKS: u32 = 1 << 16;
/// The number of successful polls without a sleep between them after which the interrupt is masked.
const MASK_AFTER_POLLS: u32 = 32;
/// The number of polls between two checks for overdue commands, so that one lost command among many good ones
/// is found.
const POLLS_PER_CHECK: u32 = 1024;
/// The poll interval of a queue without an interrupt.
const POLL_INTERVAL_NS: u64 = 50_000;

/// A completed command.
#[derive(Debug)]
pub struct Completion<B> {
    /// The token passed to [`IoQueue::submit`].
    pub token: u64,
    /// The buffer passed to [`IoQueue::submit`].
    pub buffer: Option<B>,
    /// The result of the command.
    pub outcome: Result<(), CommandError>,
}

/// The reason why a command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The controller completed the command with this status.
    Status(Status),
    /// The controller was reset while the command was in flight: it may have been executed, in part, or not
    /// at all. It can be submitted again.
    Reset,
}

struct InFlight<B> {
    token: u64,
    buffer: Option<B>,
}

/// A submission queue and its completion queue, for one namespace, used by one thread at a time.
///
/// Commands in flight are unordered. [`Self::submit`] only writes the queue entry; [`Self::ring`] notifies
/// the controller of all new entries. A buffer is kept until its command has ended or the controller has been
/// stopped. If neither can be achieved when the queue is dropped, its buffers are leaked.
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
    /// The largest number of blocks of a command with data.
    most_blocks: u32,
    interrupt: Option<Interrupt>,
    masked: bool,
    busy_polls: u32,
    polls: u32,
    spin: AdaptiveSpin,
    watch: TimeoutWatch,
    fault: Option<Fault>,
    /// The value of [`Shared::resets`] when the controller created this queue. If it differs now, the queue
    /// is gone.
    generation: u32,
    entries: (u32, u32),
}

impl<B: DmaBuffer> IoQueue<B> {
    pub(crate) fn open(shared: &Arc<Shared>, namespace: &Namespace, depth: u16) -> Result<Self, NvmeError> {
        if depth == 0 {
            return Err(NvmeError::Depth { depth: 0 });
        }
        let regs = &shared.regs;
        let depth = depth.min(shared.info.max_depth);
        // One entry more than commands, because a full ring would look like an empty one. Twice as many
        // completion entries, if the controller can, so that not every completion needs a doorbell write.
        let submissions = u32::from(depth) + 1;
        let completions = (2 * submissions).min(regs.capabilities.queue_entries());
        let list_bytes = prp::list_bytes(shared.info.max_transfer_bytes);
        let submission_memory = regs.device.dma(submissions as usize * SUBMISSION_BYTES)?;
        let completion_memory = regs.device.dma(completions as usize * COMPLETION_BYTES)?;
        let lists = regs.device.dma(usize::from(depth) * list_bytes)?;

        let id = shared.admin().take_queue()?;
        let doorbells =
            (regs.capabilities.submission_doorbell(id), regs.capabilities.completion_doorbell(id));
        let slots = Slots::new(depth);
        let interrupt = regs.interrupt(id);
        if let Some(interrupt) = &interrupt {
            interrupt.set_masked(true);
        }
        let mut queue = Self {
            shared: shared.clone(),
            submissions: SubmissionRing::new(submission_memory, submissions, doorbells.0),
            completions: CompletionRing::new(completion_memory, completions, depth.into(), doorbells.1),
            watch: TimeoutWatch::new(slots.len(), regs.options.command_timeout_ns),
            slots,
            lists,
            list_bytes,
            namespace: *namespace,
            id,
            most_blocks: (shared.info.max_transfer_bytes >> namespace.block_shift) as u32,
            interrupt,
            masked: true,
            busy_polls: 0,
            polls: 0,
            spin: AdaptiveSpin::new(regs.options.spin_ns),
            fault: None,
            // Stale until `attach` creates the queue on the controller.
            generation: shared.resets().wrapping_sub(1),
            entries: (submissions, completions),
        };
        queue.attach(&mut shared.admin())?;
        Ok(queue)
    }

    /// Creates the queue on the controller.
    fn attach(&mut self, admin: &mut Admin) -> Result<(), NvmeError> {
        let regs = &self.shared.regs;
        let generation = self.shared.resets();
        self.submissions.restart();
        self.completions.restart();
        let vector = self.interrupt.as_ref().map(Interrupt::vector);
        let (submissions, completions) = self.entries;
        admin.create_completion_queue(regs, self.id, self.completions.addr(), completions, vector)?;
        if let Err(error) = admin.create_submission_queue(regs, self.id, self.submissions.addr(), submissions)
        {
            // The completion queue has no submission queue, so deleting it fails only if the controller is
            // faulty.
            let _ = admin.delete_completion_queue(regs, self.id);
            return Err(error);
        }
        self.generation = generation;
        self.fault = None;
        Ok(())
    }

    /// Returns the largest number of commands in flight.
    pub fn depth(&self) -> u16 {
        self.slots.len() as u16
    }

    /// Returns the number of commands that were submitted and have not ended.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.slots.in_use()
    }

    /// Returns the number of commands that can still be submitted.
    #[inline]
    pub fn room(&self) -> usize {
        self.slots.len() - self.slots.in_use()
    }

    /// Returns the queue's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the largest number of blocks of one command of this kind.
    pub fn most_blocks(&self, operation: Operation) -> u32 {
        match operation {
            Operation::Read | Operation::Write | Operation::Compare => self.most_blocks,
            Operation::WriteZeroes => MAX_ZEROED_BLOCKS,
            Operation::Deallocate | Operation::Flush => u32::MAX,
        }
    }

    /// Writes a command to the queue; the next [`Self::ring`] notifies the controller. The controller owns
    /// the buffer until the command's [`Completion`], which carries the token.
    ///
    /// # Errors
    /// When the command is invalid, the queue is full or the controller is faulty. The error returns the
    /// buffer.
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

    /// Validates a command and builds the entry for the next free slot.
    #[inline]
    fn entry(&mut self, command: &Command, buffer: Option<&B>) -> Result<SubmissionEntry, SubmitError> {
        if let Some(fault) = self.fault {
            return Err(SubmitError::Faulted(fault));
        }
        let Some(slot) = self.slots.vacancy() else {
            return Err(SubmitError::QueueFull { depth: self.depth() });
        };
        let &Command { operation, lba, blocks, offset, force_unit_access } = command;
        let entry = SubmissionEntry::new(operation.opcode(), self.namespace.id);
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
        let range = buffer.ok_or(SubmitError::NoBuffer)?.dma_range(self.shared.regs.device.dma_space());
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
        entry: SubmissionEntry,
        slot: usize,
    ) -> Result<SubmissionEntry, SubmitError> {
        let &Command { operation, lba, blocks, force_unit_access, .. } = command;
        let info = &self.shared.info;
        let (supported, limit) = match operation {
            Operation::WriteZeroes => (info.write_zeroes, MAX_ZEROED_BLOCKS),
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

    /// Notifies the controller of all commands submitted since the last call, with one doorbell write.
    #[inline]
    pub fn ring(&mut self) {
        // After a reset on behalf of another queue this doorbell does not exist.
        if self.shared.resets() == self.generation {
            self.submissions.ring(&self.shared.regs.window);
        }
    }

    /// Passes up to `most` completed commands to `done` and returns their number. Never blocks.
    ///
    /// # Errors
    /// When the controller violates the specification or was reset. The caller has to call [`Self::reset`];
    /// until then the queue does nothing.
    #[inline]
    pub fn poll(&mut self, most: usize, done: impl FnMut(Completion<B>)) -> Result<usize, Fault> {
        self.check()?;
        let count = self.drain(most, done)?;
        if count > 0 {
            self.completions.acknowledge_if_needed(&self.shared.regs.window);
            self.busy_polls += 1;
            if self.busy_polls == MASK_AFTER_POLLS {
                self.set_masked(true);
            }
        }
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(POLLS_PER_CHECK) {
            self.check_timeouts(self.shared.regs.device.now_ns())?;
        }
        Ok(count)
    }

    /// Passes new completions to `done`.
    #[inline]
    fn drain(&mut self, most: usize, mut done: impl FnMut(Completion<B>)) -> Result<usize, Fault> {
        let mut count = 0;
        while count < most
            && let Some(completion) = self.completions.peek()
        {
            let InFlight { token, buffer } = self.end(completion)?;
            self.completions.advance();
            count += 1;
            let status = completion.status();
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
    fn end(&mut self, completion: CompletionEntry) -> Result<InFlight<B>, Fault> {
        let command_id = completion.command_id();
        let ended =
            check_completion(self.id, completion, &self.submissions, self.slots.in_use()).and_then(|()| {
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

    /// Waits until a command has completed, which [`Self::poll`] then returns, or until the deadline. Returns
    /// true if a completion has arrived. Without a command in flight it returns at once.
    ///
    /// Spins for a time that follows recent completion times ([`crate::Options::spin_ns`] at most), then
    /// sleeps until the interrupt.
    ///
    /// # Errors
    /// When the controller violates the specification, was reset, or did not complete a command in time and
    /// could not abort it.
    pub fn wait(&mut self, deadline_ns: u64) -> Result<bool, Fault> {
        self.ring();
        self.check()?;
        if self.completions.has_new() {
            return Ok(true);
        }
        if self.slots.in_use() == 0 {
            return Ok(false);
        }
        let start = self.shared.regs.device.now_ns();
        let spin_until = start.saturating_add(self.spin.spin_ns()).min(deadline_ns);
        let mut now = start;
        while now < spin_until {
            core::hint::spin_loop();
            now = self.shared.regs.device.now_ns();
            if self.completions.has_new() {
                self.spin.record(now - start);
                return Ok(true);
            }
        }
        let arrived = self.sleep(deadline_ns)?;
        self.spin.record(self.shared.regs.device.now_ns() - start);
        Ok(arrived)
    }

    fn sleep(&mut self, deadline_ns: u64) -> Result<bool, Fault> {
        self.completions.acknowledge_all(&self.shared.regs.window);
        self.busy_polls = 0;
        self.set_masked(false);
        loop {
            let now = self.shared.regs.device.now_ns();
            if let Some(interrupt) = &self.interrupt {
                // An interrupt before this line belongs to a completion that the check below sees. A later
                // one ends the wait.
                interrupt.forget();
            }
            if self.completions.has_new() {
                return Ok(true);
            }
            if now >= deadline_ns {
                return Ok(false);
            }
            self.check_timeouts(now)?;
            let until = deadline_ns.min(now + MAX_SLEEP_NS);
            let woken = match &self.interrupt {
                Some(interrupt) => interrupt.wait(until),
                None => {
                    self.shared.regs.device.sleep_until(until.min(now + POLL_INTERVAL_NS));
                    false
                }
            };
            // A controller that is gone sends no interrupt.
            if !woken && let Err(fault) = self.shared.regs.check_alive() {
                return Err(self.fail(fault));
            }
        }
    }

    /// Checks for overdue commands and aborts them. If Abort does not end such a command, the controller is
    /// faulty. [`Self::wait`] calls this, and [`Self::poll`] does from time to time.
    ///
    /// # Errors
    /// When the controller was reset, is gone or in fatal status, or did not abort an overdue command.
    pub fn check_timeouts(&mut self, now_ns: u64) -> Result<(), Fault> {
        self.check()?;
        if self.slots.in_use() == 0 || now_ns < self.watch.next_scan_ns() {
            return Ok(());
        }
        if let Err(fault) = self.shared.regs.check_alive() {
            return Err(self.fail(fault));
        }
        let Some(overdue) = self.watch.scan(&self.slots, now_ns) else { return Ok(()) };
        if self.completions.has_new() {
            // This may be the overdue command: the controller was in time, the caller polled late. The next
            // check is due soon.
            return Ok(());
        }
        let lost = Fault::CommandLost { queue: self.id, command_id: overdue.id };
        if overdue.aborted {
            return Err(self.fail(lost));
        }
        // The admin queue may only be locked for this call: another queue's reset needs it, and after that
        // reset this queue's commands are gone.
        let aborted = self.shared.admin().abort(&self.shared.regs, self.id, overdue.id);
        match aborted {
            Ok(true) => {
                self.watch.record_abort(overdue.id, now_ns);
                Ok(())
            }
            // The controller no longer knows the command or cannot abort it. Unless its completion arrived in
            // between, it never will.
            Ok(false) | Err(NvmeError::Admin { .. }) if self.completions.has_new() => Ok(()),
            Err(NvmeError::Fault(fault)) => Err(self.fail(fault)),
            _ => Err(self.fail(lost)),
        }
    }

    /// Resets the controller, unless another queue already has, returns all commands, and creates the queue
    /// on the controller again.
    ///
    /// # Errors
    /// When the controller could not be stopped: no command is returned then, because the controller may
    /// still write to its memory. When the controller does not work after the reset: all commands have been
    /// returned.
    pub fn reset(&mut self, mut done: impl FnMut(Completion<B>)) -> Result<(), NvmeError> {
        let reset = self.shared.reset(self.generation);
        if self.shared.resets() == self.generation {
            return reset;
        }
        // Completions from before the reset count, unless the controller has posted false ones.
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
        let namespace = admin.identify_namespace(&shared.regs, id, shared.info.max_transfer_bytes)?;
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
        // Deleting the submission queue ends its commands (Base 5.7), and so does a reset.
        let mut idle = stopped(self)
            || (admin.delete_submission_queue(&shared.regs, self.id).is_ok()
                && admin.delete_completion_queue(&shared.regs, self.id).is_ok());
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
        // The memory must not be reused before the kernel has stopped the device.
        while !idle && let Some(command) = self.slots.release_any() {
            core::mem::forget(command);
        }
    }
}
