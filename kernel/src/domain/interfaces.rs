//! The interfaces of this kernel image, as the machine's crate lists them.

use coppice_interfaces::Registry;
use spin::Once;

static REGISTRY: Once<Registry> = Once::new();

/// Sets the list. Called once, before the first proxy is made.
pub(crate) fn init(registry: Registry) {
    REGISTRY.call_once(|| registry);
}

/// The list; empty before [`init`].
pub(crate) fn registry() -> Registry {
    REGISTRY.get().copied().unwrap_or(Registry::new(&[]))
}
