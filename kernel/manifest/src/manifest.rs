//! [`Manifest`]: the data, and its form in the boot archive.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{DecodeError, DeviceSelector};

/// The kernel's name in wires; no domain may take it.
pub const KERNEL: &str = "kernel";

/// Bytes in a page. Heaps, shared quotas and stacks are whole pages: the TOML side rounds them up.
pub const PAGE_BYTES: u64 = 4096;

/// Default time limit of an entry function.
pub const START_DEADLINE_NS: u64 = 10_000_000_000;

/// Default time limit of one call into a domain: longer than any call takes that will still return.
pub const DEADLINE_NS: u64 = 120_000_000_000;

/// Default CPU quota of a domain's threads, in percent of one CPU. On a machine with more CPUs than that, the
/// threads of one domain do not take all of them.
pub const CPU_PERCENT: u32 = 400;

/// The least urgent priority of a domain's threads; 0 is the most urgent one.
pub const LAST_PRIORITY: u8 = 3;

/// Default of [`Domain::priority`], and the priority of a thread that requests none.
pub const NORMAL_PRIORITY: u8 = 2;

/// Default rate of a domain's log records, per second.
pub const LOG_RATE: u32 = 1000;

/// A system: its domains, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the system: the file's name without `.toml`.
    pub name: String,
    /// One line for the list of systems.
    pub description: String,
    /// All domains. A domain's index here is its index in every result of this crate.
    pub domains: Vec<Domain>,
}

/// One domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Domain {
    /// Unique in its system.
    pub name: String,
    /// Its image: `images/<image>` in the boot archive. Several domains may run the same.
    pub image: String,
    /// Its parent domain, or [`KERNEL`]. Its quotas are part of the parent's, and it ends with its parent.
    pub parent: String,
    /// The action after it died.
    pub restart: Restart,
    /// Limits of the supervision.
    pub policy: Policy,
    /// Maximum bytes of its private heap.
    pub heap_bytes: u64,
    /// Maximum bytes of shared objects that it owns.
    pub shared_bytes: u64,
    /// Maximum bytes of the kernel's own heap on its behalf, those for ended instances included. No part of a
    /// parent's quota: the bytes belong to the domain's slot.
    pub kernel_heap_bytes: u64,
    /// Maximum number of its threads at one time, those of ended instances inside other domains included.
    pub threads: u32,
    /// The most urgent priority of its threads, 0 to [`LAST_PRIORITY`]. A thread that requests a more urgent
    /// one gets this one.
    pub priority: u8,
    /// Bytes of each thread's stack.
    pub stack_bytes: u64,
    /// Time limit of one call into it; `None` is no limit.
    pub deadline_ns: Option<u64>,
    /// Time limit of its entry function.
    pub start_deadline_ns: u64,
    /// CPU quota of its own threads, in percent of one CPU: more than 100 is more than one CPU. `None` is no
    /// limit.
    pub cpu_percent: Option<u32>,
    /// Maximum log records per second, and at once. `None` is no limit.
    pub log_rate: Option<u32>,
    /// Words given to its entry function.
    pub args: Vec<String>,
    /// Devices that it is granted; a domain refers to them by their index here.
    pub devices: Vec<DeviceSelector>,
    /// For each import, by name: the domain that exports it, or [`KERNEL`].
    pub wires: BTreeMap<String, String>,
}

impl Domain {
    /// Returns the maximum memory of the domain at one time, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let stacks = self.stack_bytes.saturating_mul(u64::from(self.threads));
        [self.heap_bytes, self.shared_bytes, self.kernel_heap_bytes]
            .into_iter()
            .fold(stacks, u64::saturating_add)
    }
}

/// The action after a domain died.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// It is not restarted; calls to it fail.
    #[default]
    Never,
    /// A new instance starts with the same wiring.
    Always,
}

/// The limits of crashes in a row, and of the time for upcalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Crashes in a row that are followed by an immediate restart. After more, its parent is notified, and
    /// restarts are delayed.
    pub restart_limit: u32,
    /// An instance that ran longer than this ends the row of crashes.
    pub restart_window_ns: u64,
    /// The first delay before a restart that has to wait. It doubles with each further one.
    pub restart_pause_ns: u64,
    /// The longest delay before a restart.
    pub restart_pause_limit_ns: u64,
    /// Time limit of one of its upcalls, and of releasing resources on demand.
    pub upcall_deadline_ns: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart_limit: 8,
            restart_window_ns: 1_000_000_000,
            restart_pause_ns: 1_000_000,
            restart_pause_limit_ns: 1_000_000_000,
            upcall_deadline_ns: 500_000_000,
        }
    }
}

impl Manifest {
    /// Returns the encoding that [`Self::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a manifest is plain data and the vector grows as needed")
    }

    /// Decodes and validates the encoding of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (manifest, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(DecodeError::Malformed)?;
        if !rest.is_empty() {
            return Err(DecodeError::TrailingBytes { offset: bytes.len() - rest.len(), count: rest.len() });
        }
        manifest.validate().map_err(DecodeError::Invalid)?;
        Ok(manifest)
    }

    /// Returns the index of the domain called `name`.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.domains.iter().position(|domain| domain.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManifestError, ManifestPart, Problem, TomlManifest};

    fn sample() -> Manifest {
        TomlManifest::parse(crate::toml::tests::CHAIN).expect("the sample is valid").into_manifest()
    }

    #[test]
    fn an_encoded_manifest_decodes_to_itself() {
        assert_eq!(Manifest::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..len]).is_err(), "{len} of {} bytes were accepted", bytes.len());
        }
    }

    #[test]
    fn bytes_after_the_manifest_are_refused() {
        let mut bytes = sample().encode();
        let offset = bytes.len();
        bytes.extend([0; 3]);
        assert_eq!(Manifest::decode(&bytes), Err(DecodeError::TrailingBytes { offset, count: 3 }));
    }

    #[test]
    fn decoding_validates() {
        let mut manifest = sample();
        manifest.domains.clear();
        let error = ManifestError { part: ManifestPart::System, problem: Problem::NoDomains };
        assert_eq!(Manifest::decode(&manifest.encode()), Err(DecodeError::Invalid(error)));
    }

    #[test]
    fn corrupted_bytes_never_panic() {
        let bytes = sample().encode();
        for position in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut corrupted = bytes.clone();
                corrupted[position] = value;
                // Some corruptions make another valid manifest, which is accepted if it was validated.
                if let Ok(manifest) = Manifest::decode(&corrupted) {
                    assert_eq!(manifest.validate(), Ok(()));
                }
            }
        }
    }
}
