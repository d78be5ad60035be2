use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::scenario::Outcome;
use crate::{JsonError, LineError, MAX_LINE, MAX_TEXT, VERSION, bench, integrity, soak, trial};

/// A string that is longer than a line and needs escapes.
fn long() -> String {
    "\"\\\n\u{e9}".repeat(100)
}

/// A string of that many bytes.
fn word(len: usize) -> String {
    "x".repeat(len)
}

/// One line of each kind, with the greatest numbers and the longest names. The names of domains, threads and
/// faults have at most 32 bytes, states and causes of death 16, and free text any length.
fn trial_lines() -> Vec<trial::Line> {
    const MAX: u64 = u64::MAX;
    vec![
        trial::Begin {
            us: MAX,
            driver: word(32),
            answers: word(20),
            every_us: MAX,
            duration_us: MAX,
            turn_us: MAX,
        }
        .into(),
        trial::Meter::bytes(&word(16)).into(),
        trial::Meter::frames(&word(16), u32::MAX).into(),
        trial::Tick { us: MAX, totals: vec![MAX; 4], answers: MAX, crashes: MAX, calm: false }.into(),
        trial::Crash {
            us: MAX,
            fault: word(32),
            died: word(16),
            outage_ns: MAX,
            start_ns: Some(MAX),
            generation: u32::MAX,
            lost: Some(MAX),
        }
        .into(),
        trial::Crash {
            us: 0,
            fault: "Kill".into(),
            died: trial::DEADLINE.into(),
            outage_ns: 1,
            start_ns: None,
            generation: 0,
            lost: None,
        }
        .into(),
        trial::Unexpected { domain: word(32), generation: u32::MAX, record: word(MAX_TEXT) }.into(),
        trial::Consequence { domain: word(32), generation: u32::MAX, record: word(MAX_TEXT) }.into(),
        trial::Domain {
            name: word(32),
            generation: u32::MAX,
            state: word(16),
            bytes: MAX,
            threads: u32::MAX,
        }
        .into(),
        trial::Memory { owner: word(32), bytes: MAX }.into(),
        trial::Pass { us: MAX, hash: word(64), bytes: MAX }.into(),
        trial::Fault { name: word(32), crashes: MAX, absent: true }.into(),
        trial::Note { text: word(MAX_TEXT) }.into(),
        trial::Check { name: word(40), value: i64::MIN }.into(),
        trial::Broken { us: MAX, what: word(MAX_TEXT) }.into(),
        trial::End { us: MAX, crashes: MAX }.into(),
    ]
}

fn soak_lines() -> Vec<soak::Line> {
    const MAX: u64 = u64::MAX;
    let times = soak::Times::split(MAX, soak::Series::Restart, (0..10).map(|_| (MAX, MAX)));
    let mut lines: Vec<soak::Line> = times.into_iter().map(soak::Line::from).collect();
    lines.extend([
        soak::Begin { seed: MAX, cycles: MAX, clients: u32::MAX, killers: u32::MAX }.into(),
        soak::Progress { ms: MAX, cycles: MAX, answers: MAX, errors: MAX }.into(),
        soak::Times { window: 0, series: soak::Series::Ending, counts: Vec::new() }.into(),
        soak::Lost { cycles: MAX, bytes: i64::MIN, objects: i64::MIN, threads: i64::MIN, kernel: i64::MIN }
            .into(),
        soak::Method { name: word(40), cycles: MAX, missed: MAX, absent: false }.into(),
        soak::Latency {
            cpu: u32::MAX,
            kind: word(16),
            count: MAX,
            p9999_ns: MAX,
            longest_ns: MAX,
            place: word(64),
        }
        .into(),
        soak::Broken { cycle: MAX, what: word(MAX_TEXT) }.into(),
        soak::End { cycles: MAX, answers: MAX, errors: MAX }.into(),
    ]);
    lines
}

fn bench_lines() -> Vec<bench::Line> {
    let figure = bench::Figure::new(&word(48), "tsc_cycles", 1 << 30, 123_456_789.125);
    vec![
        bench::Figure::new("fault/DebugTrap", "tsc_cycles", 0, 0.0).into(),
        figure.clone().with_spread(0.5, 1e9).into(),
        figure.with_spread(0.125, 1e6).with([("depth", 32.0), ("bytes_lost", -4096.0), ("mean", 1e6)]).into(),
    ]
}

fn integrity_lines() -> Vec<integrity::Line> {
    vec![
        integrity::Refused { reason: word(MAX_TEXT) }.into(),
        integrity::Progress { counters: word(MAX_TEXT) }.into(),
        integrity::Wrong { what: word(MAX_TEXT) }.into(),
        integrity::Kills { domain: word(32), count: u64::MAX }.into(),
        integrity::End { report: word(MAX_TEXT) }.into(),
    ]
}

/// Checks that each line comes back, and fits one call of the console. A record of the log that quotes a line
/// is none.
fn check<T: fmt::Display + fmt::Debug + PartialEq>(
    lines: &[T],
    parse: fn(&str) -> Option<Result<T, LineError>>,
) {
    for line in lines {
        let text = line.to_string();
        assert!(text.len() <= MAX_LINE, "{} bytes: {text}", text.len());
        for printed in [text.clone(), format!("{text}\r")] {
            let parsed = parse(&printed).expect("it has a mark").expect("it is a line");
            assert_eq!(&parsed, line, "{text}");
        }
        assert!(parse(&format!("[   0.1] demo: {text}")).is_none(), "{text}");
    }
}

