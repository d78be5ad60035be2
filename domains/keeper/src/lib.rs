//! Keeps what it is lent, and calls that ask for it, until it is told to let go.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use coppice_interfaces::{Counter, Handle, Keeper, Message, RpcError, RpcResult};
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::{Event, Mutex};
use coppice_runtime::{Domain, Environment};

/// The domain.
pub struct KeeperDomain;

impl Domain for KeeperDomain {
    type Imports = ();
    type Export = Handle<dyn Keeper>;

    fn start(_: &Environment<'_>, (): ()) -> Self::Export {
        <dyn Keeper>::export(Service::default())
    }
}

#[derive(Default)]
struct Service {
    kept: Mutex<Vec<Lent<Message>>>,
    latest_sum: Mutex<Option<u64>>,
    gate: Arc<Gate>,
    slow_counters: Arc<AtomicU32>,
    lock: Mutex<()>,
}

/// Where calls stay.
#[derive(Default)]
struct Gate {
    opened: Event,
    staying: AtomicU32,
}

impl Gate {
    fn stay(&self) {
        let ticket = self.opened.ticket();
        self.staying.fetch_add(1, Ordering::Relaxed);
        while self.opened.ticket() == ticket {
            self.opened.wait(ticket);
        }
        self.staying.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Keeper for Service {
    fn keep(&self, message: Lent<Message>) -> RpcResult<()> {
        self.kept.lock().push(message);
        Ok(())
    }

    fn stamp(&self, byte: u8) -> RpcResult<u32> {
        let mut kept = self.kept.lock();
        kept.iter_mut().for_each(|message| message.fill(byte));
        Ok(kept.len() as u32)
    }

    fn give_back(&self) -> RpcResult<u32> {
        let kept = core::mem::take(&mut *self.kept.lock());
        // Dropping is giving back.
        Ok(kept.len() as u32)
    }

    fn read_late(&self, message: &RRef<Message>) -> RpcResult<u64> {
        self.gate.stay();
        let sum = message.iter().map(|&byte| u64::from(byte)).sum();
        *self.latest_sum.lock() = Some(sum);
        Ok(sum)
    }

    fn latest_sum(&self) -> RpcResult<Option<u64>> {
        Ok(*self.latest_sum.lock())
    }

    fn slow_counter(&self, start: u64) -> RpcResult<Handle<dyn Counter>> {
        self.slow_counters.fetch_add(1, Ordering::Relaxed);
        let slow_counters = self.slow_counters.clone();
        Ok(<dyn Counter>::export(SlowCounter {
            next: AtomicU64::new(start),
            gate: self.gate.clone(),
            slow_counters,
        }))
    }

    fn slow_counters(&self) -> RpcResult<u32> {
        Ok(self.slow_counters.load(Ordering::Relaxed))
    }

    fn stay_locked(&self) -> RpcResult<()> {
        let _locked = self.lock.lock();
        self.gate.stay();
        Ok(())
    }

    fn count_locked(&self, counter: Handle<dyn Counter>) -> RpcResult<Result<u64, RpcError>> {
        let _locked = self.lock.lock();
        Ok(counter.next())
    }

    fn is_unlocked(&self) -> RpcResult<bool> {
        Ok(self.lock.try_lock().is_some())
    }

    fn staying(&self) -> RpcResult<u32> {
        Ok(self.gate.staying.load(Ordering::Relaxed))
    }

    fn let_go(&self) -> RpcResult<()> {
        self.gate.opened.notify_all();
        Ok(())
    }
}

struct SlowCounter {
    next: AtomicU64,
    gate: Arc<Gate>,
    slow_counters: Arc<AtomicU32>,
}

impl Counter for SlowCounter {
    fn next(&self) -> RpcResult<u64> {
        self.gate.stay();
        Ok(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for SlowCounter {
    fn drop(&mut self) {
        assert!(
            self.slow_counters.fetch_sub(1, Ordering::Relaxed) > 0,
            "a counter is dropped that never was"
        );
    }
}
