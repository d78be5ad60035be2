//! [`Admin`]: the admin queue, and the commands that go there (Base 5).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use coppice_hardware::{DmaAddr, DmaMemory};

use crate::command::Entry;
use crate::identify::{ControllerInfo, Fields, IDENTIFY_BYTES};
use crate::log_page::{CHANGED_NAMESPACES, ERROR_BYTES, ERRORS, HEALTH, HEALTH_BYTES};
use crate::prp::PAGE;
use crate::ring::{Answer, CompletionRing, SUBMISSION_BYTES, SubmissionRing};
use crate::shared::{Port, SLICE_NS};
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

/// Identify: a namespace, the controller, the identifiers of active namespaces (Base 5.17.1, CNS).
const CNS_NAMESPACE: u32 = 0x00;
const CNS_CONTROLLER: u32 = 0x01;
const CNS_ACTIVE_NAMESPACES: u32 = 0x02;

/// Feature identifiers (Base 5.27.1).
const FEATURE_QUEUES: u32 = 0x07;
const FEATURE_EVENTS: u32 = 0x0B;
/// Events on critical warnings (Base figure 308): all of them that the first versions have.
const EVENTS_HEALTH: u32 = 0x1F;
/// The notice that namespaces have changed.
const EVENTS_NAMESPACES: u32 = 1 << 8;

/// All namespaces.
const BROADCAST: u32 = u32::MAX;
/// Entries of the admin queues.
const ENTRIES: u32 = 32;
/// Asynchronous Event Requests that wait in the controller; more kinds of events there are not at one time.
const EVENT_REQUESTS: u16 = 4;
/// How long a command is waited for by looking at the queue before sleeping.
const SPIN_NS: u64 = 50_000;
/// How long to sleep between two looks where there is no interrupt.
const NAP_NS: u64 = 50_000;

/// What an identifier in flight is for.
enum Pending {
    /// The command that [`Admin::execute`] waits for.
    Command,
    /// An Asynchronous Event Request.
    Event,
}

/// The admin queue. One command at a time; beside it wait the requests for events.
pub(crate) struct Admin {
    submissions: SubmissionRing,
    completions: CompletionRing,
    slots: Slots<Pending>,
    /// Where the controller puts what it answers. It stays here also when a command is given up.
    scratch: DmaMemory,
    events: VecDeque<(Event, u8)>,
    /// How many requests for events there are to be, and how many there are.
    event_requests: (u16, u16),
    /// Which queue identifiers are in use; the first is 1.
    queues: Vec<bool>,
    fault: Option<Fault>,
}

impl Admin {
    pub(crate) fn new(port: &Port) -> Result<Self, NvmeError> {
        let submissions = port.device.dma(ENTRIES as usize * SUBMISSION_BYTES)?;
        let completions = port.device.dma(PAGE)?;
        let in_flight = ENTRIES - 1;
        let doorbells = (port.capabilities.submission_doorbell(0), port.capabilities.completion_doorbell(0));
        Ok(Self {
            submissions: SubmissionRing::new(submissions, ENTRIES, doorbells.0),
            completions: CompletionRing::new(completions, ENTRIES, in_flight, doorbells.1),
            slots: Slots::new(in_flight as u16),
            scratch: port.device.dma(IDENTIFY_BYTES)?,
            events: VecDeque::new(),
            event_requests: (0, 0),
            queues: Vec::new(),
            fault: None,
        })
    }

    pub(crate) fn entries(&self) -> u32 {
        ENTRIES
    }

    pub(crate) fn submissions(&self) -> DmaAddr {
        self.submissions.addr()
    }

    pub(crate) fn completions(&self) -> DmaAddr {
        self.completions.addr()
    }

    /// Forgets all commands: the controller is disabled.
    pub(crate) fn restart(&mut self) {
        while self.slots.release_any().is_some() {}
        self.submissions.restart();
        self.completions.restart();
        self.event_requests.1 = 0;
        self.fault = None;
    }

