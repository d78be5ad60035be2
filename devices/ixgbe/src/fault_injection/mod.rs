//! Faults on demand.
//!
//! The controller is written as if none of this existed. FaultInjector sits where its paths lead through anyway: between it and its host
//! ([`host`]), and between its registers and who accesses them ([`registers`]). A device that hangs or is gone is asked about before each
//! step. When each [`Kind`] acts is up to its [`Rate`](device_bus::Rate). What happens to frames before they come to the device is the wire's.

pub(crate) mod host;
pub(crate) mod registers;

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use device_bus::{FaultKind, FaultRules, Presence};
use host::Again;
use registers::Stuck;

/// A way to misbehave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A receive descriptor says another length than that of what was written, up to 65535.
    WrongLength,
    /// A receive descriptor is done, and the rest of it is anything.
    Garbage,
    /// A receive descriptor does not say that its frame ends with it.
    NoEnd,
    /// A receive descriptor is done again, up to 64 descriptors later: whatever is there then has not been used.
    Twice,
    /// A receive descriptor is not written back.
    LostDescriptor,
    /// What a receive descriptor says was written was not: the buffer is as it was.
    NoData,
    /// That a transmit descriptor is done is not reported.
    LostReport,
    /// A queue's head register reads as anything.
    WrongHead,
    /// No queue gets any further until a reset. Occasions are descriptors that are done.
    Hang,
    /// RXDCTL.ENABLE or TXDCTL.ENABLE stays as it is.
    StuckEnable,
    /// CTRL.RST stays set until a function level reset.
    StuckReset,
    /// RDRXCTL.DMAIDONE stays clear until the next reset.
    StuckDma,
    /// STATUS says that the device still masters the bus, although CTRL disables that, until a reset.
    StuckMaster,
    /// EEC.ARD and EERD.DONE stay clear until the next reset.
    StuckEeprom,
    /// A word that is read from the EEPROM has a wrong bit.
    BadEeprom,
    /// The device is gone: registers read as ones, and it reaches no memory. Occasions are descriptors that are done. It comes back,
    /// reset, after the rule's duration or by [`Ixgbe::replug`](crate::Ixgbe::replug).
    Unplug,
    /// An interrupt comes without a reason, beside one that has one, with any vector.
    Spurious,
    /// An interrupt does not come.
    Lost,
}

impl FaultKind for Kind {
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
        // Until somebody plugs it in.
        (self == Self::Unplug).then_some(u64::MAX)
    }
}

/// One kind of fault injection with its rate.
pub type Rule = device_bus::Rule<Kind>;

/// The switches of one device's misbehaviour, which any thread may turn at any time: those of each kind, and some more.
///
/// What happens between a device and its host costs each access something, so it takes part only if the device's configuration has a
/// rule, be it one with the rate `never`.
pub struct FaultInjector {
    switches: FaultRules<Kind>,
    presence: Presence,
    is_hung: AtomicBool,
    stuck: Mutex<Vec<Stuck>>,
    again: Mutex<Vec<Again>>,
}

impl Deref for FaultInjector {
    type Target = FaultRules<Kind>;

    fn deref(&self) -> &FaultRules<Kind> {
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
            again: Mutex::new(Vec::new()),
        }
    }

    /// Whether the device is unplugged at this moment.
    pub fn is_unplugged(&self) -> bool {
        self.presence.is_unplugged()
    }

    /// Whether it hangs.
    pub fn is_hung(&self) -> bool {
        self.is_hung.load(Ordering::Acquire)
    }

    /// Has it hang.
    pub(crate) fn hang(&self) {
        self.is_hung.store(true, Ordering::Release);
    }

    /// Whether the device does anything with its queues.
    #[inline]
    pub(crate) fn lets_work(&self) -> bool {
        !self.is_hung() && !self.is_unplugged()
    }

    /// Pulls the device out.
    pub(crate) fn unplug(&self) {
        self.presence.unplug(self.duration_ns(Kind::Unplug));
    }

    /// See [`Presence::replug`].
    pub(crate) fn replug(&self, reset: impl FnOnce()) -> bool {
        self.presence.replug(reset)
    }

    /// See [`Presence::insertions`].
    pub(crate) fn insertions(&self) -> u64 {
        self.presence.insertions()
    }

    /// How long an unplugged device stays out, in nanoseconds; `None` if it is plugged in.
    #[inline]
    pub(crate) fn unplugged_for_ns(&self) -> Option<u64> {
        self.presence.unplugged_for_ns()
    }
}
