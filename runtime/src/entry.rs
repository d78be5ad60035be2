//! The functions behind [`crate::entry!`].

use core::fmt::Write;
use core::panic::Location;
pub use core::panic::PanicInfo;
use core::ptr;

use coppice_abi::crossing::{self, ThreadControl};
use coppice_abi::note::{Identity, Note, identity};
use coppice_abi::{CrashKind, CrashReport, StartFailure, Upcall, Verdict, attach, me, services};
pub use coppice_abi::{EntryArguments, freestanding};
use coppice_interfaces::{Exports, ImportNotes, RawHandles, Text, import_notes, take_imports};

use crate::{Domain, Environment, logger};

/// The notes of a domain. They are one static, because the order of the imports counts and the linker may
/// reorder statics. Notes of interfaces come from the contract crates (`#[interface]`); their order does not
/// count.
#[repr(C)]
pub struct Notes<D: Domain> {
    identity: Note<Identity>,
    imports: ImportNotes<D::Imports>,
    export: <D::Export as Exports>::Notes,
}

impl<D: Domain> Notes<D> {
    /// The notes of `D`.
    pub const NEW: Self = Self {
        identity: identity(),
        imports: import_notes::<D::Imports>(),
        export: <D::Export as Exports>::NOTES,
    };
}

/// Starts an instance of the domain.
///
/// # Safety
/// `arguments` keeps the contract of [`EntryArguments`].
pub unsafe fn enter<D: Domain>(arguments: *mut EntryArguments) {
    // SAFETY: valid, and not accessed elsewhere, during the call.
    let arguments = unsafe { &mut *arguments };
    // SAFETY: the kernel made them for this call.
    let services = unsafe { arguments.services() };
    // SAFETY: as above.
    let args = unsafe { arguments.args() };
    // SAFETY: the kernel passes this image's identity, and no shared object of this instance exists yet.
    unsafe { attach(services, arguments.domain()) };
    // SAFETY: the kernel passes the offset, and all memory is mapped in one piece.
    unsafe { coppice_hardware::set_physical_offset(arguments.physical_offset()) };
    logger::init();
    // SAFETY: as for the table.
    let handles = unsafe { arguments.handles() };
    // SAFETY: the loader matched them with this image's import notes, and gives them up.
    let imports = take_imports(&mut unsafe { RawHandles::new(handles) });
    match D::start(&Environment { args }, imports) {
        // SAFETY: the handle is of the interface that `Notes` names, and the function is this image's.
        Ok(export) => unsafe { arguments.set_started(export.give(), upcall::<D>) },
        Err(error) => arguments.set_failure(StartFailure::new(error.text())),
    }
}

/// Dispatches an upcall of the kernel to the domain.
///
/// # Safety
/// `upcall` keeps the contract of [`coppice_abi::UpcallEntry`].
unsafe extern "C" fn upcall<D: Domain>(upcall: *const Upcall) -> Verdict {
    // SAFETY: readable during the call.
    match unsafe { &*upcall } {
        Upcall::ChildFailing(child) => D::child_failing(child),
        Upcall::Revoke(demand) => {
            D::revoke(demand);
            // The kernel ignores the verdict: only the use at the deadline counts.
            Verdict::Retry
        }
    }
}

/// Ends the domain with the message and location of a panic.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    // A panic may come from anywhere, so its message goes to a fixed buffer and not to the private heap.
    let mut message = Text::<200>::new("");
    // Formatting the message runs the domain's code, which may panic in turn.
    match begin_panic(info.location()) {
        None => {
            let _ = write!(message, "{}", info.message());
        }
        Some(first) => {
            let _ = write!(message, "panicked while panicking, first at {}:{}", first.file(), first.line());
            if let Some(words) = info.message().as_str() {
                let _ = write!(message, ", then: {words}");
            }
        }
    }
    let (file, line) = info.location().map_or(("", 0), |location| (location.file(), location.line()));
    let report = CrashReport { kind: CrashKind::Panic, line, file, message: &message };
    // SAFETY: the report is valid for the call.
    unsafe { (services().crash)(&raw const report) }
}

/// Records that this thread panics. If it is already panicking in this instance, returns the location of the
/// first panic.
fn begin_panic(location: Option<&Location<'_>>) -> Option<&'static Location<'static>> {
    // SAFETY: a domain's code runs on a thread, and this is its panic handler.
    let panicking = unsafe { ThreadControl::panicking(crossing::thread()) };
    if panicking.0 == me()
        && let Some(first) = panicking.1
    {
        return Some(first);
    }
    // SAFETY: locations are constants of the image, which stays until the thread has left this instance; a
    // location of another instance is not used, because `me` differs.
    *panicking = (me(), location.map(|location| unsafe { &*ptr::from_ref(location).cast() }));
    None
}

/// Ends the domain as broken, without a panic.
pub fn abort(message: &str) -> ! {
    let report = CrashReport { kind: CrashKind::Abort, line: 0, file: "", message };
    // SAFETY: the report is valid for the call.
    unsafe { (services().crash)(&raw const report) }
}
