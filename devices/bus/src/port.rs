//! A model's way to its host, which bus mastering opens and closes.

use std::sync::{Arc, OnceLock};

use crate::gate::Gate;
use crate::host::{DmaError, Host};
use crate::model::AlreadyAttached;

/// Everything that a model does to its host goes through its port.
///
/// Each access holds the gate for its own length only. So closing it waits for one copy, not for a command, and a
/// model may do anything slow between two accesses.
#[derive(Default)]
pub struct Port {
    host: OnceLock<Arc<dyn Host>>,
    /// Bus mastering; inside are accesses under way.
    gate: Gate,
}

impl Port {
    /// A port without a host, closed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects the host.
    ///
    /// # Errors
    /// [`AlreadyAttached`] if there is one.
    pub fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.host.set(host).map_err(|_| AlreadyAttached)
    }

    /// Opens or closes; having closed, waits for accesses under way.
    pub fn set_open(&self, open: bool) {
        self.gate.set_open(open);
    }

    /// Whether accesses are let through.
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Whether an access is under way at this moment.
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
    /// As [`read`](Self::read).
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.through(|host| host.write_memory(address, from))
    }

    /// Writes `from` and then, in order, the four bytes that make it valid, right behind it: see
    /// [`Host::publish_u32`].
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn publish(&self, address: u64, from: &[u8], last: u32) -> Result<(), DmaError> {
        self.through(|host| {
            host.write_memory(address, from)?;
            host.publish_u32(address + from.len() as u64, last)
        })
    }

    /// See [`Host::raise`]; a closed port sends nothing, and says so.
    ///
    /// # Errors
    /// [`DmaError::Disabled`]: the message is a memory write, too.
    pub fn raise(&self, vector: u16) -> Result<(), DmaError> {
        self.through(|host| {
            host.raise(vector);
            Ok(())
        })
    }

    /// Lets `work` access the host any number of times for one passage through the gate. Who closes the port waits for all of
    /// it, so it should do no more than a few dozen copies, and nothing slow.
    ///
    /// # Errors
    /// [`DmaError::Disabled`] if the port is closed; `work` was not called then.
    pub fn session<R>(&self, work: impl FnOnce(&dyn Host) -> R) -> Result<R, DmaError> {
        self.through(|host| Ok(work(host)))
    }

    fn through<R>(&self, access: impl FnOnce(&dyn Host) -> Result<R, DmaError>) -> Result<R, DmaError> {
        let passage = self.gate.pass();
        match self.host.get() {
            Some(host) if passage.is_some() => access(&**host),
            _ => Err(DmaError::Disabled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    #[test]
    fn a_port_is_closed_until_it_has_a_host_and_is_opened() {
        let port = Port::new();
        let mut byte = [0];
        port.set_open(true);
        assert_eq!(port.read(0x10000, &mut byte), Err(DmaError::Disabled));
        port.set_open(false);
        let bench = Arc::new(Bench::new(1 << 16, 1));
        port.attach(bench.clone()).expect("it has none");
        assert_eq!(port.attach(bench.clone()), Err(AlreadyAttached));
        assert_eq!(port.write(0x10000, &byte), Err(DmaError::Disabled));
        assert_eq!(port.raise(0), Err(DmaError::Disabled));
        port.set_open(true);
        assert_eq!(port.write(0x10000, &byte), Ok(()));
        assert_eq!(port.raise(0), Ok(()));
        assert_eq!(bench.interrupts(0), 1);
        let descriptors = [[1, 2], [3, 4]];
        assert_eq!(port.session(|host| host.publish_descriptors(0x10008, &descriptors)), Ok(Ok(())));
        let words: Vec<_> = (0..4).map(|word| bench.peek_u32(0x10008 + 8 * word)).collect();
        assert_eq!(words, [1, 2, 3, 4]);
    }
}
