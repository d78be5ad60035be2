//! [`LoadState`]: the state shared by all threads of a load: the oracle's ledger, the journal, and the
//! counters.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_block::BlockInfo;
use coppice_disk_oracle::journal::{Begin, Writer};
use coppice_disk_oracle::{DiskOracle, Durable, Extent, Flush, Mode, Refusal, Write, WriteOutcome};
use coppice_runtime::sync::Mutex;

use crate::options::Options;
use crate::tally::Tally;

/// The output of the journal. A line must be out when the call returns.
pub type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// The maximum length of a line in bytes, given by one console message.
const WIDTH: usize = 250;

struct Journal {
    writer: Mutex<Writer>,
    sink: Sink,
}

/// The state shared by all threads.
pub(crate) struct LoadState {
    pub(crate) options: Options,
    pub(crate) info: BlockInfo,
    pub(crate) tally: Tally,
    ledger: Mutex<DiskOracle>,
    journal: Option<Journal>,
    /// The number of journal lines that are out.
    lines: AtomicU64,
}

impl LoadState {
    /// Requires `options` that fit the disk of `info`.
    pub(crate) fn new(options: Options, info: BlockInfo, sink: Option<Sink>) -> Self {
        let Options { range, run, .. } = options;
        let journal = sink.map(|sink| {
            sink(&alloc::format!("{}", Begin { run, block_bytes: info.block_bytes, range }));
            Journal { writer: Mutex::new(Writer::new(WIDTH)), sink }
        });
        let ledger = Mutex::new(DiskOracle::new(run, range.first, range.blocks));
        Self { options, info, tally: Tally::default(), ledger, journal, lines: AtomicU64::new(0) }
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Acquire)
    }

    /// Calls `look` with the ledger locked.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut DiskOracle) -> R) -> R {
        look(&mut self.ledger.lock())
    }

    /// Records a write before its submission. The journal has its entry for the write when this returns.
    pub(crate) fn begin(&self, write: Write, extent: Extent, mode: Mode) -> Result<u64, Refusal> {
        let sequence = self.ledger.lock().begin(write, extent, mode)?;
        if let Some(Journal { writer, sink }) = self.journal.as_ref().filter(|_| write != Write::Data) {
            let mut writer = writer.lock();
            writer.erasure(write, sequence, extent, sink);
            self.lines.store(writer.lines(), Ordering::Release);
        }
        Ok(sequence)
    }

    /// Records the completion of a write.
    pub(crate) fn end(&self, write: Write, extent: Extent, sequence: u64, answer: WriteOutcome) {
        let mut durable = Vec::new();
        let mut ledger = self.ledger.lock();
        ledger.end(write, extent, sequence, answer, &mut durable);
        let latest = ledger.sequence();
        drop(ledger);
        self.say(latest, &durable);
    }

    /// Records the completion of a flush.
    pub(crate) fn end_flush(&self, flush: Flush) {
        let mut durable = Vec::new();
        let mut ledger = self.ledger.lock();
        ledger.end_flush(flush, &mut durable);
        let latest = ledger.sequence();
        drop(ledger);
        self.say(latest, &durable);
    }

    /// Runs without the ledger's lock: a line may overtake another, and the reader of the journal knows which
    /// one is stronger.
    fn say(&self, latest: u64, durable: &[Durable]) {
        let Some(Journal { writer, sink }) = self.journal.as_ref().filter(|_| !durable.is_empty()) else {
            return;
        };
        let mut writer = writer.lock();
        writer.durable(latest, durable, sink);
        self.lines.store(writer.lines(), Ordering::Release);
    }
}
