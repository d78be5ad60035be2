//! [`Stage`]: what all threads share.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coppice_experiment::Failure;
use coppice_interfaces::block::{Block, BlockInfo, Operation};
use coppice_interfaces::{Control, DomainInfo, Handle, Imports, Orders, Text};

use crate::console;
use crate::plan::Plan;

/// What the manifest wires the demonstration to.
#[derive(Imports)]
pub struct Wires {
    /// To kill, and to look.
    pub(crate) control: Handle<dyn Control>,
    /// The disk, behind the shadow.
    pub(crate) disk: Handle<dyn Block>,
    /// Has the driver go wrong.
    pub(crate) orders: Handle<dyn Orders>,
}

/// What all threads share.
pub(crate) struct Stage {
    pub(crate) wires: Wires,
    pub(crate) plan: Plan,
    pub(crate) disk: BlockInfo,
    /// The driver's name in the manifest, and ours.
    pub(crate) victim: &'static str,
    pub(crate) observer: &'static str,
    /// Somebody wants the run to end early.
    pub(crate) stop: AtomicBool,
    /// The load's time is over.
    pub(crate) over: AtomicBool,
    /// Nothing is to be crashed for now.
    pub(crate) calm: AtomicBool,
    broken: AtomicBool,
    /// What was answered, and what of it was wrong.
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) ios: AtomicU64,
    pub(crate) passes: AtomicU64,
    pub(crate) wrong_bytes: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) twice: AtomicU64,
    pub(crate) crashes: AtomicU64,
}

impl AsRef<Handle<dyn Control>> for Stage {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.wires.control
    }
}

impl Stage {
    pub(crate) fn new(wires: Wires, victim: &'static str, observer: &'static str) -> Result<Self, Failure> {
        let disk = wires.disk.info()?;
        let plan = Plan::read(&wires.control, &disk)?;
        let zero = || AtomicU64::new(0);
        Ok(Self {
            wires,
            plan,
            disk,
            victim,
            observer,
            stop: AtomicBool::new(false),
            over: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            read_bytes: zero(),
            written_bytes: zero(),
            ios: zero(),
            passes: zero(),
            wrong_bytes: zero(),
            lost: zero(),
            twice: zero(),
            crashes: zero(),
        })
    }

    /// Says a line.
    pub(crate) fn say(&self, line: fmt::Arguments<'_>) {
        console::say(&self.wires.control, line);
    }

    /// A promise is broken: says so, and ends the run.
    pub(crate) fn breaks(&self, what: &str) {
        self.broken.store(true, Ordering::Relaxed);
        console::broken(&self.wires.control, what);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether the load is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.is_broken()
    }

    pub(crate) fn can_flush(&self) -> bool {
        self.disk.operations.contains(Operation::Flush)
    }

    /// The driver, as the kernel sees it.
    pub(crate) fn driver(&self) -> Result<DomainInfo, Failure> {
        Ok(self.wires.control.find(Text::new(self.victim))??)
    }
}