    /// No command reaches the controller any more, before a [`Self::restart`].
    pub(crate) fn give_up(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    pub(crate) fn works(&self) -> bool {
        self.fault.is_none()
    }

    /// Executes a command and answers double word 0 of its completion.
    fn execute(&mut self, port: &Port, entry: Entry) -> Result<u32, NvmeError> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        match self.try_execute(port, entry) {
            Ok((status, result)) if status.is_success() => Ok(result),
            Ok((status, _)) => Err(NvmeError::Admin { opcode: entry.opcode(), status }),
            Err(fault) => {
                self.fault = Some(fault);
                Err(fault.into())
            }
        }
    }

    fn try_execute(&mut self, port: &Port, entry: Entry) -> Result<(Status, u32), Fault> {
        // There is room: beside this command there are only requests for events.
        let id = self.slots.occupy(Pending::Command);
        self.submissions.push(&entry.with_id(id));
        self.submissions.ring(&port.registers);
        let start = port.device.now_ns();
        loop {
            if let Some(answer) = self.collect(port)? {
                return Ok(answer);
            }
            let now = port.device.now_ns();
            let waited = now - start;
            if waited < SPIN_NS {
                core::hint::spin_loop();
                continue;
            }
            port.alive()?;
            if waited >= port.options.admin_timeout_ns {
                return Err(Fault::CommandLost { queue: 0, command_id: id });
            }
            match port.admin_interrupt() {
                Some(interrupt) => {
                    // A message before this belongs to what the look finds; one after it ends the wait.
                    interrupt.forget();
                    if !self.completions.has_new() {
                        interrupt.wait((now + SLICE_NS).min(start + port.options.admin_timeout_ns));
                    }
                }
                None => port.device.sleep_until(now + NAP_NS),
            }
        }
    }

    /// Takes what has arrived, and answers how the command ended, if it has.
    fn collect(&mut self, port: &Port) -> Result<Option<(Status, u32)>, Fault> {
        let mut ended = None;
        while let Some(answer) = self.completions.peek() {
            let result = self.completions.result();
            match self.end(answer)? {
                Pending::Command => ended = Some((answer.status(), result)),
                Pending::Event => {
                    self.event_requests.1 -= 1;
                    if answer.status().is_success() {
                        self.events.push_back(Event::decode(result));
                    } else {
                        // More requests than it takes, or it wants none: do with those that it has.
                        self.event_requests.0 = self.event_requests.1;
                    }
                }
            }
            self.completions.advance();
        }
        self.completions.settle(&port.registers);
        Ok(ended)
    }

    fn end(&mut self, answer: Answer) -> Result<Pending, Fault> {
        check_answer(0, answer, &self.submissions, self.slots.in_use())?;
        let command_id = answer.command_id();
        self.slots.release(command_id).ok_or(Fault::UnknownCommand { queue: 0, command_id })
    }

    // What the controller is.

    fn identify(&mut self, port: &Port, what: u32, namespace: u32) -> Result<(), NvmeError> {
        let entry = Entry::new(IDENTIFY, namespace).with_prp1(self.scratch.addr(0)).with_cdw10(what, 0);
        self.execute(port, entry).map(|_| ())
    }

    fn answer<const N: usize>(&self) -> [u8; N] {
        let mut data = [0; N];
        self.scratch.read_bytes(0, &mut data);
        data
    }

    pub(crate) fn identify_controller(&mut self, port: &Port) -> Result<ControllerInfo, NvmeError> {
        self.identify(port, CNS_CONTROLLER, 0)?;
        let data = self.answer::<IDENTIFY_BYTES>();
        Ok(ControllerInfo::decode(&data, port.version(), port.options.max_transfer_bytes))
    }

    /// The identifiers of active namespaces after `last`, in order; at most 1024.
    pub(crate) fn active_namespaces(&mut self, port: &Port, last: u32) -> Result<Vec<u32>, NvmeError> {
        self.identify(port, CNS_ACTIVE_NAMESPACES, last)?;
        let data = self.answer::<IDENTIFY_BYTES>();
        let ids = (0..IDENTIFY_BYTES).step_by(4).map(|at| Fields(&data).u32(at));
        Ok(ids.take_while(|&id| id != 0).collect())
    }

