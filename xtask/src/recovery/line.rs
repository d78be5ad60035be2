//! What a system under crashes says of itself, one line of JSON each.
//!
//! Times are microseconds since boot unless they say otherwise. Counts are totals since the beginning, so that a reader who
//! misses a line is late and not wrong.

use serde::{Deserialize, Serialize};

/// How such a line begins on the console; a log prefix may stand in front.
const MARK: &str = "@demo ";

/// A line.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Begin(Begin),
    Meter(Meter),
    Tick(Tick),
    Crash(Crash),
    Domain(Domain),
    Memory(Memory),
    Pass(Pass),
    Fault(Fault),
    Note(Note),
    Check(Check),
    Broken(Broken),
    End(End),
}

/// What is about to be done.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Begin {
    /// When.
    pub(crate) us: u64,
    /// The domain that is crashed.
    pub(crate) victim: String,
    /// What [`Tick::answers`] counts.
    pub(crate) answers: String,
    /// From one crash to the next; 0 is never.
    pub(crate) every_us: u64,
    /// How long it is to go on.
    pub(crate) duration_us: u64,
    /// Spans without crashes and spans with them take turns, so long each; 0 is no turns.
    #[serde(default)]
    pub(crate) turn_us: u64,
}

/// What one of [`Tick::totals`] counts; in their order, behind [`Begin`].
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Meter {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) unit: Unit,
}

/// In what a meter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(tag = "unit", rename_all = "snake_case")]
pub(crate) enum Unit {
    Bytes,
    /// Each takes as much time on the wire as so many bytes.
    Frames {
        wire_bytes: u32,
    },
}

/// How far it has come; several times a second.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(crate) struct Tick {
    pub(crate) us: u64,
    /// As the [`Meter`]s names them.
    pub(crate) totals: Vec<u64>,
    /// How often the driver did what it was asked for.
    pub(crate) answers: u64,
    /// Crashes so far.
    pub(crate) crashes: u64,
    /// Whether this is a span without crashes.
    #[serde(default)]
    pub(crate) calm: bool,
}

/// A crash that was survived.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Crash {
    /// The instant of the fault.
    pub(crate) us: u64,
    /// What was done.
    pub(crate) fault: String,
    /// What the kernel says that the instance died of.
    pub(crate) died: String,
    /// From the fault to the first request that the next instance answered.
    pub(crate) outage_ns: u64,
    /// How long the next instance took to begin, most of which a device takes for its reset.
    #[serde(default)]
    pub(crate) start_ns: Option<u64>,
    /// The instance that ended.
    pub(crate) generation: u32,
    /// Frames that were lost by it, where some may be.
    #[serde(default)]
    pub(crate) lost: Option<u64>,
}

/// A domain, now and then.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) generation: u32,
    pub(crate) state: String,
    /// Image, heap, shared objects: all that it has.
    pub(crate) bytes: u64,
    pub(crate) threads: u32,
}

/// What somebody has who is no domain.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Memory {
    pub(crate) owner: String,
    pub(crate) bytes: u64,
}

/// All that there is to read was read once more.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Pass {
    pub(crate) us: u64,
    /// SHA-256.
    pub(crate) hash: String,
    /// Of so many bytes.
    pub(crate) bytes: u64,
}

/// A kind of fault, and how many lives ended by it.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) crashes: u64,
    /// It was tried and the machine does not raise it.
    #[serde(default)]
    pub(crate) absent: bool,
}

/// Something that is worth knowing, in words.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

/// Something that has to be 0 at the end.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) value: i64,
}

/// Something that must not have happened.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Broken {
    pub(crate) us: u64,
    pub(crate) what: String,
}

/// The last line.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct End {
    pub(crate) us: u64,
    pub(crate) crashes: u64,
}

impl Unit {
    /// What a rate is called in a report.
    pub(crate) const fn per_second(self) -> &'static str {
        match self {
            Self::Bytes => "bytes_per_second",
            Self::Frames { .. } => "frames_per_second",
        }
    }
}

impl Crash {
    /// Whether only a deadline has ended it: so long nobody was answered at least.
    pub(crate) fn is_hang(&self) -> bool {
        self.died == "Deadline"
    }
}

impl Line {
    /// Reads a line of the console: `None` if it is none of these, an error if it tries to be one.
    pub(crate) fn from_console(text: &str) -> Option<Result<Self, serde_json::Error>> {
        let (_, json) = text.split_once(MARK)?;
        Some(serde_json::from_str(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Line, serde_json::Error> {
        Line::from_console(&format!("[   0.1] demo: @demo {json}")).expect("it is marked")
    }

    #[test]
    fn each_line_is_read() {
        let crash =
            r#"{"crash":{"us":5,"fault":"Kill","died":"Killed","outage_ns":9,"start_ns":4,"generation":3}}"#;
        for json in [
            r#"{"begin":{"us":1,"victim":"nvme","answers":"requests answered","every_us":1,"duration_us":2,"turn_us":3}}"#,
            r#"{"meter":{"name":"read","unit":"bytes"}}"#,
            r#"{"meter":{"name":"forwarded","unit":"frames","wire_bytes":84}}"#,
            r#"{"tick":{"us":1,"totals":[1,2],"answers":3,"crashes":4,"calm":true}}"#,
            crash,
            r#"{"domain":{"name":"nvme","generation":3,"state":"Running","bytes":4096,"threads":1}}"#,
            r#"{"memory":{"owner":"kernel","bytes":1}}"#,
            r#"{"pass":{"us":1,"hash":"00","bytes":1}}"#,
            r#"{"fault":{"name":"Panic","crashes":2,"absent":false}}"#,
            r#"{"note":{"text":"a word"}}"#,
            r#"{"check":{"name":"bytes wrong","value":0}}"#,
            r#"{"broken":{"us":1,"what":"x"}}"#,
            r#"{"end":{"us":1,"crashes":4}}"#,
        ] {
            assert!(read(json).is_ok(), "{json}");
        }
        let Ok(Line::Crash(crash)) = read(crash) else { panic!("it is a crash") };
        assert_eq!((crash.outage_ns, crash.start_ns, crash.generation), (9, Some(4), 3));
    }

    #[test]
    fn what_is_broken_is_an_error_and_what_is_no_line_is_none() {
        assert!(read(r#"{"crash":{"us":5}}"#).is_err());
        assert!(read(r#"{"sneeze":{}}"#).is_err());
        assert!(Line::from_console("kernel: up").is_none());
    }
}
