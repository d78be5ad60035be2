//! Log pages (Base, section 5.16) and asynchronous events (Base, section 5.2).

use std::collections::VecDeque;

use crate::command::Command;
use crate::controller::Controller;
use crate::io::ALL_NAMESPACES;
use crate::status::{Answer, Status};

const SUPPORTED_PAGES: u8 = 0x00;
const ERRORS: u8 = 0x01;
const HEALTH: u8 = 0x02;
const FIRMWARE: u8 = 0x03;
const CHANGED_NAMESPACES: u8 = 0x04;
const COMMANDS: u8 = 0x05;

/// ELPE + 1: how many errors are remembered.
pub(crate) const ERROR_ENTRIES: usize = 16;
/// AERL + 1: how many requests for events may wait.
pub(crate) const EVENT_REQUESTS: usize = 4;

const ERROR_BYTES: usize = 64;
/// Bits 15:8 of a critical warning: the temperature is beyond a threshold.
const WARNING_TEMPERATURE: u8 = 1 << 1;

/// What happened, and who wants to know.
pub(crate) struct Log {
    /// The latest first.
    errors: VecDeque<[u8; ERROR_BYTES]>,
    error_count: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) power_cycles: u64,
    pub(crate) unsafe_shutdowns: u64,
    pub(crate) kelvin: u16,
    /// Namespaces that changed since the page was read.
    changed: Vec<u32>,
    /// Ids of commands that wait for an event.
    requests: VecDeque<u16>,
    /// Events that nobody was waiting for.
    events: VecDeque<Event>,
    /// Types that were reported, and whose log page was not read since: no more of them until it is.
    silenced: u8,
}

/// An asynchronous event: type in bits 2:0, information in bits 15:8, log page in bits 23:16 of completion dword 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    kind: u8,
    information: u8,
    page: u8,
}

impl Event {
    pub(crate) const WRONG_DOORBELL: Self = Self { kind: 0, information: 0, page: ERRORS };
    pub(crate) const WRONG_VALUE: Self = Self { kind: 0, information: 1, page: ERRORS };
    pub(crate) const TEMPERATURE: Self = Self { kind: 1, information: 1, page: HEALTH };
    pub(crate) const NAMESPACE_CHANGED: Self = Self { kind: 2, information: 0, page: CHANGED_NAMESPACES };

    fn dword0(self) -> u32 {
        u32::from(self.kind) | u32::from(self.information) << 8 | u32::from(self.page) << 16
    }

    /// The bit of Asynchronous Event Configuration that lets it through; errors need none.
    fn permitted_by(self, configuration: u32) -> bool {
        match self {
            Self::TEMPERATURE => configuration & u32::from(WARNING_TEMPERATURE) != 0,
            Self::NAMESPACE_CHANGED => configuration & 1 << 8 != 0,
            _ => true,
        }
    }
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            errors: VecDeque::with_capacity(ERROR_ENTRIES),
            error_count: 0,
            reads: 0,
            writes: 0,
            bytes_read: 0,
            bytes_written: 0,
            power_cycles: 1,
            unsafe_shutdowns: 0,
            // 27 degrees Celsius.
            kelvin: 300,
            changed: Vec::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            silenced: 0,
        }
    }

    /// A reset aborts waiting requests without an answer.
    pub(crate) fn forget_requests(&mut self) {
        self.requests.clear();
        self.events.clear();
        self.silenced = 0;
    }

    /// Remembers that a command failed (Base, section 5.16.1.2).
    pub(crate) fn add_error(&mut self, sq: u16, id: u16, status: Status, nsid: u32) {
        self.error_count += 1;
        let mut entry = [0; ERROR_BYTES];
        entry[..8].copy_from_slice(&self.error_count.to_le_bytes());
        entry[8..10].copy_from_slice(&sq.to_le_bytes());
        entry[10..12].copy_from_slice(&id.to_le_bytes());
        entry[12..14].copy_from_slice(&status.field(false).to_le_bytes());
        // Which parameter was wrong is not said.
        entry[14..16].copy_from_slice(&0xffff_u16.to_le_bytes());
        entry[24..28].copy_from_slice(&nsid.to_le_bytes());
        self.errors.truncate(ERROR_ENTRIES - 1);
        self.errors.push_front(entry);
    }

    fn error_page(&self) -> Vec<u8> {
        let mut page = vec![0; ERROR_ENTRIES * ERROR_BYTES];
        for (slot, entry) in page.as_chunks_mut::<ERROR_BYTES>().0.iter_mut().zip(&self.errors) {
            *slot = *entry;
        }
        page
    }

    /// Base, section 5.16.1.3. `alarming` says whether a threshold is passed.
    fn health_page(&self, alarming: bool, uptime_ns: u64) -> Vec<u8> {
        let mut page = vec![0; 512];
        page[0] = if alarming { WARNING_TEMPERATURE } else { 0 };
        page[1..3].copy_from_slice(&self.kelvin.to_le_bytes());
        // Available spare, its threshold, and percentage used.
        page[3] = 100;
        page[4] = 10;
        let mut put = |at: usize, value: u64| page[at..at + 8].copy_from_slice(&value.to_le_bytes());
        // Data units are thousands of 512 bytes, rounded up.
        put(32, self.bytes_read.div_ceil(512_000));
        put(48, self.bytes_written.div_ceil(512_000));
        put(64, self.reads);
        put(80, self.writes);
        put(112, self.power_cycles);
        put(128, uptime_ns / 3_600_000_000_000);
        put(144, self.unsafe_shutdowns);
        put(176, self.error_count);
        page
    }

    fn changed_page(&self) -> Vec<u8> {
        let mut page = vec![0; 4096];
        for (slot, nsid) in page.as_chunks_mut::<4>().0.iter_mut().zip(&self.changed) {
            *slot = nsid.to_le_bytes();
        }
        page
    }
}

