//! [`sample_log`]: a log for tests of this crate and of its users.

use coppice_run_protocol::trial::{
    Begin, Check, Crash, Domain, End, Fault, Line, Memory, Meter, Note, Pass, Tick,
};

use super::RunLog;

/// The log of a successful run.
pub fn sample_log() -> RunLog {
    let mut log = RunLog::default();
    let mut ingest = |line: Line| assert!(log.ingest_line(&line.to_string()));
    let begin = Begin {
        us: 1000,
        driver: "nvme".into(),
        answers: "requests answered".into(),
        every_us: 100_000,
        duration_us: 400_000,
        turn_us: 200_000,
    };
    ingest(begin.into());
    for name in ["read", "written"] {
        ingest(Meter::bytes(name).into());
    }
    for n in 0..5_u64 {
        let read = if n <= 2 { 1000 * n } else { 2000 + 900 * (n - 2) };
        let us = 1000 + n * 100_000;
        let (totals, crashes) = ([read, n * 50].into(), n.saturating_sub(2));
        ingest(Tick { us, totals, answers: n, crashes, calm: n <= 2 }.into());
    }
    for (n, fault) in ["Kill", "Panic"].into_iter().enumerate() {
        let crash = Crash {
            us: 250_000 + n as u64 * 100_000,
            fault: fault.into(),
            died: "x".into(),
            outage_ns: 100 + n as u64 * 100,
            start_ns: Some(50),
            generation: n as u32,
            lost: None,
        };
        ingest(crash.into());
    }
    let (name, state) = ("nvme".into(), "Running".into());
    ingest(Domain { name, generation: 2, state, bytes: 8192, threads: 1 }.into());
    ingest(Memory { owner: "kernel".into(), bytes: 4096 }.into());
    ingest(Pass { us: 300_000, hash: "abc".into(), bytes: 1000 }.into());
    for name in ["Kill", "Panic"] {
        ingest(Fault { name: name.into(), crashes: 1, absent: false }.into());
    }
    ingest(Note { text: "as fast as it goes".into() }.into());
    ingest(Check { name: "bytes wrong".into(), value: 0 }.into());
    ingest(End { us: 401_000, crashes: 2 }.into());
    log
}
