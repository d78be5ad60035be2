//! [`Manifest::validate`] and its companions: all checks before a domain runs.

use alloc::borrow::ToOwned;

use coppice_abi::note::NAME_LIMIT;
use coppice_abi::{DEVICE_LIMIT, SLOT_LIMIT};

use crate::{
    DeviceSelector, Domain, KERNEL, Key, LAST_PRIORITY, Manifest, ManifestError, ManifestPart, PAGE_BYTES,
    Problem,
};

/// Maximum number of domains in a system: the slots, without the one of [`coppice_abi::DomainId::NONE`] and
/// the kernel's.
pub const DOMAIN_LIMIT: usize = SLOT_LIMIT - 2;

/// The longest deadline. The kernel stamps calls with a clock that wraps around, and can distinguish ages up
/// to 549 s.
pub const DEADLINE_LIMIT_NS: u64 = 300 * 1_000_000_000;

impl Manifest {
    /// Checks everything that depends on the manifest alone.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let system = |problem| ManifestError { part: ManifestPart::System, problem };
        check_name(&self.name, false).map_err(system)?;
        if self.domains.is_empty() {
            return Err(system(Problem::NoDomains));
        }
        if self.domains.len() > DOMAIN_LIMIT {
            return Err(system(Problem::TooManyDomains { count: self.domains.len() }));
        }
        for index in 0..self.domains.len() {
            self.check_domain(index)?;
        }
        self.order().map_err(|cycle| self.cycle_error(&cycle))?;
        (0..self.domains.len()).try_for_each(|index| self.check_child_quotas(index))
    }

    /// Checks that a machine with `memory` bytes could honour every quota: each alone, and each domain's
    /// together. The sum over all domains may be more: quotas are limits, and reserve no memory.
    pub fn validate_against(&self, memory: u64) -> Result<(), ManifestError> {
        for (index, domain) in self.domains.iter().enumerate() {
            let stacks = domain.stack_bytes.saturating_mul(u64::from(domain.threads));
            let quotas = [
                (Key::Heap, domain.heap_bytes),
                (Key::Shared, domain.shared_bytes),
                (Key::KernelHeap, domain.kernel_heap_bytes),
                (Key::Stack, stacks),
            ];
            let whole = (Key::Name, domain.memory_bytes());
            for (key, bytes) in quotas.into_iter().chain([whole]) {
                if bytes > memory {
                    return Err(self.error(index, key, Problem::ImpossibleQuota { bytes, memory }));
                }
            }
        }
        Ok(())
    }

    /// Checks that each domain's image is among `available`.
    pub fn check_images(&self, available: &[&str]) -> Result<(), ManifestError> {
        match self.domains.iter().position(|domain| !available.contains(&domain.image.as_str())) {
            Some(index) => {
                let image = self.domains[index].image.clone();
                Err(self.error(index, Key::Image, Problem::MissingImage { image }))
            }
            None => Ok(()),
        }
    }

    fn check_domain(&self, index: usize) -> Result<(), ManifestError> {
        let domain = &self.domains[index];
        let error = |key, problem| self.error(index, key, problem);

        check_name(&domain.name, false).map_err(|problem| error(Key::Name, problem))?;
        if domain.name == KERNEL {
            return Err(error(Key::Name, Problem::NameReserved));
        }
        let first = self.index_of(&domain.name).expect("the domain itself has the name");
        if first != index {
            return Err(error(Key::Name, Problem::DuplicateName { first }));
        }
        check_name(&domain.image, false).map_err(|problem| error(Key::Image, problem))?;

        let sizes = [
            (Key::Heap, domain.heap_bytes),
            (Key::Shared, domain.shared_bytes),
            (Key::KernelHeap, domain.kernel_heap_bytes),
            (Key::Stack, domain.stack_bytes),
        ];
        for (key, bytes) in sizes {
            if bytes == 0 {
                return Err(error(key, Problem::ZeroQuota));
            }
            if bytes % PAGE_BYTES != 0 {
                return Err(error(key, Problem::UnevenQuota { bytes }));
            }
        }
        if domain.threads == 0 {
            return Err(error(Key::Threads, Problem::ZeroQuota));
        }
        if domain.priority > LAST_PRIORITY {
            return Err(error(Key::Priority, Problem::NoSuchPriority { priority: domain.priority }));
        }
        for (key, quota) in [(Key::Cpu, domain.cpu_percent), (Key::LogRate, domain.log_rate)] {
            if quota == Some(0) {
                return Err(error(key, Problem::ZeroQuota));
            }
        }
        let deadlines =
            [(Key::Deadline, domain.deadline_ns), (Key::StartDeadline, Some(domain.start_deadline_ns))];
        for (key, ns) in deadlines {
            if let Some(ns) = ns.filter(|ns| !(1..=DEADLINE_LIMIT_NS).contains(ns)) {
                return Err(error(key, Problem::DeadlineOutOfRange { ns }));
            }
        }
        let times = [
            (Key::RestartWindow, domain.policy.restart_window_ns),
            (Key::RestartPause, domain.policy.restart_pause_ns),
            (Key::RestartPauseLimit, domain.policy.restart_pause_limit_ns),
            (Key::UpcallDeadline, domain.policy.upcall_deadline_ns),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time_ns)| *time_ns == 0) {
            return Err(error(key, Problem::NoTime));
        }
        self.check_devices(index)?;
        self.check_parent(index)?;
        self.check_wires(index, domain)
    }

    /// Checks that no device address is granted twice. The machine's devices are not known before it runs.
    fn check_devices(&self, index: usize) -> Result<(), ManifestError> {
        let devices = &self.domains[index].devices;
        let error = |problem| self.error(index, Key::Devices, problem);
        if devices.len() > DEVICE_LIMIT {
            return Err(error(Problem::TooManyDevices { count: devices.len() }));
        }
        for (position, &device) in devices.iter().enumerate() {
            let is_address = matches!(device, DeviceSelector::At { .. });
            let earlier = self.domains[..index].iter().find(|domain| domain.devices.contains(&device));
            let holder = earlier.or(devices[..position].contains(&device).then(|| &self.domains[index]));
            if let Some(holder) = holder.filter(|_| is_address) {
                return Err(error(Problem::DeviceTwice { device, holder: holder.name.clone() }));
            }
        }
        Ok(())
    }

    fn check_wires(&self, index: usize, domain: &Domain) -> Result<(), ManifestError> {
        for (import, target) in &domain.wires {
            let error = |problem| self.error(index, Key::Wire(import.clone()), problem);
            check_name(import, true).map_err(error)?;
            if *target == domain.name {
                return Err(error(Problem::WiredToItself));
            }
            if target == KERNEL {
                continue;
            }
            let Some(exporter) = self.index_of(target) else {
                return Err(error(Problem::UnknownDomain { target: target.clone() }));
            };
            // A domain that waits for a slower one cannot keep a deadline of its own.
            let target_ns = self.domains[exporter].deadline_ns;
            if let Some(ns) = domain.deadline_ns
                && target_ns.is_none_or(|target_ns| target_ns > ns)
            {
                return Err(error(Problem::SlowerThanCaller { target: target.clone(), target_ns, ns }));
            }
        }
        Ok(())
    }

    /// Names the connection from a cycle's first domain to its second as the cause: a wire, or else the
    /// parent.
    fn cycle_error(&self, cycle: &[usize]) -> ManifestError {
        let path = cycle.iter().map(|&index| self.domains[index].name.clone()).collect();
        let next = &self.domains[cycle[1]].name;
        let wires = &self.domains[cycle[0]].wires;
        let wire = wires.iter().find(|(_, target)| *target == next);
        let key = wire.map_or(Key::Parent, |(import, _)| Key::Wire(import.clone()));
        self.error(cycle[0], key, Problem::Cycle { path })
    }

    pub(crate) fn error(&self, index: usize, key: Key, problem: Problem) -> ManifestError {
        let name = self.domains[index].name.clone();
        ManifestError { part: ManifestPart::Domain { index, name, key }, problem }
    }
}

/// Checks a name. Names become file names, archive entries and notes of fixed size. Imports are Rust
/// identifiers, hence `_`.
pub(crate) fn check_name(name: &str, import: bool) -> Result<(), Problem> {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return Err(Problem::NameLength { name: name.to_owned() });
    }
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-') || (import && c == '_');
    match name.chars().find(|&c| !allowed(c)) {
        Some(character) => Err(Problem::NameCharacter { name: name.to_owned(), character }),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
