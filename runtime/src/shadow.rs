//! [`ShadowDomain`]: a complete domain that is the shadow of another.

use core::marker::PhantomData;
use core::time::Duration;

use coppice_interfaces::{Handle, Imports, Shadow, Shadowed};

use crate::{Domain, Environment, StartError};

/// Time that a call waits for a restart, unless option `recovery-timeout` sets it. Several times the longest
/// pause before a first restart, and short enough for a user at a prompt.
const RECOVERY_TIMEOUT: Duration = Duration::from_millis(500);

/// A domain that imports `target` and exports a [`Shadow`] of it. The manifest's option
/// `recovery-timeout=TIME` (such as `500ms`, the default; also `us`, `s`) limits the time that a call waits
/// for the target's next instance.
pub struct ShadowDomain<I: Shadowed + ?Sized>(PhantomData<I>);

/// The imports of a shadow.
pub struct ShadowWires<I: Shadowed + ?Sized> {
    target: Handle<I>,
}

impl<I: Shadowed + ?Sized> Imports for ShadowWires<I> {
    type Handles = (Handle<I>, ());
    const NAMES: &'static [&'static str] = &["target"];
    fn from_handles((target, ()): Self::Handles) -> Self {
        Self { target }
    }
}

impl<I: Shadowed + ?Sized> Domain for ShadowDomain<I> {
    type Imports = ShadowWires<I>;
    type Export = Handle<I>;

    fn start(environment: &Environment<'_>, wires: ShadowWires<I>) -> Result<Self::Export, StartError> {
        let timeout = environment.duration("recovery-timeout", RECOVERY_TIMEOUT)?;
        Ok(I::export_shadow(Shadow::new(wires.target, timeout)))
    }
}
