//! The manifest's words.

use core::time::Duration;

use coppice_interfaces::net::SHORTEST_FRAME;
use coppice_runtime::{Environment, time};

/// Far less than any deadline of a driver's.
const WAIT: Duration = Duration::from_millis(1);

/// How the device behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) frame_bytes: u32,
    pub(crate) clock: bool,
    pub(crate) queues: u32,
    pub(crate) hold: usize,
    pub(crate) delay: Duration,
    /// How long one exchange waits at most, whatever it is asked for.
    pub(crate) wait: Duration,
    pub(crate) frail: Option<Frail>,
    pub(crate) moody: bool,
    /// The exchange of a life that never ends.
    pub(crate) hang: Option<u32>,
    pub(crate) generation: u32,
}

/// What four of five lives end of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Frail {
    Info,
    Configure,
    Open,
    Exchange,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            frame_bytes: SHORTEST_FRAME as u32,
            clock: false,
            queues: 64,
            hang: None,
            hold: 0,
            delay: Duration::ZERO,
            wait: WAIT,
            frail: None,
            moody: false,
            generation: 0,
        }
    }
}

impl Options {
    /// As the manifest says.
    ///
    /// # Panics
    /// When it says what means nothing.
    pub(crate) fn of(environment: &Environment<'_>) -> Self {
        let number = |name, otherwise: u32| {
            environment.option(name).map_or(otherwise, |text| text.parse().expect("a number is wanted"))
        };
        let time = |name| {
            environment.option(name).map(|text| time::parse(text).expect("a time such as 20us is wanted"))
        };
        let has = |word| environment.args().contains(&word);
        let generation = environment.generation();
        let frail =
            [None, Some(Frail::Info), Some(Frail::Configure), Some(Frail::Open), Some(Frail::Exchange)]
                [generation as usize % 5]
                .filter(|_| has("frail"));
        let default = Self::default();
        Self {
            frame_bytes: number("len", default.frame_bytes).max(1),
            clock: has("clock"),
            queues: number("queues", default.queues),
            hold: number("hold", 0) as usize,
            delay: time("delay").unwrap_or_default(),
            wait: time("wait").unwrap_or(WAIT),
            frail,
            moody: has("moody"),
            hang: Some(number("hang", 0)).filter(|&count| count > 0),
            generation,
        }
    }

    /// Whether packets are kept.
    pub(crate) fn keeps(&self) -> bool {
        self.hold > 0 || !self.delay.is_zero()
    }

    /// Panics where this life is to end.
    pub(crate) fn fail_in(&self, place: Frail) {
        assert!(self.frail != Some(place), "this life is frail");
    }
}
