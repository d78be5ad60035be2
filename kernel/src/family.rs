//! The tree of supervision: who answers for whom, and which part of its quotas a parent has given to its children.
//!
//! A child that lives has its quotas out of its parent's, whole and from its first instruction to the moment when all
//! that it had is taken back. So what is lent is known from who lives, and no crash of either can make it wrong. The
//! kernel, at the root, has no quotas.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_manifest::{Key, Manifest, Quota};

use crate::domain::{self, Domain};
use crate::load::StartError;
use crate::shared;
use crate::sync::Lock;

/// A domain's place in the tree.
pub(crate) struct Family {
    /// Index of its parent; `None` for the kernel.
    parent: Option<usize>,
    /// Indices of its children, their children and so on, in the order in which they start.
    below: Vec<usize>,
    /// What its living children have of its quotas.
    lent: Lock<Quota>,
    /// Whether it has its own from its parent.
    has_share: AtomicBool,
}

/// The families of all domains, in the manifest's order.
pub(crate) fn all(manifest: &Manifest) -> Vec<Family> {
    let parent_of = |index: usize| manifest.index_of(&manifest.domains[index].parent);
    let mut families: Vec<Family> = (0..manifest.domains.len())
        .map(|index| Family {
            parent: parent_of(index),
            below: Vec::new(),
            lent: Lock::new(Quota::default()),
            has_share: AtomicBool::new(false),
        })
        .collect();
    for index in manifest.start_order() {
        let mut above = parent_of(index);
        while let Some(ancestor) = above {
            families[ancestor].below.push(index);
            above = parent_of(ancestor);
        }
    }
    families
}

impl Family {
    /// Who answers for the domain, unless it is the kernel.
    pub(crate) fn parent(&self) -> Option<&'static Domain> {
        domain::all().get(self.parent?)
    }

    /// The domains that end with it, in the order in which they start.
    pub(crate) fn below(
        &self,
    ) -> impl DoubleEndedIterator<Item = &'static Domain> + ExactSizeIterator + use<'_> {
        self.below.iter().map(|&index| &domain::all()[index])
    }
}

impl Domain {
    /// What it may have at present: its quotas, less what its living children have of them.
    pub(crate) fn allowance(&self) -> Quota {
        let (own, lent) = (self.manifest.quota(), *self.family.lent.lock());
        // A child begins before it is known whether there is room for it, so for a moment more may be lent than there is.
        Quota {
            heap_bytes: own.heap_bytes.saturating_sub(lent.heap_bytes),
            shared_bytes: own.shared_bytes.saturating_sub(lent.shared_bytes),
            threads: own.threads.saturating_sub(lent.threads),
            stack_bytes: own.stack_bytes.saturating_sub(lent.stack_bytes),
        }
    }

    /// How many threads that allows: its children's may have larger stacks than its own.
    pub(crate) fn thread_allowance(&self) -> u32 {
        let left = self.allowance();
        left.threads.min(left.stack_bytes / self.manifest.stack_bytes) as u32
    }

    /// What its present instance has of what quotas limit.
    fn usage(&self) -> Quota {
        let threads = u64::from(self.threads());
        Quota {
            heap_bytes: self.heap_bytes() as u64,
            shared_bytes: shared::usage(self.last_instance()).bytes as u64,
            threads,
            stack_bytes: threads * self.manifest.stack_bytes,
        }
    }
}

/// Gives a instance of `child` that begins its share of its parent's quotas.
pub(crate) fn lend(child: &Domain) -> Result<(), StartError> {
    let Some(parent) = child.family.parent() else { return Ok(()) };
    let share = child.manifest.quota();
    {
        let mut lent = parent.family.lent.lock();
        *lent = lent.plus(share);
        parent.account.lock().lend(share.shared_bytes);
    }
    child.family.has_share.store(true, Ordering::SeqCst);
    // After it is lent: who asks for more in the parent from here on is refused by that, and who did before is seen here.
    let (used, left) = (parent.usage().kinds(), parent.allowance().kinds());
    match used.into_iter().zip(left).find(|((_, used), (_, left))| used > left) {
        None => Ok(()),
        Some(((key, used), (_, left))) => {
            give_back(child);
            let quota = match key {
                Key::Threads => "threads".to_string(),
                key => alloc::format!("bytes of {key}"),
            };
            Err(StartError::NoShare { parent: parent.manifest.name.clone(), quota, used, left })
        }
    }
}

/// Takes the share of a instance of `child` back that is over and that has nothing left of it.
pub(crate) fn give_back(child: &Domain) {
    if !child.family.has_share.swap(false, Ordering::SeqCst) {
        return;
    }
    if let Some(parent) = child.family.parent() {
        let share = child.manifest.quota();
        let mut lent = parent.family.lent.lock();
        *lent = Quota {
            heap_bytes: lent.heap_bytes - share.heap_bytes,
            shared_bytes: lent.shared_bytes - share.shared_bytes,
            threads: lent.threads - share.threads,
            stack_bytes: lent.stack_bytes - share.stack_bytes,
        };
        parent.account.lock().take_back(share.shared_bytes);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::collections::BTreeMap;

    use coppice_manifest::{KERNEL, Policy, Restart};

    use super::*;

    pub(crate) fn domain(name: &str, parent: &str, wires: &[(&str, &str)]) -> coppice_manifest::Domain {
        coppice_manifest::Domain {
            name: name.into(),
            image: name.into(),
            parent: parent.into(),
            restart: Restart::Never,
            policy: Policy::default(),
            heap_bytes: 4096,
            shared_bytes: 4096,
            threads: 1,
            stack_bytes: 4096,
            deadline_ns: None,
            start_deadline_ns: 1,
            cpu_percent: None,
            args: Vec::new(),
            devices: Vec::new(),
            wires: wires.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn all_generations_are_below_in_the_order_of_starting() {
        let domains = [
            domain("pupil", "parent", &[("next", "ward")]),
            domain("grandchild", "pupil", &[]),
            domain("ward", "parent", &[]),
            domain("parent", "elder", &[]),
            domain("elder", KERNEL, &[]),
            domain("stranger", KERNEL, &[("x", "pupil")]),
        ];
        let manifest = Manifest { name: "test".into(), description: "".into(), domains: domains.into() };
        let families = all(&manifest);
        let below: Vec<&[usize]> = families.iter().map(|family| &*family.below).collect();
        assert_eq!(below, [&[1][..], &[], &[], &[2, 0, 1], &[3, 2, 0, 1], &[]]);
        let parents: Vec<_> = families.iter().map(|family| family.parent).collect();
        assert_eq!(parents, [Some(3), Some(0), Some(3), Some(4), None, None]);
    }
}
