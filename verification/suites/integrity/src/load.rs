//! [`Load`]: threads that write to a disk and verify what they read, and the proof at the end.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_block::{BlockDevice, OpenError};
use coppice_disk_oracle::Wrong;
use coppice_interfaces::{Handle, RpcError};
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::{Builder, JoinHandle, Refused};

use crate::book::{Book, Sink};
use crate::desk::Desk;
use crate::options::{Options, Senseless};
use crate::tally::Counters;
use crate::writer::Writer;

/// Why a load does not begin, or does not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// What it should do makes no sense.
    Senseless(Senseless),
    /// The disk's domain does not answer.
    Rpc(RpcError),
    /// The disk opens no queue.
    Open(OpenError),
    /// There is no thread for it.
    Refused(Refused),
    /// A queue was ours and is somebody else's.
    Busy,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Senseless(error) => error.fmt(f),
            Self::Rpc(error) => write!(f, "the disk does not answer: {error}"),
            Self::Open(error) => write!(f, "the disk opens no queue: {error}"),
            Self::Refused(refused) => refused.fmt(f),
            Self::Busy => f.write_str("a queue that this thread has opened is another one's"),
        }
    }
}

impl core::error::Error for LoadError {}

impl From<Senseless> for LoadError {
    fn from(error: Senseless) -> Self {
        Self::Senseless(error)
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

/// What threads and their owner share.
pub(crate) struct Shared {
    pub(crate) disk: Handle<dyn BlockDevice>,
    pub(crate) book: Arc<Book>,
    pub(crate) stop: AtomicBool,
    /// Why a thread has ended before it should.
    broken: Mutex<Option<LoadError>>,
}

/// A load under way. Dropping it stops it without a proof.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle>,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What has happened, the proof's reads included.
    pub counters: Counters,
    /// The first blocks that held what they must not.
    pub wrong: Vec<Wrong>,
    /// Why not everything was done that should have been.
    pub broken: Option<LoadError>,
}

impl Report {
    /// Whether every promise was kept, and all was looked at.
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
    /// Starts it. All that is in the blocks of `options.range` is lost. With a `journal`, what becomes durable is said there
    /// ([`coppice_disk_oracle::journal`]).
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn start(
        disk: Handle<dyn BlockDevice>,
        options: Options,
        journal: Option<Sink>,
    ) -> Result<Self, LoadError> {
        let info = disk.info()?;
        let options = options.fitted(&info)?;
        let book = Arc::new(Book::new(options, info, journal));
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { disk, book, stop, broken: Mutex::new(None) });
        let mut load = Self { shared, threads: Vec::new() };
        for number in 0..options.threads {
            let shared = load.shared.clone();
            let run = move || {
                let writer = Writer::load(shared.book.clone(), number);
                shared.run(writer);
            };
            load.threads.push(Builder::new().spawn(run)?);
        }
        Ok(load)
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.book.tally.counters()
    }

    /// Whether a thread has given up; [`Self::stop`] says why.
    pub fn is_broken(&self) -> bool {
        self.shared.broken.lock().is_some()
    }

    /// Stops it, waits for what is under way, reads every block of the range, and says what all came to. On the caller's thread,
    /// with a queue of its own.
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in core::mem::take(&mut self.threads) {
            thread.join();
        }
        let proof = Writer::proof(self.shared.book.clone());
        self.shared.run(proof);
        let tally = &self.shared.book.tally;
        let broken = self.shared.broken.lock().take();
        Report { counters: tally.counters(), wrong: tally.kept(), broken }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self, writer: Writer) {
        if let Err(error) = Desk::open(self, writer).and_then(Desk::run) {
            self.broken.lock().get_or_insert(error);
        }
    }
}

/// A journal that goes to the console, line by line.
pub fn console(control: Handle<dyn coppice_control::Control>) -> Sink {
    Box::new(move |line: &str| {
        let line: String = line.into();
        // Without the kernel there is nobody who could read it either.
        let _ = control.print(coppice_interfaces::Text::new(&line));
    })
}
