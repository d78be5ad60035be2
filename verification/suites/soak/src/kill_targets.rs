//! [`KillTarget`]: a domain that killers end repeatedly, and a log of the expected end of each instance.
//!
//! A killer records the expected end before it ends an instance, and a victim has one killer at a time. So
//! every error can be checked against the log: an error must not name an instance that no killer was about to
//! end, or another cause.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use coppice_interfaces::{CrashKind, DomainId, RpcError};

/// The number of instances in the log. For an error of an older instance only the age is checked.
const HISTORY: usize = 4096;

/// The task of a victim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The end of the chain.
    Echo,
    /// A link of the chain.
    Relay,
    Holder,
    Factory,
    /// The fault target of that number: raises any fault, but does not hang.
    FaultTarget(usize),
    /// The fault target of that number, with a deadline: raises any fault, hangs too, and calls no other
    /// domain.
    FaultTargetWithDeadline(usize),
    /// An echo behind a shadow, whose clients never notice its death.
    ShadowedEcho,
}

/// The agent that restarts a victim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RestartBy {
    /// Its killer requests the restart.
    Killer,
    /// The kernel's supervisor, by the manifest's policy.
    Supervisor,
}

/// A domain that killers end repeatedly.
pub(crate) struct KillTarget {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) restart_by: RestartBy,
    slot: usize,
    /// The generation of its current instance.
    generation: AtomicU32,
    /// By generation: the generation in the upper half, the expected crash kinds as bits in the lower one.
    expected_ends: [AtomicU64; HISTORY],
}

impl KillTarget {
    pub(crate) fn new(name: &'static str, role: Role, restart_by: RestartBy, instance: DomainId) -> Self {
        Self {
            name,
            role,
            restart_by,
            slot: instance.slot(),
            generation: AtomicU32::new(instance.generation()),
            expected_ends: [const { AtomicU64::new(0) }; HISTORY],
        }
    }

    /// Returns its current instance.
    pub(crate) fn instance(&self) -> DomainId {
        DomainId::new(self.slot as u32, self.generation.load(Ordering::SeqCst))
    }

    /// Records that the current instance is about to end with one of `kinds`.
    pub(crate) fn expect_end(&self, kinds: &[CrashKind]) {
        let generation = self.generation.load(Ordering::SeqCst);
        let place = &self.expected_ends[generation as usize % HISTORY];
        let earlier = place.load(Ordering::SeqCst);
        let mut kinds = kinds.iter().fold(0, |bits, &kind| bits | bit(kind));
        if (earlier >> 32) as u32 == generation {
            kinds |= earlier & u64::from(u32::MAX);
        }
        place.store((u64::from(generation) << 32) | kinds, Ordering::SeqCst);
    }

    /// Counts a restart.
    pub(crate) fn count_restart(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns true if `error` names one of its instances.
    pub(crate) fn is_named_by(&self, error: &RpcError) -> bool {
        error.domain().slot() == self.slot
    }

    /// Returns true if a deadline may have ended the current instance without a record. A deadline is wall
    /// time, so a valid call may take too long on a busy host.
    pub(crate) fn deadline_came_first(&self, error: &RpcError) -> bool {
        self.has_deadline()
            && self.is_named_by(error)
            && matches!(error.kind(), CrashKind::Deadline | CrashKind::NotRunning)
    }

    /// Returns true if it has a deadline.
    pub(crate) fn has_deadline(&self) -> bool {
        matches!(self.role, Role::FaultTargetWithDeadline(_))
    }

    /// Returns the contradiction between the log and an error that names one of its instances, if any.
    pub(crate) fn mismatch(&self, error: &RpcError) -> Option<String> {
        let generation = error.domain().generation();
        let expected = self.expected_ends[generation as usize % HISTORY].load(Ordering::SeqCst);
        let now = self.generation.load(Ordering::SeqCst);
        let (expected_of, kinds) = ((expected >> 32) as u32, expected & u64::from(u32::MAX));
        if generation > now {
            return Some(format!("{}: {error}, a future instance (now {now})", self.name));
        }
        if self.deadline_came_first(error) {
            return None;
        }
        if expected_of > generation {
            // The log no longer holds this instance.
            return None;
        }
        if expected_of != generation || kinds == 0 {
            return Some(format!("{}: {error}, which no killer ended (now {now})", self.name));
        }
        // A caller that comes too late does not get the cause.
        let is_right = error.kind() == CrashKind::NotRunning || kinds & bit(error.kind()) != 0;
        (!is_right).then(|| format!("{}: {error}, which is not the recorded cause", self.name))
    }
}

fn bit(kind: CrashKind) -> u64 {
    1 << kind as u32
}
