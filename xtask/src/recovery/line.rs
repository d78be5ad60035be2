//! The lines of JSON that a system under crashes prints about itself.
//!
//! Times are microseconds since boot unless stated otherwise. Counts are totals since the beginning, so that
//! a reader who misses a line is late and not wrong.

use serde::{Deserialize, Serialize};

/// The beginning of such a line on the console; a log prefix may stand before it.
const MARK: &str = "@demo ";

/// One line.
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

/// The parameters of the run.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Begin {
    /// The time of the start.
    pub(crate) us: u64,
    /// The domain that is crashed.
    pub(crate) victim: String,
    /// The name of the unit of [`Tick::answers`].
    pub(crate) answers: String,
    /// The interval between crashes; 0 for none.
    pub(crate) every_us: u64,
    /// The planned duration.
    pub(crate) duration_us: u64,
    /// The length of alternating spans without and with crashes; 0 for no alternation.
    #[serde(default)]
    pub(crate) turn_us: u64,
}

/// The meter of one of [`Tick::totals`]; meters follow [`Begin`] in the order of the totals.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Meter {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) unit: Unit,
}

/// The unit of a meter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(tag = "unit", rename_all = "snake_case")]
pub(crate) enum Unit {
    Bytes,
    /// Each takes as much time on the wire as `wire_bytes` bytes.
    Frames {
        wire_bytes: u32,
    },
}

/// The progress of the run; several times per second.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(crate) struct Tick {
    pub(crate) us: u64,
    /// The totals, in the order of the [`Meter`]s.
    pub(crate) totals: Vec<u64>,
    /// The driver's completed requests.
    pub(crate) answers: u64,
    /// Crashes so far.
    pub(crate) crashes: u64,
    /// True in a span without crashes.
    #[serde(default)]
    pub(crate) calm: bool,
}

/// A crash and the recovery from it.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Crash {
    /// The instant of the fault.
    pub(crate) us: u64,
    /// The injected fault.
    pub(crate) fault: String,
    /// The cause of death in the kernel's crash record.
    pub(crate) died: String,
    /// The time from the fault to the next instance's first completed request.
    pub(crate) outage_ns: u64,
    /// The time of the next instance's start, mostly for the device's reset.
    #[serde(default)]
    pub(crate) start_ns: Option<u64>,
    /// The generation of the instance that ended.
    pub(crate) generation: u32,
    /// Frames that the crash lost; absent for drivers without frames.
    #[serde(default)]
    pub(crate) lost: Option<u64>,
}

/// The state of a domain; printed at intervals.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) generation: u32,
    pub(crate) state: String,
    /// All its memory: image, heap, shared objects.
    pub(crate) bytes: u64,
    pub(crate) threads: u32,
}

/// Memory of an owner that is no domain.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Memory {
    pub(crate) owner: String,
    pub(crate) bytes: u64,
}

/// A complete read of the data has ended.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Pass {
    pub(crate) us: u64,
    /// SHA-256.
    pub(crate) hash: String,
    /// The number of bytes read.
    pub(crate) bytes: u64,
}

/// A kind of fault, and the number of instances that it ended.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) crashes: u64,
    /// True if it was tried and this machine does not raise it.
    #[serde(default)]
    pub(crate) absent: bool,
}

/// A remark in plain text.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

/// A count that has to be 0 at the end.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) value: i64,
}

/// A violation of a guarantee.
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
    /// The unit of its rate in a report.
    pub(crate) const fn per_second(self) -> &'static str {
        match self {
            Self::Bytes => "bytes_per_second",
            Self::Frames { .. } => "frames_per_second",
        }
    }
}

impl Crash {
    /// Returns true if only a deadline ended the instance: until then at least, no request completed.
    pub(crate) fn is_hang(&self) -> bool {
        self.died == "Deadline"
    }
}

impl Line {
    /// Parses a line of the console: `None` if it is not marked as one of these lines, an error if it is
    /// malformed.
    pub(crate) fn from_console(text: &str) -> Option<Result<Self, serde_json::Error>> {
        // At the beginning only: a domain's log record has a prefix before everything that the domain writes.
        let json = text.strip_prefix(MARK)?;
        Some(serde_json::from_str(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Line, serde_json::Error> {
        Line::from_console(&format!("@demo {json}")).expect("it is marked")
    }

    #[test]
    fn each_kind_of_line_is_parsed() {
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
    fn malformed_lines_are_errors_and_other_text_is_ignored() {
        assert!(read(r#"{"crash":{"us":5}}"#).is_err());
        assert!(read(r#"{"sneeze":{}}"#).is_err());
        assert!(Line::from_console("kernel: up").is_none());
        assert!(Line::from_console("[   0.1] nvme: @demo {\"tick\":{}}").is_none(), "a log record");
    }
}
