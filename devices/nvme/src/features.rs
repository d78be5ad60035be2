//! Get Features and Set Features (Base, sections 5.15 and 5.27.1; NVM, section 4.1.3).

use crate::command::Command;
use crate::config::NvmeConfig;
use crate::controller::Controller;
use crate::status::{Answer, Status};

const ARBITRATION: u8 = 0x01;
const POWER_MANAGEMENT: u8 = 0x02;
const TEMPERATURE_THRESHOLD: u8 = 0x04;
const ERROR_RECOVERY: u8 = 0x05;
const VOLATILE_WRITE_CACHE: u8 = 0x06;
const NUMBER_OF_QUEUES: u8 = 0x07;
const INTERRUPT_COALESCING: u8 = 0x08;
const INTERRUPT_VECTOR: u8 = 0x09;
const WRITE_ATOMICITY: u8 = 0x0a;
const EVENT_CONFIGURATION: u8 = 0x0b;

/// Coalescing disabled, in the value for one vector.
const COALESCING_DISABLED: u32 = 1 << 16;
/// The coalescing time counts in 100 microseconds.
const COALESCING_UNIT_NS: u64 = 100_000;

/// Over temperature threshold at first, in Kelvin; also WCTEMP.
pub(crate) const WARNING_KELVIN: u16 = 343;

/// Current values. None can be saved, so a reset brings back the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    arbitration: u32,
    power: u32,
    /// Composite temperature: over and under.
    over_kelvin: u16,
    under_kelvin: u16,
    error_recovery: u32,
    pub(crate) write_cache: bool,
    coalescing: u32,
    /// By vector.
    uncoalesced: Vec<bool>,
    write_atomicity: u32,
    pub(crate) events: u32,
}

impl Features {
    pub(crate) fn new(config: &NvmeConfig) -> Self {
        Self {
            // No limit to the arbitration burst.
            arbitration: 7,
            power: 0,
            over_kelvin: WARNING_KELVIN,
            under_kelvin: 0,
            error_recovery: 0,
            write_cache: config.cache_bytes > 0,
            coalescing: 0,
            uncoalesced: vec![false; usize::from(config.queues) + 1],
            write_atomicity: 0,
            events: 0,
        }
    }

    /// Whether a temperature is outside of what was asked to be told of.
    pub(crate) fn is_alarming(&self, kelvin: u16) -> bool {
        kelvin >= self.over_kelvin || kelvin <= self.under_kelvin
    }

    /// When a queue with `count` unannounced completions, the first from `since_ns`, is to be announced. Admin
    /// completions are never held back (Base, section 5.27.1.6).
    pub(crate) fn signal_at(&self, cq: usize, vector: u16, count: u32, since_ns: u64) -> u64 {
        let threshold = (self.coalescing & 0xff) + 1;
        let time = u64::from(self.coalescing >> 8 & 0xff) * COALESCING_UNIT_NS;
        let exempt = cq == 0 || self.uncoalesced.get(usize::from(vector)).copied().unwrap_or(true);
        if exempt || count >= threshold { 0 } else { since_ns + time }
    }

    fn get(&self, feature: u8, dword11: u32, config: &NvmeConfig) -> Answer {
        Ok(match feature {
            ARBITRATION => self.arbitration,
            POWER_MANAGEMENT => self.power,
            TEMPERATURE_THRESHOLD => match threshold(dword11)? {
                Threshold::Over => u32::from(self.over_kelvin),
                Threshold::Under => u32::from(self.under_kelvin),
            },
            ERROR_RECOVERY => self.error_recovery,
            VOLATILE_WRITE_CACHE if config.cache_bytes > 0 => u32::from(self.write_cache),
            // All of them are always there for the taking; both numbers count from 0.
            NUMBER_OF_QUEUES => (u32::from(config.queues) - 1) * 0x0001_0001,
            INTERRUPT_COALESCING => self.coalescing,
            INTERRUPT_VECTOR => {
                let vector = dword11 & 0xffff;
                let disabled = self.uncoalesced.get(vector as usize).ok_or(Status::INVALID_FIELD)?;
                vector | if *disabled { COALESCING_DISABLED } else { 0 }
            }
            WRITE_ATOMICITY => self.write_atomicity,
            EVENT_CONFIGURATION => self.events,
            _ => return Err(Status::INVALID_FIELD),
        })
    }

