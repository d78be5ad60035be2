//! [`ModelThread`], the skeleton of a model whose device works on a thread of its own.
//!
//! A model consists of a [`ModelFrontend`], which the threads of its host access, and of a [`ModelEngine`],
//! which belongs to the model's thread. [`ModelThread`] connects them: a frontend signals work, and the
//! thread polls the engine, and sleeps when there has been no work for a while. [`ThreadedModel`] makes a
//! [`Model`] of it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::dma_port::DmaPort;
use crate::host::Host;
use crate::model::{AlreadyAttached, Model, PciIdentity};
use crate::presence::Presence;
use crate::work_signal::{Inbox, SleepTime, WorkSignal};

/// The BAR of the registers; a model has no other one beside that of MSI-X.
const REGISTERS_BAR: u8 = 0;
/// The shortest time that is slept. A wake-up takes about as long, so the thread polls through shorter waits.
pub const MIN_SLEEP_NS: u64 = 100_000;
/// The number of polls without work between two readings of the clock.
pub const POLLS_PER_CLOCK_READ: u32 = 32;

/// The part of a model that the threads of its host access: registers, the work signal, and the presence of
/// the device.
pub trait ModelFrontend: Send + Sync + 'static {
    /// The bit of the work signal for requests to the model's thread.
    const REQUEST_BIT: u32;
    /// The bit of the work signal that is set when the DMA port has been opened, and when the device was
    /// unplugged.
    const PORT_BIT: u32;

    /// The signal that wakes the model's thread.
    fn work_signal(&self) -> &WorkSignal;

    /// Reads a register while the device is in its slot: see [`Model::read`].
    fn read(&self, offset: u64, size: u8) -> u64;

    /// Writes a register while the device is in its slot: see [`Model::write`].
    fn write(&self, offset: u64, size: u8, value: u64);

    /// Puts the fault injection of the model in front of its host.
    fn wrap_host(&self, host: Arc<dyn Host>) -> Arc<dyn Host> {
        host
    }

    /// The presence of the device in its slot.
    fn presence(&self) -> &Presence;

    /// The time after which a device that the host unplugs returns, in nanoseconds.
    fn unplug_ns(&self) -> u64;
}

/// The part of a model that belongs to its thread.
pub trait ModelEngine: Send + 'static {
    /// Requests of this model, beside those that all models have.
    type Command: Send + 'static;

    /// Called once, on the model's thread, before the first step.
    fn start(&mut self) {}

    /// The time for which the thread polls after work before it sleeps.
    fn spin_ns(&self) -> u64;

    /// Sets the time of the next steps, in nanoseconds since the start of the thread.
    fn set_time(&mut self, now_ns: u64);

    /// Returns true if the next step depends on the time, which is then set before each step.
    fn is_timed(&self) -> bool;

    /// Takes the signals and performs the work that can be done now. A [`step`](Self::step) performs a
    /// bounded amount of work, and never waits.
    fn step(&mut self, inbox: &Inbox<ModelRequest<Self::Command>>) -> Step;

    /// Returns true if a step would find work at the current time.
    fn has_work(&self) -> bool;

    /// The time from `now_ns` until a step would find work that no signal announces; `None` if there is none.
    fn idle_ns(&self, now_ns: u64) -> Option<u64>;

    /// Returns true if work is due before a sleep would be over.
    fn is_due_soon(&self, now_ns: u64) -> bool {
        self.idle_ns(now_ns).is_some_and(|idle| idle < MIN_SLEEP_NS)
    }

    /// The time for which there is nothing to do.
    fn sleep_time(&self, now_ns: u64) -> SleepTime {
        if self.has_work() {
            return SleepTime::HasWork;
        }
        self.idle_ns(now_ns).map_or(SleepTime::UntilNotified, SleepTime::For)
    }
}

/// The outcome of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Work was done.
    Worked,
    /// There was no work.
    Idle,
    /// The thread has to stop.
    Stop,
}

/// A request to the model's thread. The requester waits until it is done.
pub enum ModelRequest<C> {
    /// Perform a function level reset.
    Reset,
    /// Plug an unplugged device in again.
    Replug,
    /// Stop the thread.
    Stop,
    /// A request of this model.
    Command(C),
}

impl<C> Inbox<ModelRequest<C>> {
    /// For the model's thread: handles all requests with `handle`, and reports each as done. Returns true at
    /// a [`ModelRequest::Stop`], after which no request is handled.
    pub fn serve(&self, mut handle: impl FnMut(ModelRequest<C>)) -> bool {
        while let Some((request, done)) = self.pop() {
            let stop = matches!(request, ModelRequest::Stop);
            handle(request);
            // The requester may have gone.
            let _ = done.send(());
            if stop {
                return true;
            }
        }
        false
    }
}

