//! [`on_orders`]: any driver, that goes wrong when it is told to.
//!
//! A driver that is shipped has no hook for that. The one that is tried is the same library in an image of its own, with
//! this in front of the object that it exports: one crossing more, within the domain, and a look at a word. So what is
//! crashed is the driver itself, with its device, its requests and its memory, at a place where it has all of them in hand.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use coppice_interfaces::Handle;
use coppice_runtime::thread::Builder;
use coppice_runtime::{Environment, time};
use coppice_test_interfaces::{Fault, FaultControl, Injection, InjectionPoint, Poll};

use crate::fail;

/// How often it is asked for orders.
const PAUSE: Duration = Duration::from_millis(1);

/// What a driver exports.
pub trait Export: Sized {
    /// The same, with a look at the trigger around each exchange.
    #[doc(hidden)]
    fn guarded(self, trigger: Arc<Trigger>) -> Self;
}

/// The same device. Its instance, which `environment` is of, has taken `start` to begin. Takes one thread.
///
/// # Panics
/// When the manifest allows no thread.
pub fn on_orders<E: Export>(
    environment: &Environment<'_>,
    start: Duration,
    device: E,
    orders: Handle<dyn FaultControl>,
) -> E {
    let generation = environment.generation();
    let trigger = Arc::new(Trigger { orders, generation, armed: AtomicU32::new(0) });
    let listener = trigger.clone();
    // What it reports is whole before anybody's request is answered.
    let _ = trigger.orders.begin(generation, start.as_nanos() as u64);
    // More urgent than most, as it mostly sleeps and else would be late.
    Builder::new()
        .priority(1)
        .spawn(move || listener.listen())
        .expect("the manifest allows a thread that waits for orders");
    device.guarded(trigger)
}

/// What orders a instance has got.
pub struct Trigger {
    orders: Handle<dyn FaultControl>,
    generation: u32,
    /// What the next exchange is to raise: 0 for nothing, else [`Trigger::code`].
    armed: AtomicU32,
}

impl Trigger {
    /// The upper half says that it is to be behind the exchange; the lower is the fault's place among all, from 1 on.
    fn code(fault: Fault, behind: bool) -> u32 {
        let number = Fault::ALL.iter().position(|&one| one == fault).expect("all are listed");
        u32::from(behind) << 16 | (number as u32 + 1)
    }

    fn listen(&self) {
        loop {
            match self.orders.poll(self.generation) {
                Ok(Poll::None) => time::sleep(PAUSE),
                Ok(Poll::Inject(Injection { fault, point: InjectionPoint::OwnThread })) => self.raise(fault),
                Ok(Poll::Inject(Injection { fault, point: place })) => {
                    self.armed
                        .store(Self::code(fault, place == InjectionPoint::AfterSubmit), Ordering::Relaxed);
                }
                // A later instance gets all further orders.
                Ok(Poll::Superseded) => return,
                // Who passes them on comes back.
                Err(_) => time::sleep(PAUSE),
            }
        }
    }

    /// Raises what is armed for that place.
    #[inline]
    pub(crate) fn look(&self, behind: bool) {
        let armed = self.armed.load(Ordering::Relaxed);
        if armed != 0 && (armed >> 16 == 1) == behind {
            self.pull(armed);
        }
    }

    #[cold]
    fn pull(&self, armed: u32) {
        // Of several threads, one carries the order out.
        if self.armed.compare_exchange(armed, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.raise(Fault::ALL[(armed & 0xffff) as usize - 1]);
        }
    }

    fn raise(&self, fault: Fault) {
        let _ = self.orders.about_to_raise(self.generation);
        fail(fault);
        let _ = self.orders.not_raised(self.generation);
    }
}
