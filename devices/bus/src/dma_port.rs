//! [`DmaPort`], a model's path to its host.

use std::sync::{Arc, OnceLock};

use crate::dma_gate::DmaGate;
use crate::host::{DmaError, Host};
use crate::model::AlreadyAttached;

/// The path of all accesses of a model to its host, which bus mastering opens and closes.
///
/// Each access holds the gate only while it lasts. So closing the port waits for one copy, not for a command,
/// and a model may do slow work between two accesses.
#[derive(Default)]
pub struct DmaPort {
    host: OnceLock<Arc<dyn Host>>,
    gate: DmaGate,
}

impl DmaPort {
    /// A closed port without a host.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects the host.
    ///
    /// # Errors
    /// [`AlreadyAttached`] if the port has a host.
    pub fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.host.set(host).map_err(|_| AlreadyAttached)
    }

    /// Opens the port, or closes it and waits for the accesses under way.
    pub fn set_open(&self, open: bool) {
        self.gate.set_open(open);
    }

    /// Returns true if the port is open.
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Returns true if an access is under way.
    pub fn is_busy(&self) -> bool {
        self.gate.is_busy()
    }

    /// See [`Host::read_memory`].
    ///
    /// # Errors
    /// [`DmaError::Disabled`] if the port is closed, or the host's error.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.through(|host| host.read_memory(address, into))
    }

    /// See [`Host::write_memory`].
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.through(|host| host.write_memory(address, from))
    }

    /// Writes `from`, and then publishes the four bytes after it, which make it valid: see
    /// [`Host::publish_u32`].
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn publish(&self, address: u64, from: &[u8], last: u32) -> Result<(), DmaError> {
        self.through(|host| {
            host.write_memory(address, from)?;
            host.publish_u32(address + from.len() as u64, last)
        })
    }

    /// See [`Host::raise`].
    ///
    /// # Errors
    /// [`DmaError::Disabled`] if the port is closed, because an MSI-X message is a memory write; nothing was
    /// sent.
    pub fn raise(&self, vector: u16) -> Result<(), DmaError> {
        self.through(|host| {
            host.raise(vector);
            Ok(())
        })
    }

    /// Lets `work` access the host any number of times within one passage of the gate. Closing the port waits
    /// for all of `work`, so it should make no more than a few dozen copies, and do nothing slow.
    ///
    /// # Errors
    /// [`DmaError::Disabled`] if the port is closed; `work` was not called.
    pub fn session<R>(&self, work: impl FnOnce(&dyn Host) -> R) -> Result<R, DmaError> {
        self.through(|host| Ok(work(host)))
    }

    fn through<R>(&self, access: impl FnOnce(&dyn Host) -> Result<R, DmaError>) -> Result<R, DmaError> {
        let guard = self.gate.enter();
        match self.host.get() {
            Some(host) if guard.is_some() => access(&**host),
            _ => Err(DmaError::Disabled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::TestHost;

    #[test]
    fn a_port_is_closed_until_it_has_a_host_and_is_opened() {
        let port = DmaPort::new();
        let mut byte = [0];
        port.set_open(true);
        assert_eq!(port.read(0x10000, &mut byte), Err(DmaError::Disabled));
        port.set_open(false);
        let host = Arc::new(TestHost::new(1 << 16, 1));
        port.attach(host.clone()).expect("the port has no host");
        assert_eq!(port.attach(host.clone()), Err(AlreadyAttached));
        assert_eq!(port.write(0x10000, &byte), Err(DmaError::Disabled));
        assert_eq!(port.raise(0), Err(DmaError::Disabled));
        port.set_open(true);
        assert_eq!(port.write(0x10000, &byte), Ok(()));
        assert_eq!(port.raise(0), Ok(()));
        assert_eq!(host.interrupts(0), 1);
        let descriptors = [[1, 2], [3, 4]];
        assert_eq!(port.session(|host| host.publish_descriptors(0x10008, &descriptors)), Ok(Ok(())));
        let words: Vec<_> = (0..4).map(|word| host.peek_u32(0x10008 + 8 * word)).collect();
        assert_eq!(words, [1, 2, 3, 4]);
    }
}
