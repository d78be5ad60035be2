//! The start order of domains: exporters before importers, and parents before their children.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{KERNEL, Manifest};

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    /// On the current path.
    Open,
    Done,
}

impl Manifest {
    /// Returns the indices of all domains, each after its parent and its exporters; otherwise in the order of
    /// the manifest.
    ///
    /// # Panics
    /// If wires and parents form a cycle, which [`Self::validate`] refuses.
    pub fn start_order(&self) -> Vec<usize> {
        self.order().expect("validate has refused cycles")
    }

    /// Computes [`Self::start_order`]. On a cycle, returns the indices along it, the first one repeated at
    /// the end. Wires to unknown domains are skipped.
    pub(crate) fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut marks = alloc::vec![Mark::New; self.domains.len()];
        let mut order = Vec::with_capacity(self.domains.len());
        // Depth first, with an explicit path: a chain may be DOMAIN_LIMIT deep, which is too much recursion
        // for a kernel stack.
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        for root in 0..self.domains.len() {
            if marks[root] == Mark::New {
                marks[root] = Mark::Open;
                path.push((root, self.exporters(root)));
            }
            while let Some((domain, exporters)) = path.last_mut() {
                match exporters.pop() {
                    Some(next) if marks[next] == Mark::New => {
                        marks[next] = Mark::Open;
                        path.push((next, self.exporters(next)));
                    }
                    Some(next) if marks[next] == Mark::Open => {
                        let cycle =
                            path.iter().map(|(domain, _)| *domain).skip_while(|domain| *domain != next);
                        return Err(cycle.chain([next]).collect());
                    }
                    Some(_) => {}
                    None => {
                        marks[*domain] = Mark::Done;
                        order.push(*domain);
                        path.pop();
                    }
                }
            }
        }
        Ok(order)
    }

    /// Returns the domains that have to start before `domain`, last in the manifest first, so that `pop`
    /// takes them in the manifest's order.
    fn exporters(&self, domain: usize) -> Vec<usize> {
        let domain = &self.domains[domain];
        let targets = domain.wires.values().map(String::as_str).chain([&*domain.parent]);
        let mut exporters: Vec<usize> =
            targets.filter(|target| *target != KERNEL).filter_map(|target| self.index_of(target)).collect();
        exporters.sort_unstable_by(|a, b| b.cmp(a));
        exporters.dedup();
        exporters
    }
}

#[cfg(test)]
mod tests {
    use crate::check::tests::{domain, system};

    #[test]
    fn domains_without_wires_start_in_the_order_of_the_manifest() {
        let manifest = system([domain("c", &[]), domain("a", &[]), domain("b", &[])]);
        assert_eq!(manifest.start_order(), [0, 1, 2]);
    }

    #[test]
    fn exporters_start_before_importers() {
        let manifest = system([
            domain("client", &[("next", "relay"), ("log", "logger"), ("control", "kernel")]),
            domain("logger", &[]),
            domain("relay", &[("next", "echo"), ("log", "logger")]),
            domain("echo", &[]),
        ]);
        assert_eq!(manifest.start_order(), [1, 3, 2, 0]);
    }

    #[test]
    fn the_longest_possible_chain_is_ordered() {
        let count = crate::DOMAIN_LIMIT;
        let name = |i: usize| format!("d{i}");
        let chain = (0..count).map(|i| match i + 1 {
            next if next < count => domain(&name(i), &[("next", &name(next))]),
            _ => domain(&name(i), &[]),
        });
        assert_eq!(system(chain).start_order(), (0..count).rev().collect::<Vec<_>>());
    }
}
