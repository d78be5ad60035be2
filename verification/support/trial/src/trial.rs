//! [`Trial`]: the state that all threads of a trial share.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coppice_control::{Control, DomainInfo};
use coppice_experiment::Failure;
use coppice_interfaces::{Handle, Text};
use coppice_run_protocol::trial::Line;
use coppice_test_interfaces::FaultControl;

use crate::{Schedule, Services, console};

/// The state that all threads of a trial share.
pub struct Trial {
    /// The kernel's control interface.
    pub control: Handle<dyn Control>,
    /// The fault control of the driver.
    pub fault_control: Handle<dyn FaultControl>,
    /// The plan.
    pub schedule: Schedule,
    /// The manifest names of the driver and of the domain that runs the trial.
    pub(crate) driver_name: Text<32>,
    pub(crate) observer: Text<32>,
    /// A console command ends the run early.
    pub(crate) stop: AtomicBool,
    /// The time of the load is over.
    pub(crate) over: AtomicBool,
    /// No crashes are due in this span.
    pub(crate) calm: AtomicBool,
    pub(crate) crashes: AtomicU64,
    /// The killer is running.
    pub(crate) killing: AtomicBool,
    failed: AtomicBool,
}

impl AsRef<Handle<dyn Control>> for Trial {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.control
    }
}

impl Trial {
    pub(crate) fn new(
        Services { control, fault_control }: Services,
        names: [&str; 2],
    ) -> Result<Self, Failure> {
        let [driver_name, observer] = names.map(Text::new);
        let schedule = Schedule::read(&control)?;
        let no = || AtomicBool::new(false);
        let crashes = AtomicU64::new(0);
        let (stop, over, calm, killing, failed) = (no(), no(), no(), no(), no());
        Ok(Self {
            control,
            fault_control,
            schedule,
            driver_name,
            observer,
            stop,
            over,
            calm,
            crashes,
            killing,
            failed,
        })
    }

    /// Prints a line.
    pub fn print(&self, line: impl Into<Line>) {
        console::print(&self.control, line);
    }

    /// Reports a failure and ends the run.
    pub fn report_failure(&self, what: &str) {
        self.failed.store(true, Ordering::Relaxed);
        console::broken(&self.control, what);
    }

    /// Returns true if a failure was reported.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Returns true if the load must end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.has_failed()
    }

    /// Returns true if the load must end and no crash is in progress. Until then the killer needs the load to
    /// measure the outage.
    pub fn is_finished(&self) -> bool {
        self.is_over() && !self.killing.load(Ordering::Acquire)
    }

    /// Returns the number of crashes.
    pub fn crashes(&self) -> u64 {
        self.crashes.load(Ordering::Relaxed)
    }

    /// Returns the kernel's information on the driver.
    pub(crate) fn driver(&self) -> Result<DomainInfo, Failure> {
        Ok(self.control.find(self.driver_name)??)
    }
}