    pub(crate) fn identify_namespace(
        &mut self,
        port: &Port,
        id: u32,
        limit_bytes: usize,
    ) -> Result<Result<Namespace, NamespaceRefusal>, NvmeError> {
        match self.identify(port, CNS_NAMESPACE, id) {
            Ok(()) => Ok(Namespace::decode(id, &self.answer::<IDENTIFY_BYTES>(), limit_bytes)),
            Err(NvmeError::Admin { status, .. }) => Ok(Err(NamespaceRefusal::NotIdentified { status })),
            Err(error) => Err(error),
        }
    }

    // Queues.

    /// Asks for `queues` I/O queues of each kind and answers how many there are (Base 5.27.1.5). Both counts begin at 0.
    pub(crate) fn set_queues(&mut self, port: &Port, queues: u16) -> Result<u16, NvmeError> {
        let wanted = u32::from(queues - 1);
        let entry = Entry::new(SET_FEATURES, 0).with_cdw10(FEATURE_QUEUES, wanted << 16 | wanted);
        let result = self.execute(port, entry)?;
        let granted = (result as u16).min((result >> 16) as u16).saturating_add(1);
        let queues = granted.min(queues);
        self.queues.resize(queues.into(), false);
        Ok(queues)
    }

    /// A queue identifier that nobody has.
    pub(crate) fn take_queue(&mut self) -> Result<u16, NvmeError> {
        let queues = self.queues.len() as u16;
        let index = self.queues.iter().position(|used| !used).ok_or(NvmeError::NoQueue { queues })?;
        self.queues[index] = true;
        Ok(index as u16 + 1)
    }

    pub(crate) fn return_queue(&mut self, queue: u16) {
        self.queues[usize::from(queue) - 1] = false;
    }

    /// Base 5.4: physically contiguous, with interrupts if there is a vector.
    pub(crate) fn create_completion_queue(
        &mut self,
        port: &Port,
        queue: u16,
        at: DmaAddr,
        entries: u32,
        vector: Option<u16>,
    ) -> Result<(), NvmeError> {
        let interrupts = vector.map_or(0, |vector| u32::from(vector) << 16 | 1 << 1);
        let entry = Entry::new(CREATE_COMPLETION_QUEUE, 0).with_prp1(at);
        self.execute(port, entry.with_cdw10((entries - 1) << 16 | u32::from(queue), interrupts | 1))
            .map(|_| ())
    }

    /// Base 5.5: physically contiguous; it answers to the completion queue of the same identifier.
    pub(crate) fn create_submission_queue(
        &mut self,
        port: &Port,
        queue: u16,
        at: DmaAddr,
        entries: u32,
    ) -> Result<(), NvmeError> {
        let queue = u32::from(queue);
        let entry = Entry::new(CREATE_SUBMISSION_QUEUE, 0).with_prp1(at);
        self.execute(port, entry.with_cdw10((entries - 1) << 16 | queue, queue << 16 | 1)).map(|_| ())
    }

    /// Base 5.7: when it succeeds, no command of that queue is in progress.
    pub(crate) fn delete_submission_queue(&mut self, port: &Port, queue: u16) -> Result<(), NvmeError> {
        let entry = Entry::new(DELETE_SUBMISSION_QUEUE, 0).with_cdw10(queue.into(), 0);
        self.execute(port, entry).map(|_| ())
    }

    /// Base 5.6; its submission queue has to be deleted first.
    pub(crate) fn delete_completion_queue(&mut self, port: &Port, queue: u16) -> Result<(), NvmeError> {
        let entry = Entry::new(DELETE_COMPLETION_QUEUE, 0).with_cdw10(queue.into(), 0);
        self.execute(port, entry).map(|_| ())
    }

    /// Asks for a command to be aborted (Base 5.1), and answers whether it was. If so, its completion says that, and is the
    /// end of it.
    pub(crate) fn abort(&mut self, port: &Port, queue: u16, command_id: u16) -> Result<bool, NvmeError> {
        let entry = Entry::new(ABORT, 0).with_cdw10(u32::from(command_id) << 16 | u32::from(queue), 0);
        Ok(self.execute(port, entry)? & 1 == 0)
    }

    // Events and log pages.

