//! [`Context`]: the disk and the counters that all threads share, and the implementation of the trial's
//! [`Load`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_block::{BlockDevice, BlockInfo, Operation};
use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_run_protocol::trial::{Meter, checks};
use coppice_trial::{Load, Probe, Progress, Trial, Work};

use crate::plan::Plan;
use crate::probe::ReadProbe;
use crate::queue::Queue;
use crate::{hasher, writer};

/// The number of writer threads.
const WRITERS: u64 = 2;

/// State that all threads of the demonstration share.
pub struct Context {
    pub(crate) trial: Arc<Trial>,
    /// The disk, behind the shadow.
    pub(crate) device: Handle<dyn BlockDevice>,
    pub(crate) plan: Plan,
    pub(crate) disk: BlockInfo,
    // Counters of completed work, and of the errors found in it.
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) ios: AtomicU64,
    pub(crate) passes: AtomicU64,
    pub(crate) wrong_bytes: AtomicU64,
    pub(crate) lost_requests: AtomicU64,
    pub(crate) completed_twice: AtomicU64,
}

impl Context {
    pub(crate) fn new(trial: Arc<Trial>, device: Handle<dyn BlockDevice>) -> Result<Self, Failure> {
        let disk = device.info()?;
        let plan = Plan::read(&trial.control, &disk)?;
        let zero = || AtomicU64::new(0);
        Ok(Self {
            trial,
            device,
            plan,
            disk,
            read_bytes: zero(),
            written_bytes: zero(),
            ios: zero(),
            passes: zero(),
            wrong_bytes: zero(),
            lost_requests: zero(),
            completed_twice: zero(),
        })
    }

    pub(crate) fn can_flush(&self) -> bool {
        self.disk.operations.contains(Operation::Flush)
    }
}

fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

impl Load for Context {
    const REPLIES: &'static str = "requests answered";

    fn trial(&self) -> &Arc<Trial> {
        &self.trial
    }

    fn warm_up(&self) -> Result<(), Failure> {
        let depths = [hasher::DEPTH, 1].into_iter().chain((0..WRITERS).map(|_| writer::DEPTH));
        let queues: Result<Vec<Queue<'_>>, Failure> =
            depths.map(|depth| Queue::open(self, depth.min(self.disk.queue_depth as usize))).collect();
        queues.map(drop)
    }

    fn wait_for_reply(&self) -> Result<(), Failure> {
        self.device.info()?;
        Ok(())
    }

    fn meters(&self) -> Vec<Meter> {
        ["read", "written"].map(Meter::bytes).into()
    }

    fn workers(&self) -> Vec<(&'static str, Work<Self>)> {
        const WRITE: [Work<Context>; WRITERS as usize] =
            [|context| writer::run(context, 0, WRITERS), |context| writer::run(context, 1, WRITERS)];
        let mut workers: Vec<(&'static str, Work<Self>)> = vec![("the hasher", hasher::run)];
        workers.extend(WRITE.map(|write| ("a writer", write)));
        workers
    }

    fn probe(&self) -> Result<Box<dyn Probe + '_>, Failure> {
        Ok(Box::new(ReadProbe::open(self)?))
    }

    fn progress(&self) -> Progress {
        let totals = [&self.read_bytes, &self.written_bytes].map(get).into();
        Progress { totals, answers: get(&self.ios) }
    }

    /// Extends the run until the hasher has read the image once, which may take longer on a slow disk.
    fn needs_more_time(&self) -> bool {
        get(&self.passes) == 0
    }

    fn zero_checks(&self) -> Vec<(&'static str, i64)> {
        let counts = [&self.wrong_bytes, &self.lost_requests, &self.completed_twice];
        checks::DISK.into_iter().zip(counts.map(|number| get(number) as i64)).collect()
    }
}
