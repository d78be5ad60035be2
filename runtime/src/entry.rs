//! The functions behind [`crate::entry!`].

use core::fmt::Write;
use core::panic::{Location, PanicInfo};
use core::{ptr, slice};

use coppice_abi::note::{Identity, Note, identity};
use coppice_abi::{
    CrashKind, CrashReport, EntryArguments, START_FAILURE_LIMIT, StartFailure, Upcall, Verdict, attach,
    crossing, me, services,
};
use coppice_interfaces::{Exports, Imports, RawHandles, Text};

use crate::{Domain, Environment, StartError, logger};

/// The notes of a domain. They are one static, because the order of the imports counts and the linker may
/// reorder statics. Notes of interfaces come from the contract crates (`#[interface]`); their order does not
/// count.
#[repr(C)]
pub struct Notes<D: Domain> {
    identity: Note<Identity>,
    imports: <D::Imports as Imports>::Notes,
    export: <D::Export as Exports>::Notes,
}

impl<D: Domain> Notes<D> {
    /// The notes of `D`.
    pub const NEW: Self = Self {
        identity: identity(),
        imports: <D::Imports as Imports>::NOTES,
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
    // SAFETY: the table is a static of the kernel.
    let services = unsafe { &*arguments.services };
    // SAFETY: the kernel passes this image's identity, and no shared object of this instance exists yet.
    unsafe { attach(services, arguments.domain) };
    // SAFETY: the kernel passes the offset, and all memory is mapped in one piece.
    unsafe { coppice_hardware::set_physical_offset(arguments.physical_offset) };
    logger::init();
    // SAFETY: the kernel passes `arg_count` of them, valid during the call.
    let args = unsafe { slice::from_raw_parts(arguments.args, arguments.arg_count) };
    // SAFETY: as above.
    let handles = unsafe { slice::from_raw_parts(arguments.handles, arguments.handle_count) };
    // SAFETY: the loader matched them with this image's import notes, and gives them up.
    let imports = D::Imports::take(&mut unsafe { RawHandles::new(handles) });
    match D::start(&Environment { args }, imports) {
        Ok(export) => {
            arguments.export = export.give();
            arguments.upcall = Some(upcall::<D>);
        }
        Err(error) => arguments.failure = Some(failure(&error)),
    }
}

fn failure(error: &StartError) -> StartFailure {
    let words = error.text().as_bytes();
    let mut text = [0; START_FAILURE_LIMIT];
    text[..words.len()].copy_from_slice(words);
    StartFailure { text, len: words.len() }
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
    // SAFETY: a domain's code runs on a thread, whose control block is its own and valid as long as it runs.
    let panicking = unsafe { &mut (*crossing::thread()).panicking };
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
