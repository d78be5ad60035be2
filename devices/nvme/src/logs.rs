//! [`Log`], the content of log pages (Base, section 5.16) and the state of asynchronous events (Base, section
//! 5.2).

use std::collections::VecDeque;

use crate::spec::log_page::{CHANGED_NAMESPACES, ERRORS, HEALTH};
use crate::spec::{ERROR_ENTRIES, EVENT_REQUESTS};
use crate::status::Status;

const ERROR_BYTES: usize = 64;
/// Critical Warning: the temperature is beyond a threshold.
const WARNING_TEMPERATURE: u8 = 1 << 1;

/// The content of the log pages, with outstanding event requests and pending events.
pub(crate) struct Log {
    /// The latest entry is the first.
    errors: VecDeque<[u8; ERROR_BYTES]>,
    error_count: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) power_cycles: u64,
    pub(crate) unsafe_shutdowns: u64,
    pub(crate) kelvin: u16,
    /// The ids of namespaces that have changed since the page was read.
    changed: Vec<u32>,
    /// The command ids of outstanding event requests.
    requests: VecDeque<u16>,
    /// Events without a request.
    events: VecDeque<Event>,
    /// Bits of event types that were reported. They are masked until the log page of the type is read.
    masked_types: u8,
}

/// An asynchronous event: type in bits 2:0, information in bits 15:8, log page in bits 23:16 of completion
/// dword 0.
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

    /// Completion dword 0 of an event request.
    pub(crate) fn dword0(self) -> u32 {
        u32::from(self.kind) | u32::from(self.information) << 8 | u32::from(self.page) << 16
    }

    /// Returns true if Asynchronous Event Configuration enables the event; errors are always enabled.
    fn is_enabled_by(self, configuration: u32) -> bool {
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
            masked_types: 0,
        }
    }

    /// Drops requests and events at a reset, which aborts outstanding requests without a completion.
    pub(crate) fn drop_requests(&mut self) {
        self.requests.clear();
        self.events.clear();
        self.masked_types = 0;
    }

    /// Adds an entry about a failed command (Base, section 5.16.1.2).
    pub(crate) fn add_error(&mut self, sq: u16, id: u16, status: Status, nsid: u32) {
        self.error_count += 1;
        let mut entry = [0; ERROR_BYTES];
        entry[..8].copy_from_slice(&self.error_count.to_le_bytes());
        entry[8..10].copy_from_slice(&sq.to_le_bytes());
        entry[10..12].copy_from_slice(&id.to_le_bytes());
        entry[12..14].copy_from_slice(&status.field(false).to_le_bytes());
        // Parameter Error Location: not specified.
        entry[14..16].copy_from_slice(&0xffff_u16.to_le_bytes());
        entry[24..28].copy_from_slice(&nsid.to_le_bytes());
        self.errors.truncate(ERROR_ENTRIES - 1);
        self.errors.push_front(entry);
    }

    /// Error Information (Base, section 5.16.1.2).
    pub(crate) fn error_page(&self) -> Vec<u8> {
        let mut page = vec![0; ERROR_ENTRIES * ERROR_BYTES];
        for (slot, entry) in page.as_chunks_mut::<ERROR_BYTES>().0.iter_mut().zip(&self.errors) {
            *slot = *entry;
        }
        page
    }

    /// SMART / Health Information (Base, section 5.16.1.3). `is_alarming` states that a threshold is passed.
    pub(crate) fn health_page(&self, is_alarming: bool, uptime_ns: u64) -> Vec<u8> {
        let mut page = vec![0; 512];
        page[0] = if is_alarming { WARNING_TEMPERATURE } else { 0 };
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

    /// Changed Namespace List (Base, section 5.16.1.5).
    pub(crate) fn changed_page(&self) -> Vec<u8> {
        let mut page = vec![0; 4096];
        for (slot, nsid) in page.as_chunks_mut::<4>().0.iter_mut().zip(&self.changed) {
            *slot = nsid.to_le_bytes();
        }
        page
    }

    /// Records a changed namespace.
    pub(crate) fn add_changed(&mut self, nsid: u32) {
        if !self.changed.contains(&nsid) {
            self.changed.push(nsid);
            self.changed.sort_unstable();
        }
    }

    /// Marks a page as read: clears it if it is a list, and unmasks its event type (Base, section 5.2).
    pub(crate) fn mark_read(&mut self, page: u8) {
        let kind = match page {
            ERRORS => 0,
            HEALTH => 1,
            CHANGED_NAMESPACES => {
                self.changed.clear();
                2
            }
            _ => return,
        };
        self.masked_types &= !(1 << kind);
    }

    /// Adds an event request.
    ///
    /// # Errors
    /// [`Status::EVENT_REQUEST_LIMIT`] if [`EVENT_REQUESTS`] are outstanding.
    pub(crate) fn add_request(&mut self, id: u16) -> Result<(), Status> {
        if self.requests.len() == EVENT_REQUESTS {
            return Err(Status::EVENT_REQUEST_LIMIT);
        }
        self.requests.push_back(id);
        Ok(())
    }

    /// Removes an event request; returns true if it was outstanding.
    pub(crate) fn remove_request(&mut self, id: u16) -> bool {
        let index = self.requests.iter().position(|waiting| *waiting == id);
        index.and_then(|index| self.requests.remove(index)).is_some()
    }

    /// Adds an event, if `configuration` (Asynchronous Event Configuration) enables it. A second pending
    /// event of the same kind would carry no information, and is dropped.
    pub(crate) fn add_event(&mut self, event: Event, configuration: u32) {
        if event.is_enabled_by(configuration) && !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }

    /// Takes an unmasked event and the command id of a request for it, and masks the type of the event.
    pub(crate) fn next_report(&mut self) -> Option<(u16, Event)> {
        if self.requests.is_empty() {
            return None;
        }
        let next = self.events.iter().position(|event| self.masked_types >> event.kind & 1 == 0)?;
        let event = self.events.remove(next)?;
        self.masked_types |= 1 << event.kind;
        self.requests.pop_front().map(|id| (id, event))
    }
}
