//! The errors of a manifest, and their locations.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use coppice_abi::DEVICE_LIMIT;
use coppice_abi::note::NAME_LIMIT;

use crate::check::{DEADLINE_LIMIT_NS, DOMAIN_LIMIT};
use crate::{DeviceSelector, LAST_PRIORITY, Nanoseconds};

/// A manifest that cannot be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestError {
    /// The part with the error.
    pub part: ManifestPart,
    /// The error.
    pub problem: Problem,
}

/// A part of a manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ManifestPart {
    /// The manifest as a whole, or its `[system]` table.
    System,
    /// One entry of a `[[domain]]` table.
    Domain {
        /// Index of the domain.
        index: usize,
        /// Its name.
        name: String,
        /// The entry.
        key: Key,
    },
}

/// An entry of a `[[domain]]` table, spelled as in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Key {
    /// `name`
    Name,
    /// `image`
    Image,
    /// `parent`
    Parent,
    /// `restart`
    Restart,
    /// `restart-window`
    RestartWindow,
    /// `restart-pause`
    RestartPause,
    /// `restart-pause-limit`
    RestartPauseLimit,
    /// `upcall-deadline`
    UpcallDeadline,
    /// `shadow`
    Shadow,
    /// `shadow-args`
    ShadowArgs,
    /// `heap`
    Heap,
    /// `shared`
    Shared,
    /// `kernel-heap`
    KernelHeap,
    /// `threads`
    Threads,
    /// `priority`
    Priority,
    /// `stack`
    Stack,
    /// `deadline`
    Deadline,
    /// `start-deadline`
    StartDeadline,
    /// `cpu`
    Cpu,
    /// `log-rate`
    LogRate,
    /// `devices`
    Devices,
    /// The wire of one import in `wires`.
    Wire(String),
}

/// An error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// A system without domains does nothing.
    NoDomains,
    /// More than [`DOMAIN_LIMIT`].
    TooManyDomains {
        /// Number of domains.
        count: usize,
    },
    /// A name is empty or longer than [`NAME_LIMIT`] bytes.
    NameLength {
        /// The name.
        name: String,
    },
    /// A name has a character that is not allowed in names.
    NameCharacter {
        /// The name.
        name: String,
        /// The first such character.
        character: char,
    },
    /// A domain has the name of the kernel.
    NameReserved,
    /// Two domains have the same name.
    DuplicateName {
        /// Index of the first of the two.
        first: usize,
    },
    /// A wire leads to a domain that the system does not have.
    UnknownDomain {
        /// The name that the wire leads to.
        target: String,
    },
    /// A wire leads back to its own domain.
    WiredToItself,
    /// A domain is its own parent.
    OwnParent,
    /// Domains import from each other, or are parents of each other, in a cycle, so none of them can start
    /// first.
    Cycle {
        /// Their names, each before one that it depends on; the first is repeated at the end.
        path: Vec<String>,
    },
    /// A quota is 0.
    ZeroQuota,
    /// There is no such priority.
    NoSuchPriority {
        /// The number.
        priority: u8,
    },
    /// A deadline is 0, or longer than [`DEADLINE_LIMIT_NS`].
    DeadlineOutOfRange {
        /// The deadline.
        ns: u64,
    },
    /// A domain with a deadline is wired to one that may take longer.
    SlowerThanCaller {
        /// The domain that the wire leads to.
        target: String,
        /// Its deadline, if it has one.
        target_ns: Option<u64>,
        /// The caller's deadline.
        ns: u64,
    },
    /// A quota is not a whole number of pages.
    UnevenQuota {
        /// The quota.
        bytes: u64,
    },
    /// The quotas of the children of a domain leave nothing of its own quota.
    NothingLeft {
        /// The quota.
        own: u64,
        /// Sum of its children's quotas.
        children: u64,
    },
    /// A time is 0.
    NoTime,
    /// A domain has entries for a shadow although its restarts are not hidden.
    ShadowOfNothing,
    /// A domain of the manifest has the name that a shadow would get.
    ShadowNameTaken {
        /// The name.
        name: String,
    },
    /// A domain has a shadow, but no clients.
    NoClients,
    /// More than [`DEVICE_LIMIT`].
    TooManyDevices {
        /// Number of devices.
        count: usize,
    },
    /// The device at one address is granted to two domains, or to one twice.
    DeviceTwice {
        /// The device.
        device: DeviceSelector,
        /// Name of the domain that has it.
        holder: String,
    },
    /// One domain may use more memory than the machine has.
    ImpossibleQuota {
        /// The quota, or the sum of the domain's quotas.
        bytes: u64,
        /// The machine's memory.
        memory: u64,
    },
    /// The archive has no such image.
    MissingImage {
        /// Its name.
        image: String,
    },
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.problem)
    }
}

impl core::error::Error for ManifestError {}

