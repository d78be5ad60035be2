//! [`Trial`]: what all threads of one share.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coppice_control::{Control, DomainInfo};
use coppice_experiment::Failure;
use coppice_interfaces::{Handle, Text};
use coppice_test_interfaces::FaultControl;

use crate::{Schedule, console};

/// What all threads of a trial share.
pub struct Trial {
    /// To kill, and to look.
    pub control: Handle<dyn Control>,
    /// Has the driver go wrong.
    pub orders: Handle<dyn FaultControl>,
    /// What is to be done.
    pub schedule: Schedule,
    /// The driver's name in the manifest, and that of the domain that tries it.
    pub(crate) victim: Text<32>,
    pub(crate) observer: Text<32>,
    /// Somebody wants the run to end early.
    pub(crate) stop: AtomicBool,
    /// The load's time is over.
    pub(crate) over: AtomicBool,
    /// Nothing is to be crashed for now.
    pub(crate) calm: AtomicBool,
    pub(crate) crashes: AtomicU64,
    /// Somebody crashes the driver.
    pub(crate) killing: AtomicBool,
    broken: AtomicBool,
}

impl AsRef<Handle<dyn Control>> for Trial {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.control
    }
}

impl Trial {
    pub(crate) fn new(
        control: Handle<dyn Control>,
        orders: Handle<dyn FaultControl>,
        [victim, observer]: [Text<32>; 2],
    ) -> Result<Self, Failure> {
        let schedule = Schedule::read(&control)?;
        let no = || AtomicBool::new(false);
        let crashes = AtomicU64::new(0);
        let (stop, over, calm, killing, broken) = (no(), no(), no(), no(), no());
        Ok(Self { control, orders, schedule, victim, observer, stop, over, calm, crashes, killing, broken })
    }

    /// Says a line: the inside of an object.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        console::say(&self.control, line);
    }

    /// A promise is broken: says so, and ends the run.
    pub fn breaks(&self, what: &str) {
        self.broken.store(true, Ordering::Relaxed);
        console::broken(&self.control, what);
    }

    /// Whether a promise was broken.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether the load is to end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.is_broken()
    }

    /// Whether it is, and no crash is on its way any more: until then whoever measures outages needs the load to go on.
    pub fn is_quiet(&self) -> bool {
        self.is_over() && !self.killing.load(Ordering::Acquire)
    }

    /// How many crashes there were.
    pub fn crashes(&self) -> u64 {
        self.crashes.load(Ordering::Relaxed)
    }

    /// The driver, as the kernel sees it.
    pub(crate) fn driver(&self) -> Result<DomainInfo, Failure> {
        Ok(self.control.find(self.victim)??)
    }
}
