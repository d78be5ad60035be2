//! Fault injection.
//!
//! The controller knows nothing of it. A [`FaultInjector`] acts at the boundaries of the device: between it
//! and its host ([`host`]), and between its registers and a driver ([`registers`]). The device's thread only
//! checks before each step that the device neither hangs nor is unplugged. The [`Rate`](device_bus::Rate) of
//! each [`Fault`] sets the occasions on which it acts. Faults of frames on their way to the device are the
//! wire's impairment.

pub(crate) mod host;
pub(crate) mod registers;

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use device_bus::{FaultKind, FaultRules, Presence};
use host::Repeat;
use registers::Stuck;

/// A way in which the device misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A receive descriptor reports another length than was written, up to 65535.
    WrongLength,
    /// A receive descriptor is done, and the rest of it is random.
    Garbage,
    /// A receive descriptor lacks the end of its frame.
    NoEnd,
    /// A receive descriptor is written again, up to 64 descriptors later, when its place holds one that was
    /// not used.
    Twice,
    /// A receive descriptor is not written back.
    LostDescriptor,
    /// A receive descriptor is done without its data: the buffer is unchanged.
    NoData,
    /// A transmit descriptor is done and not reported.
    LostReport,
    /// A queue's head register reads as a random value.
    WrongHead,
    /// All queues stand still until a reset. Occasions are completed descriptors.
    Hang,
    /// RXDCTL.ENABLE or TXDCTL.ENABLE does not change.
    StuckEnable,
    /// CTRL.RST stays set until a function level reset.
    StuckReset,
    /// RDRXCTL.DMAIDONE stays clear until the next reset.
    StuckDma,
    /// STATUS reports until a reset that the device masters the bus, although CTRL has disabled that.
    StuckMaster,
    /// EEC.ARD and EERD.DONE stay clear until the next reset.
    StuckEeprom,
    /// A word that is read from the EEPROM has a wrong bit.
    BadEeprom,
    /// The device is unplugged: registers read as ones, and it reaches no memory. Occasions are completed
    /// descriptors. It returns, reset, after the rule's duration or by
    /// [`Ixgbe::replug`](crate::Ixgbe::replug).
    Unplug,
    /// A spurious interrupt with a random vector follows one with a cause.
    Spurious,
    /// An interrupt is lost.
    Lost,
}

impl FaultKind for Fault {
    const ALL: &'static [Self] = &[
        Self::WrongLength,
        Self::Garbage,
        Self::NoEnd,
        Self::Twice,
        Self::LostDescriptor,
        Self::NoData,
        Self::LostReport,
        Self::WrongHead,
        Self::Hang,
        Self::StuckEnable,
        Self::StuckReset,
        Self::StuckDma,
        Self::StuckMaster,
        Self::StuckEeprom,
        Self::BadEeprom,
        Self::Unplug,
        Self::Spurious,
        Self::Lost,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::WrongLength => "wrong-length",
            Self::Garbage => "garbage",
            Self::NoEnd => "no-end",
            Self::Twice => "twice",
            Self::LostDescriptor => "lost-descriptor",
            Self::NoData => "no-data",
            Self::LostReport => "lost-report",
            Self::WrongHead => "wrong-head",
            Self::Hang => "hang",
            Self::StuckEnable => "stuck-enable",
            Self::StuckReset => "stuck-reset",
            Self::StuckDma => "stuck-dma",
            Self::StuckMaster => "stuck-master",
            Self::StuckEeprom => "stuck-eeprom",
            Self::BadEeprom => "bad-eeprom",
            Self::Unplug => "unplug",
            Self::Spurious => "spurious",
            Self::Lost => "lost",
        }
    }

    fn default_duration_ns(self) -> Option<u64> {
        // Until it is plugged in by hand.
        (self == Self::Unplug).then_some(u64::MAX)
    }
}

/// One kind of fault with its rate.
pub type Rule = device_bus::Rule<Fault>;

/// The fault injector of one device. Any thread may change the rate of each kind at any time.
///
/// Faults between a device and its host cost each access some time, so they are only possible if the device's
/// configuration has a rule, be it one with the rate `never`.
pub struct FaultInjector {
    switches: FaultRules<Fault>,
    presence: Presence,
    is_hung: AtomicBool,
    stuck: Mutex<Vec<Stuck>>,
    repeats: Mutex<Vec<Repeat>>,
}

impl Deref for FaultInjector {
    type Target = FaultRules<Fault>;

    fn deref(&self) -> &FaultRules<Fault> {
        &self.switches
    }
}

impl FaultInjector {
    pub(crate) fn new(seed: u64, rules: &[Rule]) -> Self {
        Self {
            switches: FaultRules::new(seed, rules),
            presence: Presence::new(),
            is_hung: AtomicBool::new(false),
            stuck: Mutex::new(Vec::new()),
            repeats: Mutex::new(Vec::new()),
        }
    }

    /// Returns true if the device is unplugged now.
    pub fn is_unplugged(&self) -> bool {
        self.presence.is_unplugged()
    }

    /// Returns true if the device hangs.
    pub fn is_hung(&self) -> bool {
        self.is_hung.load(Ordering::Acquire)
    }

    /// Makes the device hang.
    pub(crate) fn hang(&self) {
        self.is_hung.store(true, Ordering::Release);
    }

    /// Returns true if the device processes its queues.
    #[inline]
    pub(crate) fn is_working(&self) -> bool {
        !self.is_hung() && !self.is_unplugged()
    }

    /// Unplugs the device.
    pub(crate) fn unplug(&self) {
        self.presence.unplug(self.unplug_ns());
    }

    /// The time for which the device is unplugged, in nanoseconds.
    pub(crate) fn unplug_ns(&self) -> u64 {
        self.duration_ns(Fault::Unplug)
    }

    /// The presence of the device in its slot.
    #[inline]
    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }
}