impl fmt::Display for ManifestPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Domain { index, name, key: Key::Name } => {
                write!(f, "name `{name}` of domain {}", index + 1)
            }
            Self::Domain { name, key, .. } => write!(f, "domain `{name}`, {key}"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("name"),
            Self::Image => f.write_str("image"),
            Self::Parent => f.write_str("parent"),
            Self::Restart => f.write_str("restart"),
            Self::RestartWindow => f.write_str("restart-window"),
            Self::RestartPause => f.write_str("restart-pause"),
            Self::RestartPauseLimit => f.write_str("restart-pause-limit"),
            Self::UpcallDeadline => f.write_str("upcall-deadline"),
            Self::Shadow => f.write_str("shadow"),
            Self::ShadowArgs => f.write_str("shadow-args"),
            Self::Heap => f.write_str("heap"),
            Self::Shared => f.write_str("shared"),
            Self::Threads => f.write_str("threads"),
            Self::KernelHeap => f.write_str("kernel-heap"),
            Self::Priority => f.write_str("priority"),
            Self::Stack => f.write_str("stack"),
            Self::Deadline => f.write_str("deadline"),
            Self::StartDeadline => f.write_str("start-deadline"),
            Self::Cpu => f.write_str("cpu"),
            Self::LogRate => f.write_str("log-rate"),
            Self::Devices => f.write_str("devices"),
            Self::Wire(import) => write!(f, "wire `{import}`"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDomains => f.write_str("there is no [[domain]]"),
            Self::TooManyDomains { count } => {
                write!(f, "{count} domains, but a system has at most {DOMAIN_LIMIT}")
            }
            Self::NameLength { name } => {
                write!(f, "`{name}` is {} bytes long, but names have 1 to {NAME_LIMIT}", name.len())
            }
            Self::NameCharacter { name, character } => {
                write!(f, "`{name}` has {character:?}, but names are of a-z, 0-9 and `-` (imports also `_`)")
            }
            Self::NameReserved => f.write_str("the name stands for the kernel itself"),
            Self::DuplicateName { first } => write!(f, "domain {} has the same name", first + 1),
            Self::UnknownDomain { target } => write!(f, "leads to `{target}`, but no domain has that name"),
            Self::WiredToItself => f.write_str("leads back to the domain itself"),
            Self::OwnParent => f.write_str("a domain cannot be its own parent"),
            Self::Cycle { path } => {
                f.write_str("wires and parents form a cycle, so no order of starting works: ")?;
                for (step, name) in path.iter().enumerate() {
                    if step > 0 {
                        f.write_str(" -> ")?;
                    }
                    f.write_str(name)?;
                }
                Ok(())
            }
            Self::ZeroQuota => f.write_str("a quota of 0 lets the domain do nothing"),
            Self::NoSuchPriority { priority } => {
                write!(f, "there is no priority {priority}: 0 is the most urgent, {LAST_PRIORITY} the least")
            }
            Self::DeadlineOutOfRange { ns: 0 } => f.write_str("a call cannot take no time at all"),
            Self::DeadlineOutOfRange { ns } => write!(
                f,
                "{} is longer than the {} that a deadline may be",
                Nanoseconds(*ns),
                Nanoseconds(DEADLINE_LIMIT_NS)
            ),
            Self::SlowerThanCaller { target, target_ns: Some(target_ns), ns } => write!(
                f,
                "leads to `{target}`, which may take {}: the domain could not keep its own deadline of {}",
                Nanoseconds(*target_ns),
                Nanoseconds(*ns)
            ),
            Self::SlowerThanCaller { target, target_ns: None, ns } => write!(
                f,
                "leads to `{target}`, which has no deadline: the domain could not keep its own of {}",
                Nanoseconds(*ns)
            ),
            Self::UnevenQuota { bytes } => write!(f, "{bytes} bytes are not a whole number of pages"),
            Self::NothingLeft { own, children } => write!(
                f,
                "the quota is {own}, but those of its children add up to {children}, which leaves too little for the \
                 domain itself"
            ),
            Self::NoTime => f.write_str("a time of 0 is not allowed"),
            Self::ShadowOfNothing => f.write_str("only a domain with restart = \"transparent\" has a shadow"),
            Self::ShadowNameTaken { name } => {
                write!(f, "its shadow would be called `{name}`, but a domain has that name")
            }
            Self::NoClients => {
                f.write_str("no domain is wired to it, so there is no client to hide a restart from")
            }
            Self::TooManyDevices { count } => {
                write!(f, "{count} devices, but a domain has at most {DEVICE_LIMIT}")
            }
            Self::DeviceTwice { device, holder } => {
                write!(f, "the device {device} is granted to `{holder}` already, and to one domain only")
            }
            Self::ImpossibleQuota { bytes, memory } => {
                write!(f, "impossible quota: {bytes} bytes, but the machine has {memory} bytes of memory")
            }
            Self::MissingImage { image } => write!(f, "the boot archive has no image `{image}`"),
        }
    }
}

/// The reason why bytes are no manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// They are not the encoding of one.
    Malformed(postcard::Error),
    /// Bytes follow its end.
    TrailingBytes {
        /// Offset of its end.
        offset: usize,
        /// Number of bytes that follow.
        count: usize,
    },
    /// The manifest is well-formed, but cannot be run.
    Invalid(ManifestError),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed manifest: {error}"),
            Self::TrailingBytes { offset, count } => {
                write!(f, "malformed manifest: {count} bytes follow its end at offset {offset}")
            }
            Self::Invalid(error) => write!(f, "invalid manifest: {error}"),
        }
    }
}

impl core::error::Error for DecodeError {}
