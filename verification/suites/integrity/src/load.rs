//! [`Load`]: threads that write to a disk and verify their reads, and the proof at the end.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_block::{BlockDevice, OpenError};
use coppice_disk_oracle::Mismatch;
use coppice_interfaces::{Handle, RpcError};
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::{Builder, JoinHandle, Refused};

use crate::load_state::{LoadState, Sink};
use crate::options::{BadOptions, Options};
use crate::queue_client::QueueClient;
use crate::tally::Counters;
use crate::writer::Writer;

/// The reasons why a load does not start or ends early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// The options are refused.
    BadOptions(BadOptions),
    /// The call to the disk's domain failed.
    Rpc(RpcError),
    /// The disk opens no queue.
    Open(OpenError),
    /// The kernel refuses a thread.
    Refused(Refused),
    /// The disk refuses a queue to the thread that has opened it.
    Busy,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadOptions(error) => error.fmt(f),
            Self::Rpc(error) => write!(f, "the disk does not answer: {error}"),
            Self::Open(error) => write!(f, "the disk opens no queue: {error}"),
            Self::Refused(refused) => refused.fmt(f),
            Self::Busy => f.write_str("the disk refuses this thread the queue that it has opened"),
        }
    }
}

impl core::error::Error for LoadError {}

impl From<BadOptions> for LoadError {
    fn from(error: BadOptions) -> Self {
        Self::BadOptions(error)
    }
}

impl From<RpcError> for LoadError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<OpenError> for LoadError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<Refused> for LoadError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// The state shared by the threads and the owner of the load.
pub(crate) struct Shared {
    pub(crate) disk: Handle<dyn BlockDevice>,
    pub(crate) state: Arc<LoadState>,
    pub(crate) stop: AtomicBool,
    /// The first error that ended a thread early.
    broken: Mutex<Option<LoadError>>,
}

/// A running load. Dropping it stops it without a proof.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle>,
}

/// The result of a load.
#[derive(Clone, Debug)]
pub struct Report {
    /// The counters, with the reads of the proof.
    pub counters: Counters,
    /// The first blocks with wrong content.
    pub wrong: Vec<Mismatch>,
    /// The error that ended the load or the proof early.
    pub broken: Option<LoadError>,
}

impl Report {
    /// Returns true if the disk has kept all its guarantees and every block was verified.
    pub fn is_clean(&self) -> bool {
        self.counters.is_clean() && self.broken.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counters.fmt(f)?;
        if let Some(error) = &self.broken {
            write!(f, "; broken off: {error}")?;
        }
        Ok(())
    }
}

impl Load {
    /// Starts a load. The blocks of `options.range` are overwritten. With a `journal`, each durable write is
    /// written there ([`coppice_disk_oracle::journal`]).
    ///
    /// # Errors
    /// [`LoadError`] when the options do not fit the disk, when the disk's domain does not answer, or when
    /// the kernel refuses a thread.
    pub fn start(
        disk: Handle<dyn BlockDevice>,
        options: Options,
        journal: Option<Sink>,
    ) -> Result<Self, LoadError> {
        let info = disk.info()?;
        let options = options.fitted(&info)?;
        let state = Arc::new(LoadState::new(options, info, journal));
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { disk, state, stop, broken: Mutex::new(None) });
        let mut load = Self { shared, threads: Vec::new() };
        for number in 0..options.threads {
            let shared = load.shared.clone();
            let run = move || {
                let writer = Writer::load(shared.state.clone(), number);
                shared.run(writer);
            };
            load.threads.push(Builder::new().spawn(run)?);
        }
        Ok(load)
    }

    /// Returns the counters so far.
    pub fn counters(&self) -> Counters {
        self.shared.state.tally.counters()
    }

    /// Returns true if a thread has ended with an error, which [`Self::stop`] returns.
    pub fn is_broken(&self) -> bool {
        self.shared.broken.lock().is_some()
    }

    /// Stops the load, waits for the requests in flight, reads every block of the range, and returns the
    /// result. Runs on the caller's thread, with a queue of its own.
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in core::mem::take(&mut self.threads) {
            thread.join();
        }
        let proof = Writer::proof(self.shared.state.clone());
        self.shared.run(proof);
        let tally = &self.shared.state.tally;
        let broken = self.shared.broken.lock().take();
        Report { counters: tally.counters(), wrong: tally.recorded(), broken }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self, writer: Writer) {
        if let Err(error) = QueueClient::open(self, writer).and_then(QueueClient::run) {
            self.broken.lock().get_or_insert(error);
        }
    }
}

/// Returns a journal output that prints each line to the console.
pub fn console(control: Handle<dyn coppice_control::Control>) -> Sink {
    Box::new(move |line: &str| {
        let line: String = line.into();
        // Without the kernel there is no reader of the console either.
        let _ = control.print(coppice_interfaces::Text::new(&line));
    })
}
