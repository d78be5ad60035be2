//! The MSI-X table of a function (PCI Local Bus Specification 3.0, section 6.8.2), between a model and its
//! host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::{DmaError, Host};

/// Bytes of a table entry: message address, message data, vector control.
const ENTRY_BYTES: u64 = 16;
const CONTROL_OFFSET: u64 = 12;
/// Vector control: masked.
const MASKED: u32 = 1;

/// The message of a vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The address to which the function writes.
    pub address: u64,
    /// The word that it writes.
    pub data: u32,
}

/// A [`Host`] in front of another one that masks vectors and keeps the pending bits.
///
/// It calls [`Host::raise`] of the host behind it with the index of the vector, only while MSI-X is enabled
/// and the vector is not masked. A host that has to write the message itself gets it from
/// [`message`](Self::message).
pub struct MsixTable {
    host: Arc<dyn Host>,
    state: Mutex<State>,
}

struct State {
    enabled: bool,
    masked: bool,
    /// The table as software reads it.
    entries: Vec<[u32; 4]>,
    pending: Vec<bool>,
}

impl MsixTable {
    /// A table as after reset: all vectors masked, and MSI-X disabled.
    pub(crate) fn new(host: Arc<dyn Host>, vectors: u16) -> Self {
        let state = State {
            enabled: false,
            masked: false,
            entries: vec![[0, 0, 0, MASKED]; usize::from(vectors)],
            pending: vec![false; usize::from(vectors)],
        };
        Self { host, state: Mutex::new(state) }
    }

    /// Returns the message of vector `index`; `None` if there is no such vector.
    pub fn message(&self, index: u16) -> Option<Message> {
        let entry = *self.state().entries.get(usize::from(index))?;
        Some(Message { address: u64::from(entry[0]) | u64::from(entry[1]) << 32, data: entry[2] })
    }

    /// Takes over MSI-X Enable and Function Mask of Message Control.
    pub(crate) fn configure(&self, enabled: bool, masked: bool) {
        let mut state = self.state();
        state.enabled = enabled;
        state.masked = masked;
        self.send_pending(state);
    }

    pub(crate) fn reset(&self) {
        let mut state = self.state();
        state.enabled = false;
        state.masked = false;
        state.entries.fill([0, 0, 0, MASKED]);
        state.pending.fill(false);
    }

    /// The offset of the pending bits: after the table, on another page, so that a host may map one without
    /// the other.
    pub(crate) fn pending_offset(vectors: u16) -> u64 {
        (u64::from(vectors) * ENTRY_BYTES).next_multiple_of(4096)
    }

    /// The size of the BAR with table and pending bits.
    pub(crate) fn bar_bytes(vectors: u16) -> u64 {
        (Self::pending_offset(vectors) + u64::from(vectors).div_ceil(64) * 8).next_power_of_two()
    }

    pub(crate) fn read(&self, offset: u64, size: u8) -> u64 {
        let low = u64::from(self.read_u32(offset & !3));
        match size {
            8 => low | u64::from(self.read_u32(offset + 4)) << 32,
            4 => low,
            _ => 0,
        }
    }

    fn read_u32(&self, offset: u64) -> u32 {
        let state = self.state();
        let pending = Self::pending_offset(state.entries.len() as u16);
        if offset >= pending {
            let first = (offset - pending) as usize * 8;
            let bits = state.pending.iter().skip(first).take(32).enumerate();
            return bits.fold(0, |word, (bit, pending)| word | u32::from(*pending) << bit);
        }
        let entry = state.entries.get((offset / ENTRY_BYTES) as usize);
        entry.map_or(0, |entry| entry[(offset % ENTRY_BYTES / 4) as usize])
    }

    /// Writes whole words; others are not permitted (section 6.8.2). The pending bits are read-only.
    pub(crate) fn write(&self, offset: u64, size: u8, value: u64) {
        if size == 8 {
            self.write(offset, 4, value & 0xffff_ffff);
            self.write(offset + 4, 4, value >> 32);
        } else if size == 4 && offset.is_multiple_of(4) {
            let mut state = self.state();
            if let Some(entry) = state.entries.get_mut((offset / ENTRY_BYTES) as usize) {
                let writable = if offset % ENTRY_BYTES == CONTROL_OFFSET { MASKED } else { u32::MAX };
                entry[(offset % ENTRY_BYTES / 4) as usize] = value as u32 & writable;
            }
            self.send_pending(state);
        }
    }

    fn send_pending(&self, mut state: MutexGuard<'_, State>) {
        let mut ready = Vec::new();
        for index in 0..state.entries.len() {
            if state.pending[index] && state.is_unmasked(index) {
                state.pending[index] = false;
                ready.push(index as u16);
            }
        }
        // Released first: the host may access this table from `raise`.
        drop(state);
        ready.into_iter().for_each(|index| self.host.raise(index));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_unmasked(&self, index: usize) -> bool {
        self.enabled && !self.masked && self.entries[index][3] & MASKED == 0
    }
}

impl Host for MsixTable {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.host.read_memory(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.host.write_memory(address, from)
    }

    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        self.host.publish_u32(address, value)
    }

    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        self.host.publish_descriptors(address, descriptors)
    }

    fn prefetch(&self, address: u64, bytes: usize) {
        self.host.prefetch(address, bytes);
    }

    fn raise(&self, vector: u16) {
        let mut state = self.state();
        let index = usize::from(vector);
        if index >= state.entries.len() {
            return;
        }
        if state.is_unmasked(index) {
            drop(state);
            self.host.raise(vector);
        } else {
            // A masked vector stays pending. With MSI-X off the event is lost: there is no other kind of
            // interrupt.
            state.pending[index] = state.enabled;
        }
    }
}
