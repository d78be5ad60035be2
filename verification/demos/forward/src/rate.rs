//! The offered rate, in frames per second: the line rate, or the rate that the machine forwards if that is
//! lower.

use alloc::format;
use core::fmt;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_experiment::Failure;
use coppice_run_protocol::trial::Note;
use coppice_traffic::{Ask, Control};

use crate::context::Context;
use crate::forwarder::Forwarder;
use crate::tester::STREAM;

/// The time that frames flow before the measurement.
const WARM_UP: Duration = Duration::from_millis(50);
/// The length of the measurement.
const MEASURED: Duration = Duration::from_millis(400);
/// One of this many frames may be lost: while a busy host runs none of our threads, frames are lost at any
/// rate.
const FRAMES_PER_TOLERATED_LOSS: u64 = 100;
/// After a rate that was too high, the next rate as a fraction of the forwarded rate.
const BACKOFF: f64 = 0.85;
/// The smallest next rate as a fraction of the offered rate, because the loss may have been the host's doing.
/// Also the smallest part of the measurement that is assumed to be free of stalls.
const MIN_FRACTION: f64 = 0.25;
/// The number of rates to try.
const ROUNDS: u32 = 3;

/// The measurement of one rate.
struct Measurement {
    seconds: f64,
    /// The seconds in which the host did not run the tester.
    stalled: f64,
    sent: u64,
    returned: u64,
    lost: u64,
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sent, returned] = [self.sent, self.returned].map(|frames| frames as f64 / self.seconds / 1e6);
        write!(f, "{sent:.2} Mpps offered, {returned:.2} Mpps forwarded, {} of {} lost", self.lost, self.sent)
    }
}

impl Measurement {
    /// Returns the next rate to try, in frames per second. The tester does not make up for frames that it did
    /// not send while it was stalled, so stalled time does not count.
    fn next_rate(&self) -> u64 {
        let seconds = (self.seconds - self.stalled).max(self.seconds * MIN_FRACTION);
        let least = self.sent as f64 * MIN_FRACTION;
        ((self.returned as f64 * BACKOFF).max(least) / seconds).max(1.0) as u64
    }
}

/// Measures the rate without crashes, prints it, and stores the rate to offer in
/// [`Context::frames_per_second`].
pub(crate) fn choose(context: &Context) -> Result<(), Failure> {
    let mut forwarder = Forwarder::open(context)?;
    let mut per_second = context.plan.per_second;
    for round in 1..=ROUNDS {
        let measurement = measure(&mut forwarder, per_second)?;
        let at = if per_second == 0 { "as fast as the wire" } else { "at a rate" };
        context.trial.print(Note { text: format!("without crashes, {at}: {measurement}") });
        let is_enough =
            measurement.lost * FRAMES_PER_TOLERATED_LOSS <= measurement.sent || context.plan.per_second > 0;
        if is_enough || round == ROUNDS {
            break;
        }
        per_second = measurement.next_rate();
    }
    context.frames_per_second.store(per_second, Ordering::Relaxed);
    forwarder.close();
    Ok(())
}

fn measure(forwarder: &mut Forwarder<'_>, per_second: u64) -> Result<Measurement, Failure> {
    forwarder.start(per_second)?;
    forwarder.run(WARM_UP)?;
    let ask = |request| Control::Ask(Ask { stream: STREAM, request });
    let before = forwarder.ask(ask)?;
    forwarder.run(MEASURED)?;
    let after = forwarder.ask(ask)?;
    forwarder.stop()?;
    Ok(Measurement {
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
    fn the_next_rate_is_below_the_forwarded_one_but_a_disturbance_does_not_make_it_zero() {
        let measurement =
            Measurement { seconds: 0.5, stalled: 0.0, sent: 5_000_000, returned: 2_000_000, lost: 3_000_000 };
        assert_eq!(measurement.next_rate(), 3_400_000);
        assert_eq!(Measurement { returned: 0, ..measurement }.next_rate(), 2_500_000);
        let measurement =
            Measurement { seconds: 0.5, stalled: 0.25, sent: 500_000, returned: 500_000, lost: 0 };
        assert_eq!(measurement.next_rate(), 1_700_000);
    }
}
