//! Threads of a domain's own.

use alloc::boxed::Box;
use core::ffi::c_void;

use coppice_abi::services;

/// What a thread will run.
type Body = Box<dyn FnOnce() + Send>;

/// How a thread is to run.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    priority: u8,
    affinity: u64,
}

/// A claim to a thread. Dropping it lets the thread run on.
#[derive(Debug)]
pub struct JoinHandle(u64);

/// The kernel makes no further thread: the domain has as many as its manifest allows, or memory is exhausted.
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
    /// Default priority, any CPU.
    pub fn new() -> Self {
        Self::default()
    }

    /// 0 (most urgent) to 3; 2 by default. A more urgent thread runs whenever it can.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// CPUs that the thread may run on, bit by bit. A mask without any CPU of this machine means all.
    pub fn affinity(self, affinity: u64) -> Self {
        Self { affinity, ..self }
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn spawn(self, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle, Refused> {
        let body: Body = Box::new(body);
        let argument = Box::into_raw(Box::new(body));
        // SAFETY: `run` takes the argument, once.
        let id = unsafe { (services().thread_spawn)(run, argument.cast(), self.priority, self.affinity) };
        if id == 0 {
            // SAFETY: nobody else took it.
            drop(unsafe { Box::from_raw(argument) });
            return Err(Refused);
        }
        Ok(JoinHandle(id))
    }
}

/// Starts a thread with the default settings.
///
/// # Errors
/// [`Refused`].
pub fn spawn(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle, Refused> {
    Builder::new().spawn(body)
}

/// # Safety
/// `argument` came from [`Builder::spawn`], once.
unsafe extern "C" fn run(argument: *mut c_void) {
    // SAFETY: `spawn` made it of a box, for us.
    let body = unsafe { Box::from_raw(argument.cast::<Body>()) };
    body();
}

impl JoinHandle {
    /// Waits until the thread has ended.
    pub fn join(self) {
        (services().thread_join)(self.0);
    }
}

/// Lets another thread of the same priority run.
pub fn yield_now() {
    (services().thread_yield)();
}

/// The number of the CPU that runs the caller; it may be another one by the time this returns.
pub fn cpu() -> u32 {
    (services().cpu)()
}
