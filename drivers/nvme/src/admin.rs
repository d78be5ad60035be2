//! [`Admin`]: the admin queue and its commands (Base 5).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use coppice_hardware::{DmaAddr, DmaMemory};
use crossbeam_utils::Backoff;

use crate::command::SubmissionEntry;
use crate::identify::{ControllerInfo, Fields, IDENTIFY_BYTES};
use crate::log_page::{CHANGED_NAMESPACES, ERROR_BYTES, ERRORS, HEALTH, HEALTH_BYTES};
use crate::prp::PAGE;
use crate::register_block::{AdminQueues, MAX_SLEEP_NS, RegisterBlock};
use crate::ring::{CompletionEntry, CompletionRing, SUBMISSION_BYTES, SubmissionRing};
use crate::slots::Slots;
use crate::{ErrorEntry, Event, Fault, Health, Namespace, NamespaceRefusal, NvmeError, Status};

const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
const GET_LOG_PAGE: u8 = 0x02;
const DELETE_COMPLETION_QUEUE: u8 = 0x04;
const CREATE_COMPLETION_QUEUE: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const ABORT: u8 = 0x08;
const SET_FEATURES: u8 = 0x09;
const ASYNCHRONOUS_EVENT_REQUEST: u8 = 0x0C;

/// Identify data structures: a namespace, the controller, the list of active namespaces (Base 5.17.1, CNS).
const CNS_NAMESPACE: u32 = 0x00;
const CNS_CONTROLLER: u32 = 0x01;
const CNS_ACTIVE_NAMESPACES: u32 = 0x02;

/// Feature identifiers (Base 5.27.1).
const FEATURE_QUEUES: u32 = 0x07;
const FEATURE_EVENTS: u32 = 0x0B;
/// Events on critical warnings (Base figure 308): all that the first versions of the specification define.
const EVENTS_HEALTH: u32 = 0x1F;
/// The notice of changed namespaces.
const EVENTS_NAMESPACES: u32 = 1 << 8;

/// NSID for all namespaces.
const BROADCAST: u32 = u32::MAX;
/// Entries of the admin queues.
const ENTRIES: u32 = 32;
/// Asynchronous Event Requests that the controller holds. There are no more kinds of events at one time.
const EVENT_REQUESTS: u16 = 4;
/// The time that a command's completion is polled for before the driver sleeps.
const SPIN_NS: u64 = 50_000;
/// The poll interval of a controller without an interrupt.
const POLL_INTERVAL_NS: u64 = 50_000;

/// The purpose of a command identifier in flight.
enum Pending {
    /// The command that [`Admin::execute`] waits for.
    Command,
    /// An Asynchronous Event Request.
    Event,
}

/// The admin queue. It executes one command at a time, while Asynchronous Event Requests stay pending.
pub(crate) struct Admin {
    submissions: SubmissionRing,
    completions: CompletionRing,
    slots: Slots<Pending>,
    /// The buffer for the data that the controller returns. It also stays here when a command is given up.
    scratch: DmaMemory,
    events: VecDeque<(Event, u8)>,
    /// The numbers of Asynchronous Event Requests wanted and pending.
    event_requests: (u16, u16),
    /// The queue identifiers in use; the first element is identifier 1.
    queues: Vec<bool>,
    fault: Option<Fault>,
}

impl Admin {
    pub(crate) fn new(regs: &RegisterBlock) -> Result<Self, NvmeError> {
        let submissions = regs.device.dma(ENTRIES as usize * SUBMISSION_BYTES)?;
        let completions = regs.device.dma(PAGE)?;
        let in_flight = ENTRIES - 1;
        let doorbells = (regs.capabilities.submission_doorbell(0), regs.capabilities.completion_doorbell(0));
        Ok(Self {
            submissions: SubmissionRing::new(submissions, ENTRIES, doorbells.0),
            completions: CompletionRing::new(completions, ENTRIES, in_flight, doorbells.1),
            slots: Slots::new(in_flight as u16),
            scratch: regs.device.dma(IDENTIFY_BYTES)?,
            events: VecDeque::new(),
            event_requests: (0, 0),
            queues: Vec::new(),
            fault: None,
        })
    }

    /// Returns the sizes and addresses of the queues, for the controller's registers.
    pub(crate) fn queue_addresses(&self) -> AdminQueues {
        AdminQueues {
            entries: ENTRIES,
            submissions: self.submissions.addr(),
            completions: self.completions.addr(),
        }
    }

    /// Forgets all commands and empties both rings. The controller is disabled.
    pub(crate) fn restart(&mut self) {
        while self.slots.release_any().is_some() {}
        self.submissions.restart();
        self.completions.restart();
        self.event_requests.1 = 0;
        self.fault = None;
    }

