//! Faults between a device and its host: lost and spurious interrupts, and an unplugged device.

use std::sync::Arc;

use device_bus::{DmaError, Host, Presence};

use crate::fault_injection::{FaultInjector, Kind};

/// A [`Host`] in front of the real one that injects faults.
pub(crate) struct UnreliableHost {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) faults: Arc<FaultInjector>,
    pub(crate) vectors: u16,
}

impl UnreliableHost {
    fn reach(&self) -> Result<&dyn Host, DmaError> {
        if self.faults.is_unplugged() { Err(DmaError::Disabled) } else { Ok(&*self.host) }
    }
}

impl Host for UnreliableHost {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.reach()?.read_memory(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.reach()?.write_memory(address, from)
    }

    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        self.reach()?.publish_u32(address, value)
    }

    fn raise(&self, vector: u16) {
        let Ok(host) = self.reach() else { return };
        self.faults
            .interrupt((Kind::Lost, Kind::Spurious), self.vectors, vector, |vector| host.raise(vector));
    }
}

impl FaultInjector {
    /// Unplugs the device, for the duration of the rule.
    pub(crate) fn unplug(&self) {
        self.presence.unplug(self.unplug_ns());
    }

    /// The time for which the device is unplugged, in nanoseconds.
    pub(crate) fn unplug_ns(&self) -> u64 {
        self.duration_ns(Kind::Unplug)
    }

    /// The presence of the device in its slot.
    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }
}
