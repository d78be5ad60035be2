//! A disk driver: [`BlockDevice`] says what of its demonstration is about disks.

use anyhow::Result;

use super::disk::{Disk, Image};
use super::subject::{Scene, Subject};
use crate::devices::Device;
use crate::pack::SystemManifest;
use crate::recovery::Course;
use crate::recovery::verdict::Verdict;
use crate::workspace::Workspace;

/// The disk driver.
pub(crate) struct Block {
    /// What is read through it.
    pub(crate) image: Image,
    /// It has no device, but another domain's memory.
    pub(crate) in_memory: bool,
}

impl Subject for Block {
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
        &["bytes wrong", "requests lost", "requests answered twice"]
    }

    fn about(&self) -> (String, Vec<(&'static str, String)>) {
        let image = self.image.to_string();
        (format!("disk: {image}"), vec![("disk", image), ("sha256", self.image.hash.clone())])
    }

    fn set_up(&self, workspace: &Workspace) -> Result<Box<dyn Scene + '_>> {
        Ok(Box::new(Copied { block: self, disk: Disk::of(workspace, &self.image)? }))
    }
}

/// A machine's own copy of the image.
struct Copied<'a> {
    block: &'a Block,
    disk: Disk,
}

impl Scene for Copied<'_> {
    fn options(&self) -> Vec<(&'static str, String)> {
        let Disk { image_bytes, scratch_from, .. } = &self.disk;
        vec![("image_bytes", image_bytes.to_string()), ("scratch_from", scratch_from.to_string())]
    }

    fn devices(&self, manifest: &SystemManifest) -> Result<Vec<Device>> {
        let disks = if self.block.in_memory { &[][..] } else { std::slice::from_ref(&self.disk.path) };
        manifest.devices(disks)
    }

    fn verdicts(&self, course: &Course, is_partial: bool) -> Result<Vec<Verdict>> {
        let image = &self.block.image;
        let is_as_before = self.disk.hash()? == image.hash;
        Ok(vec![
            hashes_agree(course, image, is_partial),
            Verdict::new("the image came out of the machine as it went in", is_as_before, ""),
            Verdict::new("nobody has written to the image itself", image.is_unchanged()?, ""),
        ])
    }
}

/// All of the image was read through the driver, and each time it was what it is outside.
fn hashes_agree(course: &Course, image: &Image, is_partial: bool) -> Verdict {
    let what = "the disk's hash equals the one computed outside";
    let wrong = course.passes.iter().find(|pass| pass.hash != image.hash || pass.bytes != image.bytes);
    match (wrong, course.passes.len()) {
        (Some(pass), _) => Verdict::new(
            what,
            false,
            format!("{} of {} bytes, and not {} of {}", pass.hash, pass.bytes, image.hash, image.bytes),
        ),
        (None, 0) if is_partial => Verdict::new(what, true, "it was stopped before it had read all of it"),
        (None, 0) => Verdict::new(what, false, "all of it was never read"),
        (None, passes) => Verdict::new(what, true, format!("{passes} times")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::recovery::course::tests::told;

    fn image() -> Image {
        let folder = tempfile::tempdir().expect("there is room for an image");
        let path = folder.path().join("image");
        fs::write(&path, [1; 1000]).expect("there is room for an image");
        Image::given(&path).expect("it is an image")
    }

    fn told_of(image: &Image) -> Course {
        let mut course = told();
        course.passes[0].hash = image.hash.clone();
        course
    }

    #[test]
    fn a_disk_with_another_hash_or_none_breaks_the_promise() {
        let image = image();
        assert!(hashes_agree(&told_of(&image), &image, false).holds);
        let mut course = told_of(&image);
        course.passes.push(course.passes[0].clone());
        course.passes[1].hash = "0".repeat(64);
        assert!(!hashes_agree(&course, &image, false).holds);
        let mut course = told_of(&image);
        course.passes[0].bytes -= 1;
        assert!(!hashes_agree(&course, &image, false).holds);
        course.passes.clear();
        assert!(!hashes_agree(&course, &image, false).holds);
        assert!(hashes_agree(&course, &image, true).holds);
    }
}