    fn set(&mut self, feature: u8, value: u32, config: &NvmeConfig) -> Answer {
        match feature {
            ARBITRATION => self.arbitration = value,
            // There is one power state, and no workload hint means anything.
            POWER_MANAGEMENT if value & 0x1f != 0 => return Err(Status::INVALID_FIELD),
            POWER_MANAGEMENT => self.power = value & 0xff,
            TEMPERATURE_THRESHOLD => match threshold(value)? {
                Threshold::Over => self.over_kelvin = value as u16,
                Threshold::Under => self.under_kelvin = value as u16,
            },
            ERROR_RECOVERY => self.error_recovery = value & 0xffff,
            VOLATILE_WRITE_CACHE if config.cache_bytes > 0 => self.write_cache = value & 1 != 0,
            INTERRUPT_COALESCING => self.coalescing = value & 0xffff,
            INTERRUPT_VECTOR => {
                let vector = (value & 0xffff) as usize;
                let slot = self.uncoalesced.get_mut(vector).ok_or(Status::INVALID_FIELD)?;
                *slot = value & COALESCING_DISABLED != 0;
            }
            WRITE_ATOMICITY => self.write_atomicity = value & 1,
            EVENT_CONFIGURATION => self.events = value,
            _ => return Err(Status::INVALID_FIELD),
        }
        Ok(0)
    }
}

enum Threshold {
    Over,
    Under,
}

/// TMPSEL and THSEL: there is one sensor, whose value is the composite temperature, and 1111b means all.
fn threshold(dword11: u32) -> Result<Threshold, Status> {
    let sensor = dword11 >> 16 & 0xf;
    match (dword11 >> 20 & 3, sensor) {
        (0, 0 | 0xf) => Ok(Threshold::Over),
        (1, 0 | 0xf) => Ok(Threshold::Under),
        _ => Err(Status::INVALID_FIELD),
    }
}

impl Controller {
    /// SEL in bits 10:8 of dword 10: current, default, saved, or what can be done with it.
    pub(crate) fn get_features(&mut self, command: &Command) -> Answer {
        let feature = command.dword(10) as u8;
        let defaults = Features::new(&self.config);
        let values = match command.dword(10) >> 8 & 7 {
            0 => &self.features,
            // Nothing was saved, so the saved value is the default.
            1 | 2 => &defaults,
            3 => {
                self.features.get(feature, 0, &self.config)?;
                // Changeable, neither saveable nor per namespace.
                return Ok(1 << 2);
            }
            _ => return Err(Status::INVALID_FIELD),
        };
        values.get(feature, command.dword(11), &self.config)
    }

    pub(crate) fn set_features(&mut self, command: &Command) -> Answer {
        let feature = command.dword(10) as u8;
        if command.dword(10) >> 31 != 0 {
            return Err(Status::FEATURE_NOT_SAVEABLE);
        }
        if !matches!(command.nsid(), 0 | crate::io::ALL_NAMESPACES) {
            return Err(Status::FEATURE_NOT_PER_NAMESPACE);
        }
        if feature == NUMBER_OF_QUEUES {
            return self.set_number_of_queues(command.dword(11));
        }
        let cached = self.features.write_cache;
        self.features.set(feature, command.dword(11), &self.config)?;
        if cached && !self.features.write_cache {
            // What was written is safe once the cache is said to be off.
            self.flush_all().map_err(|_| Status::WRITE_FAULT)?;
        }
        self.check_temperature();
        Ok(0)
    }

    /// Base, section 5.27.1.5: once, before any I/O queue is made; the answer is what there is, which may be more or
    /// less than what was asked for.
    fn set_number_of_queues(&self, wanted: u32) -> Answer {
        if wanted & 0xffff == 0xffff || wanted >> 16 == 0xffff {
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
