//! `@demo`: a driver that is crashed under load.
//!
//! Times are microseconds since boot unless stated otherwise. Counts are totals since the beginning, so a
//! reader that misses a line is late and not wrong.

use alloc::string::String;
use alloc::vec::Vec;

use crate::line::lines;
use crate::record::{record, words};

/// The counts that a system has to report as 0.
pub mod checks {
    /// The counts of each system.
    pub const RESOURCES: [&str; 5] = [
        "pages lost",
        "bytes of the kernel's heap lost",
        "objects lost",
        "threads lost",
        "findings of the kernel's audit",
    ];
    /// The counts of a disk driver's system.
    pub const DISK: [&str; 3] = ["bytes wrong", "requests lost", "requests answered twice"];
    /// The counts of a network driver's system: those that hold for every device come first.
    pub const NET: [&str; 5] =
        ["buffers lost", "frames damaged", "frames twice", "frames out of order", "frames of other stations"];
}

/// The cause of death of an instance that a deadline ended, in [`Crash::died`].
pub const DEADLINE: &str = "Deadline";

lines! {
    /// One line.
    pub enum Line: "@demo" {
        /// The parameters of the run.
        Begin(Begin) = "begin",
        /// A running count.
        Meter(Meter) = "meter",
        /// The progress of the run.
        Tick(Tick) = "tick",
        /// A crash that was injected, and the recovery from it.
        Crash(Crash) = "crash",
        /// The end of an instance that no injected fault explains.
        Unexpected(Unexpected) = "unexpected",
        /// The end of another instance than the one with the fault, which the fault explains.
        Consequence(Consequence) = "consequence",
        /// The state of a domain.
        Domain(Domain) = "domain",
        /// Memory of an owner that is no domain.
        Memory(Memory) = "memory",
        /// A complete read of the data.
        Pass(Pass) = "pass",
        /// A kind of fault and the number of its crashes.
        Fault(Fault) = "fault",
        /// A remark.
        Note(Note) = "note",
        /// A count that has to be 0.
        Check(Check) = "check",
        /// A violation of a guarantee.
        Broken(Broken) = "broken",
        /// The last line.
        End(End) = "end",
    }
}

record! {
    /// The parameters of the run.
    pub struct Begin {
        /// The time of the start.
        pub us: u64,
        /// The domain that is crashed.
        pub driver: String,
        /// The name of the unit of [`Tick::answers`].
        pub answers: String,
        /// The interval between crashes; 0 for none.
        pub every_us: u64,
        /// The planned duration.
        pub duration_us: u64,
        /// The length of alternating spans without and with crashes; 0 for no alternation.
        pub turn_us: u64,
    }
}

record! {
    /// The meter of one of [`Tick::totals`]; meters follow [`Begin`] in the order of the totals.
    pub struct Meter {
        /// The name, one word.
        pub name: String,
        /// The unit of the count.
        pub unit: Unit,
        /// For frames: the bytes of time on the wire for one frame, gaps included.
        pub wire_bytes: Option<u32>,
    }
}

words! {
    /// The unit of a meter.
    pub enum Unit {
        /// Bytes.
        Bytes = "bytes",
        /// Frames of one size.
        Frames = "frames",
    }
}

record! {
    /// The progress of the run; several times per second.
    pub struct Tick {
        /// The time.
        pub us: u64,
        /// The totals, in the order of the [`Meter`]s.
        pub totals: Vec<u64>,
        /// The driver's completed requests.
        pub answers: u64,
        /// Crashes so far.
        pub crashes: u64,
        /// True in a span without crashes.
        pub calm: bool,
    }
}

record! {
    /// A crash that was injected, and the recovery from it.
    pub struct Crash {
        /// The instant of the fault.
        pub us: u64,
        /// The injected fault.
        pub fault: String,
        /// The cause of death in the kernel's crash record.
        pub died: String,
        /// The time from the fault to the next instance's first completed request.
        pub outage_ns: u64,
        /// The time of the next instance's start, mostly for the device's reset; absent if it is unknown.
        pub start_ns: Option<u64>,
        /// The generation of the instance that ended.
        pub generation: u32,
        /// Frames that the crash lost; absent for drivers without frames.
        pub lost: Option<u64>,
    }
}

record! {
    /// The end of an instance that no injected fault explains.
    pub struct Unexpected {
        /// The domain.
        pub domain: String,
        /// The generation of the instance.
        pub generation: u32,
        /// The kernel's crash record: the cause, the time, the message and the place.
        pub record: String,
    }
}

record! {
    /// The end of another instance than the one with the fault, which the fault explains (docs/demo.md).
    pub struct Consequence {
        /// The domain.
        pub domain: String,
        /// The generation of the instance.
        pub generation: u32,
        /// As in [`Unexpected`].
        pub record: String,
    }
}

record! {
    /// The state of a domain; printed at intervals.
    pub struct Domain {
        /// The name in the manifest.
        pub name: String,
        /// The number of instances before this one.
        pub generation: u32,
        /// The state, as the kernel names it.
        pub state: String,
        /// All its memory: image, heap, shared objects.
        pub bytes: u64,
        /// The number of its threads.
        pub threads: u32,
    }
}

record! {
    /// Memory of an owner that is no domain.
    pub struct Memory {
        /// The owner.
        pub owner: String,
        /// The amount.
        pub bytes: u64,
    }
}

record! {
    /// A complete read of the data has ended.
    pub struct Pass {
        /// The time.
        pub us: u64,
        /// SHA-256.
        pub hash: String,
        /// The number of bytes read.
        pub bytes: u64,
    }
}

record! {
    /// A kind of fault, and the number of instances that it ended.
    pub struct Fault {
        /// The name.
        pub name: String,
        /// The number of instances.
        pub crashes: u64,
        /// True if it was tried and this machine does not raise it.
        pub absent: bool,
    }
}

record! {
    /// A remark in plain text.
    pub struct Note {
        /// The remark.
        pub text: String,
    }
}

record! {
    /// A count that has to be 0 at the end.
    pub struct Check {
        /// The name.
        pub name: String,
        /// The count.
        pub value: i64,
    }
}

record! {
    /// A violation of a guarantee.
    pub struct Broken {
        /// The time.
        pub us: u64,
        /// The violation.
        pub what: String,
    }
}

record! {
    /// The last line.
    pub struct End {
        /// The time.
        pub us: u64,
        /// The number of crashes that were injected.
        pub crashes: u64,
    }
}

impl Meter {
    /// A meter of bytes.
    pub fn bytes(name: &str) -> Self {
        Self { name: name.into(), unit: Unit::Bytes, wire_bytes: None }
    }

    /// A meter of frames, each of which takes as much time on the wire as `wire_bytes` bytes.
    pub fn frames(name: &str, wire_bytes: u32) -> Self {
        Self { name: name.into(), unit: Unit::Frames, wire_bytes: Some(wire_bytes) }
    }
}

impl Crash {
    /// Returns true if only a deadline ended the instance: until then at least, no request completed.
    pub fn is_hang(&self) -> bool {
        self.died == DEADLINE
    }
}
