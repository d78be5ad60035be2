//! Parents and children, and the part of a parent's quotas that its children leave.

use crate::{Domain, KERNEL, Key, Manifest, ManifestError, Problem};

/// The limits of a domain's resources, or a part of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Bytes of private heap.
    pub heap_bytes: u64,
    /// Bytes of shared objects.
    pub shared_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Bytes of all their stacks.
    pub stack_bytes: u64,
}

impl Quota {
    /// Returns each kind of resource by the manifest's key.
    pub fn kinds(&self) -> [(Key, u64); 4] {
        [
            (Key::Heap, self.heap_bytes),
            (Key::Shared, self.shared_bytes),
            (Key::Threads, self.threads),
            (Key::Stack, self.stack_bytes),
        ]
    }

    /// Returns the sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            heap_bytes: self.heap_bytes.saturating_add(other.heap_bytes),
            shared_bytes: self.shared_bytes.saturating_add(other.shared_bytes),
            threads: self.threads.saturating_add(other.threads),
            stack_bytes: self.stack_bytes.saturating_add(other.stack_bytes),
        }
    }
}

impl Domain {
    /// Returns all of its quotas, including those of its children, which are part of it.
    pub fn quota(&self) -> Quota {
        Quota {
            heap_bytes: self.heap_bytes,
            shared_bytes: self.shared_bytes,
            threads: u64::from(self.threads),
            stack_bytes: self.stack_bytes.saturating_mul(u64::from(self.threads)),
        }
    }
}

impl Manifest {
    /// Indices of the domains whose parent is `domain`, in the manifest's order.
    pub fn children(&self, domain: usize) -> impl Iterator<Item = usize> + '_ {
        let name = &self.domains[domain].name;
        self.domains
            .iter()
            .enumerate()
            .filter(move |(_, child)| child.parent == *name)
            .map(|(index, _)| index)
    }

    /// Checks that a domain keeps enough of each quota while all its children run: the minimum that a domain
    /// without children must have.
    pub(crate) fn check_child_quotas(&self, index: usize) -> Result<(), ManifestError> {
        let domain = &self.domains[index];
        let lent = self.children(index).map(|child| self.domains[child].quota());
        let lent = lent.fold(Quota::default(), Quota::plus);
        for ((key, own), (_, children)) in domain.quota().kinds().into_iter().zip(lent.kinds()) {
            // At least one stack has to be left.
            let least = if key == Key::Stack { domain.stack_bytes } else { 1 };
            if children > 0 && own.saturating_sub(children) < least {
                return Err(self.error(index, key, Problem::NothingLeft { own, children }));
            }
        }
        Ok(())
    }

    pub(crate) fn check_parent(&self, index: usize) -> Result<(), ManifestError> {
        let domain = &self.domains[index];
        let error = |problem| Err(self.error(index, Key::Parent, problem));
        if domain.parent == domain.name {
            return error(Problem::OwnParent);
        }
        if domain.parent != KERNEL && self.index_of(&domain.parent).is_none() {
            return error(Problem::UnknownDomain { target: domain.parent.clone() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::{domain, system};

    fn child(name: &str, parent: &str) -> Domain {
        Domain {
            parent: parent.into(),
            heap_bytes: 4096,
            shared_bytes: 4096,
            threads: 1,
            ..domain(name, &[])
        }
    }

    fn refusal(manifest: &Manifest) -> String {
        manifest.validate().expect_err("the manifest is wrong").to_string()
    }

    #[test]
    fn parents_start_before_their_children() {
        let manifest = system([child("c", "b"), child("b", "a"), domain("a", &[])]);
        let mut manifest = manifest;
        manifest.domains[1] = Domain { parent: "a".into(), ..domain("b", &[]) };
        manifest.domains[2].heap_bytes = 4 << 20;
        manifest.domains[2].shared_bytes = 4 << 20;
        manifest.domains[2].threads = 20;
        assert_eq!(manifest.validate(), Ok(()));
        assert_eq!(manifest.start_order(), [2, 1, 0]);
        assert_eq!(manifest.children(2).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn an_unknown_parent_is_refused() {
        let manifest = system([child("a", "b")]);
        assert_eq!(refusal(&manifest), "domain `a`, parent: leads to `b`, but no domain has that name");
        let manifest = system([child("a", "a")]);
        assert_eq!(refusal(&manifest), "domain `a`, parent: a domain cannot be its own parent");
    }

    #[test]
    fn a_cycle_of_parents_is_refused() {
        let manifest = system([child("a", "b"), child("b", "c"), child("c", "a")]);
        assert_eq!(
            refusal(&manifest),
            "domain `a`, parent: wires and parents form a cycle, so no order of starting works: a -> b -> c -> a"
        );
        // A parent that imports from its child would have to start both before and after it.
        let manifest = system([domain("a", &[("x", "b")]), child("b", "a")]);
        assert_eq!(
            refusal(&manifest),
            "domain `a`, wire `x`: wires and parents form a cycle, so no order of starting works: a -> b -> a"
        );
    }

    #[test]
    fn children_must_leave_a_part_of_each_quota() {
        type Change = fn(&mut Domain);
        let changes: [(&str, Change, &str); 4] = [
            ("heap", |d| d.heap_bytes = 8192, "8192, but those of its children add up to 8192"),
            ("shared", |d| d.shared_bytes = 4096, "4096, but those of its children add up to 8192"),
            ("threads", |d| d.threads = 2, "2, but those of its children add up to 2"),
            // 4 of 32 KiB, of which the children have 2 of 64 KiB.
            (
                "stack",
                |d| (d.threads, d.stack_bytes) = (4, 32 << 10),
                "131072, but those of its children add up to 131072",
            ),
        ];
        for (key, change, numbers) in changes {
            let mut manifest = system([domain("p", &[]), child("a", "p"), child("b", "p")]);
            assert_eq!(manifest.validate(), Ok(()));
            change(&mut manifest.domains[0]);
            assert_eq!(
                refusal(&manifest),
                format!(
                    "domain `p`, {key}: the quota is {numbers}, which leaves too little for the domain itself"
                )
            );
        }
    }
}
