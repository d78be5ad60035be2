//! [`Workload`]: the parts of a demonstration that depend on the kind of driver.

use anyhow::Result;
use xtask_report::recovery::RunLog;
use xtask_report::recovery::verdict::Verdict;

use crate::devices::Device;
use crate::pack::SystemManifest;
use crate::workspace::Workspace;

/// The driver of a demonstration, and its load.
pub(crate) trait Workload {
    /// The name of its system.
    fn system(&self) -> &'static str;

    /// The heading of its report.
    fn title(&self) -> &'static str;

    /// The stem of the names of its report files and figures.
    fn stem(&self) -> &'static str;

    /// The counts that its system has to report as 0.
    fn checks(&self) -> &'static [&'static str];

    /// A line that describes the workload, and the entries that describe it in the report.
    fn description(&self) -> (String, Vec<(&'static str, String)>);

    /// Prepares one boot.
    fn prepare(&self, workspace: &Workspace) -> Result<Box<dyn PreparedRun + '_>>;
}

/// A workload that is prepared for one boot.
pub(crate) trait PreparedRun {
    /// The options passed to the system.
    fn options(&self) -> Vec<(&'static str, String)>;

    /// The devices that `manifest` requests.
    fn devices(&self, manifest: &SystemManifest) -> Result<Vec<Device>>;

    /// The verdicts besides those of every system.
    fn verdicts(&self, log: &RunLog, is_partial: bool) -> Result<Vec<Verdict>>;
}
