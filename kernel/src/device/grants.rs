//! Which domain gets which function: settled once, when the manifest is read.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU8;

use coppice_manifest::{DeviceSelector, Manifest};

use super::{Access, Grant, Grants};
use crate::machine::machine;
use crate::pci::PciFunction;
use crate::sync::Lock;

/// What each domain of `manifest` is granted, in the manifest's order.
///
/// A function goes to one domain only. Who names a place gets that one, then who names a model, then who names a class; among
/// equals the manifest's order counts, and the functions' is that of the machine.
pub(crate) fn assign(manifest: &Manifest) -> Vec<Grants> {
    let mut functions = Vec::new();
    machine().pci_functions(&mut |function| functions.push(Some(function)));
    let wanted = manifest.domains.iter().map(|domain| domain.devices.iter().copied().map(Err).collect());
    let mut all: Vec<Vec<Result<Grant, DeviceSelector>>> = wanted.collect();
    let is_place = |selector: &DeviceSelector| matches!(selector, DeviceSelector::At { .. });
    let is_model = |selector: &DeviceSelector| matches!(selector, DeviceSelector::Id { .. });
    let is_class = |selector: &DeviceSelector| matches!(selector, DeviceSelector::Class(_));
    for is_due in [is_place as fn(&DeviceSelector) -> bool, is_model, is_class] {
        for entry in all.iter_mut().flatten() {
            let Err(selector) = entry else { continue };
            if is_due(selector)
                && let Some(function) = take(&mut functions, *selector)
            {
                *entry = Ok(grant(function));
            }
        }
    }
    for (domain, grants) in manifest.domains.iter().zip(&all) {
        for grant in grants.iter().flatten() {
            let info = grant.info;
            log::info!(
                "{} has device {:02x}:{:02x}.{}, {:04x}:{:04x} class {:06x}",
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
    all.into_iter().map(Vec::into_boxed_slice).collect()
}

/// The first function that nobody has and that `selector` means.
fn take(
    functions: &mut [Option<&'static dyn PciFunction>],
    selector: DeviceSelector,
) -> Option<&'static dyn PciFunction> {
    let means = |function: &Option<&'static dyn PciFunction>| {
        let info = function.map(PciFunction::info);
        info.is_some_and(|info| selector.matches(info.address, info.vendor, info.device, info.class))
    };
    functions.iter_mut().find(|function| means(function))?.take()
}

fn grant(function: &'static dyn PciFunction) -> Grant {
    let info = function.info();
    let messages = (0..info.vectors).map(|_| AtomicU8::new(0)).collect();
    Grant { function, info, messages, access: Lock::new(Access::default()) }
}
