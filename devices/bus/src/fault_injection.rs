//! Faults on demand, whatever they are: how often, for how long, and the same for the same seed.
//!
//! A model says what its kinds are ([`FaultKind`]) and where they act. [`Switches`] says when, and may be turned by any thread at
//! any time. Each kind draws from a generator of its own, so that adding one does not shift the others.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Chance, ValueError, parse_wait};

/// Ways to misbehave.
pub trait FaultKind: Copy + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// All of them, in the order of [`Self::index`].
    const ALL: &'static [Self];

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;

    /// As command lines spell it.
    fn name(self) -> &'static str;

    /// How long a rule lasts that does not say; `None` if the kind has no use for a duration.
    fn default_duration_ns(self) -> Option<u64>;
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

impl Rate {
    /// Reads `N/M`, `@N`, `#N`, `always` or `never`.
    fn parse(text: &str) -> Option<Self> {
        let count = |text: &str| text.parse().ok().filter(|count| *count > 0);
        match text {
            "always" => return Some(Self::Every(1)),
            "never" => return Some(Self::Never),
            _ => {}
        }
        if let Some(n) = text.strip_prefix('@') {
            return count(n).map(Self::Every);
        }
        if let Some(n) = text.strip_prefix('#') {
            return count(n).map(Self::Once);
        }
        let (times, of) = text.split_once('/')?;
        let (times, of) = (times.parse().ok()?, of.parse().ok()?);
        (times <= of && of > 0).then_some(Self::Chance { times, of })
    }
}

/// One kind of fault injection with its rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule<K> {
    /// What.
    pub kind: K,
    /// When.
    pub rate: Rate,
    /// For how long, for kinds that last.
    pub duration_ns: Option<u64>,
}

impl<K: FaultKind> Rule<K> {
    /// Reads `KIND:RATE[:DURATION]`. A rate is `N/M` (by chance), `@N` (each N-th time), `#N` (once, the N-th time), `always` or
    /// `never`.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut parts = text.splitn(3, ':');
        let name = parts.next().unwrap_or_default();
        let kind = K::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| {
            RuleError::Kind { name: name.into(), kinds: K::ALL.iter().map(|kind| kind.name()).collect() }
        })?;
        let rate = parts.next().ok_or_else(|| RuleError::NoRate(text.into()))?;
        let rate = Rate::parse(rate).ok_or_else(|| RuleError::Rate(rate.into()))?;
        let duration_ns = match parts.next() {
            None => None,
            Some(_) if kind.default_duration_ns().is_none() => {
                return Err(RuleError::NoDuration(kind.name()));
            }
            Some(text) => Some(parse_wait(text).map_err(RuleError::Duration)?),
        };
        Ok(Self { kind, rate, duration_ns })
    }

    /// Reads rules that are joined by `+`.
    ///
    /// # Errors
    /// [`RuleError`] of the first that is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, RuleError> {
        text.split('+').map(Self::parse).collect()
    }
}

/// A text that is no rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleError {
    /// No kind of fault injection.
    Kind {
        /// As given.
        name: String,
        /// Those that there are.
        kinds: Vec<&'static str>,
    },
    /// FaultInjector without a rate.
    NoRate(String),
    /// No rate.
    Rate(String),
    /// No duration.
    Duration(ValueError),
    /// A duration for a kind that has none.
    NoDuration(&'static str),
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { name, kinds } => {
                write!(f, "`{name}` is no kind of faults; there are {}", kinds.join(", "))
            }
            Self::NoRate(text) => write!(f, "`{text}` lacks a rate, such as `{text}:1/1000`"),
            Self::Rate(text) => write!(
                f,
                "`{text}` is no rate: write 1/1000 (by chance), @1000 (each 1000th time), #1000 (once, the 1000th \
                 time), always or never"
            ),
            Self::Duration(error) => error.fmt(f),
            Self::NoDuration(name) => write!(f, "`{name}` takes no duration"),
        }
    }
}

impl std::error::Error for RuleError {}

