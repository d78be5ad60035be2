//! [`Load`]: the load on a driver while it is crashed.

use alloc::boxed::Box;
use alloc::vec::Vec;

use alloc::sync::Arc;
use coppice_experiment::Failure;
use coppice_run_protocol::trial::Meter;

use crate::{Probe, Trial};

/// The work of one thread. Returns when the trial is over ([`Trial::is_over`]).
pub type Work<L> = fn(&L) -> Result<(), Failure>;

/// The amount of work so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The counts of the meters, in their order.
    pub totals: Vec<u64>,
    /// The number of the driver's replies without error.
    pub answers: u64,
}

/// The load on a driver while it is crashed.
pub trait Load: Send + Sync + Sized + 'static {
    /// The description of [`Progress::answers`], such as `requests answered`.
    const REPLIES: &'static str;

    /// Returns the trial of this load.
    fn trial(&self) -> &Arc<Trial>;

    /// Does each operation once that allocates permanent memory, such as the first queue of a kind.
    ///
    /// # Errors
    /// [`Failure`] when an operation fails.
    fn warm_up(&self) -> Result<(), Failure>;

    /// Waits for a reply of the restarted driver.
    ///
    /// # Errors
    /// [`Failure`] when it does not reply.
    fn wait_for_reply(&self) -> Result<(), Failure>;

    /// Returns the meters.
    fn meters(&self) -> Vec<Meter>;

    /// Returns the name and the work of each thread.
    fn workers(&self) -> Vec<(&'static str, Work<Self>)>;

    /// Returns the probe for the killer.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be set up.
    fn probe(&self) -> Result<Box<dyn Probe + '_>, Failure>;

    /// Returns the amount of work so far.
    fn progress(&self) -> Progress;

    /// Returns true if the trial must continue beyond its time.
    fn needs_more_time(&self) -> bool {
        false
    }

    /// Returns the numbers that must be 0 after all threads have ended.
    fn zero_checks(&self) -> Vec<(&'static str, i64)>;
}
