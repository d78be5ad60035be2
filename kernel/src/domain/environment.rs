//! The parts of the system that domains are loaded from and wired to: set once at boot, before the first domain starts.

use coppice_abi::Services;
use coppice_manifest::Symbols;
use spin::Once;

use crate::domain::proxy::ExportProxy;
use crate::platform::archive::Archive;
use crate::platform::sync::Lock;

pub(crate) struct Environment {
    /// The boot archive.
    pub(crate) archive: &'static Archive<'static>,
    /// The table of services, which each entry function is given.
    pub(crate) services: &'static Services,
    /// The kernel's own object, for imports that the manifest wires to `kernel`.
    pub(crate) kernel_export: &'static Lock<Option<ExportProxy>>,
}

static ENVIRONMENT: Once<Environment> = Once::new();

pub(super) fn install(environment: Environment) -> &'static Environment {
    ENVIRONMENT.call_once(|| environment)
}

/// The environment.
pub(super) fn environment() -> &'static Environment {
    ENVIRONMENT.get().expect("the table of domains comes with its environment")
}

impl Environment {
    /// The image of that name.
    pub(super) fn image(&self, name: &str) -> Option<&'static [u8]> {
        self.archive.find(&alloc::format!("images/{name}"))
    }

    /// The tables for backtraces of the image of that name.
    pub(super) fn symbols(&self, image: &str) -> Option<Symbols<'static>> {
        let bytes = self.archive.find(&alloc::format!("symbols/{image}"))?;
        Symbols::parse(bytes)
            .map_err(|error| log::warn!("symbols of image {image} are refused: {error}"))
            .ok()
    }
}
