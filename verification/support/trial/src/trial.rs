//! [`Trial`]: the state that all threads of a trial share.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coppice_control::{Control, DomainInfo};
use coppice_experiment::Failure;
use coppice_interfaces::{DomainId, Handle, Text};
use coppice_run_protocol::trial::Line;
use coppice_runtime::sync::Mutex;
use coppice_test_interfaces::FaultControl;

use crate::deaths::DeathLog;
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
    /// The ends of instances. Set when the run begins.
    deaths: Mutex<Option<DeathLog>>,
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
            deaths: Mutex::new(None),
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

    /// Begins to report the ends of instances that no fault explains.
    pub(crate) fn watch_deaths(&self) -> Result<(), Failure> {
        let faulty = if self.schedule.has_device_faults { Some(self.driver()?.id) } else { None };
        *self.deaths.lock() = Some(DeathLog::begin(&self.control, faulty)?);
        Ok(())
    }

    /// Reports new ends of instances, except the announced one.
    pub(crate) fn report_deaths(&self) -> Result<(), Failure> {
        match &mut *self.deaths.lock() {
            Some(log) => log.read(&self.control, &mut |line| self.print(line)),
            None => Ok(()),
        }
    }

    /// Announces that the trial is about to end this instance.
    pub(crate) fn announce_death(&self, instance: DomainId, is_hang: bool) -> Result<(), Failure> {
        self.report_deaths()?;
        if let Some(log) = &mut *self.deaths.lock() {
            log.expect(instance, is_hang);
        }
        Ok(())
    }

    /// Withdraws the announcement. `has_ended` is true if the trial has ended the instance.
    pub(crate) fn conclude_death(&self, has_ended: bool) -> Result<(), Failure> {
        match &mut *self.deaths.lock() {
            Some(log) => log.conclude(&self.control, has_ended, &mut |line| self.print(line)),
            None => Ok(()),
        }
    }

    /// Returns the number of instances that ended without an injected fault.
    pub(crate) fn unexpected_deaths(&self) -> u64 {
        self.deaths.lock().as_ref().map_or(0, DeathLog::unexpected)
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
