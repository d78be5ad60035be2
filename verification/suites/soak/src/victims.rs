//! [`Victim`]: a domain that is ended again and again, and the ledger of what each of its lives was to die of.
//!
//! A killer writes the sentence before it ends a instance, and a victim has one killer at a time. So whatever an error says of
//! a death can be held against the ledger: no instance may be said to have died that nobody was about to end, or of something
//! else.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use coppice_interfaces::{CrashKind, DomainId, RpcError};

/// How many lives back the ledger goes. A client that hears of an older one has only its age checked.
const REMEMBERED: usize = 4096;

/// What a victim does while it lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The end of the chain.
    Echo,
    /// A link of the chain.
    Relay,
    Keeper,
    Factory,
    /// The subject of that number: fails in any way that it is told to, but does not hang.
    Subject(usize),
    /// The subject of that number, with a deadline: as above, hangs too, and calls nobody.
    Brief(usize),
    /// An echo behind a shadow, whose clients never hear that it dies.
    Twin,
}

/// What brings the next instance of a victim about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Return {
    /// Its killer asks for it.
    Asked,
    /// The kernel's supervisor, by the manifest's policy.
    Supervised,
}

/// A domain that is ended again and again.
pub(crate) struct Victim {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) comes_back: Return,
    slot: usize,
    /// Of its present instance.
    generation: AtomicU32,
    /// By generation: the generation in the upper half, the kinds of death as bits in the lower one.
    sentences: [AtomicU64; REMEMBERED],
}

impl Victim {
    pub(crate) fn new(name: &'static str, role: Role, comes_back: Return, instance: DomainId) -> Self {
        Self {
            name,
            role,
            comes_back,
            slot: instance.slot(),
            generation: AtomicU32::new(instance.generation()),
            sentences: [const { AtomicU64::new(0) }; REMEMBERED],
        }
    }

    /// Its present instance.
    pub(crate) fn instance(&self) -> DomainId {
        DomainId::new(self.slot as u32, self.generation.load(Ordering::SeqCst))
    }

    /// Writes down that the present instance is about to die of one of `kinds`.
    pub(crate) fn sentence(&self, kinds: &[CrashKind]) {
        let generation = self.generation.load(Ordering::SeqCst);
        let place = &self.sentences[generation as usize % REMEMBERED];
        let earlier = place.load(Ordering::SeqCst);
        let mut kinds = kinds.iter().fold(0, |bits, &kind| bits | bit(kind));
        if (earlier >> 32) as u32 == generation {
            kinds |= earlier & u64::from(u32::MAX);
        }
        place.store((u64::from(generation) << 32) | kinds, Ordering::SeqCst);
    }

    /// Writes down that the next instance has begun.
    pub(crate) fn is_reborn(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether `error` names one of its lives.
    pub(crate) fn is_named_by(&self, error: &RpcError) -> bool {
        error.domain().slot() == self.slot
    }

    /// Whether its present instance may be over without a sentence: a deadline is wall time, so where the host gives the time to
    /// others, a call that is good may take too long.
    pub(crate) fn is_overtaken(&self, error: &RpcError) -> bool {
        self.is_brief()
            && self.is_named_by(error)
            && matches!(error.kind(), CrashKind::Deadline | CrashKind::NotRunning)
    }

    /// Whether it has a deadline.
    pub(crate) fn is_brief(&self) -> bool {
        matches!(self.role, Role::Brief(_))
    }

    /// What is wrong with an error that names one of its lives, if anything.
    pub(crate) fn objection(&self, error: &RpcError) -> Option<String> {
        let generation = error.domain().generation();
        let sentence = self.sentences[generation as usize % REMEMBERED].load(Ordering::SeqCst);
        let now = self.generation.load(Ordering::SeqCst);
        let (sentenced, kinds) = ((sentence >> 32) as u32, sentence & u64::from(u32::MAX));
        if generation > now {
            return Some(format!("{}: {error}, a instance that is yet to come (now {now})", self.name));
        }
        if self.is_overtaken(error) {
            return None;
        }
        if sentenced > generation {
            // Too long ago to be remembered.
            return None;
        }
        if sentenced != generation || kinds == 0 {
            return Some(format!("{}: {error}, which nobody ended (now {now})", self.name));
        }
        // Whoever comes too late is not told of what.
        let is_right = error.kind() == CrashKind::NotRunning || kinds & bit(error.kind()) != 0;
        (!is_right).then(|| format!("{}: {error}, which is not what it died of", self.name))
    }
}

fn bit(kind: CrashKind) -> u64 {
    1 << kind as u32
}
