//! Get Features and Set Features (Base, sections 5.15 and 5.27).

use crate::command::Command;
use crate::controller::Controller;
use crate::features::{Features, NUMBER_OF_QUEUES};
use crate::spec::ALL_NAMESPACES;
use crate::status::{CommandResult, Status};

impl Controller {
    /// Get Features. SEL in bits 10:8 of dword 10 selects the current, default or saved value, or the
    /// capabilities.
    pub(crate) fn get_features(&mut self, command: &Command) -> CommandResult {
        let feature = command.dword(10) as u8;
        let defaults = Features::new(&self.config);
        let values = match command.dword(10) >> 8 & 7 {
            0 => &self.features,
            // No feature is saveable, so the saved value is the default.
            1 | 2 => &defaults,
            3 => {
                self.features.get(feature, 0, &self.config)?;
                // Changeable; neither saveable nor per namespace.
                return Ok(1 << 2);
            }
            _ => return Err(Status::INVALID_FIELD),
        };
        values.get(feature, command.dword(11), &self.config)
    }

    /// Set Features.
    pub(crate) fn set_features(&mut self, command: &Command) -> CommandResult {
        let feature = command.dword(10) as u8;
        if command.dword(10) >> 31 != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE);
        }
        if !matches!(command.nsid(), 0 | ALL_NAMESPACES) {
            return Err(Status::FEATURE_NOT_PER_NAMESPACE);
        }
        if feature == NUMBER_OF_QUEUES {
            return self.set_number_of_queues(command.dword(11));
        }
        let cached = self.features.write_cache;
        self.features.set(feature, command.dword(11), &self.config)?;
        if cached && !self.features.write_cache {
            // Once the cache is reported off, earlier writes must be durable.
            self.flush_all().map_err(|_| Status::WRITE_FAULT)?;
        }
        self.check_temperature();
        Ok(0)
    }

    /// Number of Queues (Base, section 5.27.1.5), which is refused once an I/O queue exists. The result is
    /// the number of queues of the device, which may be more or less than requested.
    fn set_number_of_queues(&self, requested: u32) -> CommandResult {
        if requested & 0xffff == 0xffff || requested >> 16 == 0xffff {
            return Err(Status::INVALID_FIELD);
        }
        let in_use = self.submission[1..].iter().any(Option::is_some)
            || self.completion[1..].iter().any(Option::is_some);
        if in_use {
            return Err(Status::COMMAND_SEQUENCE_ERROR);
        }
        self.features.get(NUMBER_OF_QUEUES, 0, &self.config)
    }
}
