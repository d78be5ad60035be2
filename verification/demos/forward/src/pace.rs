//! How many frames a second are offered: what the wire carries, or, where the machine does not forward so many, what it does.

use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_experiment::Failure;
use coppice_traffic::{Ask, Control};

use crate::desk::STREAM;
use crate::stage::Stage;
use crate::station::Station;

/// How long frames flow before they count, and how long they are counted.
const WARM_UP: Duration = Duration::from_millis(50);
const COUNTED: Duration = Duration::from_millis(400);
/// Of so many frames one may be lost: a host that has other things to do runs nobody for a moment, and no rate is low enough then.
const TOLERANCE: u64 = 100;
/// What is offered next if that was too much, of what was forwarded; and of what was offered at least, as what was measured may have
/// been the host's own doing.
const SHARE: f64 = 0.85;
const LEAST: f64 = 0.25;
const ROUNDS: u32 = 3;

/// What came of a rate.
struct Outcome {
    seconds: f64,
    /// In which the tester's host did not run it.
    stalled: f64,
    sent: u64,
    returned: u64,
    lost: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sent, returned] = [self.sent, self.returned].map(|frames| frames as f64 / self.seconds / 1e6);
        write!(f, "{sent:.2} Mpps offered, {returned:.2} Mpps forwarded, {} of {} lost", self.lost, self.sent)
    }
}

impl Outcome {
    /// How many frames a second to offer next: what it did not send while it was not run, the tester never makes up for.
    fn next(&self) -> u64 {
        let seconds = (self.seconds - self.stalled).max(self.seconds * LEAST);
        let least = self.sent as f64 * LEAST;
        ((self.returned as f64 * SHARE).max(least) / seconds).max(1.0) as u64
    }
}

/// Measures without crashes, says it, and settles how many frames are offered.
pub(crate) fn settle(stage: &Stage) -> Result<(), Failure> {
    let mut station = Station::open(stage)?;
    let mut per_second = stage.plan.per_second;
    for round in 1..=ROUNDS {
        let outcome = try_out(&mut station, per_second)?;
        let at = if per_second == 0 { "as fast as the wire" } else { "at a rate" };
        stage.trial.say(format_args!(r#""note":{{"text":"without crashes, {at}: {outcome}"}}"#));
        let is_enough = outcome.lost * TOLERANCE <= outcome.sent || stage.plan.per_second > 0;
        if is_enough || round == ROUNDS {
            break;
        }
        per_second = outcome.next();
    }
    stage.pace.store(per_second, Ordering::Relaxed);
    station.close();
    Ok(())
}

fn try_out(station: &mut Station<'_>, per_second: u64) -> Result<Outcome, Failure> {
    station.start(per_second)?;
    station.run(WARM_UP)?;
    let ask = |request| Control::Ask(Ask { stream: STREAM, request });
    let before = station.ask(ask)?;
    station.run(COUNTED)?;
    let after = station.ask(ask)?;
    station.stop()?;
    Ok(Outcome {
        seconds: after.now_ns.saturating_sub(before.now_ns).max(1) as f64 / 1e9,
        stalled: after.stalled_ns.saturating_sub(before.stalled_ns) as f64 / 1e9,
        sent: after.sent.saturating_sub(before.sent),
        returned: after.returned.saturating_sub(before.returned),
        lost: after.lost.saturating_sub(before.lost),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_next_is_less_than_what_was_forwarded_but_no_disturbance_makes_it_nothing() {
        let outcome =
            Outcome { seconds: 0.5, stalled: 0.0, sent: 5_000_000, returned: 2_000_000, lost: 3_000_000 };
        assert_eq!(outcome.next(), 3_400_000);
        assert_eq!(Outcome { returned: 0, ..outcome }.next(), 2_500_000);
        let outcome = Outcome { seconds: 0.5, stalled: 0.25, sent: 500_000, returned: 500_000, lost: 0 };
        assert_eq!(outcome.next(), 1_700_000);
    }
}
