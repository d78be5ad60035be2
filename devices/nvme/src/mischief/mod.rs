//! Faults on demand.
//!
//! The controller is written as if none of this existed. Mischief sits where its paths lead through anyway: between
//! it and its host ([`host`]), between its registers and who reads them ([`registers`]), between a command and its
//! data, and between an answer and the completion queue ([`commands`]). Each [`Kind`] has a [`Rate`], which can be
//! changed at any time, and draws from a generator of its own, so that adding one does not shift the others.

pub(crate) mod commands;
pub(crate) mod host;
pub(crate) mod registers;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use device_bus::Chance;

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

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 14] = [
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

    /// As command lines spell it.
    pub fn name(self) -> &'static str {
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

    /// How long a rule lasts that does not say; `None` if the kind has no use for a duration.
    pub fn default_duration_ns(self) -> Option<u64> {
        match self {
            Self::Delay => Some(1_000_000),
            Self::Reorder => Some(100_000),
            // Until somebody plugs it in.
            Self::Unplug => Some(u64::MAX),
            _ => None,
        }
    }
}

/// On which occasions something happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// On none.
    Never,
    /// On each with this probability.
    Chance {
        /// How often.
        times: u32,
        /// Out of how many; not 0.
        of: u32,
    },
    /// On each n-th, counted from when it was set; not 0.
    Every(u64),
    /// Once, on the n-th occasion from when it was set, 1 being the next.
    Once(u64),
}

/// One kind of mischief with its rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What.
    pub kind: Kind,
    /// When.
    pub rate: Rate,
    /// For how long, for kinds that last.
    pub duration_ns: Option<u64>,
}

/// The switches of one device's misbehaviour, which any thread may turn at any time.
pub struct Mischief {
    seed: u64,
    slots: [Slot; Kind::ALL.len()],
    /// When an unplugged device comes back; 0 while it is plugged in.
    unplugged_until: AtomicU64,
    /// What CSTS.RDY is stuck at: [`registers`].
    stuck: AtomicU8,
    clock: std::time::Instant,
}

struct Slot {
    /// Whether the rate is not [`Rate::Never`]: what the fast path looks at.
    armed: AtomicBool,
    duration_ns: AtomicU64,
    acted: AtomicU64,
    draw: Mutex<Draw>,
}

struct Draw {
    rate: Rate,
    occasions: u64,
    chance: Chance,
}

impl Mischief {
    pub(crate) fn new(seed: u64, rules: &[Rule]) -> Self {
        let slots = Kind::ALL.map(|kind| Slot {
            armed: AtomicBool::new(false),
            duration_ns: AtomicU64::new(kind.default_duration_ns().unwrap_or(0)),
            acted: AtomicU64::new(0),
            draw: Mutex::new(Draw { rate: Rate::Never, occasions: 0, chance: chance(seed, kind) }),
        });
        let mischief = Self {
            seed,
            slots,
            unplugged_until: AtomicU64::new(0),
            stuck: AtomicU8::new(registers::NOT_STUCK),
            clock: std::time::Instant::now(),
        };
        for rule in rules {
            mischief.set(*rule);
        }
        mischief
    }

    /// Begins, changes or ends one kind. Its chance begins anew, from the seed.
    pub fn set(&self, rule: Rule) {
        let slot = self.slot(rule.kind);
        let mut draw = slot.draw();
        *draw = Draw { rate: rule.rate, occasions: 0, chance: chance(self.seed, rule.kind) };
        if let Some(duration) = rule.duration_ns.or(rule.kind.default_duration_ns()) {
            slot.duration_ns.store(duration, Ordering::Relaxed);
        }
        slot.armed.store(rule.rate != Rate::Never, Ordering::Release);
    }

    /// Sets a rate, with the kind's default duration.
    pub fn set_rate(&self, kind: Kind, rate: Rate) {
        self.set(Rule { kind, rate, duration_ns: None });
    }

    /// Ends all kinds. What they did stays done: a device that is unplugged stays so.
    pub fn stop(&self) {
        for kind in Kind::ALL {
            self.set_rate(kind, Rate::Never);
        }
    }

    /// How often a kind has struck.
    pub fn acted(&self, kind: Kind) -> u64 {
        self.slot(kind).acted.load(Ordering::Relaxed)
    }

    /// Whether the device is unplugged at this moment.
    pub fn is_unplugged(&self) -> bool {
        self.unplugged_until.load(Ordering::Acquire) != 0
    }

    /// An occasion for `kind`: whether it strikes.
    fn strikes(&self, kind: Kind) -> bool {
        let slot = self.slot(kind);
        if !slot.armed.load(Ordering::Relaxed) {
            return false;
        }
        let mut draw = slot.draw();
        draw.occasions += 1;
        let strikes = match draw.rate {
            Rate::Never => false,
            Rate::Chance { times, of } => draw.chance.below(u64::from(of.max(1))) < u64::from(times),
            Rate::Every(n) => draw.occasions.is_multiple_of(n.max(1)),
            Rate::Once(n) => draw.occasions == n.max(1),
        };
        if strikes {
            slot.acted.fetch_add(1, Ordering::Relaxed);
        }
        strikes
    }

    /// A number from the generator of `kind`.
    fn draw(&self, kind: Kind) -> u64 {
        self.slot(kind).draw().chance.next_u64()
    }

    fn duration_ns(&self, kind: Kind) -> u64 {
        self.slot(kind).duration_ns.load(Ordering::Relaxed)
    }

    fn slot(&self, kind: Kind) -> &Slot {
        &self.slots[kind as usize]
    }

    fn now_ns(&self) -> u64 {
        // Never 0, which means plugged in.
        self.clock.elapsed().as_nanos() as u64 + 1
    }
}

impl Slot {
    fn draw(&self) -> MutexGuard<'_, Draw> {
        self.draw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chance(seed: u64, kind: Kind) -> Chance {
    // Far apart in the generator's sequence, whose steps are constant.
    Chance::new(Chance::new(seed).next_u64() ^ (kind as u64) << 56)
}
