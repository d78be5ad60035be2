//! The assignment of PCI functions to domains, made once when the manifest is read.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU8;

use coppice_manifest::{DeviceSelector, Manifest};

use super::{Access, Grant, Grants};
use crate::platform::machine::machine;
use crate::platform::pci::PciFunction;
use crate::platform::sync::Lock;

/// Assigns functions to the domains of `manifest`; returns the grants in the manifest's order.
///
/// A function goes to one domain only. Entries that name an address come first, then those that name a model,
/// then those that name a class. Entries of the same kind are served in the manifest's order, with functions
/// in the machine's order.
pub(crate) fn assign(manifest: &Manifest) -> Vec<Grants> {
    let mut functions = Vec::new();
    machine().pci_functions(&mut |function| functions.push(Some(function)));
    let all = distribute(manifest, functions);
    for (domain, grants) in manifest.domains.iter().zip(&all) {
        for grant in grants.iter().flatten() {
            let info = grant.info;
            log::info!(
                "{} is granted device {:02x}:{:02x}.{}, {:04x}:{:04x} class {:06x}",
                domain.name,
                info.address >> 8,
                info.address >> 3 & 0x1f,
                info.address & 7,
                info.vendor,
                info.device,
                info.class
            );
        }
    }
    all
}

fn distribute(manifest: &Manifest, mut functions: Vec<Option<&'static dyn PciFunction>>) -> Vec<Grants> {
    let wanted = manifest.domains.iter().map(|domain| domain.devices.iter().copied().map(Err).collect());
    let mut all: Vec<Vec<Result<Grant, DeviceSelector>>> = wanted.collect();
    let is_address = |selector: &DeviceSelector| matches!(selector, DeviceSelector::At { .. });
    let is_model = |selector: &DeviceSelector| matches!(selector, DeviceSelector::Id { .. });
    let is_class = |selector: &DeviceSelector| matches!(selector, DeviceSelector::Class(_));
    for is_of_kind in [is_address as fn(&DeviceSelector) -> bool, is_model, is_class] {
        for entry in all.iter_mut().flatten() {
            let Err(selector) = entry else { continue };
            if is_of_kind(selector)
                && let Some(function) = take(&mut functions, *selector)
            {
                *entry = Ok(grant(function));
            }
        }
    }
    all.into_iter().map(Vec::into_boxed_slice).collect()
}

/// Takes the first unassigned function that `selector` matches.
fn take(
    functions: &mut [Option<&'static dyn PciFunction>],
    selector: DeviceSelector,
) -> Option<&'static dyn PciFunction> {
    let matches = |function: &Option<&'static dyn PciFunction>| {
        let info = function.map(PciFunction::info);
        info.is_some_and(|info| selector.matches(info.address, info.vendor, info.device, info.class))
    };
    functions.iter_mut().find(|function| matches(function))?.take()
}

fn grant(function: &'static dyn PciFunction) -> Grant {
    let info = function.info();
    let messages = (0..info.vectors).map(|_| AtomicU8::new(0)).collect();
    Grant { function, info, messages, access: Lock::new(Access::default()) }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::string::{String, ToString};
    use alloc::{format, vec};

    use coppice_abi::{DeviceInfo, DeviceRefusal, Window};

    use super::*;
    use crate::platform::test_manifest;

    /// A function with an identity and nothing else.
    struct Fake(DeviceInfo);

    impl PciFunction for Fake {
        fn info(&self) -> DeviceInfo {
            self.0
        }
        fn window(&self, bar: u8) -> Result<Window, DeviceRefusal> {
            Err(DeviceRefusal::NoBar { bar })
        }
        fn read(&self, _: u8, _: usize, _: usize) -> u64 {
            u64::MAX
        }
        fn write(&self, _: u8, _: usize, _: usize, _: u64) {}
        fn set_bus_master(&self, _: bool) {}
        fn has_transactions_pending(&self) -> bool {
            false
        }
        fn begin_reset(&self) -> bool {
            false
        }
        fn end_reset(&self) -> bool {
            false
        }
        fn open_vector(&self, vector: u16, _: u8, _: usize) -> Result<(), DeviceRefusal> {
            Err(DeviceRefusal::NoVector { vector })
        }
        fn close_vector(&self, _: u16) {}
    }

    const NVME: (u16, u16, u32) = (0x1b36, 0x10, 0x01_0802);
    const NETWORK: (u16, u16, u32) = (0x8086, 0x10fb, 0x02_0000);

    /// The assignment of these functions, which are at devices 1, 2, ... of bus 0, to domains with these
    /// entries.
    fn assignments(functions: &[(u16, u16, u32)], wanted: &[&[&str]]) -> Vec<Vec<String>> {
        let functions = functions.iter().zip(1..).map(|(&(vendor, device, class), number)| {
            let info = DeviceInfo { vendor, device, class, address: number << 3, ..DeviceInfo::default() };
            let function: &'static dyn PciFunction = Box::leak(Box::new(Fake(info)));
            Some(function)
        });
        let mut manifest = Manifest { name: "test".into(), description: "".into(), domains: vec![] };
        for devices in wanted {
            let mut domain = test_manifest::domain("driver", coppice_manifest::KERNEL, &[]);
            domain.devices = devices.iter().map(|text| text.parse().expect("it is well-formed")).collect();
            manifest.domains.push(domain);
        }
        let describe = |grant: &Result<Grant, DeviceSelector>| match grant {
            Ok(grant) => format!("{}", grant.info.address >> 3),
            Err(selector) => selector.to_string(),
        };
        distribute(&manifest, functions.collect())
            .iter()
            .map(|grants| grants.iter().map(describe).collect())
            .collect()
    }

    #[test]
    fn entries_of_one_kind_are_served_in_the_manifests_order_and_no_function_twice() {
        let class = ["class 010802"];
        let found = assignments(&[NVME, NETWORK, NVME], &[&class, &["id 8086:10fb"], &class, &class]);
        assert_eq!(found, [["1"], ["2"], ["3"], ["class 010802"]]);
    }

    #[test]
    fn entry_with_an_address_is_served_before_those_with_an_id_or_a_class() {
        let found =
            assignments(&[NVME, NVME, NVME], &[&["class 010802"], &["id 1b36:0010"], &["at 00:01.0"]]);
        assert_eq!(found, [["3"], ["2"], ["1"]]);
    }

    #[test]
    fn domain_has_its_devices_in_the_order_of_its_entries() {
        let found = assignments(&[NVME, NETWORK], &[&["id 8086:10fb", "at 00:07.0", "class 010802"]]);
        assert_eq!(found, [["2", "at 00:07.0", "1"]]);
    }
}
