//! [`Subject`]: what a demonstration is of, for those parts that all of them share.

use anyhow::Result;

use crate::devices::Device;
use crate::pack::SystemManifest;
use crate::recovery::Course;
use crate::recovery::verdict::Verdict;
use crate::workspace::Workspace;

/// What a demonstration is of.
pub(crate) trait Subject {
    /// Its system.
    fn system(&self) -> &'static str;

    /// The heading of its report.
    fn title(&self) -> &'static str;

    /// What the files of its report are called, and its figures.
    fn stem(&self) -> &'static str;

    /// What its system has to count and to find to be 0.
    fn checks(&self) -> &'static [&'static str];

    /// With what it is done, in a line, and what of that the report has in words of its own.
    fn about(&self) -> (String, Vec<(&'static str, String)>);

    /// Has everything ready for one boot.
    fn set_up(&self, workspace: &Workspace) -> Result<Box<dyn Scene + '_>>;
}

/// What one boot is given.
pub(crate) trait Scene {
    /// What the system is told.
    fn options(&self) -> Vec<(&'static str, String)>;

    /// The devices that `manifest` wants.
    fn devices(&self, manifest: &SystemManifest) -> Result<Vec<Device>>;

    /// What has to hold besides what every system promises.
    fn verdicts(&self, course: &Course, is_partial: bool) -> Result<Vec<Verdict>>;
}
