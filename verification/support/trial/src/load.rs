//! [`Load`]: what a driver is kept busy with while it is crashed.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use alloc::sync::Arc;
use coppice_experiment::Failure;

use crate::{Probe, Trial};

/// The work of one thread. Returns when the trial is over ([`Trial::is_over`]).
pub type Work<L> = fn(&L) -> Result<(), Failure>;

/// What a [`Meter`] counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Frames, each of which takes so many bytes of time on the wire, gaps included.
    Frames {
        /// So many.
        wire_bytes: u32,
    },
}

/// Something that goes on all the time, and whose rate is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meter {
    /// One word.
    pub name: &'static str,
    /// What is counted.
    pub unit: Unit,
}

impl fmt::Display for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.unit {
            Unit::Bytes => write!(f, r#"{{"name":"{name}","unit":"bytes"}}"#),
            Unit::Frames { wire_bytes } => {
                write!(f, r#"{{"name":"{name}","unit":"frames","wire_bytes":{wire_bytes}}}"#)
            }
        }
    }
}

/// How much was done so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// By the meters, in their order.
    pub totals: Vec<u64>,
    /// How often the driver did what it was asked for.
    pub answers: u64,
}

/// What a driver is kept busy with while it is crashed.
pub trait Load: Send + Sync + Sized + 'static {
    /// What [`Progress::answers`] counts, such as `requests answered`.
    const ANSWERS: &'static str;

    /// The trial that this is the load of.
    fn trial(&self) -> &Arc<Trial>;

    /// Does everything once that takes memory for good, such as a first queue of each kind.
    ///
    /// # Errors
    /// What is broken.
    fn warm_up(&self) -> Result<(), Failure>;

    /// Waits for the driver, which was just renewed, to answer to something.
    ///
    /// # Errors
    /// It does not.
    fn greet(&self) -> Result<(), Failure>;

    /// What is counted.
    fn meters(&self) -> Vec<Meter>;

    /// The load itself: each thread's name and work.
    fn workers(&self) -> Vec<(&'static str, Work<Self>)>;

    /// For the killer.
    ///
    /// # Errors
    /// What is broken.
    fn probe(&self) -> Result<Box<dyn Probe + '_>, Failure>;

    /// How much was done so far.
    fn progress(&self) -> Progress;

    /// Whether there is something that the trial has to go on for although its time is over.
    fn wants_more(&self) -> bool {
        false
    }

    /// When all threads have ended: what must be 0.
    fn losses(&self) -> Vec<(&'static str, i64)>;
}
