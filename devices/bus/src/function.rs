//! [`Function`], a model as a PCI function, for hosts that enumerate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{
    COMMAND, COMMAND_BUS_MASTER, COMMAND_MEMORY, ConfigSpace, DEVICE_CONTROL, DEVICE_CONTROL_RESET,
    DEVICE_STATUS, DEVICE_STATUS_PENDING, MSIX_CONTROL, MSIX_ENABLE, MSIX_FUNCTION_MASK,
};
use crate::host::Host;
use crate::model::{AlreadyAttached, Model, MsixLayout, PciIdentity};
use crate::msix::MsixTable;

/// A model with a configuration space and an MSI-X table.
///
/// The command register switches bus mastering and register access. A function level reset is a single write,
/// and complete when the write returns. A host that needs none of this, because it knows the device and masks
/// interrupts itself, attaches the model directly and calls [`Model::set_bus_master`].
pub struct Function<M> {
    model: M,
    msix: Arc<MsixTable>,
    layout: MsixLayout,
    config: Mutex<Config>,
}

/// The configuration space, and the insertion of the device to which it belongs.
struct Config {
    space: ConfigSpace,
    insertions: u64,
}

impl<M: Model> Function<M> {
    /// Plugs `model` into `host`. Bus mastering, memory space and MSI-X are off.
    ///
    /// # Errors
    /// [`AlreadyAttached`] if the model has a host.
    pub fn new(model: M, host: Arc<dyn Host>) -> Result<Self, AlreadyAttached> {
        let identity = model.identity();
        let msix = Arc::new(MsixTable::new(host, identity.msix.vectors));
        model.attach(msix.clone())?;
        Ok(Self::from_parts(model, msix, &identity))
    }

    /// Like [`new`](Self::new), for a host that keeps the MSI-X table itself, as clients of VFIO do:
    /// [`Host::raise`] is called for each interrupt, without regard to the table of this function.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_host_vectors(model: M, host: Arc<dyn Host>) -> Result<Self, AlreadyAttached> {
        let identity = model.identity();
        model.attach(host.clone())?;
        let msix = Arc::new(MsixTable::new(host, identity.msix.vectors));
        Ok(Self::from_parts(model, msix, &identity))
    }

    fn from_parts(model: M, msix: Arc<MsixTable>, identity: &PciIdentity) -> Self {
        let config = Config { space: ConfigSpace::new(identity), insertions: model.insertions() };
        Self { model, msix, layout: identity.msix, config: Mutex::new(config) }
    }

    /// Returns the model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Returns the MSI-X table, for hosts that write messages themselves.
    pub fn msix(&self) -> &MsixTable {
        &self.msix
    }

    /// The size of a BAR in bytes, that of MSI-X included; 0 if the function has no such BAR.
    pub fn bar_bytes(&self, bar: u8) -> u64 {
        if bar == self.layout.bar {
            return MsixTable::bar_bytes(self.layout.vectors);
        }
        let identity = self.model.identity();
        identity.bars.iter().find(|known| known.index == bar).map_or(0, |known| known.bytes)
    }

    /// Performs a function level reset, like the write to the configuration space.
    pub fn reset(&self) {
        self.reset_with(&mut self.config());
    }

    /// Every access takes the lock of `config`, so none sees a partly reset function.
    fn reset_with(&self, config: &mut Config) {
        config.space.reset();
        self.model.reset();
        self.msix.reset();
    }

    /// Reads configuration space: `size` is 1, 2 or 4 bytes.
    pub fn config_read(&self, offset: usize, size: usize) -> u32 {
        if !self.model.is_present() {
            return u32::MAX >> (32 - 8 * size.clamp(1, 4));
        }
        let mut value = self.config().space.read(offset, size);
        if (offset..offset + size).contains(&DEVICE_STATUS) && self.model.transactions_pending() {
            value |= u32::from(DEVICE_STATUS_PENDING) << (8 * (DEVICE_STATUS - offset));
        }
        value
    }

    /// Writes configuration space; `size` is as for [`config_read`](Self::config_read). The effect is
    /// complete when this returns.
    pub fn config_write(&self, offset: usize, size: usize, value: u32) {
        if !self.model.is_present() {
            return;
        }
        let mut config = self.config();
        let resets = reset_bit(offset, size, value);
        config.space.write(offset, size, value);
        if resets {
            self.reset_with(&mut config);
        }
        // The lock is held during the effects, so that they agree with the registers after two concurrent
        // writes.
        let mastering = config.space.read16(COMMAND) & COMMAND_BUS_MASTER != 0;
        let msix = config.space.read16(MSIX_CONTROL);
        let touches = |register: usize| offset < register + 2 && register < offset + size;
        if touches(COMMAND) {
            self.model.set_bus_master(mastering);
        }
        if touches(MSIX_CONTROL) {
            self.msix.configure(msix & MSIX_ENABLE != 0, msix & MSIX_FUNCTION_MASK != 0);
        }
    }

    /// Reads from a BAR, like [`Model::read`]. Returns ones while memory space is off in the command
    /// register, and while the device is unplugged.
    pub fn read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        if !self.decodes() {
            u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
        } else if bar == self.layout.bar {
            self.msix.read(offset, size)
        } else {
            self.model.read(bar, offset, size)
        }
    }

    /// Writes to a BAR, like [`Model::write`]. Ignored in the states in which [`read`](Self::read) returns
    /// ones.
    pub fn write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        if !self.decodes() {
        } else if bar == self.layout.bar {
            self.msix.write(offset, size, value);
        } else {
            self.model.write(bar, offset, size, value);
        }
    }

    fn decodes(&self) -> bool {
        self.model.is_present() && self.config().space.read16(COMMAND) & COMMAND_MEMORY != 0
    }

    /// Locks the configuration space. After a new insertion it is as after power-on, and so is the MSI-X
    /// table: the model was reset too, and the command register of a device that reaches no memory must not
    /// show bus mastering on.
    fn config(&self) -> MutexGuard<'_, Config> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let insertions = self.model.insertions();
        if config.insertions != insertions {
            config.insertions = insertions;
            config.space.reset();
            self.msix.reset();
        }
        config
    }
}

/// Returns true if a write sets Initiate Function Level Reset, a bit that is not stored.
fn reset_bit(offset: usize, size: usize, value: u32) -> bool {
    let at = DEVICE_CONTROL + 1;
    (offset..offset + size.min(4)).contains(&at)
        && value >> (8 * (at - offset)) & u32::from(DEVICE_CONTROL_RESET >> 8) != 0
}

#[cfg(test)]
mod tests;
