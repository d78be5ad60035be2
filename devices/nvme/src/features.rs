//! [`Features`], the values of all features (Base, section 5.27.1; NVM, section 4.1.3).

use crate::config::NvmeConfig;
use crate::spec::WARNING_KELVIN;
use crate::status::{CommandResult, Status};

const ARBITRATION: u8 = 0x01;
const POWER_MANAGEMENT: u8 = 0x02;
const TEMPERATURE_THRESHOLD: u8 = 0x04;
const ERROR_RECOVERY: u8 = 0x05;
const VOLATILE_WRITE_CACHE: u8 = 0x06;
pub(crate) const NUMBER_OF_QUEUES: u8 = 0x07;
const INTERRUPT_COALESCING: u8 = 0x08;
const INTERRUPT_VECTOR: u8 = 0x09;
const WRITE_ATOMICITY: u8 = 0x0a;
const EVENT_CONFIGURATION: u8 = 0x0b;

/// Coalescing Disable, in the value for one vector.
const COALESCING_DISABLED: u32 = 1 << 16;
/// The unit of the coalescing time: 100 microseconds.
const COALESCING_UNIT_NS: u64 = 100_000;

/// The current values of all features. None is saveable, so a reset restores the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    arbitration: u32,
    power: u32,
    /// The thresholds of the composite temperature.
    over_kelvin: u16,
    under_kelvin: u16,
    error_recovery: u32,
    pub(crate) write_cache: bool,
    coalescing: u32,
    /// Coalescing Disable, by vector.
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

    /// Returns true if a temperature is beyond a threshold.
    pub(crate) fn is_alarming(&self, kelvin: u16) -> bool {
        kelvin >= self.over_kelvin || kelvin <= self.under_kelvin
    }

    /// The time of the interrupt for `count` completions, the first of which was written at `since_ns`.
    /// Interrupts of the admin queue are never coalesced (Base, section 5.27.1.6).
    pub(crate) fn signal_at(&self, cq: usize, vector: u16, count: u32, since_ns: u64) -> u64 {
        let threshold = (self.coalescing & 0xff) + 1;
        let time = u64::from(self.coalescing >> 8 & 0xff) * COALESCING_UNIT_NS;
        let exempt = cq == 0 || self.uncoalesced.get(usize::from(vector)).copied().unwrap_or(true);
        if exempt || count >= threshold { 0 } else { since_ns + time }
    }

    /// The value of `feature`; `dword11` is that of the command, which selects a sensor or vector.
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`] if there is no such feature, sensor or vector.
    pub(crate) fn get(&self, feature: u8, dword11: u32, config: &NvmeConfig) -> CommandResult {
        Ok(match feature {
            ARBITRATION => self.arbitration,
            POWER_MANAGEMENT => self.power,
            TEMPERATURE_THRESHOLD => match threshold(dword11)? {
                Threshold::Over => u32::from(self.over_kelvin),
                Threshold::Under => u32::from(self.under_kelvin),
            },
            ERROR_RECOVERY => self.error_recovery,
            VOLATILE_WRITE_CACHE if config.cache_bytes > 0 => u32::from(self.write_cache),
            // All queues are always available; both numbers count from 0.
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

    /// Sets `feature` to the value in dword 11. The number of queues is not set here.
    ///
    /// # Errors
    /// [`Status::INVALID_FIELD`] if there is no such feature, sensor, vector or power state.
    pub(crate) fn set(&mut self, feature: u8, value: u32, config: &NvmeConfig) -> CommandResult {
        match feature {
            ARBITRATION => self.arbitration = value,
            // There is one power state; workload hints are ignored.
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

/// Decodes TMPSEL and THSEL. There is one sensor, whose value is the composite temperature; 1111b selects
/// all.
fn threshold(dword11: u32) -> Result<Threshold, Status> {
    let sensor = dword11 >> 16 & 0xf;
    match (dword11 >> 20 & 3, sensor) {
        (0, 0 | 0xf) => Ok(Threshold::Over),
        (1, 0 | 0xf) => Ok(Threshold::Under),
        _ => Err(Status::INVALID_FIELD),
    }
}
