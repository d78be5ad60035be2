//! Get Log Page (Base, section 5.16) and Asynchronous Event Request (Base, section 5.2).

use crate::command::Command;
use crate::controller::Controller;
use crate::logs::Event;
use crate::spec::log_page::{CHANGED_NAMESPACES, COMMANDS, ERRORS, FIRMWARE, HEALTH, SUPPORTED_PAGES};
use crate::spec::{ALL_NAMESPACES, FIRMWARE_REVISION, admin_opcode, io_opcode};
use crate::status::{CommandResult, Status};

impl Controller {
    /// Get Log Page.
    pub(crate) fn get_log_page(&mut self, command: &Command) -> CommandResult {
        let page = command.dword(10) as u8;
        let retain = command.dword(10) >> 15 & 1 != 0;
        let dwords = (u64::from(command.dword(11) & 0xffff) << 16 | u64::from(command.dword(10) >> 16)) + 1;
        let offset = command.long(12);
        // All pages are about the whole controller (LPA bit 0 is clear).
        if !matches!(command.nsid(), 0 | ALL_NAMESPACES) {
            return Err(Status::INVALID_FIELD);
        }
        let content = self.log_page(page).ok_or(Status::INVALID_LOG_PAGE)?;
        let rest = usize::try_from(offset).ok().filter(|offset| offset.is_multiple_of(4));
        let rest = rest.and_then(|offset| content.get(offset..)).ok_or(Status::INVALID_FIELD)?;
        if self.config.mdts != 0 && 4 * dwords > 4096 << self.config.mdts {
            return Err(Status::INVALID_FIELD);
        }
        // The data beyond the end of a page is undefined; the controller writes none.
        let bytes = (4 * dwords).min(rest.len() as u64) as usize;
        self.write_data(command, &rest[..bytes])?;
        if !retain {
            self.log.mark_read(page);
            self.report_events();
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
                content[8..16].copy_from_slice(&FIRMWARE_REVISION);
                content
            }
            CHANGED_NAMESPACES => self.log.changed_page(),
            COMMANDS => commands_page(),
            _ => return None,
        })
    }

    /// Asynchronous Event Request: completes at the next event.
    pub(crate) fn request_event(&mut self, command: &Command) -> Option<CommandResult> {
        if let Err(status) = self.log.add_request(command.id()) {
            return Some(Err(status));
        }
        self.report_events();
        None
    }

    /// Completes an event request as aborted, for Abort; returns true if it was outstanding.
    pub(crate) fn abort_event_request(&mut self, id: u16) -> bool {
        let was_outstanding = self.log.remove_request(id);
        if was_outstanding {
            self.complete_id(0, id, Err(Status::ABORT_REQUESTED), 0);
        }
        was_outstanding
    }

    /// Raises an event, if the driver has enabled it.
    pub(crate) fn raise_event(&mut self, event: Event) {
        self.log.add_event(event, self.features.events);
        self.report_events();
    }

    fn report_events(&mut self) {
        while let Some((id, event)) = self.log.next_report() {
            self.complete_id(0, id, Ok(event.dword0()), 0);
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

    /// Records and reports a changed namespace.
    pub(crate) fn namespace_changed(&mut self, nsid: u32) {
        self.log.add_changed(nsid);
        self.raise_event(Event::NAMESPACE_CHANGED);
    }
}

/// Commands Supported and Effects (Base, section 5.16.1.6): a dword per opcode, admin commands first.
fn commands_page() -> Vec<u8> {
    const SUPPORTED: u32 = 1;
    const CHANGES_BLOCKS: u32 = 1 << 1;
    let mut content = vec![0; 4096];
    let (dwords, _) = content.as_chunks_mut::<4>();
    for (first, commands) in [(0, &admin_opcode::SUPPORTED[..]), (256, &io_opcode::SUPPORTED)] {
        for &(opcode, changes) in commands {
            let changes = if changes { CHANGES_BLOCKS } else { 0 };
            dwords[first + usize::from(opcode)] = (SUPPORTED | changes).to_le_bytes();
        }
    }
    content
}
