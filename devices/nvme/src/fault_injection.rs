//! [`FaultInjector`], the fault injection of a device.
//!
//! The controller is unaware of fault injection, which sits on the borders of the controller: to its host
//! ([`host`]), to the readers and writers of its registers ([`registers`]), to the data of its commands and
//! to its completion queues ([`commands`]). A [`Kind`] of fault is injected at its
//! [`Rate`](device_bus::Rate).

pub(crate) mod commands;
pub(crate) mod host;
pub(crate) mod registers;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use device_bus::{FaultKind, FaultRules, Presence};

/// A kind of fault of an NVMe controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A command is executed late, by the duration of the rule.
    Delay,
    /// A completion is delayed, by up to the duration of the rule, so that later ones overtake it.
    Reorder,
    /// A command is executed and never completed.
    Drop,
    /// A completion has a wrong command id.
    WrongId,
    /// A completion reports an error for a command that succeeded, or success for one that failed.
    WrongStatus,
    /// A completion is posted twice.
    Duplicate,
    /// A completion reports a wrong head of the submission queue.
    WrongHead,
    /// Less data is transferred than requested; the completion reports success.
    Short,
    /// More data is written than requested: to the end of the last page of the command.
    Long,
    /// CSTS.RDY does not follow a change of CC.EN.
    StuckReady,
    /// CSTS.CFS is set, and no command is completed until a reset. Occasions are commands.
    Fatal,
    /// The device is unplugged: registers read as ones, and it reaches no memory. Occasions are commands. It
    /// comes back, reset, after the duration of the rule or by [`Nvme::replug`](crate::Nvme::replug). It does
    /// not lose power.
    Unplug,
    /// An additional interrupt with a random vector follows a regular one.
    Spurious,
    /// An interrupt is not sent.
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
            // Until it is plugged in by a call.
            Self::Unplug => Some(u64::MAX),
            _ => None,
        }
    }
}

/// A kind of fault with its rate.
pub type Rule = device_bus::Rule<Kind>;

/// The fault injection of one device: the rules of all kinds, and the state of faults that last. Any thread
/// may change the rules at any time.
pub struct FaultInjector {
    rules: FaultRules<Kind>,
    spares_admin: AtomicBool,
    presence: Presence,
    /// The value at which CSTS.RDY is stuck: see [`registers`].
    stuck: AtomicU8,
}

impl Deref for FaultInjector {
    type Target = FaultRules<Kind>;

    fn deref(&self) -> &FaultRules<Kind> {
        &self.rules
    }
}

impl FaultInjector {
    pub(crate) fn new(seed: u64, spares_admin: bool, rules: &[Rule]) -> Self {
        Self {
            rules: FaultRules::new(seed, rules),
            spares_admin: AtomicBool::new(spares_admin),
            presence: Presence::new(),
            stuck: AtomicU8::new(registers::NOT_STUCK),
        }
    }

    /// Exempts admin commands from the faults of commands, data and completions, or ends the exemption.
    pub fn spare_admin(&self, spare: bool) {
        self.spares_admin.store(spare, Ordering::Relaxed);
    }

    /// Returns true while the device is unplugged.
    pub fn is_unplugged(&self) -> bool {
        self.presence.is_unplugged()
    }
}
