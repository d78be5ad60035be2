//! [`Verdict`]: the check of one guarantee against a [`RunLog`].

use coppice_run_protocol::trial::Unexpected;
use serde::Serialize;

use super::RunLog;

/// A guarantee, and whether it holds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// The guarantee.
    pub what: String,
    /// True if it holds.
    pub holds: bool,
    /// The figures that show it.
    pub detail: String,
}

impl Verdict {
    /// A verdict with its details.
    pub fn new(what: impl Into<String>, holds: bool, detail: impl Into<String>) -> Self {
        Self { what: what.into(), holds, detail: detail.into() }
    }
}

/// The guarantees of every such system. `checks` names the counts that it has to report as 0: a count that is
/// not reported does not hold. `ending` is the way in which the system ended, if not in success.
pub fn general(log: &RunLog, checks: &[&str], ending: Result<(), String>) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = checks
        .iter()
        .map(|&name| match log.checks.iter().rev().find(|check| check.name == name) {
            Some(check) => Verdict::new(format!("{name}: 0"), check.value == 0, check.value.to_string()),
            None => Verdict::new(format!("{name}: 0"), false, "it was never reported"),
        })
        .collect();
    verdicts.push(every_crash_was_survived(log));
    verdicts.push(every_end_is_explained(log));
    verdicts.push(match log.broken.as_slice() {
        [] => Verdict::new("nothing else went wrong", true, ""),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            Verdict::new("nothing else went wrong", false, format!("{}{more}", first.what))
        }
    });
    let ended = match ending {
        Ok(()) if !log.has_ended() => Err("it ended without its last line".to_owned()),
        ending => ending,
    };
    verdicts.push(Verdict::new(
        "the system ended in success",
        ended.is_ok(),
        ended.err().unwrap_or_default(),
    ));
    verdicts
}

fn every_crash_was_survived(log: &RunLog) -> Verdict {
    let what = "each crash was followed by an answer";
    let wanted = log.begin.as_ref().is_some_and(|begin| begin.every_us > 0);
    let answered = log.crashes.len() as u64;
    match log.counted {
        None => Verdict::new(
            what,
            false,
            format!("{answered} were, but the system did not report its count of crashes"),
        ),
        Some(0) if wanted => Verdict::new(what, false, "there was no crash"),
        Some(crashes) => Verdict::new(what, crashes == answered, format!("{answered} of {crashes}")),
    }
}

/// An end that no fault explains, with its crash record.
pub fn unexpected_end(end: &Unexpected) -> String {
    let Unexpected { domain, generation, record } = end;
    format!("{domain} #{generation} died of {record}")
}

fn every_end_is_explained(log: &RunLog) -> Verdict {
    let ends: Vec<String> = log.unexpected.iter().map(unexpected_end).collect();
    let detail = match ends.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
    };
    Verdict::new("no instance ended without an injected fault", ends.is_empty(), detail)
}

/// All verdicts as lines.
pub fn lines(verdicts: &[Verdict]) -> String {
    let line = |verdict: &Verdict| {
        let mark = if verdict.holds { "  ok     " } else { "  BROKEN " };
        let detail = if verdict.detail.is_empty() { String::new() } else { format!(" ({})", verdict.detail) };
        format!("{mark}{}{detail}\n", verdict.what)
    };
    verdicts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use coppice_run_protocol::trial::Consequence;

    use super::super::sample_log;
    use super::*;

    fn broken(log: &RunLog, ending: Result<(), String>) -> Vec<String> {
        let verdicts = general(log, &["bytes wrong"], ending);
        verdicts.into_iter().filter(|verdict| !verdict.holds).map(|verdict| verdict.what).collect()
    }

    #[test]
    fn every_guarantee_holds_after_a_successful_run() {
        assert!(broken(&sample_log(), Ok(())).is_empty());
    }

    #[test]
    fn each_violation_is_named() {
        let broken_by = |change: fn(&mut RunLog)| {
            let mut log = sample_log();
            change(&mut log);
            broken(&log, Ok(())).join("; ")
        };
        assert_eq!(broken_by(|log| log.checks[0].value = 512), "bytes wrong: 0");
        assert_eq!(broken_by(|log| log.checks.clear()), "bytes wrong: 0");
        assert_eq!(broken_by(|log| log.record_violation("x".into())), "nothing else went wrong");
        assert_eq!(broken_by(|log| drop(log.crashes.pop())), "each crash was followed by an answer");
        let unexpected = |log: &mut RunLog| log.unexpected.push(sample_end());
        assert_eq!(broken_by(unexpected), "no instance ended without an injected fault");
        assert_eq!(
            broken_by(|log| {
                log.crashes.clear();
                log.counted = Some(0);
            }),
            "each crash was followed by an answer"
        );
        assert_eq!(
            broken_by(|log| log.counted = None),
            "each crash was followed by an answer; the system ended in success"
        );
        assert_eq!(broken(&sample_log(), Err("killed".into())), ["the system ended in success"]);
    }

    #[test]
    fn an_unexpected_end_is_named_with_its_record_and_a_consequence_is_no_violation() {
        let mut log = sample_log();
        log.unexpected.extend([sample_end(), sample_end()]);
        let verdicts = general(&log, &[], Ok(()));
        let detail = verdicts.iter().find(|verdict| !verdict.holds).map(|verdict| verdict.detail.as_str());
        assert_eq!(detail, Some("orders #3 died of Panic at 1.5 s: x; and 1 more"));
        log.unexpected.clear();
        let Unexpected { domain, generation, record } = sample_end();
        log.consequences.push(Consequence { domain, generation, record });
        assert!(general(&log, &[], Ok(())).iter().all(|verdict| verdict.holds));
    }

    fn sample_end() -> Unexpected {
        Unexpected { domain: "orders".into(), generation: 3, record: "Panic at 1.5 s: x".into() }
    }

    #[test]
    fn a_run_planned_without_crashes_passes_without_any() {
        let mut log = sample_log();
        log.begin.as_mut().expect("it began").every_us = 0;
        log.crashes.clear();
        log.counted = Some(0);
        assert!(broken(&log, Ok(())).is_empty());
    }
}
