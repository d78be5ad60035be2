//! [`Plan`]: what of the disk is read and what may be written, from the command line.

use alloc::format;

use coppice_block::BlockInfo;
use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_trial::option;

/// What of the disk is read and what may be written.
pub(crate) struct Plan {
    /// As many of the disk's first bytes are hashed.
    pub(crate) image_bytes: u64,
    /// From this byte on the disk may be written.
    pub(crate) scratch_from: u64,
}

impl Plan {
    /// From the kernel's options. Without any, the first half of the disk is the image.
    pub(crate) fn read(control: &Handle<dyn Control>, disk: &BlockInfo) -> Result<Self, Failure> {
        let half = disk.capacity_bytes() / 2;
        let image_bytes = option(control, "image_bytes", half)?;
        let scratch_from = option(control, "scratch_from", half)?;
        if scratch_from < image_bytes || scratch_from >= disk.capacity_bytes() {
            return Err(Failure(format!(
                "a disk of {} bytes has no room for an image of {image_bytes} and a scratch area from {scratch_from} on",
                disk.capacity_bytes()
            )));
        }
        Ok(Self { image_bytes, scratch_from })
    }
}
