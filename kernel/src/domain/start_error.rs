//! [`StartError`]: the reason why a domain did not start, with its text for the log.

use alloc::string::String;
use core::fmt;

use coppice_abi::crossing::RpcError;
use coppice_abi::{DomainId, Fingerprint, Refusal};
use coppice_control::DomainState;
use coppice_manifest::DeviceSelector;

use crate::domain::image::ImageError;

/// The reason why a domain did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The archive has no such image.
    NoImage,
    /// The image is invalid.
    Image(ImageError),
    /// The image was built with another version of an interface than the kernel.
    Interface { interface: String, image: Fingerprint, kernel: Fingerprint },
    /// The image imports or exports an interface that this kernel image does not carry.
    NoInterface { interface: String },
    /// The image imports or exports an interface without its own note, so its version is unknown.
    NoNote { interface: String },
    /// No memory for the image or its pristine copy, or the quota of the kernel's heap is used up.
    NoMemory,
    /// No handle could be made for one of its imports.
    NoHandle(Refusal),
    /// The domain is running or starting already.
    State(DomainState),
    /// The domain has had as many instances as an id can tell apart.
    NoGeneration,
    /// The image has an import that the manifest does not wire.
    Unwired { import: String },
    /// The manifest wires an import that the image does not have.
    NotImported { import: String },
    /// The domain that an import is wired to exports nothing, or nothing yet.
    NoExport { import: String, from: String },
    /// The two ends of a wire are different interfaces, or different versions of one.
    Mismatch { import: String, wanted: (String, Fingerprint), found: Fingerprint },
    /// After a restart the domain exported another interface, or nothing.
    ExportChanged,
    /// The domain exported another domain's object, whose restarts the wires of its clients would not follow.
    ForeignExport,
    /// Its parent does not run.
    NoParent { parent: String },
    /// Its parent uses more of a quota than it would have left.
    ParentQuota { parent: String, quota: String, used: u64, left: u64 },
    /// The manifest grants it a device that the machine does not have, or fewer of it than domains are
    /// granted.
    NoDevice { device: DeviceSelector },
    /// The entry function returned an error with this text.
    Refused { reason: String },
    /// The entry function crashed or was ended.
    Crashed(RpcError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImage => f.write_str("the boot archive has no such image"),
            Self::Image(error) => write!(f, "the image is refused: {error}"),
            Self::Interface { interface, image, kernel } => write!(
                f,
                "the image is refused: it was built with interface {interface} as {image}, but this kernel has {kernel}"
            ),
            Self::NoInterface { interface } => {
                write!(f, "the image is refused: this kernel was built without interface {interface}")
            }
            Self::NoNote { interface } => {
                write!(f, "the image is refused: it has no note for interface {interface}")
            }
            Self::NoMemory => {
                f.write_str("not enough memory for it, or too small a quota of the kernel's heap")
            }
            Self::NoHandle(refusal) => write!(f, "no handle for an import: {}", refusal.text()),
            Self::NoGeneration => write!(
                f,
                "it has had its last instance: generation {} is the last that an id can name",
                DomainId::LAST_GENERATION
            ),
            Self::State(state) => write!(f, "it is {state:?} already"),
            Self::Unwired { import } => write!(f, "the manifest wires nothing to its import `{import}`"),
            Self::NotImported { import } => {
                write!(f, "the manifest wires `{import}`, which the image does not import")
            }
            Self::NoExport { import, from } => {
                write!(f, "its import `{import}` is wired to `{from}`, which exports nothing")
            }
            Self::Mismatch { import, wanted: (interface, fingerprint), found } => write!(
                f,
                "its import `{import}` is interface {interface} ({fingerprint}), but its wire leads to fingerprint {found}"
            ),
            Self::ExportChanged => f.write_str("it exported another interface than in its first instance"),
            Self::ForeignExport => {
                f.write_str("it exported another domain's object instead of one of its own")
            }
            Self::NoParent { parent } => write!(f, "its parent `{parent}` does not run"),
            Self::ParentQuota { parent, quota, used, left } => write!(
                f,
                "its parent `{parent}` uses {used} {quota} itself, but its children would leave it only {left}"
            ),
            Self::NoDevice { device } => {
                write!(f, "the machine has no device `{device}` that is not another domain's")
            }
            Self::Refused { reason } => f.write_str(reason),
            Self::Crashed(error) => write!(f, "its entry function did not return: {error}"),
        }
    }
}
