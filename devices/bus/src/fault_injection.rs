//! The timing of fault injection: rate, duration, and reproducibility by a seed.
//!
//! A model defines its kinds of fault ([`FaultKind`]) and their injection points. [`FaultRules`] decides when
//! a fault is injected; any thread may change the rules at any time. Each kind has a random generator of its
//! own, so that a new kind does not change the sequences of the others.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{SplitMix64, ValueError, parse_wait};

/// A kind of fault that a model can inject; an enum of the model.
pub trait FaultKind: Copy + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// All kinds, in the order of [`Self::index`].
    const ALL: &'static [Self];

    /// The index in [`Self::ALL`].
    fn index(self) -> usize;

    /// The name on command lines.
    fn name(self) -> &'static str;

    /// The duration of a rule without one, in nanoseconds; `None` if the kind has no duration.
    fn default_duration_ns(self) -> Option<u64>;
}

/// The occasions on which a fault is injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// No occasion.
    Never,
    /// Each occasion with a probability of `times` in `of`.
    Probability {
        /// The numerator.
        times: u32,
        /// The denominator, not 0.
        of: u32,
    },
    /// Each n-th occasion, counted from the time of setting; not 0.
    Every(u64),
    /// Only the n-th occasion from the time of setting on; 1 is the next.
    Once(u64),
}

impl Rate {
    /// Parses `N/M`, `@N`, `#N`, `always` or `never`.
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
        (times <= of && of > 0).then_some(Self::Probability { times, of })
    }
}

/// A kind of fault with its rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule<K> {
    /// The kind of fault.
    pub kind: K,
    /// The occasions on which it is injected.
    pub rate: Rate,
    /// The duration, for kinds that have one; `None` is the default of the kind.
    pub duration_ns: Option<u64>,
}

impl<K: FaultKind> Rule<K> {
    /// Parses `KIND:RATE[:DURATION]`. A rate is `N/M` (a probability), `@N` (each N-th time), `#N` (once, the
    /// N-th time), `always` or `never`.
    ///
    /// # Errors
    /// [`RuleError`] if the kind is unknown, the rate or the duration is malformed, or the kind has no
    /// duration.
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

    /// Parses rules that are joined by `+`.
    ///
    /// # Errors
    /// [`RuleError`] of the first malformed rule.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, RuleError> {
        text.split('+').map(Self::parse).collect()
    }
}

/// The error for a malformed rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleError {
    /// An unknown kind of fault.
    Kind {
        /// The name in the rule.
        name: String,
        /// The names of all kinds.
        kinds: Vec<&'static str>,
    },
    /// A rule without a rate; the text of the rule.
    NoRate(String),
    /// A malformed rate; its text.
    Rate(String),
    /// A malformed duration.
    Duration(ValueError),
    /// A duration for a kind that has none; the name of the kind.
    NoDuration(&'static str),
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { name, kinds } => {
                write!(f, "`{name}` is no kind of fault; the kinds are {}", kinds.join(", "))
            }
            Self::NoRate(text) => write!(f, "`{text}` lacks a rate, such as `{text}:1/1000`"),
            Self::Rate(text) => write!(
                f,
                "`{text}` is no rate: write 1/1000 (a probability), @1000 (each 1000th time), #1000 (once, the 1000th \
                 time), always or never"
            ),
            Self::Duration(error) => error.fmt(f),
            Self::NoDuration(name) => write!(f, "`{name}` takes no duration"),
        }
    }
}

impl std::error::Error for RuleError {}

/// The current rules of all kinds of fault of one device.
pub struct FaultRules<K> {
    seed: u64,
    states: Box<[KindState]>,
    kind: PhantomData<K>,
}

struct KindState {
    /// True if the rate is not [`Rate::Never`]; read on the fast path.
    armed: AtomicBool,
    duration_ns: AtomicU64,
    injections: AtomicU64,
    draw: Mutex<DrawState>,
}

struct DrawState {
    rate: Rate,
    occasions: u64,
    random: SplitMix64,
}

