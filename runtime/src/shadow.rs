//! [`ShadowDomain`]: all of a domain that is the shadow of another.

use core::marker::PhantomData;
use core::time::Duration;

use coppice_abi::note::{Note, Wire};
use coppice_interfaces::{Handle, Import, Imports, RawHandles, Shadow, Shadowed, import_note};

use crate::{Domain, Environment, time};

/// How long a call may wait for the next instance, unless option `patience` says otherwise. Several times the longest
/// pause of a domain that has crashed for the first time, and short enough for somebody who waits at a prompt.
const PATIENCE: Duration = Duration::from_millis(500);

/// A domain that imports `target` and exports a [`Shadow`] of it. The manifest's option `patience=TIME` (such as
/// `500ms`, the default; also `us`, `s`) says how long a call may wait for the target's next instance.
pub struct ShadowDomain<I: Shadowed + ?Sized>(PhantomData<I>);

/// What a shadow is wired to.
pub struct ShadowWires<I: Shadowed + ?Sized> {
    target: Handle<I>,
}

// SAFETY: one note and one handle, of the same interface.
unsafe impl<I: Shadowed + ?Sized> Imports for ShadowWires<I> {
    type Notes = [Note<Wire>; 1];
    const NOTES: Self::Notes = [import_note::<Handle<I>>("target")];
    fn take(handles: &mut RawHandles<'_>) -> Self {
        Self { target: Handle::take(handles) }
    }
}

impl<I: Shadowed + ?Sized> Domain for ShadowDomain<I> {
    type Imports = ShadowWires<I>;
    type Export = Handle<I>;

    fn start(environment: &Environment<'_>, wires: ShadowWires<I>) -> Self::Export {
        let patience = environment.option("patience").map_or(PATIENCE, |text| {
            time::parse(text).expect("option patience: a time such as 500ms is wanted")
        });
        I::export_shadow(Shadow::new(wires.target, patience))
    }
}
