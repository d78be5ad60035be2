//! The boot-time inputs for loading and wiring domains, set once before the first domain starts.

use coppice_abi::Services;
use coppice_manifest::Symbols;
use spin::Once;

use crate::domain::proxy::ExportProxy;
use crate::platform::archive::Archive;
use crate::platform::sync::Lock;

pub(crate) struct Environment {
    /// The boot archive.
    pub(crate) archive: &'static Archive<'static>,
    /// The table of services that each entry function receives.
    pub(crate) services: &'static Services,
    /// The export proxy of the kernel's own object, for imports that the manifest wires to `kernel`.
    pub(crate) kernel_export: &'static Lock<Option<ExportProxy>>,
}

static ENVIRONMENT: Once<Environment> = Once::new();

pub(super) fn install(environment: Environment) -> &'static Environment {
    ENVIRONMENT.call_once(|| environment)
}

/// Returns the environment.
pub(super) fn environment() -> &'static Environment {
    ENVIRONMENT.get().expect("the environment is installed before the domain table")
}

impl Environment {
    /// Returns the image called `name`.
    pub(super) fn image(&self, name: &str) -> Option<&'static [u8]> {
        self.archive.find(&alloc::format!("images/{name}"))
    }

    /// Returns the symbol tables of an image, for backtraces.
    pub(super) fn symbols(&self, image: &str) -> Option<Symbols<'static>> {
        let bytes = self.archive.find(&alloc::format!("symbols/{image}"))?;
        Symbols::parse(bytes).map_err(|error| log::warn!("image {image}: invalid symbols: {error}")).ok()
    }
}