/// A model's thread and frontend, which are a [`Model`]. Dropping it closes the DMA port and stops the
/// thread.
pub struct ModelThread<F: ModelFrontend, C> {
    identity: PciIdentity,
    frontend: Arc<F>,
    port: Arc<DmaPort>,
    inbox: Arc<Inbox<ModelRequest<C>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<F: ModelFrontend, C: Send + 'static> ModelThread<F, C> {
    /// Starts a thread with this name for `engine`, which shares `port` and the content of `frontend`.
    ///
    /// # Errors
    /// The host's error if it cannot start a thread.
    pub fn start(
        name: &str,
        identity: PciIdentity,
        frontend: F,
        port: Arc<DmaPort>,
        engine: impl ModelEngine<Command = C>,
    ) -> io::Result<Self> {
        let (frontend, inbox) = (Arc::new(frontend), Arc::new(Inbox::default()));
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let (frontend, inbox) = (frontend.clone(), inbox.clone());
            move || run(engine, frontend.work_signal(), &inbox)
        })?;
        Ok(Self { identity, frontend, port, inbox, thread: Mutex::new(Some(thread)) })
    }

    /// Removes the device from its slot.
    pub fn unplug(&self) {
        self.frontend.presence().unplug(self.frontend.unplug_ns());
        // The model's thread reads the time at which the device comes back.
        self.frontend.work_signal().notify(F::PORT_BIT);
    }

    /// Waits until the model's thread has handled the request.
    pub fn request(&self, request: ModelRequest<C>) {
        self.inbox.send_and_wait(self.frontend.work_signal(), F::REQUEST_BIT, request);
    }
}

impl<F: ModelFrontend, C: Send + 'static> Model for ModelThread<F, C> {
    fn identity(&self) -> PciIdentity {
        self.identity.clone()
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.port.attach(self.frontend.wrap_host(host))
    }

    fn read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        if bar != REGISTERS_BAR {
            return 0;
        }
        if self.frontend.presence().is_unplugged() {
            // No device claims the access, and the bus returns ones.
            return u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        }
        self.frontend.read(offset, size)
    }

    fn write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        if bar == REGISTERS_BAR && !self.frontend.presence().is_unplugged() {
            self.frontend.write(offset, size, value);
        }
    }

    fn set_bus_master(&self, on: bool) {
        if on && self.frontend.presence().is_unplugged() {
            // The write reaches no device. The device comes back with bus mastering off, as after power-on.
            return;
        }
        self.port.set_open(on);
        if on {
            self.frontend.work_signal().notify(F::PORT_BIT);
        }
    }

    fn reset(&self) {
        // Closed first: the accesses of a command under way end before the reset does.
        self.port.set_open(false);
        self.request(ModelRequest::Reset);
    }

    fn transactions_pending(&self) -> bool {
        self.port.is_busy()
    }

    fn is_present(&self) -> bool {
        !self.frontend.presence().is_unplugged()
    }

    fn insertions(&self) -> u64 {
        self.frontend.presence().insertions()
    }
}

impl<F: ModelFrontend, C> Drop for ModelThread<F, C> {
    fn drop(&mut self) {
        self.port.set_open(false);
        self.inbox.send_and_wait(self.frontend.work_signal(), F::REQUEST_BIT, ModelRequest::Stop);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread has no result; a panic was printed.
            let _ = thread.join();
        }
    }
}

/// A device that is a [`Model`] by its [`ModelThread`].
pub trait ThreadedModel: Send + Sync {
    /// The [`ModelThread`] of the device.
    fn thread(&self) -> &dyn Model;
}

impl<D: ThreadedModel> Model for D {
    fn identity(&self) -> PciIdentity {
        self.thread().identity()
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.thread().attach(host)
    }

    fn read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        self.thread().read(bar, offset, size)
    }

    fn write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        self.thread().write(bar, offset, size, value);
    }

    fn set_bus_master(&self, on: bool) {
        self.thread().set_bus_master(on);
    }

    fn reset(&self) {
        self.thread().reset();
    }

    fn transactions_pending(&self) -> bool {
        self.thread().transactions_pending()
    }

    fn is_present(&self) -> bool {
        self.thread().is_present()
    }

    fn insertions(&self) -> u64 {
        self.thread().insertions()
    }
}

/// The main function of a model's thread.
fn run<E: ModelEngine>(mut engine: E, signal: &WorkSignal, inbox: &Inbox<ModelRequest<E::Command>>) {
    signal.set_worker();
    engine.start();
    let clock = Instant::now();
    let mut last_work_ns = 0;
    let mut now_ns = 0;
    let mut polls = 0;
    loop {
        // An untimed step does not need the time, and reading the clock takes longer than the step.
        if polls == 0 || engine.is_timed() {
            now_ns = clock.elapsed().as_nanos() as u64;
            engine.set_time(now_ns);
        }
        match engine.step(inbox) {
            Step::Stop => return,
            Step::Worked => {
                last_work_ns = now_ns;
                polls = 0;
                continue;
            }
            Step::Idle => {}
        }
        polls = (polls + 1) % POLLS_PER_CLOCK_READ;
        std::hint::spin_loop();
        if polls != 0 {
            continue;
        }
        let now_ns = clock.elapsed().as_nanos() as u64;
        if now_ns - last_work_ns < engine.spin_ns() || engine.is_due_soon(now_ns) {
            continue;
        }
        signal.sleep(|| engine.sleep_time(now_ns));
    }
}

#[cfg(test)]
mod tests;
