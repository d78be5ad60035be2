//! [`Manifest`]: the data, and its form in the boot archive.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{DecodeError, DeviceSelector};

/// The name that wires use for the kernel; no domain may take it.
pub const KERNEL: &str = "kernel";

/// Bytes in a page. Heaps, shared quotas and stacks are whole pages: the TOML side rounds them up.
pub const PAGE_BYTES: u64 = 4096;

/// Longest time for an entry function unless the manifest says otherwise.
pub const START_DEADLINE_NS: u64 = 10_000_000_000;

/// A system: its domains, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// What the system is called; the file's name without `.toml`.
    pub name: String,
    /// One line for whoever lists the systems.
    pub description: String,
    /// All domains. A domain's place here is its index in every answer of this crate.
    pub domains: Vec<Domain>,
}

/// One domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Domain {
    /// Unique in its system.
    pub name: String,
    /// Which image it runs: `images/<image>` in the boot archive. Several domains may run the same.
    pub image: String,
    /// The domain that answers for it, or [`KERNEL`]. Its quotas come out of that one's, and it does not outlive it.
    pub parent: String,
    /// What happens after it died.
    pub restart: Restart,
    /// How patiently.
    pub policy: Policy,
    /// Most bytes that its private heap may take.
    pub heap_bytes: u64,
    /// Most bytes of shared objects that it may own.
    pub shared_bytes: u64,
    /// Most threads that it may have at one time.
    pub threads: u32,
    /// Bytes of each thread's stack.
    pub stack_bytes: u64,
    /// Longest time for one call into it; `None` is for ever.
    pub deadline_ns: Option<u64>,
    /// Longest time for its entry function.
    pub start_deadline_ns: u64,
    /// How much of a CPU's time its own threads may use, in percent: more than 100 is more than one CPU. `None` is all.
    pub cpu_percent: Option<u32>,
    /// Words given to its entry function.
    pub args: Vec<String>,
    /// Devices that it is granted, in the order in which it names them.
    pub devices: Vec<DeviceSelector>,
    /// For each import, by name: the domain that exports it, or [`KERNEL`].
    pub wires: BTreeMap<String, String>,
}

impl Domain {
    /// All memory that the domain may have at one time, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let stacks = self.stack_bytes.saturating_mul(u64::from(self.threads));
        self.heap_bytes.saturating_add(self.shared_bytes).saturating_add(stacks)
    }
}

/// What happens to a domain that died.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// It stays dead; calls to it fail.
    #[default]
    Never,
    /// A new instance begins with the same wiring.
    Always,
}

/// When the deaths of a domain become too many, and how long it may take over what the kernel tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Deaths in a row that are answered by a restart at once. From the next on its parent is told, and restarts wait.
    pub restart_limit: u32,
    /// A instance that lasted longer than this was a good one: the row begins anew.
    pub restart_window_ns: u64,
    /// How long one of its upcalls may take, and how long it may take to give up what it is asked to.
    pub upcall_deadline_ns: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { restart_limit: 8, restart_window_ns: 1_000_000_000, upcall_deadline_ns: 500_000_000 }
    }
}

impl Manifest {
    /// The form that [`Self::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a manifest is plain data and the vector grows as needed")
    }

    /// Reads and validates what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (manifest, rest) = postcard::take_from_bytes::<Self>(bytes).map_err(DecodeError::Malformed)?;
        if !rest.is_empty() {
            return Err(DecodeError::TrailingBytes { offset: bytes.len() - rest.len(), count: rest.len() });
        }
        manifest.validate().map_err(DecodeError::Invalid)?;
        Ok(manifest)
    }

    /// The domain called `name`, by index.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.domains.iter().position(|domain| domain.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManifestError, Place, Problem, TomlManifest};

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
        let error = ManifestError { place: Place::System, problem: Problem::NoDomains };
        assert_eq!(Manifest::decode(&manifest.encode()), Err(DecodeError::Invalid(error)));
    }

    #[test]
    fn corrupted_bytes_never_panic() {
        let bytes = sample().encode();
        for position in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut corrupted = bytes.clone();
                corrupted[position] = value;
                // Some corruptions make another valid manifest; that is fine, as long as it was checked.
                if let Ok(manifest) = Manifest::decode(&corrupted) {
                    assert_eq!(manifest.validate(), Ok(()));
                }
            }
        }
    }
}