#[test]
fn each_line_comes_back_and_fits_the_console() {
    check(&trial_lines(), trial::Line::from_console);
    check(&soak_lines(), soak::Line::from_console);
    check(&bench_lines(), bench::Line::from_console);
    check(&integrity_lines(), integrity::Line::from_console);
}

#[test]
fn free_text_of_any_length_fits_a_line_and_is_cut() {
    let lines = [
        trial::Line::from(trial::Note { text: long() }),
        trial::Broken { us: u64::MAX, what: long() }.into(),
    ];
    for line in lines {
        let text = line.to_string();
        assert!(text.len() <= MAX_LINE, "{} bytes: {text}", text.len());
        match trial::Line::from_console(&text).expect("it has a mark").expect("it is a line") {
            trial::Line::Note(trial::Note { text: cut })
            | trial::Line::Broken(trial::Broken { what: cut, .. }) => {
                assert!(!cut.is_empty() && long().starts_with(&cut));
            }
            other => panic!("another kind: {other:?}"),
        }
    }
    let text = integrity::Line::from(integrity::Wrong { what: long() }).to_string();
    assert!(text.len() <= MAX_LINE && integrity::Line::from_console(&text).is_some_and(|line| line.is_ok()));
}

/// The error of a line of a trial.
fn error(text: &str) -> LineError {
    trial::Line::from_console(text).expect("it has a mark").expect_err("it is malformed")
}

#[test]
fn a_line_of_another_version_is_an_error() {
    let next = format!("@demo/{} {{}}", VERSION + 1);
    assert_eq!(error(&next), LineError::Version { found: (VERSION + 1).to_string() });
    assert_eq!(
        error("@demo {\"end\":{\"us\":1,\"crashes\":4}}"),
        LineError::Version { found: String::new() }
    );
    assert_eq!(error("@demo/x"), LineError::Version { found: "x".into() });
    assert!(error(&next).to_string().contains("version 2"));
}

#[test]
fn malformed_lines_are_errors_and_other_text_is_none() {
    let content = |json: &str| error(&format!("@demo/{VERSION} {json}"));
    let metre = JsonError::Unknown { name: "metre".into() };
    let text = format!(
        "@bench/{VERSION} {{\"figure\":{{\"id\":\"x\",\"unit\":\"m\",\"n\":1,\"median\":1,\"metre\":\"x\"}}}}"
    );
    assert_eq!(bench::Line::from_console(&text), Some(Err(metre.into())));
    let end = |fields: &str| content(&format!("{{\"end\":{{{fields}}}}}"));
    assert_eq!(end("\"us\":5"), JsonError::Missing { field: "crashes" }.into());
    assert_eq!(end("\"us\":5,\"crashes\":\"4\""), JsonError::Mismatch { field: "crashes" }.into());
    assert_eq!(end("\"us\":-5,\"crashes\":4"), JsonError::Mismatch { field: "us" }.into());
    let more = JsonError::Unknown { name: "more".into() };
    assert_eq!(end("\"us\":5,\"crashes\":4,\"more\":1"), more.into());
    let unit = JsonError::Mismatch { field: "unit" };
    assert_eq!(content("{\"meter\":{\"name\":\"x\",\"unit\":\"metres\"}}"), unit.into());
    assert_eq!(content("{\"sneeze\":{}}"), LineError::Kind);
    assert_eq!(content("{\"end\":3}"), LineError::Kind);
    assert_eq!(content("[]"), LineError::Kind);
    assert!(matches!(content(""), LineError::Content(JsonError::Syntax { at: 0 })));
    for text in ["kernel: up", "@demonstration", "demo/1 {}", "@soak/1 {}", ""] {
        assert!(trial::Line::from_console(text).is_none(), "{text}");
    }
}

#[test]
fn a_line_that_is_cut_anywhere_is_an_error() {
    for line in trial_lines() {
        let text = line.to_string();
        for len in trial::Line::MARK.len() + 1..text.len() {
            assert!(error(&text[..len]).to_string().len() > 1, "{}", &text[..len]);
        }
    }
}

#[test]
fn times_are_divided_among_lines_without_loss() {
    let counts: Vec<(u64, u64)> = (0..1000).map(|n| (n, n + 1)).collect();
    let lines = soak::Times::split(7, soak::Series::Ending, counts.iter().copied());
    let all: Vec<_> = lines.iter().flat_map(|line| line.counts.iter().copied()).collect();
    assert_eq!(all, counts);
    assert!(soak::Times::split(7, soak::Series::Ending, []).is_empty());
}

#[test]
fn a_figure_keeps_three_decimals() {
    let median = |value| {
        let text = bench::Line::from(bench::Figure::new("a/b", "iops", 1, value)).to_string();
        let line = bench::Line::from_console(&text).expect("it has a mark").expect("it is a line");
        let bench::Line::Figure(figure) = line;
        figure.median
    };
    assert_eq!(median(10.123_45), 10.123);
    assert_eq!(median(-0.5), -0.5);
    assert_eq!(median(f64::NAN), 0.0);
    assert_eq!(median(100_000.0), 100_000.0);
}

#[test]
fn outcomes_of_scenarios_come_back() {
    for result in [Ok(17), Err(String::from("1 page lost ... again"))] {
        let outcome = Outcome { name: "a_leak_is_found".into(), result };
        assert_eq!(Outcome::from_console(&outcome.to_string()), Some(outcome));
    }
    for text in ["scenario", "scenario x ... slow", "a scenario x ... ok (1 ms)", "scenario x ... ok (1"] {
        assert_eq!(Outcome::from_console(text), None, "{text}");
    }
}
