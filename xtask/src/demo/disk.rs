//! [`DiskWorkload`]: a disk driver's demonstration.

use anyhow::Result;
use coppice_run_protocol::trial::checks;
use xtask_report::recovery::RunLog;
use xtask_report::recovery::verdict::Verdict;

use super::image::{Disk, Image};
use super::workload::{PreparedRun, Workload};
use crate::devices::Device;
use crate::pack::SystemManifest;
use crate::workspace::Workspace;

/// A disk driver that reads an image.
pub(crate) struct DiskWorkload {
    /// The image.
    pub(crate) image: Image,
    /// True if the disk is another domain's memory and not a device.
    pub(crate) in_memory: bool,
}

impl Workload for DiskWorkload {
    fn system(&self) -> &'static str {
        if self.in_memory { "demo-memory" } else { "demo" }
    }

    fn title(&self) -> &'static str {
        "A disk driver, crashed under load"
    }

    fn stem(&self) -> &'static str {
        "demo"
    }

    fn checks(&self) -> &'static [&'static str] {
        &checks::DISK
    }

    fn description(&self) -> (String, Vec<(&'static str, String)>) {
        let image = self.image.to_string();
        (format!("disk: {image}"), vec![("disk", image), ("sha256", self.image.hash.clone())])
    }

    fn prepare(&self, workspace: &Workspace) -> Result<Box<dyn PreparedRun + '_>> {
        Ok(Box::new(PreparedDisk { workload: self, disk: Disk::of(workspace, &self.image)? }))
    }
}

/// The machine's own copy of the image.
struct PreparedDisk<'a> {
    workload: &'a DiskWorkload,
    disk: Disk,
}

impl PreparedRun for PreparedDisk<'_> {
    fn options(&self) -> Vec<(&'static str, String)> {
        let Disk { image_bytes, scratch_from, .. } = &self.disk;
        vec![("image_bytes", image_bytes.to_string()), ("scratch_from", scratch_from.to_string())]
    }

    fn devices(&self, manifest: &SystemManifest) -> Result<Vec<Device>> {
        let disks = if self.workload.in_memory { &[][..] } else { std::slice::from_ref(&self.disk.path) };
        manifest.devices(disks)
    }

    fn verdicts(&self, log: &RunLog, is_partial: bool) -> Result<Vec<Verdict>> {
        let image = &self.workload.image;
        let is_as_before = self.disk.hash()? == image.hash;
        Ok(vec![
            hashes_agree(log, image, is_partial),
            Verdict::new("the machine left the image's copy unchanged", is_as_before, ""),
            Verdict::new("the original image is unchanged", image.is_unchanged()?, ""),
        ])
    }
}

/// Checks that all of the image was read through the driver, each time with the hash computed on the host.
fn hashes_agree(log: &RunLog, image: &Image, is_partial: bool) -> Verdict {
    let what = "the disk's hash equals the one computed outside";
    let wrong = log.passes.iter().find(|pass| pass.hash != image.hash || pass.bytes != image.bytes);
    match (wrong, log.passes.len()) {
        (Some(pass), _) => Verdict::new(
            what,
            false,
            format!("{} of {} bytes, instead of {} of {}", pass.hash, pass.bytes, image.hash, image.bytes),
        ),
        (None, 0) if is_partial => Verdict::new(what, true, "it was stopped before the first complete read"),
        (None, 0) => Verdict::new(what, false, "there was no complete read"),
        (None, passes) => Verdict::new(what, true, format!("{passes} times")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use xtask_report::recovery::sample_log;

    use super::*;

    fn image() -> Image {
        let folder = tempfile::tempdir().expect("there is room for an image");
        let path = folder.path().join("image");
        fs::write(&path, [1; 1000]).expect("there is room for an image");
        Image::given(&path).expect("it is an image")
    }

    fn log_of(image: &Image) -> RunLog {
        let mut log = sample_log();
        log.passes[0].hash = image.hash.clone();
        log
    }

    #[test]
    fn a_disk_with_another_hash_or_none_is_a_violation() {
        let image = image();
        assert!(hashes_agree(&log_of(&image), &image, false).holds);
        let mut log = log_of(&image);
        log.passes.push(log.passes[0].clone());
        log.passes[1].hash = "0".repeat(64);
        assert!(!hashes_agree(&log, &image, false).holds);
        let mut log = log_of(&image);
        log.passes[0].bytes -= 1;
        assert!(!hashes_agree(&log, &image, false).holds);
        log.passes.clear();
        assert!(!hashes_agree(&log, &image, false).holds);
        assert!(hashes_agree(&log, &image, true).holds);
    }
}
