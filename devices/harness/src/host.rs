//! [`BenchHost`], the bench as a host of the model.

use std::sync::{Arc, Mutex, PoisonError};

use coppice_hardware::{Arena, OutsideArena};
use device_bus::{DmaError, Host};

use crate::interrupts::Interrupts;

/// Memory that the device must not access, and its accesses to such memory.
#[derive(Default)]
pub(crate) struct Forbidden {
    ranges: Vec<(u64, u64)>,
    accesses: Vec<(u64, u64)>,
}

/// The memory and the interrupts of a bench, for the model.
pub(crate) struct BenchHost {
    arena: Arc<Arena>,
    interrupts: Arc<Interrupts>,
    forbidden: Mutex<Forbidden>,
}

impl BenchHost {
    pub(crate) fn new(arena: Arc<Arena>, interrupts: Arc<Interrupts>) -> Self {
        Self { arena, interrupts, forbidden: Mutex::new(Forbidden::default()) }
    }

    pub(crate) fn forbidden<T>(&self, act: impl FnOnce(&mut Forbidden) -> T) -> T {
        act(&mut self.forbidden.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn check(&self, address: u64, len: usize) {
        let end = address.saturating_add(len as u64);
        self.forbidden(|forbidden| {
            let hit = |&&(start, stop): &&(u64, u64)| address < stop && start < end;
            if forbidden.ranges.iter().find(hit).is_some() {
                forbidden.accesses.push((address, end));
            }
        });
    }
}

impl Forbidden {
    pub(crate) fn add(&mut self, start: u64, end: u64) {
        self.ranges.push((start, end));
    }

    pub(crate) fn allow(&mut self, start: u64, end: u64) {
        self.ranges.retain(|&range| range != (start, end));
    }

    pub(crate) fn accesses(&self) -> Vec<(u64, u64)> {
        self.accesses.clone()
    }
}

fn unreachable(outside: OutsideArena) -> DmaError {
    DmaError::Unreachable { address: outside.address, bytes: outside.len as u64 }
}

impl Host for BenchHost {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.check(address, into.len());
        self.arena.read(address, into).map_err(unreachable)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.check(address, from.len());
        self.arena.write(address, from).map_err(unreachable)
    }

    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        self.check(address, 4);
        self.arena.write_flag(address, value).map_err(unreachable)
    }

    fn raise(&self, vector: u16) {
        self.interrupts.raise(vector);
    }
}
