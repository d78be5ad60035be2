//! [`Watch`]: what the killer sees of the station: when frames came again, and how many were lost until then.

use alloc::format;

use coppice_experiment::Failure;
use coppice_trial::Probe;

use crate::stage::Stage;
use crate::station::PATIENCE;

pub(crate) struct Watch<'a> {
    stage: &'a Stage,
    /// Frames lost before the crash.
    lost: u64,
}

impl<'a> Watch<'a> {
    pub(crate) fn of(stage: &'a Stage) -> Self {
        Self { stage, lost: 0 }
    }

    /// Frames that were lost so far: gaps in front of those that came back.
    fn lost_so_far(&self) -> Result<u64, Failure> {
        let report = self.stage.desk.report(PATIENCE);
        report
            .map(|report| report.lost)
            .ok_or_else(|| Failure(format!("the tester does not answer for {PATIENCE:?}")))
    }
}

impl Probe for Watch<'_> {
    /// The station's thread has noted it, at the first frame of the next instance's: nobody has to be asked.
    fn last_reply_ns(&mut self) -> Result<u64, Failure> {
        Ok(self.stage.resumed_ns.load(core::sync::atomic::Ordering::Acquire))
    }

    fn before(&mut self) -> Result<(), Failure> {
        self.lost = self.lost_so_far()?;
        Ok(())
    }

    fn lost(&mut self) -> Result<Option<u64>, Failure> {
        let lost = self.lost_so_far()?.saturating_sub(self.lost);
        self.stage.lost_by_crashes.fetch_add(lost, core::sync::atomic::Ordering::Relaxed);
        Ok(Some(lost))
    }
}
