//! [`Plan`]: the areas of the disk that the run reads and writes, from the command line.

use alloc::format;

use coppice_block::BlockInfo;
use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_trial::option;

/// The areas of the disk that the run reads and writes.
pub(crate) struct Plan {
    /// The length of the image, which starts at byte 0 and is only read.
    pub(crate) image_bytes: u64,
    /// The first byte of the scratch area, which extends to the end of the disk and is overwritten.
    pub(crate) scratch_from: u64,
}

impl Plan {
    /// Reads the plan from the kernel's options. By default the first half of the disk is the image.
    ///
    /// # Errors
    /// When an option is malformed, or the disk has no room for both areas.
    pub(crate) fn read(control: &Handle<dyn Control>, disk: &BlockInfo) -> Result<Self, Failure> {
        let half = disk.capacity_bytes() / 2;
        let image_bytes = option(control, "image_bytes", half)?;
        let scratch_from = option(control, "scratch_from", half)?;
        if scratch_from < image_bytes || scratch_from >= disk.capacity_bytes() {
            return Err(Failure(format!(
                "a disk of {} bytes has no room for an image of {image_bytes} bytes and a scratch area from byte {scratch_from}",
                disk.capacity_bytes()
            )));
        }
        Ok(Self { image_bytes, scratch_from })
    }
}
