//! The tree of supervision: who answers for whom, and which part of its quotas a parent has given to its children.
//!
//! A child that lives has its quotas out of its parent's, whole and from its first instruction to the moment when all
//! that it had is taken back. So what is reserved is known from who lives, and no crash of either can make it wrong. The
//! kernel, at the root, has no quotas.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_manifest::{Key, Manifest, Quota};

use crate::domain::shared_heap;
use crate::domain::start_error::StartError;
use crate::domain::{self, Domain};
use crate::platform::sync::Lock;

/// A domain's place in the tree.
pub(crate) struct SupervisionNode {
    /// Index of its parent; `None` for the kernel.
    parent: Option<usize>,
    /// Indices of its children, their children and so on, in the order in which they start.
    descendants: Vec<usize>,
    /// What its living children have of its quotas.
    reserved: Lock<Quota>,
    /// Whether it has its own from its parent.
    is_reserved: AtomicBool,
}

/// The nodes of all domains, in the manifest's order.
pub(crate) fn build(manifest: &Manifest) -> Vec<SupervisionNode> {
    let parent_of = |index: usize| manifest.index_of(&manifest.domains[index].parent);
    let mut nodes: Vec<SupervisionNode> = (0..manifest.domains.len())
        .map(|index| SupervisionNode {
            parent: parent_of(index),
            descendants: Vec::new(),
            reserved: Lock::new(Quota::default()),
            is_reserved: AtomicBool::new(false),
        })
        .collect();
    for index in manifest.start_order() {
        let mut above = parent_of(index);
        while let Some(ancestor) = above {
            nodes[ancestor].descendants.push(index);
            above = parent_of(ancestor);
        }
    }
    nodes
}

impl SupervisionNode {
    /// Who answers for the domain, unless it is the kernel.
    pub(crate) fn parent(&self) -> Option<&'static Domain> {
        domain::all().get(self.parent?)
    }

    /// The domains that end with it, in the order in which they start.
    pub(crate) fn descendants(
        &self,
    ) -> impl DoubleEndedIterator<Item = &'static Domain> + ExactSizeIterator + use<'_> {
        self.descendants.iter().map(|&index| &domain::all()[index])
    }
}

impl Domain {
    /// What it may have at present: its quotas, less what its living children have of them.
    pub(crate) fn allowance(&self) -> Quota {
        let (own, reserved) = (self.manifest.quota(), *self.supervision.reserved.lock());
        // A child begins before it is known whether there is room for it, so for a moment more may be reserved than there is.
        Quota {
            heap_bytes: own.heap_bytes.saturating_sub(reserved.heap_bytes),
            shared_bytes: own.shared_bytes.saturating_sub(reserved.shared_bytes),
            threads: own.threads.saturating_sub(reserved.threads),
            stack_bytes: own.stack_bytes.saturating_sub(reserved.stack_bytes),
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
            shared_bytes: shared_heap::usage(self.last_instance()).bytes as u64,
            threads,
            stack_bytes: threads * self.manifest.stack_bytes,
        }
    }
}

/// Gives a instance of `child` that begins its share of its parent's quotas.
pub(crate) fn reserve(child: &Domain) -> Result<(), StartError> {
    let Some(parent) = child.supervision.parent() else { return Ok(()) };
    let share = child.manifest.quota();
    {
        let mut reserved = parent.supervision.reserved.lock();
        *reserved = reserved.plus(share);
        parent.account.lock().reserve(share.shared_bytes);
    }
    child.supervision.is_reserved.store(true, Ordering::SeqCst);
    // After it is reserved: who asks for more in the parent from here on is refused by that, and who did before is seen here.
    let (used, left) = (parent.usage().kinds(), parent.allowance().kinds());
    match used.into_iter().zip(left).find(|((_, used), (_, left))| used > left) {
        None => Ok(()),
        Some(((key, used), (_, left))) => {
            unreserve(child);
            let quota = match key {
                Key::Threads => "threads".to_string(),
                key => alloc::format!("bytes of {key}"),
            };
            Err(StartError::NoShare { parent: parent.manifest.name.clone(), quota, used, left })
        }
    }
}

/// Takes the share of a instance of `child` back that is over and that has nothing left of it.
pub(crate) fn unreserve(child: &Domain) {
    if !child.supervision.is_reserved.swap(false, Ordering::SeqCst) {
        return;
    }
    if let Some(parent) = child.supervision.parent() {
        let share = child.manifest.quota();
        let mut reserved = parent.supervision.reserved.lock();
        *reserved = Quota {
            heap_bytes: reserved.heap_bytes - share.heap_bytes,
            shared_bytes: reserved.shared_bytes - share.shared_bytes,
            threads: reserved.threads - share.threads,
            stack_bytes: reserved.stack_bytes - share.stack_bytes,
        };
        parent.account.lock().unreserve(share.shared_bytes);
    }
}

#[cfg(test)]
mod tests {
    use coppice_manifest::KERNEL;

    use super::*;
    use crate::platform::test_manifest::domain;

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
        let nodes = build(&manifest);
        let descendants: Vec<&[usize]> = nodes.iter().map(|node| &*node.descendants).collect();
        assert_eq!(descendants, [&[1][..], &[], &[], &[2, 0, 1], &[3, 2, 0, 1], &[]]);
        let parents: Vec<_> = nodes.iter().map(|node| node.parent).collect();
        assert_eq!(parents, [Some(3), Some(0), Some(3), Some(4), None, None]);
    }
}
