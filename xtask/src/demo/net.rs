//! [`Traffic`]: a network driver's demonstration.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coppice_run_protocol::trial::checks;
use xtask_report::recovery::RunLog;
use xtask_report::recovery::verdict::Verdict;

use super::workload::{PreparedRun, Workload};
use crate::devices::Device;
use crate::machine_args::check_output;
use crate::pack::{self, SystemManifest};
use crate::workspace::Workspace;

/// A network driver that forwards frames.
#[derive(Clone)]
pub(crate) struct Traffic {
    /// Bytes of a frame, without FCS.
    pub(crate) frame_bytes: u16,
    /// Frames offered per second; 0 for the rate of the wire, or this machine's forwarding rate if lower.
    pub(crate) per_second: u64,
    /// The file that receives all frames of the wire, in pcap format.
    pub(crate) capture: Option<PathBuf>,
    /// The device's fault profile.
    pub(crate) faults: Option<String>,
}

/// Frames per second through a device with fault injection unless a rate is given: such a device loses frames
/// at every rate.
const DEFAULT_RATE_WITH_FAULTS: u64 = 1_000_000;
/// The shortest frame of an Ethernet, without FCS.
const SHORTEST: u16 = 60;

impl Default for Traffic {
    fn default() -> Self {
        Self { frame_bytes: SHORTEST, per_second: 0, capture: None, faults: None }
    }
}

impl Workload for Traffic {
    fn system(&self) -> &'static str {
        "demo-net"
    }

    fn title(&self) -> &'static str {
        "A network driver, crashed while it forwards"
    }

    fn stem(&self) -> &'static str {
        "demo-net"
    }

    fn checks(&self) -> &'static [&'static str] {
        // A device with fault injection may damage, repeat and reorder frames, so only buffers are checked.
        let count = if self.faults.is_some() { 1 } else { checks::NET.len() };
        &checks::NET[..count]
    }

    fn description(&self) -> (String, Vec<(&'static str, String)>) {
        let frames = format!("frames of {} bytes, without FCS", self.frame_bytes);
        let capture = self
            .capture
            .as_deref()
            .map_or_else(String::new, |path| format!("; all of them in {}", path.display()));
        let faults =
            self.faults.as_deref().map_or_else(String::new, |text| format!("; a device with faults: {text}"));
        (format!("traffic: {frames}{capture}{faults}"), vec![("traffic", frames)])
    }

    fn prepare(&self, _: &Workspace) -> Result<Box<dyn PreparedRun + '_>> {
        Ok(Box::new(PreparedTraffic(self)))
    }
}

impl Traffic {
    /// Checks the arguments of the command line.
    ///
    /// # Errors
    /// If a rule of the fault profile is malformed, or the capture cannot be written.
    pub(crate) fn check(&self, workspace: &Workspace) -> Result<()> {
        if let Some(path) = &self.capture {
            check_output(path)?;
        }
        PreparedTraffic(self).devices(&pack::read_manifest(workspace, self.system())?).map(drop)
    }
}

struct PreparedTraffic<'a>(&'a Traffic);

impl PreparedRun for PreparedTraffic<'_> {
    fn options(&self) -> Vec<(&'static str, String)> {
        let Traffic { frame_bytes, per_second, faults, .. } = self.0;
        let per_second =
            if *per_second == 0 && faults.is_some() { DEFAULT_RATE_WITH_FAULTS } else { *per_second };
        vec![
            ("frame_bytes", frame_bytes.to_string()),
            ("per_second", per_second.to_string()),
            ("device_faults", faults.is_some().to_string()),
        ]
    }

    fn devices(&self, manifest: &SystemManifest) -> Result<Vec<Device>> {
        let mut devices = manifest.devices(&[])?;
        let device = devices.first_mut().context("the system has no network device")?;
        for (name, value) in [
            ("capture", self.0.capture.as_deref().map(Path::to_string_lossy)),
            ("faults", self.0.faults.as_deref().map(Into::into)),
        ] {
            if let Some(value) = value {
                device.set(name, &value)?;
            }
        }
        Ok(devices)
    }

    fn verdicts(&self, log: &RunLog, _: bool) -> Result<Vec<Verdict>> {
        let answers = log.answers().0;
        Ok(vec![Verdict::new("frames were forwarded, and came back", answers > 0, answers.to_string())])
    }
}
