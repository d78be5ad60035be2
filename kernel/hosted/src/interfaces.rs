//! The interfaces whose proxies this kernel image carries.
//!
//! A kernel for production carries the families that serve devices and manage domains. Feature `testing` adds
//! those of the examples and of the tests; `cargo xtask` turns it on unless `--production` says otherwise.

use coppice_interfaces::Registry;

/// The families of this image.
pub(crate) const REGISTRY: Registry = Registry::new(&[
    coppice_block::ALL,
    coppice_control::ALL,
    coppice_net::ALL,
    #[cfg(feature = "testing")]
    coppice_example_interfaces::ALL,
    #[cfg(feature = "testing")]
    coppice_test_interfaces::ALL,
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_production_kernel_carries_no_interface_of_tests_or_examples() {
        let names: Vec<&str> = REGISTRY.iter().map(|entry| entry.name()).collect();
        let production = ["BlockDevice", "BlockQueue", "Control", "NetDevice", "NetQueue"];
        if cfg!(feature = "testing") {
            assert!(production.iter().all(|name| names.contains(name)) && names.len() > production.len());
        } else {
            assert_eq!(names, production);
        }
    }
}
