//! A model as a PCI function, for hosts that enumerate.

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
/// The command register switches bus mastering and register access, and a function level reset is one write that is done
/// when it returns. A host that needs none of this (it knows the device, and masks interrupts itself) attaches the
/// model directly and calls [`Model::set_bus_master`].
pub struct Function<M> {
    model: M,
    msix: Arc<MsixTable>,
    layout: MsixLayout,
    config: Mutex<Config>,
}

/// The configuration space, and which insertion of the device it belongs to.
struct Config {
    space: ConfigSpace,
    insertions: u64,
}

impl<M: Model> Function<M> {
    /// Plugs `model` into `host`. Bus mastering, memory space and MSI-X are off.
    ///
    /// # Errors
    /// [`AlreadyAttached`] if the model was plugged in elsewhere.
    pub fn new(model: M, host: Arc<dyn Host>) -> Result<Self, AlreadyAttached> {
        let identity = model.identity();
        let msix = Arc::new(MsixTable::new(host, identity.msix.vectors));
        model.attach(msix.clone())?;
        Ok(Self::of_parts(model, msix, &identity))
    }

    /// The same for a host that keeps the MSI-X table itself, as VFIO's clients do: [`Host::raise`] is called for each
    /// interrupt, whatever the table here says.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_vectors_of_host(model: M, host: Arc<dyn Host>) -> Result<Self, AlreadyAttached> {
        let identity = model.identity();
        model.attach(host.clone())?;
        let msix = Arc::new(MsixTable::new(host, identity.msix.vectors));
        Ok(Self::of_parts(model, msix, &identity))
    }

    fn of_parts(model: M, msix: Arc<MsixTable>, identity: &PciIdentity) -> Self {
        let config = Config { space: ConfigSpace::new(identity), insertions: model.insertions() };
        Self { model, msix, layout: identity.msix, config: Mutex::new(config) }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The MSI-X table, for hosts that write messages themselves.
    pub fn msix(&self) -> &MsixTable {
        &self.msix
    }

    /// Size of a BAR, the one for MSI-X included; 0 if there is none.
    pub fn bar_bytes(&self, bar: u8) -> u64 {
        if bar == self.layout.bar {
            return MsixTable::bar_bytes(self.layout.vectors);
        }
        let identity = self.model.identity();
        identity.bars.iter().find(|known| known.index == bar).map_or(0, |known| known.bytes)
    }

    /// Function level reset, as by the configuration space.
    pub fn reset(&self) {
        self.reset_with(&mut self.config());
    }

    /// Every access takes the lock of `config`, so none sees the function half reset.
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

    /// Writes configuration space; `size` as for [`config_read`](Self::config_read). What it switches is switched when
    /// this returns.
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
        // The lock is held meanwhile, so that two writers leave what the registers say.
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

    /// Reads from a BAR, as [`Model::read`]; ones while the command register keeps memory space off, and while the device is
    /// out of its slot.
    pub fn read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        if !self.decodes() {
            u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
        } else if bar == self.layout.bar {
            self.msix.read(offset, size)
        } else {
            self.model.read(bar, offset, size)
        }
    }

    /// Writes to a BAR, as [`Model::write`]; nowhere while [`read`](Self::read) returns ones.
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

    /// The configuration space. After another insertion it is as after power-on, and so is the MSI-X table: the model is, too,
    /// and a host must not find bus mastering on in the command register of a device that reaches no memory.
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

/// Whether a write sets Initiate Function Level Reset, which is not kept.
fn reset_bit(offset: usize, size: usize, value: u32) -> bool {
    let at = DEVICE_CONTROL + 1;
    (offset..offset + size.min(4)).contains(&at)
        && value >> (8 * (at - offset)) & u32::from(DEVICE_CONTROL_RESET >> 8) != 0
}

#[cfg(test)]
mod tests;
