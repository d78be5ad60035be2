//! A network device's driver: [`Traffic`] says what of its demonstration is about frames.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::subject::{Scene, Subject};
use crate::devices::Device;
use crate::pack::SystemManifest;
use crate::recovery::Course;
use crate::recovery::verdict::Verdict;
use crate::workspace::Workspace;

/// The network device's driver, and what is forwarded through it.
#[derive(Clone)]
pub(crate) struct Traffic {
    /// Bytes of a frame, without FCS.
    pub(crate) frame_bytes: u16,
    /// How many frames are offered in a second; 0 for as many as the wire carries, or this machine forwards.
    pub(crate) per_second: u64,
    /// Where all frames of the wire are to be kept, in pcap's format.
    pub(crate) capture: Option<PathBuf>,
    /// How the device misbehaves.
    pub(crate) faults: Option<String>,
}

/// What its system has to find to be 0.
const CHECKS: [&str; 5] =
    ["buffers lost", "frames damaged", "frames twice", "frames out of order", "frames of other stations"];
/// Frames a second through a device with fault injection, if nobody says otherwise: no rate is without losses then.
const AT_MISCHIEF: u64 = 1_000_000;
/// The shortest frame of an Ethernet, without FCS.
const SHORTEST: u16 = 60;

impl Default for Traffic {
    fn default() -> Self {
        Self { frame_bytes: SHORTEST, per_second: 0, capture: None, faults: None }
    }
}

impl Subject for Traffic {
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
        // What a device with fault injection does to frames is its own doing.
        let count = if self.faults.is_some() { 1 } else { CHECKS.len() };
        &CHECKS[..count]
    }

    fn about(&self) -> (String, Vec<(&'static str, String)>) {
        let frames = format!("frames of {} bytes, without FCS", self.frame_bytes);
        let capture = self
            .capture
            .as_deref()
            .map_or_else(String::new, |path| format!("; all of them in {}", path.display()));
        let faults =
            self.faults.as_deref().map_or_else(String::new, |text| format!("; a device with faults: {text}"));
        (format!("traffic: {frames}{capture}{faults}"), vec![("traffic", frames)])
    }

    fn set_up(&self, _: &Workspace) -> Result<Box<dyn Scene + '_>> {
        Ok(Box::new(Wired(self)))
    }
}

struct Wired<'a>(&'a Traffic);

impl Scene for Wired<'_> {
    fn options(&self) -> Vec<(&'static str, String)> {
        let Traffic { frame_bytes, per_second, faults, .. } = self.0;
        let per_second = if *per_second == 0 && faults.is_some() { AT_MISCHIEF } else { *per_second };
        vec![("frame_bytes", frame_bytes.to_string()), ("per_second", per_second.to_string())]
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

    fn verdicts(&self, course: &Course, _: bool) -> Result<Vec<Verdict>> {
        let answers = course.answers().0;
        Ok(vec![Verdict::new("frames were forwarded, and came back", answers > 0, answers.to_string())])
    }
}