    /// Has the controller tell of what it can (Base 5.2 and 5.27.1.8).
    pub(crate) fn ask_for_events(&mut self, port: &Port, info: &ControllerInfo) -> Result<(), NvmeError> {
        let wanted = EVENTS_HEALTH | info.notices & EVENTS_NAMESPACES;
        match self.execute(port, Entry::new(SET_FEATURES, 0).with_cdw10(FEATURE_EVENTS, wanted)) {
            // What it sends if it can't be told is taken as well.
            Ok(_) | Err(NvmeError::Admin { .. }) => {}
            Err(error) => return Err(error),
        }
        self.event_requests.0 = info.event_limit.min(EVENT_REQUESTS);
        self.request_events(port);
        Ok(())
    }

    fn request_events(&mut self, port: &Port) {
        while self.event_requests.1 < self.event_requests.0 {
            let id = self.slots.occupy(Pending::Event);
            self.submissions.push(&Entry::new(ASYNCHRONOUS_EVENT_REQUEST, 0).with_id(id));
            self.event_requests.1 += 1;
        }
        self.submissions.ring(&port.registers);
    }

    /// The next event, if one has arrived. It is cleared by reading its log page, and asked for again.
    pub(crate) fn next_event(&mut self, port: &Port) -> Result<Option<Event>, NvmeError> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        if let Err(fault) = self.collect(port) {
            self.fault = Some(fault);
            return Err(fault.into());
        }
        let Some((event, page)) = self.events.pop_front() else { return Ok(None) };
        let bytes = match page {
            ERRORS => ERROR_BYTES,
            CHANGED_NAMESPACES => IDENTIFY_BYTES,
            // Any other page is cleared by its first bytes, too; 512 is what the health page has.
            _ => HEALTH_BYTES,
        };
        match self.read_log(port, page, bytes) {
            // Page 0 is of events that need no clearing.
            Ok(()) | Err(NvmeError::Admin { .. }) => {}
            Err(error) => return Err(error),
        }
        self.request_events(port);
        Ok(Some(event))
    }

    /// Reads the start of a log page to the scratch memory. The number of double words counts from 0 (Base 5.16).
    fn read_log(&mut self, port: &Port, page: u8, bytes: usize) -> Result<(), NvmeError> {
        let dwords = bytes as u32 / 4 - 1;
        let entry = Entry::new(GET_LOG_PAGE, BROADCAST).with_prp1(self.scratch.addr(0));
        self.execute(port, entry.with_cdw10(u32::from(page) | dwords << 16, 0)).map(|_| ())
    }

    pub(crate) fn health(&mut self, port: &Port) -> Result<Health, NvmeError> {
        self.read_log(port, HEALTH, HEALTH_BYTES)?;
        Ok(Health::decode(&self.answer()))
    }

    /// The newest entries of the error log; as many as one page holds.
    pub(crate) fn errors(&mut self, port: &Port, most: usize) -> Result<Vec<ErrorEntry>, NvmeError> {
        let most = most.clamp(1, IDENTIFY_BYTES / ERROR_BYTES);
        // Where the log has fewer, what lies behind it is not to be taken for entries.
        self.scratch.clear();
        self.read_log(port, ERRORS, most * ERROR_BYTES)?;
        let data = self.answer::<IDENTIFY_BYTES>();
        let entries = data.as_chunks::<ERROR_BYTES>().0.iter().take(most);
        Ok(entries.map_while(ErrorEntry::decode).collect())
    }
}

/// Holds what a completion says of its queue against what was submitted.
#[inline]
pub(crate) fn check_answer(
    queue: u16,
    answer: Answer,
    submissions: &SubmissionRing,
    in_flight: usize,
) -> Result<(), Fault> {
    if answer.queue() != queue {
        return Err(Fault::WrongQueue { queue, answered: answer.queue() });
    }
    // What was not fetched yet is in flight, and so is the command that this completes, which was.
    match submissions.not_fetched(answer.head()) {
        Some(not_fetched) if (not_fetched as usize) < in_flight => Ok(()),
        // Without a command in flight no head is right, but it is the identifier that is wrong.
        Some(0) => Ok(()),
        _ => Err(Fault::WrongHead { queue, head: answer.head(), tail: submissions.tail() as u16 }),
    }
}