    /// Sends no more commands to the controller before [`Self::restart`].
    pub(crate) fn set_fault(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    pub(crate) fn is_working(&self) -> bool {
        self.fault.is_none()
    }

    /// Executes a command and returns double word 0 of its completion.
    fn execute(&mut self, regs: &RegisterBlock, entry: SubmissionEntry) -> Result<u32, NvmeError> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        match self.try_execute(regs, entry) {
            Ok((status, result)) if status.is_success() => Ok(result),
            Ok((status, _)) => Err(NvmeError::Admin { opcode: entry.opcode(), status }),
            Err(fault) => {
                self.fault = Some(fault);
                Err(fault.into())
            }
        }
    }

    fn try_execute(&mut self, regs: &RegisterBlock, entry: SubmissionEntry) -> Result<(Status, u32), Fault> {
        // The slot is free: apart from this command, only event requests are in flight.
        let id = self.slots.occupy(Pending::Command);
        self.submissions.push(&entry.with_id(id));
        self.submissions.ring(&regs.window);
        let start = regs.device.now_ns();
        let backoff = Backoff::new();
        loop {
            if let Some(completion) = self.collect(regs)? {
                return Ok(completion);
            }
            let now = regs.device.now_ns();
            let waited = now - start;
            if waited < SPIN_NS {
                backoff.spin();
                continue;
            }
            regs.check_alive()?;
            if waited >= regs.options.admin_timeout_ns {
                return Err(Fault::CommandLost { queue: 0, command_id: id });
            }
            match regs.admin_interrupt() {
                Some(interrupt) => {
                    // An interrupt before this line belongs to a completion that the check below sees. A
                    // later one ends the wait.
                    interrupt.forget();
                    if !self.completions.has_new() {
                        interrupt.wait((now + MAX_SLEEP_NS).min(start + regs.options.admin_timeout_ns));
                    }
                }
                None => regs.device.sleep_until(now + POLL_INTERVAL_NS),
            }
        }
    }

    /// Processes new completions. Returns the status and result of the command if it has ended.
    fn collect(&mut self, regs: &RegisterBlock) -> Result<Option<(Status, u32)>, Fault> {
        let mut ended = None;
        while let Some(completion) = self.completions.peek() {
            let result = self.completions.result();
            match self.end(completion)? {
                Pending::Command => ended = Some((completion.status(), result)),
                Pending::Event => {
                    self.event_requests.1 -= 1;
                    if completion.status().is_success() {
                        self.events.push_back(Event::decode(result));
                    } else {
                        // The controller has a lower limit than it reported, or refuses event requests: use
                        // those that are pending.
                        self.event_requests.0 = self.event_requests.1;
                    }
                }
            }
            self.completions.advance();
        }
        self.completions.acknowledge_all(&regs.window);
        Ok(ended)
    }

    fn end(&mut self, completion: CompletionEntry) -> Result<Pending, Fault> {
        check_completion(0, completion, &self.submissions, self.slots.in_use())?;
        let command_id = completion.command_id();
        self.slots.release(command_id).ok_or(Fault::UnknownCommand { queue: 0, command_id })
    }

    // Identify.

    fn identify(&mut self, regs: &RegisterBlock, what: u32, namespace: u32) -> Result<(), NvmeError> {
        let entry =
            SubmissionEntry::new(IDENTIFY, namespace).with_prp1(self.scratch.addr(0)).with_cdw10(what, 0);
        self.execute(regs, entry).map(|_| ())
    }

    fn scratch_bytes<const N: usize>(&self) -> [u8; N] {
        let mut data = [0; N];
        self.scratch.read_bytes(0, &mut data);
        data
    }

    pub(crate) fn identify_controller(&mut self, regs: &RegisterBlock) -> Result<ControllerInfo, NvmeError> {
        self.identify(regs, CNS_CONTROLLER, 0)?;
        let data = self.scratch_bytes::<IDENTIFY_BYTES>();
        Ok(ControllerInfo::decode(&data, regs.version(), regs.options.max_transfer_bytes))
    }

    /// Returns up to 1024 identifiers of active namespaces after `last`, in ascending order.
    pub(crate) fn active_namespaces(
        &mut self,
        regs: &RegisterBlock,
        last: u32,
    ) -> Result<Vec<u32>, NvmeError> {
        self.identify(regs, CNS_ACTIVE_NAMESPACES, last)?;
        let data = self.scratch_bytes::<IDENTIFY_BYTES>();
        let ids = (0..IDENTIFY_BYTES).step_by(4).map(|at| Fields(&data).u32(at));
        Ok(ids.take_while(|&id| id != 0).collect())
    }

