//! [`with_fault_control`]: any driver, with injection points around its exchanges.
//!
//! A shipped driver has no such hook. The driver under test is the same library in an image of its own, with
//! this wrapper in front of the exported object: it costs one more crossing within the domain and one load
//! per injection point. So the crash hits the driver itself while it holds its device, its requests and its
//! memory.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use coppice_interfaces::Handle;
use coppice_interposer::{Hook, Interposable};
use coppice_runtime::thread::Builder;
use coppice_runtime::{Environment, time};
use coppice_test_interfaces::{Fault, FaultControl, Injection, InjectionPoint, Poll};

use crate::fail;

/// The polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Returns the device with injection points and starts a thread that polls `control` for injections. `start`
/// is the time that the current instance took to start.
///
/// # Panics
/// When the manifest allows no thread.
pub fn with_fault_control<E: Interposable>(
    environment: &Environment<'_>,
    start: Duration,
    device: E,
    control: Handle<dyn FaultControl>,
) -> E {
    let generation = environment.generation();
    let trigger = Arc::new(Trigger { control, generation, armed: AtomicU32::new(0) });
    let poller = trigger.clone();
    // The record is complete before the first client's request completes.
    let _ = trigger.control.begin(generation, start.as_nanos() as u64);
    // The thread mostly sleeps; its priority is above most others so that it is not late.
    Builder::new()
        .priority(1)
        .spawn(move || poller.poll())
        .expect("the manifest allows a thread that polls for injections");
    device.interposed(trigger)
}

/// The injection points of one instance.
struct Trigger {
    control: Handle<dyn FaultControl>,
    generation: u32,
    /// The fault of the next exchange: 0 for none, else [`Trigger::code`].
    armed: AtomicU32,
}

impl Trigger {
    /// Encodes an injection: the upper half is 1 for a fault after the exchange; the lower half is the
    /// fault's index plus 1.
    fn code(fault: Fault, after: bool) -> u32 {
        let number = Fault::ALL.iter().position(|&one| one == fault).expect("ALL contains each fault");
        u32::from(after) << 16 | (number as u32 + 1)
    }

    fn poll(&self) {
        loop {
            match self.control.poll(self.generation) {
                Ok(Poll::None) => time::sleep(POLL_INTERVAL),
                Ok(Poll::Inject(Injection { fault, point: InjectionPoint::OwnThread })) => self.raise(fault),
                Ok(Poll::Inject(Injection { fault, point })) => {
                    self.armed
                        .store(Self::code(fault, point == InjectionPoint::AfterSubmit), Ordering::Relaxed);
                }
                // A later instance gets all further injections.
                Ok(Poll::Superseded) => return,
                // The domain that passes injections on restarts.
                Err(_) => time::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Raises the fault that is armed for this injection point.
    #[inline]
    fn check(&self, after: bool) {
        let armed = self.armed.load(Ordering::Relaxed);
        if armed != 0 && (armed >> 16 == 1) == after {
            self.fire(armed);
        }
    }

    #[cold]
    fn fire(&self, armed: u32) {
        // Of several threads, one raises the fault.
        if self.armed.compare_exchange(armed, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.raise(Fault::ALL[(armed & 0xffff) as usize - 1]);
        }
    }

    fn raise(&self, fault: Fault) {
        let _ = self.control.about_to_raise(self.generation);
        fail(fault);
        let _ = self.control.not_raised(self.generation);
    }
}

impl Hook for Trigger {
    #[inline]
    fn before_exchange(&self) {
        self.check(false);
    }

    #[inline]
    fn after_exchange(&self) {
        self.check(true);
    }
}