/// When each kind acts.
pub struct Switches<K> {
    seed: u64,
    slots: Box<[Slot]>,
    kind: PhantomData<K>,
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

impl<K: FaultKind> Switches<K> {
    /// With these rules.
    pub fn new(seed: u64, rules: &[Rule<K>]) -> Self {
        let slot = |kind: &K| Slot {
            armed: AtomicBool::new(false),
            duration_ns: AtomicU64::new(kind.default_duration_ns().unwrap_or(0)),
            acted: AtomicU64::new(0),
            draw: Mutex::new(Draw { rate: Rate::Never, occasions: 0, chance: chance(seed, kind.index()) }),
        };
        let switches = Self { seed, slots: K::ALL.iter().map(slot).collect(), kind: PhantomData };
        rules.iter().for_each(|rule| switches.set(*rule));
        switches
    }

    /// Begins, changes or ends one kind. Its chance begins anew, from the seed.
    pub fn set(&self, rule: Rule<K>) {
        let slot = self.slot(rule.kind);
        let mut draw = slot.draw();
        *draw = Draw { rate: rule.rate, occasions: 0, chance: chance(self.seed, rule.kind.index()) };
        if let Some(duration) = rule.duration_ns.or(rule.kind.default_duration_ns()) {
            slot.duration_ns.store(duration, Ordering::Relaxed);
        }
        slot.armed.store(rule.rate != Rate::Never, Ordering::Release);
    }

    /// Sets a rate, with the kind's default duration.
    pub fn set_rate(&self, kind: K, rate: Rate) {
        self.set(Rule { kind, rate, duration_ns: None });
    }

    /// Ends all kinds. What they did stays done: a device that is unplugged stays so.
    pub fn stop(&self) {
        K::ALL.iter().for_each(|kind| self.set_rate(*kind, Rate::Never));
    }

    /// How often a kind has struck.
    pub fn acted(&self, kind: K) -> u64 {
        self.slot(kind).acted.load(Ordering::Relaxed)
    }

    /// An occasion for `kind`: whether it strikes. For models.
    #[inline]
    pub fn strikes(&self, kind: K) -> bool {
        let slot = self.slot(kind);
        slot.armed.load(Ordering::Relaxed) && slot.strikes()
    }

    /// A number from the generator of `kind`. For models.
    pub fn draw(&self, kind: K) -> u64 {
        self.slot(kind).draw().chance.next_u64()
    }

    /// An interrupt on its way: it may be lost, and another one may come beside it, with one of `vectors` vectors. For models.
    pub fn interrupt(&self, (lost, spurious): (K, K), vectors: u16, vector: u16, raise: impl Fn(u16)) {
        if !self.strikes(lost) {
            raise(vector);
        }
        if self.strikes(spurious) {
            raise((self.draw(spurious) % u64::from(vectors.max(1))) as u16);
        }
    }

    /// How long `kind` lasts. For models.
    pub fn duration_ns(&self, kind: K) -> u64 {
        self.slot(kind).duration_ns.load(Ordering::Relaxed)
    }

    #[inline]
    fn slot(&self, kind: K) -> &Slot {
        &self.slots[kind.index()]
    }
}

impl Slot {
    #[cold]
    fn strikes(&self) -> bool {
        let mut draw = self.draw();
        draw.occasions += 1;
        let strikes = match draw.rate {
            Rate::Never => false,
            Rate::Chance { times, of } => draw.chance.below(u64::from(of.max(1))) < u64::from(times),
            Rate::Every(n) => draw.occasions.is_multiple_of(n.max(1)),
            Rate::Once(n) => draw.occasions == n.max(1),
        };
        if strikes {
            self.acted.fetch_add(1, Ordering::Relaxed);
        }
        strikes
    }

    fn draw(&self) -> MutexGuard<'_, Draw> {
        self.draw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chance(seed: u64, index: usize) -> Chance {
    // Far apart in the generator's sequence, whose steps are constant.
    Chance::new(Chance::new(seed).next_u64() ^ (index as u64) << 56)
}
