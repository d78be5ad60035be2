//! The domain's own threads.

use alloc::boxed::Box;
use core::ffi::c_void;

use coppice_abi::services;

/// The body of a thread.
type Body = Box<dyn FnOnce() + Send>;

/// Priority and affinity of a new thread.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    priority: u8,
    affinity: u64,
}

/// A reference to a thread. Dropping it lets the thread run on.
#[derive(Debug)]
pub struct JoinHandle(u64);

/// The kernel starts no further thread: the manifest's limit is reached, or memory is exhausted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no further thread: the manifest's limit is reached, or memory is exhausted")
    }
}

impl core::error::Error for Refused {}

impl Default for Builder {
    fn default() -> Self {
        Self { priority: 2, affinity: u64::MAX }
    }
}

impl Builder {
    /// Returns a builder with default priority on any CPU.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the priority: 0 (most urgent) to 3; 2 by default. A more urgent thread runs whenever it can. The
    /// thread gets no more than the manifest's `priority`, which is 2 unless it is granted more.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// Sets the mask of CPUs that the thread may run on. A mask without any CPU of this machine means all.
    pub fn affinity(self, affinity: u64) -> Self {
        Self { affinity, ..self }
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// [`Refused`] when the manifest's thread limit is reached or memory is exhausted.
    pub fn spawn(self, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle, Refused> {
        let body: Body = Box::new(body);
        let argument = Box::into_raw(Box::new(body));
        // SAFETY: `run` takes the argument, once.
        let id = unsafe { (services().thread_spawn)(run, argument.cast(), self.priority, self.affinity) };
        if id == 0 {
            // SAFETY: no thread was started that could have taken it.
            drop(unsafe { Box::from_raw(argument) });
            return Err(Refused);
        }
        Ok(JoinHandle(id))
    }
}

/// Starts a thread with the default settings.
///
/// # Errors
/// [`Refused`] when the manifest's thread limit is reached or memory is exhausted.
pub fn spawn(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle, Refused> {
    Builder::new().spawn(body)
}

/// # Safety
/// `argument` came from [`Builder::spawn`], once.
unsafe extern "C" fn run(argument: *mut c_void) {
    // SAFETY: `spawn` made it from a box, for this call.
    let body = unsafe { Box::from_raw(argument.cast::<Body>()) };
    body();
}

impl JoinHandle {
    /// Waits until the thread has ended.
    pub fn join(self) {
        (services().thread_join)(self.0);
    }
}

/// Yields to another thread of the same priority.
pub fn yield_now() {
    (services().thread_yield)();
}

/// Returns the number of the CPU that runs the caller, which may move before it uses the number.
pub fn cpu() -> u32 {
    (services().cpu)()
}
