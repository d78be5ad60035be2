//! [`StartError`]: the reason why a domain did not start, in words.

use alloc::string::String;
use core::fmt;

use coppice_abi::crossing::RpcError;
use coppice_abi::{Fingerprint, Refusal};
use coppice_interfaces::DomainState;
use coppice_manifest::DeviceSelector;

use crate::domain::image::ImageError;

/// Why a domain did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The archive has no such image.
    NoImage,
    /// The image is not sound.
    Image(ImageError),
    /// The image was built with another version of an interface than the kernel.
    Interface { interface: String, image: Fingerprint, kernel: Fingerprint },
    /// No memory for the image, its pristine copy or its first thread.
    NoMemory,
    /// There is no handle for one of its imports.
    NoHandle(Refusal),
    /// It lives already, or is starting.
    State(DomainState),
    /// The image wants an import that the manifest does not wire.
    Unwired { import: String },
    /// The manifest wires an import that the image does not want.
    NotWanted { import: String },
    /// The domain that an import is wired to exports nothing (yet).
    NothingExported { import: String, from: String },
    /// The two ends of a wire are different interfaces, or different versions of one.
    Mismatch { import: String, wanted: (String, Fingerprint), found: Fingerprint },
    /// After a restart the domain exported another interface, or nothing.
    ExportChanged,
    /// The domain exported an object of another domain, which the wires of its clients would not follow.
    ForeignExport,
    /// The domain that answers for it does not run.
    NoParent { parent: String },
    /// What the domain that answers for it has itself leaves too little of its quotas.
    NoShare { parent: String, quota: String, used: u64, left: u64 },
    /// It is granted a device that the machine does not have, or has not as often.
    NoDevice { device: DeviceSelector },
    /// The entry function did not come back.
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
            Self::NoMemory => f.write_str("there is not enough memory for it"),
            Self::NoHandle(refusal) => write!(f, "it gets no handle for an import: {}", refusal.text()),
            Self::State(state) => write!(f, "it is {state:?} already"),
            Self::Unwired { import } => write!(f, "the manifest wires nothing to its import `{import}`"),
            Self::NotWanted { import } => {
                write!(f, "the manifest wires `{import}`, which the image does not import")
            }
            Self::NothingExported { import, from } => {
                write!(f, "its import `{import}` is wired to `{from}`, which exports nothing")
            }
            Self::Mismatch { import, wanted: (interface, fingerprint), found } => write!(
                f,
                "its import `{import}` is interface {interface} ({fingerprint}), but what it is wired to has {found}"
            ),
            Self::ExportChanged => f.write_str("it exported another interface than in its first instance"),
            Self::ForeignExport => {
                f.write_str("it exported another domain's object instead of one of its own")
            }
            Self::NoParent { parent } => write!(f, "its parent `{parent}` does not run"),
            Self::NoShare { parent, quota, used, left } => write!(
                f,
                "its parent `{parent}` has {used} {quota} itself, but would have only {left} left beside its children"
            ),
            Self::NoDevice { device } => {
                write!(f, "the machine has no device `{device}` that is not another domain's")
            }
            Self::Crashed(error) => write!(f, "its entry function did not come back: {error}"),
        }
    }
}