impl<K: FaultKind> FaultRules<K> {
    /// Creates the state of a device with these rules, and no fault of other kinds.
    pub fn new(seed: u64, rules: &[Rule<K>]) -> Self {
        let state = |kind: &K| KindState {
            armed: AtomicBool::new(false),
            duration_ns: AtomicU64::new(kind.default_duration_ns().unwrap_or(0)),
            injections: AtomicU64::new(0),
            draw: Mutex::new(DrawState {
                rate: Rate::Never,
                occasions: 0,
                random: generator(seed, kind.index()),
            }),
        };
        let this = Self { seed, states: K::ALL.iter().map(state).collect(), kind: PhantomData };
        rules.iter().for_each(|rule| this.set(*rule));
        this
    }

    /// Sets the rule of one kind, and restarts its random sequence from the seed.
    pub fn set(&self, rule: Rule<K>) {
        let state = self.state(rule.kind);
        let mut draw = state.draw();
        *draw = DrawState { rate: rule.rate, occasions: 0, random: generator(self.seed, rule.kind.index()) };
        if let Some(duration) = rule.duration_ns.or(rule.kind.default_duration_ns()) {
            state.duration_ns.store(duration, Ordering::Relaxed);
        }
        state.armed.store(rule.rate != Rate::Never, Ordering::Release);
    }

    /// Sets a rate, with the kind's default duration.
    pub fn set_rate(&self, kind: K, rate: Rate) {
        self.set(Rule { kind, rate, duration_ns: None });
    }

    /// Sets the rate of all kinds to [`Rate::Never`]. Effects of earlier faults stay: an unplugged device
    /// stays unplugged.
    pub fn stop(&self) {
        K::ALL.iter().for_each(|kind| self.set_rate(*kind, Rate::Never));
    }

    /// The number of faults of `kind` injected so far.
    pub fn injections(&self, kind: K) -> u64 {
        self.state(kind).injections.load(Ordering::Relaxed)
    }

    /// For models: counts an occasion for `kind`, and returns true if the fault is to be injected.
    #[inline]
    pub fn fires(&self, kind: K) -> bool {
        let state = self.state(kind);
        state.armed.load(Ordering::Relaxed) && state.fires()
    }

    /// For models: returns a number from the random generator of `kind`.
    pub fn draw(&self, kind: K) -> u64 {
        self.state(kind).draw().random.next_u64()
    }

    /// For models: sends an interrupt with `raise`, unless a `lost` fault is due, and one more with a random
    /// vector below `vectors` if a `spurious` fault is due.
    pub fn interrupt(&self, (lost, spurious): (K, K), vectors: u16, vector: u16, raise: impl Fn(u16)) {
        if !self.fires(lost) {
            raise(vector);
        }
        if self.fires(spurious) {
            raise((self.draw(spurious) % u64::from(vectors.max(1))) as u16);
        }
    }

    /// For models: the duration of a fault of `kind`, in nanoseconds.
    pub fn duration_ns(&self, kind: K) -> u64 {
        self.state(kind).duration_ns.load(Ordering::Relaxed)
    }

    #[inline]
    fn state(&self, kind: K) -> &KindState {
        &self.states[kind.index()]
    }
}

impl KindState {
    #[cold]
    fn fires(&self) -> bool {
        let mut draw = self.draw();
        draw.occasions += 1;
        let fires = match draw.rate {
            Rate::Never => false,
            Rate::Probability { times, of } => draw.random.below(u64::from(of.max(1))) < u64::from(times),
            Rate::Every(n) => draw.occasions.is_multiple_of(n.max(1)),
            Rate::Once(n) => draw.occasions == n.max(1),
        };
        if fires {
            self.injections.fetch_add(1, Ordering::Relaxed);
        }
        fires
    }

    fn draw(&self) -> MutexGuard<'_, DrawState> {
        self.draw.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn generator(seed: u64, index: usize) -> SplitMix64 {
    // The kinds start far apart in the sequence of the generator, whose steps are constant.
    SplitMix64::new(SplitMix64::new(seed).next_u64() ^ (index as u64) << 56)
}
