//! [`Verdict`]: a promise, held against a [`Course`].

use serde::Serialize;

use super::Course;
use crate::machine::Ending;

/// A promise, and whether it was kept.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Verdict {
    /// What was promised.
    pub(crate) what: String,
    /// Whether it is so.
    pub(crate) holds: bool,
    /// The figures that say so.
    pub(crate) detail: String,
}

impl Verdict {
    /// A verdict.
    pub(crate) fn new(what: impl Into<String>, holds: bool, detail: impl Into<String>) -> Self {
        Self { what: what.into(), holds, detail: detail.into() }
    }
}

/// What every such system promises. `checks` are the names of what it has to count and find to be 0: one that it says
/// nothing of is not kept. `ending` is how the system ended; `None` if it was ended from here.
pub(crate) fn general(course: &Course, checks: &[&str], ending: Option<&Ending>) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = checks
        .iter()
        .map(|&name| match course.checks.iter().rev().find(|check| check.name == name) {
            Some(check) => Verdict::new(format!("{name}: 0"), check.value == 0, check.value.to_string()),
            None => Verdict::new(format!("{name}: 0"), false, "it was never counted"),
        })
        .collect();
    verdicts.push(every_crash_was_survived(course));
    verdicts.push(match course.broken.as_slice() {
        [] => Verdict::new("nothing else went wrong", true, ""),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            Verdict::new("nothing else went wrong", false, format!("{}{more}", first.what))
        }
    });
    let ended = match ending {
        Some(Ending::Success) if course.has_ended() => Ok(()),
        Some(Ending::Success) => Err("it ended without its last line".to_owned()),
        Some(other) => Err(format!("{other:?}")),
        None => Err("it was ended from outside".to_owned()),
    };
    verdicts.push(Verdict::new(
        "the system ended in success",
        ended.is_ok(),
        ended.err().unwrap_or_default(),
    ));
    verdicts
}

fn every_crash_was_survived(course: &Course) -> Verdict {
    let what = "each crash was followed by an answer";
    let wanted = course.begin.as_ref().is_some_and(|begin| begin.every_us > 0);
    let answered = course.crashes.len() as u64;
    match course.counted {
        None => Verdict::new(
            what,
            false,
            format!("{answered} were, but how many crashes there were it did not say"),
        ),
        Some(0) if wanted => Verdict::new(what, false, "there was not one crash"),
        Some(crashes) => Verdict::new(what, crashes == answered, format!("{answered} of {crashes}")),
    }
}

/// All verdicts as lines.
pub(crate) fn lines(verdicts: &[Verdict]) -> String {
    let line = |verdict: &Verdict| {
        let mark = if verdict.holds { "  ok     " } else { "  BROKEN " };
        let detail = if verdict.detail.is_empty() { String::new() } else { format!(" ({})", verdict.detail) };
        format!("{mark}{}{detail}\n", verdict.what)
    };
    verdicts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::course::tests::told;
    use super::*;

    fn broken(course: &Course, ending: Option<&Ending>) -> Vec<String> {
        let verdicts = general(course, &["bytes wrong"], ending);
        verdicts.into_iter().filter(|verdict| !verdict.holds).map(|verdict| verdict.what).collect()
    }

    #[test]
    fn a_good_run_keeps_every_promise() {
        assert!(broken(&told(), Some(&Ending::Success)).is_empty());
    }

    #[test]
    fn each_failure_is_named() {
        let spoilt = |spoil: fn(&mut Course)| {
            let mut course = told();
            spoil(&mut course);
            broken(&course, Some(&Ending::Success)).join("; ")
        };
        assert_eq!(spoilt(|course| course.checks[0].value = 512), "bytes wrong: 0");
        assert_eq!(spoilt(|course| course.checks.clear()), "bytes wrong: 0");
        assert_eq!(spoilt(|course| course.breaks("x".into())), "nothing else went wrong");
        assert_eq!(spoilt(|course| drop(course.crashes.pop())), "each crash was followed by an answer");
        assert_eq!(
            spoilt(|course| {
                course.crashes.clear();
                course.counted = Some(0);
            }),
            "each crash was followed by an answer"
        );
        assert_eq!(
            spoilt(|course| course.counted = None),
            "each crash was followed by an answer; the system ended in success"
        );
        assert_eq!(broken(&told(), None), ["the system ended in success"]);
        assert_eq!(broken(&told(), Some(&Ending::Failure)), ["the system ended in success"]);
        assert_eq!(broken(&told(), Some(&Ending::KernelPanic)), ["the system ended in success"]);
    }

    #[test]
    fn a_run_without_crashes_needs_none() {
        let mut course = told();
        course.begin.as_mut().expect("it began").every_us = 0;
        course.crashes.clear();
        course.counted = Some(0);
        assert!(broken(&course, Some(&Ending::Success)).is_empty());
    }
}