    pub(crate) fn identify_namespace(
        &mut self,
        regs: &RegisterBlock,
        id: u32,
        limit_bytes: usize,
    ) -> Result<Result<Namespace, NamespaceRefusal>, NvmeError> {
        match self.identify(regs, CNS_NAMESPACE, id) {
            Ok(()) => Ok(Namespace::decode(id, &self.scratch_bytes::<IDENTIFY_BYTES>(), limit_bytes)),
            Err(NvmeError::Admin { status, .. }) => Ok(Err(NamespaceRefusal::NotIdentified { status })),
            Err(error) => Err(error),
        }
    }

    // Queues.

    /// Requests `queues` I/O queues of each kind and returns the number granted (Base 5.27.1.5). The
    /// command's counts are 0-based.
    pub(crate) fn set_queues(&mut self, regs: &RegisterBlock, queues: u16) -> Result<u16, NvmeError> {
        let wanted = u32::from(queues - 1);
        let entry = SubmissionEntry::new(SET_FEATURES, 0).with_cdw10(FEATURE_QUEUES, wanted << 16 | wanted);
        let result = self.execute(regs, entry)?;
        let granted = (result as u16).min((result >> 16) as u16).saturating_add(1);
        let queues = granted.min(queues);
        self.queues.resize(queues.into(), false);
        Ok(queues)
    }

    /// Allocates a queue identifier.
    pub(crate) fn take_queue(&mut self) -> Result<u16, NvmeError> {
        let queues = self.queues.len() as u16;
        let index = self.queues.iter().position(|used| !used).ok_or(NvmeError::NoQueue { queues })?;
        self.queues[index] = true;
        Ok(index as u16 + 1)
    }

    pub(crate) fn return_queue(&mut self, queue: u16) {
        self.queues[usize::from(queue) - 1] = false;
    }

    /// Base 5.4: physically contiguous, with interrupts enabled if there is a vector.
    pub(crate) fn create_completion_queue(
        &mut self,
        regs: &RegisterBlock,
        queue: u16,
        at: DmaAddr,
        entries: u32,
        vector: Option<u16>,
    ) -> Result<(), NvmeError> {
        let interrupts = vector.map_or(0, |vector| u32::from(vector) << 16 | 1 << 1);
        let entry = SubmissionEntry::new(CREATE_COMPLETION_QUEUE, 0).with_prp1(at);
        self.execute(regs, entry.with_cdw10((entries - 1) << 16 | u32::from(queue), interrupts | 1))
            .map(|_| ())
    }

    /// Base 5.5: physically contiguous; completions go to the completion queue of the same identifier.
    pub(crate) fn create_submission_queue(
        &mut self,
        regs: &RegisterBlock,
        queue: u16,
        at: DmaAddr,
        entries: u32,
    ) -> Result<(), NvmeError> {
        let queue = u32::from(queue);
        let entry = SubmissionEntry::new(CREATE_SUBMISSION_QUEUE, 0).with_prp1(at);
        self.execute(regs, entry.with_cdw10((entries - 1) << 16 | queue, queue << 16 | 1)).map(|_| ())
    }

    /// Base 5.7: after success, no command of the queue is in progress.
    pub(crate) fn delete_submission_queue(
        &mut self,
        regs: &RegisterBlock,
        queue: u16,
    ) -> Result<(), NvmeError> {
        let entry = SubmissionEntry::new(DELETE_SUBMISSION_QUEUE, 0).with_cdw10(queue.into(), 0);
        self.execute(regs, entry).map(|_| ())
    }

    /// Base 5.6: the submission queue has to be deleted first.
    pub(crate) fn delete_completion_queue(
        &mut self,
        regs: &RegisterBlock,
        queue: u16,
    ) -> Result<(), NvmeError> {
        let entry = SubmissionEntry::new(DELETE_COMPLETION_QUEUE, 0).with_cdw10(queue.into(), 0);
        self.execute(regs, entry).map(|_| ())
    }

    /// Requests that a command be aborted (Base 5.1) and returns true if it was. The aborted command then
    /// completes with status Command Abort Requested.
    pub(crate) fn abort(
        &mut self,
        regs: &RegisterBlock,
        queue: u16,
        command_id: u16,
    ) -> Result<bool, NvmeError> {
        let entry =
            SubmissionEntry::new(ABORT, 0).with_cdw10(u32::from(command_id) << 16 | u32::from(queue), 0);
        Ok(self.execute(regs, entry)? & 1 == 0)
    }

