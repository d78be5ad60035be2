//! Faults on demand.
//!
//! The controller is written as if none of this existed. FaultInjector sits where its paths lead through anyway: between
//! it and its host ([`host`]), between its registers and who reads them ([`registers`]), between a command and its
//! data, and between an answer and the completion queue ([`commands`]). When each
//! [`Kind`] acts is up to its [`Rate`](device_bus::Rate).

pub(crate) mod commands;
pub(crate) mod host;
pub(crate) mod registers;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use device_bus::{FaultKind, Presence, Switches};

/// A way to misbehave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A command is executed later, by the rule's duration.
    Delay,
    /// A completion comes after later ones, by up to the rule's duration.
    Reorder,
    /// A command is executed and never answered.
    Drop,
    /// A completion names another command id.
    WrongId,
    /// A completion of a command that was executed says that it failed, or the other way round.
    WrongStatus,
    /// A completion comes twice.
    Duplicate,
    /// A completion says that the controller is elsewhere in the submission queue.
    WrongHead,
    /// Less data is transferred than was asked for; the completion says success.
    Short,
    /// More data is written than was asked for: to the end of the last page that the command names.
    Long,
    /// CSTS.RDY stays as it is when CC.EN changes.
    StuckReady,
    /// CSTS.CFS is set and nothing is answered until a reset. Occasions are commands.
    Fatal,
    /// The device is gone: registers read as ones, and it reaches no memory. Occasions are commands. It comes back,
    /// reset, after the rule's duration or by [`Nvme::replug`](crate::Nvme::replug). It keeps power meanwhile.
    Unplug,
    /// An interrupt comes without a reason, beside one that has one, with any vector.
    Spurious,
    /// An interrupt does not come.
    Lost,
}

impl FaultKind for Kind {
    const ALL: &'static [Self] = &[
        Self::Delay,
        Self::Reorder,
        Self::Drop,
        Self::WrongId,
        Self::WrongStatus,
        Self::Duplicate,
        Self::WrongHead,
        Self::Short,
        Self::Long,
        Self::StuckReady,
        Self::Fatal,
        Self::Unplug,
        Self::Spurious,
        Self::Lost,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Reorder => "reorder",
            Self::Drop => "drop",
            Self::WrongId => "wrong-id",
            Self::WrongStatus => "wrong-status",
            Self::Duplicate => "duplicate",
            Self::WrongHead => "wrong-head",
            Self::Short => "short",
            Self::Long => "long",
            Self::StuckReady => "stuck-ready",
            Self::Fatal => "fatal",
            Self::Unplug => "unplug",
            Self::Spurious => "spurious",
            Self::Lost => "lost",
        }
    }

    fn default_duration_ns(self) -> Option<u64> {
        match self {
            Self::Delay => Some(1_000_000),
            Self::Reorder => Some(100_000),
            // Until somebody plugs it in.
            Self::Unplug => Some(u64::MAX),
            _ => None,
        }
    }
}

/// One kind of fault injection with its rate.
pub type Rule = device_bus::Rule<Kind>;

/// The switches of one device's misbehaviour, which any thread may turn at any time: those of each kind, and some more.
pub struct FaultInjector {
    switches: Switches<Kind>,
    spares_admin: AtomicBool,
    presence: Presence,
    /// What CSTS.RDY is stuck at: [`registers`].
    stuck: AtomicU8,
}

impl Deref for FaultInjector {
    type Target = Switches<Kind>;

    fn deref(&self) -> &Switches<Kind> {
        &self.switches
    }
}

impl FaultInjector {
    pub(crate) fn new(seed: u64, spares_admin: bool, rules: &[Rule]) -> Self {
        Self {
            switches: Switches::new(seed, rules),
            spares_admin: AtomicBool::new(spares_admin),
            presence: Presence::new(),
            stuck: AtomicU8::new(registers::NOT_STUCK),
        }
    }

    /// Leaves admin commands alone, or no longer: what happens to commands, data and completions then happens to those
    /// of I/O queues only.
    pub fn spare_admin(&self, spare: bool) {
        self.spares_admin.store(spare, Ordering::Relaxed);
    }

    /// Whether the device is unplugged at this moment.
    pub fn is_unplugged(&self) -> bool {
        self.presence.is_unplugged()
    }
}
