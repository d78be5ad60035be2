//! The supervision tree: the parent of each domain, and the quotas that parents reserve for their children.
//!
//! A live child's quotas are reserved from its parent's, in full and from its first instruction until all of
//! its resources are reclaimed. So the reserved amount follows from the set of live children, and a crash of
//! either cannot make it wrong. The kernel, at the root, has no quotas.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_manifest::{Key, Manifest, Quota};

use crate::domain::shared_heap;
use crate::domain::start_error::StartError;
use crate::domain::{self, Domain};
use crate::platform::sync::Lock;

/// A domain's node in the tree.
pub(crate) struct SupervisionNode {
    /// The index of its parent; `None` for the kernel.
    parent: Option<usize>,
    /// The indices of its children, their children and so on, in start order.
    descendants: Vec<usize>,
    /// The quotas that are reserved for its live children.
    reserved: Lock<Quota>,
    /// True while its quota is reserved from its parent.
    is_reserved: AtomicBool,
}

/// Builds the nodes of all domains, in the manifest's order.
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
        let mut next = parent_of(index);
        while let Some(ancestor) = next {
            nodes[ancestor].descendants.push(index);
            next = parent_of(ancestor);
        }
    }
    nodes
}

impl SupervisionNode {
    /// The parent domain; `None` if that is the kernel.
    pub(crate) fn parent(&self) -> Option<&'static Domain> {
        domain::all().get(self.parent?)
    }

    /// The domains that end with this one, in start order.
    pub(crate) fn descendants(
        &self,
    ) -> impl DoubleEndedIterator<Item = &'static Domain> + ExactSizeIterator + use<'_> {
        self.descendants.iter().map(|&index| &domain::all()[index])
    }
}

impl Domain {
    /// The quotas that the domain may use at present: its own, less those reserved for its live children.
    pub(crate) fn allowance(&self) -> Quota {
        let (own, reserved) = (self.manifest.quota(), *self.supervision.reserved.lock());
        // A child reserves before the parent is checked, so for a moment more may be reserved than the parent
        // has.
        Quota {
            heap_bytes: own.heap_bytes.saturating_sub(reserved.heap_bytes),
            shared_bytes: own.shared_bytes.saturating_sub(reserved.shared_bytes),
            threads: own.threads.saturating_sub(reserved.threads),
            stack_bytes: own.stack_bytes.saturating_sub(reserved.stack_bytes),
        }
    }

    /// The number of threads within that allowance: the children's threads may have larger stacks than the
    /// domain's own.
    pub(crate) fn thread_allowance(&self) -> u32 {
        let left = self.allowance();
        let (mut threads, mut stack_bytes) = (left.threads, left.stack_bytes);
        // What a child's ended instances still use inside other domains has not come back with its quotas.
        let children = self.supervision.descendants().filter(|child| {
            core::ptr::eq(self, child.supervision.parent().map_or(core::ptr::null(), core::ptr::from_ref))
                && !child.supervision.is_reserved.load(Ordering::SeqCst)
        });
        for child in children {
            let abroad = u64::from(child.threads_abroad());
            threads = threads.saturating_sub(abroad);
            stack_bytes = stack_bytes.saturating_sub(abroad * child.manifest.stack_bytes);
        }
        threads.min(stack_bytes / self.manifest.stack_bytes) as u32
    }

    /// The amounts of the limited resources that the present instance uses, and its predecessors still use.
    fn usage(&self) -> Quota {
        let threads = u64::from(self.threads() + self.threads_abroad());
        Quota {
            heap_bytes: self.heap_bytes() as u64,
            shared_bytes: shared_heap::usage(self.last_instance()).bytes as u64 + self.account.lock().kept(),
            threads,
            stack_bytes: threads * self.manifest.stack_bytes,
        }
    }
}

/// Reserves the quotas of a beginning instance of `child` from its parent's.
///
/// # Errors
/// When the parent itself uses more than the reservation would leave it.
pub(crate) fn reserve(child: &Domain) -> Result<(), StartError> {
    let Some(parent) = child.supervision.parent() else { return Ok(()) };
    let quota = child.manifest.quota();
    {
        let mut reserved = parent.supervision.reserved.lock();
        *reserved = reserved.plus(quota);
        parent.account.lock().reserve(quota.shared_bytes);
    }
    child.supervision.is_reserved.store(true, Ordering::SeqCst);
    // Checked after the reservation: a later allocation by the parent is refused because of it, and an
    // earlier one is seen here.
    let (used, left) = (parent.usage().kinds(), parent.allowance().kinds());
    match used.into_iter().zip(left).find(|((_, used), (_, left))| used > left) {
        None => Ok(()),
        Some(((key, used), (_, left))) => {
            unreserve(child);
            let quota_name = match key {
                Key::Threads => "threads".to_string(),
                key => alloc::format!("bytes of {key}"),
            };
            Err(StartError::ParentQuota {
                parent: parent.manifest.name.clone(),
                quota: quota_name,
                used,
                left,
            })
        }
    }
}

/// Returns the reserved quotas of `child` to its parent, after the instance has ended and its resources are
/// reclaimed.
pub(crate) fn unreserve(child: &Domain) {
    if !child.supervision.is_reserved.swap(false, Ordering::SeqCst) {
        return;
    }
    if let Some(parent) = child.supervision.parent() {
        let quota = child.manifest.quota();
        let mut reserved = parent.supervision.reserved.lock();
        *reserved = Quota {
            heap_bytes: reserved.heap_bytes - quota.heap_bytes,
            shared_bytes: reserved.shared_bytes - quota.shared_bytes,
            threads: reserved.threads - quota.threads,
            stack_bytes: reserved.stack_bytes - quota.stack_bytes,
        };
        parent.account.lock().unreserve(quota.shared_bytes);
    }
}

#[cfg(test)]
mod tests {
    use coppice_manifest::KERNEL;

    use super::*;
    use crate::platform::test_manifest::domain;

    #[test]
    fn descendants_of_all_levels_are_listed_in_start_order() {
        let domains = [
            domain("child", "parent", &[("next", "sibling")]),
            domain("grandchild", "child", &[]),
            domain("sibling", "parent", &[]),
            domain("parent", "grandparent", &[]),
            domain("grandparent", KERNEL, &[]),
            domain("unrelated", KERNEL, &[("x", "child")]),
        ];
        let manifest = Manifest { name: "test".into(), description: "".into(), domains: domains.into() };
        let nodes = build(&manifest);
        let descendants: Vec<&[usize]> = nodes.iter().map(|node| &*node.descendants).collect();
        assert_eq!(descendants, [&[1][..], &[], &[], &[2, 0, 1], &[3, 2, 0, 1], &[]]);
        let parents: Vec<_> = nodes.iter().map(|node| node.parent).collect();
        assert_eq!(parents, [Some(3), Some(0), Some(3), Some(4), None, None]);
    }
}
