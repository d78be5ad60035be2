//! Devices in front of other devices: each call is forwarded unchanged, with a [`Hook`] around each exchange.
//!
//! Fault injection is such a hook; [`Transparent`] does nothing, which measures one more crossing. Only
//! exchanges have a hook, because requests and packets are in flight during them and in no other call.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod block;
mod net;

use alloc::sync::Arc;

/// Code that runs around each exchange.
pub trait Hook: Send + Sync + 'static {
    /// Runs before the exchange reaches the device.
    fn before_exchange(&self);
    /// Runs after the device has returned from the exchange.
    fn after_exchange(&self);
}

/// A hook that does nothing.
#[derive(Clone)]
pub struct Transparent;

impl Hook for Transparent {
    #[inline]
    fn before_exchange(&self) {}

    #[inline]
    fn after_exchange(&self) {}
}

impl<H: Hook> Hook for Arc<H> {
    #[inline]
    fn before_exchange(&self) {
        (**self).before_exchange();
    }

    #[inline]
    fn after_exchange(&self) {
        (**self).after_exchange();
    }
}

/// A device that can be interposed.
pub trait Interposable: Sized {
    /// Returns a device that forwards each call to `self`. Each queue that it opens has a clone of `hook`.
    fn interposed<H: Hook + Clone>(self, hook: H) -> Self;
}
