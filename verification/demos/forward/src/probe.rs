//! [`FrameProbe`]: measures for the killer thread when frames arrive again after a crash, and how many were
//! lost.

use alloc::format;

use coppice_experiment::Failure;
use coppice_trial::Probe;

use crate::context::Context;
use crate::forwarder::TESTER_TIMEOUT;

/// The probe of the network load. It sends nothing itself: the forwarder and the tester provide its numbers.
pub(crate) struct FrameProbe<'a> {
    context: &'a Context,
    /// The count of lost frames before the crash.
    lost_before: u64,
}

impl<'a> FrameProbe<'a> {
    pub(crate) fn of(context: &'a Context) -> Self {
        Self { context, lost_before: 0 }
    }

    /// Returns the count of frames lost by now: the gaps before frames that came back.
    fn lost_so_far(&self) -> Result<u64, Failure> {
        let report = self.context.tester.report(TESTER_TIMEOUT);
        report
            .map(|report| report.lost)
            .ok_or_else(|| Failure(format!("no report of the tester within {TESTER_TIMEOUT:?}")))
    }
}

impl Probe for FrameProbe<'_> {
    /// Returns the time that the forwarder noted at the first frame from the restarted driver.
    fn last_reply_ns(&mut self) -> Result<u64, Failure> {
        Ok(self.context.resumed_ns.load(core::sync::atomic::Ordering::Acquire))
    }

    fn before(&mut self) -> Result<(), Failure> {
        self.lost_before = self.lost_so_far()?;
        Ok(())
    }

    fn lost(&mut self) -> Result<Option<u64>, Failure> {
        let lost = self.lost_so_far()?.saturating_sub(self.lost_before);
        self.context.lost_by_crashes.fetch_add(lost, core::sync::atomic::Ordering::Relaxed);
        Ok(Some(lost))
    }
}
