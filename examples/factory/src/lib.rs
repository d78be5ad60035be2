//! Exports new interface objects on request, and calls those that it is given.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_example_interfaces::{Counter, Factory};
use coppice_interfaces::{Handle, RpcResult};
use coppice_runtime::{Domain, Environment, StartError};

/// The domain.
pub struct FactoryDomain;

impl Domain for FactoryDomain {
    type Imports = ();
    type Export = Handle<dyn Factory>;

    fn start(_: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        Ok(<dyn Factory>::export(CounterFactory { live: Arc::default() }))
    }
}

struct CounterFactory {
    live: Arc<AtomicU64>,
}

/// A counter that is included in the factory's count until it is dropped.
struct LiveCounter {
    next: AtomicU64,
    live: Arc<AtomicU64>,
}

impl Counter for LiveCounter {
    fn next(&self) -> RpcResult<u64> {
        Ok(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for LiveCounter {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Factory for CounterFactory {
    fn make(&self, start: u64) -> RpcResult<Handle<dyn Counter>> {
        self.live.fetch_add(1, Ordering::Relaxed);
        Ok(<dyn Counter>::export(LiveCounter { next: AtomicU64::new(start), live: self.live.clone() }))
    }

    fn drive(&self, counter: Handle<dyn Counter>, times: u32) -> RpcResult<u64> {
        let mut last = 0;
        for _ in 0..times {
            last = counter.next()?;
        }
        Ok(last)
    }

    fn pass(&self, counter: Handle<dyn Counter>) -> RpcResult<Handle<dyn Counter>> {
        Ok(counter)
    }

    fn live(&self) -> RpcResult<u64> {
        Ok(self.live.load(Ordering::Relaxed))
    }
}