    // Events and log pages.

    /// Enables the events that the controller supports (Base 5.2 and 5.27.1.8).
    pub(crate) fn enable_events(
        &mut self,
        regs: &RegisterBlock,
        info: &ControllerInfo,
    ) -> Result<(), NvmeError> {
        let wanted = EVENTS_HEALTH | info.notices & EVENTS_NAMESPACES;
        match self.execute(regs, SubmissionEntry::new(SET_FEATURES, 0).with_cdw10(FEATURE_EVENTS, wanted)) {
            // A controller that cannot be configured may still send events, which are handled too.
            Ok(_) | Err(NvmeError::Admin { .. }) => {}
            Err(error) => return Err(error),
        }
        self.event_requests.0 = info.event_limit.min(EVENT_REQUESTS);
        self.request_events(regs);
        Ok(())
    }

    fn request_events(&mut self, regs: &RegisterBlock) {
        while self.event_requests.1 < self.event_requests.0 {
            let id = self.slots.occupy(Pending::Event);
            self.submissions.push(&SubmissionEntry::new(ASYNCHRONOUS_EVENT_REQUEST, 0).with_id(id));
            self.event_requests.1 += 1;
        }
        self.submissions.ring(&regs.window);
    }

    /// Returns the next event, if one has arrived. Reading its log page clears the event; then a new request
    /// is sent.
    pub(crate) fn next_event(&mut self, regs: &RegisterBlock) -> Result<Option<Event>, NvmeError> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        if let Err(fault) = self.collect(regs) {
            self.fault = Some(fault);
            return Err(fault.into());
        }
        let Some((event, page)) = self.events.pop_front() else { return Ok(None) };
        let bytes = match page {
            ERRORS => ERROR_BYTES,
            CHANGED_NAMESPACES => IDENTIFY_BYTES,
            // Any other page is cleared by a read of its first bytes, too; 512 is the size of the health
            // page.
            _ => HEALTH_BYTES,
        };
        match self.read_log(regs, page, bytes) {
            // Log page 0 belongs to events that need no clearing.
            Ok(()) | Err(NvmeError::Admin { .. }) => {}
            Err(error) => return Err(error),
        }
        self.request_events(regs);
        Ok(Some(event))
    }

    /// Reads the start of a log page into the scratch buffer. The command's number of double words is 0-based
    /// (Base 5.16).
    fn read_log(&mut self, regs: &RegisterBlock, page: u8, bytes: usize) -> Result<(), NvmeError> {
        let dwords = bytes as u32 / 4 - 1;
        let entry = SubmissionEntry::new(GET_LOG_PAGE, BROADCAST).with_prp1(self.scratch.addr(0));
        self.execute(regs, entry.with_cdw10(u32::from(page) | dwords << 16, 0)).map(|_| ())
    }

    pub(crate) fn health(&mut self, regs: &RegisterBlock) -> Result<Health, NvmeError> {
        self.read_log(regs, HEALTH, HEALTH_BYTES)?;
        Ok(Health::decode(&self.scratch_bytes()))
    }

    /// Returns the newest entries of the error log, at most one page of them.
    pub(crate) fn errors(&mut self, regs: &RegisterBlock, most: usize) -> Result<Vec<ErrorEntry>, NvmeError> {
        let most = most.clamp(1, IDENTIFY_BYTES / ERROR_BYTES);
        // If the log has fewer entries, stale data behind it must not be decoded as entries.
        self.scratch.clear();
        self.read_log(regs, ERRORS, most * ERROR_BYTES)?;
        let data = self.scratch_bytes::<IDENTIFY_BYTES>();
        let entries = data.as_chunks::<ERROR_BYTES>().0.iter().take(most);
        Ok(entries.map_while(ErrorEntry::decode).collect())
    }
}

/// Checks the queue identifier and head of a completion against the submitted commands.
#[inline]
pub(crate) fn check_completion(
    queue: u16,
    completion: CompletionEntry,
    submissions: &SubmissionRing,
    in_flight: usize,
) -> Result<(), Fault> {
    if completion.queue() != queue {
        return Err(Fault::WrongQueue { queue, reported: completion.queue() });
    }
    // Commands not yet fetched are in flight, and so is the completed one, which was fetched.
    match submissions.not_fetched(completion.head()) {
        Some(not_fetched) if (not_fetched as usize) < in_flight => Ok(()),
        // Without a command in flight every head is wrong, but the fault is the unknown command identifier.
        Some(0) => Ok(()),
        _ => Err(Fault::WrongHead { queue, head: completion.head(), tail: submissions.tail() as u16 }),
    }
}