impl Controller {
    /// Base, section 5.16.
    pub(crate) fn get_log_page(&mut self, command: &Command) -> Answer {
        let page = command.dword(10) as u8;
        let retain = command.dword(10) >> 15 & 1 != 0;
        let dwords = (u64::from(command.dword(11) & 0xffff) << 16 | u64::from(command.dword(10) >> 16)) + 1;
        let offset = command.long(12);
        // Logs are about the whole controller (LPA bit 0 is clear).
        if !matches!(command.nsid(), 0 | ALL_NAMESPACES) {
            return Err(Status::INVALID_FIELD);
        }
        let content = self.log_page(page).ok_or(Status::INVALID_LOG_PAGE)?;
        let rest = usize::try_from(offset).ok().filter(|offset| offset.is_multiple_of(4));
        let rest = rest.and_then(|offset| content.get(offset..)).ok_or(Status::INVALID_FIELD)?;
        if self.config.mdts != 0 && 4 * dwords > 4096 << self.config.mdts {
            return Err(Status::INVALID_FIELD);
        }
        // What is beyond a page's end is undefined; nothing is written there.
        let bytes = (4 * dwords).min(rest.len() as u64) as usize;
        self.give_data(command, &rest[..bytes])?;
        if !retain {
            self.log_was_read(page);
        }
        Ok(0)
    }

    fn log_page(&self, page: u8) -> Option<Vec<u8>> {
        Some(match page {
            SUPPORTED_PAGES => {
                let mut content = vec![0; 1024];
                for page in [SUPPORTED_PAGES, ERRORS, HEALTH, FIRMWARE, CHANGED_NAMESPACES, COMMANDS] {
                    content[4 * usize::from(page)] = 1;
                }
                content
            }
            ERRORS => self.log.error_page(),
            HEALTH => self.log.health_page(self.features.is_alarming(self.log.kelvin), self.now_ns),
            FIRMWARE => {
                let mut content = vec![0; 512];
                // Slot 1 is active.
                content[0] = 1;
                content[8..16].copy_from_slice(&crate::admin::FIRMWARE_REVISION);
                content
            }
            CHANGED_NAMESPACES => self.log.changed_page(),
            COMMANDS => self.commands_page(),
            _ => return None,
        })
    }

    /// Base, section 5.16.1.6: a dword per opcode, admin commands first.
    fn commands_page(&self) -> Vec<u8> {
        const SUPPORTED: u32 = 1;
        const CHANGES_BLOCKS: u32 = 1 << 1;
        let mut content = vec![0; 4096];
        let (dwords, _) = content.as_chunks_mut::<4>();
        for opcode in crate::admin::SUPPORTED {
            let changes = if opcode == crate::admin::FORMAT { CHANGES_BLOCKS } else { 0 };
            dwords[usize::from(opcode)] = (SUPPORTED | changes).to_le_bytes();
        }
        for (opcode, changes) in crate::io::SUPPORTED {
            let changes = if changes { CHANGES_BLOCKS } else { 0 };
            dwords[256 + usize::from(opcode)] = (SUPPORTED | changes).to_le_bytes();
        }
        content
    }

    /// Reading a page clears its events and lets new ones through (Base, section 5.2).
    fn log_was_read(&mut self, page: u8) {
        let kind = match page {
            ERRORS => 0,
            HEALTH => 1,
            CHANGED_NAMESPACES => {
                self.log.changed.clear();
                2
            }
            _ => return,
        };
        self.log.silenced &= !(1 << kind);
        self.report_events();
    }

    /// A request stays until there is an event.
    pub(crate) fn request_event(&mut self, command: &Command) -> Option<Answer> {
        if self.log.requests.len() == EVENT_REQUESTS {
            return Some(Err(Status::EVENT_REQUEST_LIMIT));
        }
        self.log.requests.push_back(command.id());
        self.report_events();
        None
    }

    /// Answers a waiting request by "aborted", for Abort; whether there was one.
    pub(crate) fn abort_event_request(&mut self, id: u16) -> bool {
        let Some(index) = self.log.requests.iter().position(|waiting| *waiting == id) else { return false };
        self.log.requests.remove(index);
        self.answer_id(0, id, Err(Status::ABORT_REQUESTED), 0);
        true
    }

    /// Something happened. Events beyond one of each kind say nothing new, and are not kept.
    pub(crate) fn raise_event(&mut self, event: Event) {
        if event.permitted_by(self.features.events) && !self.log.events.contains(&event) {
            self.log.events.push_back(event);
            self.report_events();
        }
    }

    fn report_events(&mut self) {
        while !self.log.requests.is_empty() {
            let silenced = self.log.silenced;
            let free = self.log.events.iter().position(|event| silenced >> event.kind & 1 == 0);
            let Some(event) = free.and_then(|index| self.log.events.remove(index)) else { break };
            let Some(id) = self.log.requests.pop_front() else { break };
            self.log.silenced |= 1 << event.kind;
            self.answer_id(0, id, Ok(event.dword0()), 0);
        }
    }

    pub(crate) fn set_temperature(&mut self, kelvin: u16) {
        self.log.kelvin = kelvin;
        self.check_temperature();
    }

    pub(crate) fn check_temperature(&mut self) {
        if self.features.is_alarming(self.log.kelvin) {
            self.raise_event(Event::TEMPERATURE);
        }
    }

    /// A namespace is not what it was.
    pub(crate) fn namespace_changed(&mut self, nsid: u32) {
        if !self.log.changed.contains(&nsid) {
            self.log.changed.push(nsid);
            self.log.changed.sort_unstable();
        }
        self.raise_event(Event::NAMESPACE_CHANGED);
    }
}
